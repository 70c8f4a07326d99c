"""The peers of the assignment solver: every solver of each package that takes a stored matrix.

A peer is one package; a variant is one of its solvers with one dtype, float32 or float64. Nobody is charged
for conversions: each variant gets an array as it likes it. `solvers(peer, cost)` maps variants to
(solve, columns): a call to be timed, and what makes of its answer the column of each row. They use one
thread: those that can use more (LAP1015, all batches) are told not to, and `one_core()` lets no other run.

LAP1015's cache is for costs computed on demand, and its Python package, whose costs are always stored, has
none. POT's lazy solver computes costs from points and is compared in `assignment_forms.py`.
"""

import importlib
import math
import os
from contextlib import contextmanager

import numpy as np

# Name: (distribution on PyPI, module).
PEERS = {
    "scipy": ("scipy", "scipy.optimize"),
    "lapx": ("lapx", "lap"),
    "lapjv": ("lapjv", "lapjv"),
    "LAP1015": ("py-lap-solver", "py_lap_solver.solvers"),
    "POT": ("POT", "ot"),
    "fastlap": ("fastlap", "fastlap"),
    "OR-Tools": ("ortools", "ortools.graph.python.linear_sum_assignment"),
    "torch-linear-assignment": ("torch-linear-assignment", "torch_linear_assignment"),
}
LAPX = ("lapjv", "lapjvx", "lapjvc", "lapjvh", "lapjvr", "lapjvs")
# The others of its eleven are approximate, or take far longer than these on every family at n = 256.
FASTLAP = ("lapjv", "lapjvsp", "auction", "ssp")


def installed(peer):
    """The peer's module, or None."""
    try:
        return importlib.import_module(PEERS[peer][1])
    except ImportError:
        return None


def second(answer):
    return np.asarray(answer[1])


def second_to_last(answer):
    """The columns of (cost, rows, columns) whose rows are in order."""
    return np.asarray(answer[2])


def scipys(optimize, cost, wide):
    return {"": (lambda: optimize.linear_sum_assignment(wide), second)}


def lapxs(lap, cost, wide):
    found = {}
    padded = {} if cost.shape[0] == cost.shape[1] else {"extend_cost": True}
    for name in LAPX:
        solve, options = getattr(lap, name), {} if name == "lapjvc" else padded
        for array in (cost, wide):
            columns = second if name == "lapjv" else second_to_last
            found[f"{name} {array.dtype}"] = (lambda s=solve, a=array, o=options: s(a, **o), columns)
    if not padded:
        n = len(cost)
        sparse = wide.ravel(), np.arange(0, n * n + 1, n, np.int32), np.tile(np.arange(n, dtype=np.int32), n)
        found["lapmod"] = (lambda: lap.lapmod(n, *sparse), second)
    return found


def lapjvs(lapjv, cost, wide):
    if cost.shape[0] != cost.shape[1]:
        return {}
    return {str(a.dtype): (lambda a=a: lapjv.lapjv(a), lambda answer: answer[0]) for a in (cost, wide)}


def lap1015s(package, cost, wide):
    found = {}
    for epsilon in (True, False):
        for inlined in (True, False):
            solver = package.Lap1015Solver(use_openmp=False, use_epsilon=epsilon, use_lambda=inlined)
            form = ("" if epsilon else "no epsilon ") + ("inlined " if inlined else "")
            for array in (cost, wide):
                found[f"{form}{array.dtype}"] = (lambda s=solver, a=array: s.solve_single(a), np.asarray)
    return found


def pots(ot, cost, wide):
    """The iteration cap is raised until it is optimal; a dummy row takes the columns left over."""
    n, m = wide.shape
    rows, columns = np.ones(n), np.ones(m)
    if n < m:
        wide, rows = np.vstack([wide, np.zeros(m)]), np.append(rows, m - n)
    return {"emd": (lambda: ot.emd(rows, columns, wide, numItermax=10**9), lambda plan: plan[:n].argmax(1))}


def fastlaps(fastlap, cost, wide):
    return {name: (lambda name=name: fastlap.solve_lap(wide, name), second) for name in FASTLAP}


def ortoolss(package, cost, wide):
    """Takes square ones of whole numbers; the graph is made beforehand."""
    n, m = cost.shape
    if n != m or not (np.abs(wide) < 2**31).all() or (wide != np.rint(wide)).any():
        return {}
    solver = package.SimpleLinearSumAssignment()
    rows, columns = (index.ravel().astype(np.int32) for index in np.indices((n, n)))
    solver.add_arcs_with_cost(rows, columns, wide.ravel().astype(np.int64))
    return {"integers": (solver.solve, lambda _: np.array([solver.right_mate(i) for i in range(n)]))}


def torch_linear_assignments(package, cost, wide):
    """Its CPU path, which is a loop over scipy."""
    import torch

    batch = torch.from_numpy(wide)[None]
    return {"cpu": (lambda: package.batch_linear_assignment(batch), lambda answer: answer[0].numpy())}


SOLVERS = {
    "scipy": scipys,
    "lapx": lapxs,
    "lapjv": lapjvs,
    "LAP1015": lap1015s,
    "POT": pots,
    "fastlap": fastlaps,
    "OR-Tools": ortoolss,
    "torch-linear-assignment": torch_linear_assignments,
}


def solvers(peer, cost):
    """Variant -> (solve, columns) of an installed peer for (n, m) float32, n <= m, on one thread."""
    return SOLVERS[peer](installed(peer), cost, cost.astype(np.float64))


def batch_solvers(peer, batch, threads):
    """The same for (b, n, n) float32; the columns are (b, n). Peers without batches loop, on one thread."""
    package, wide = installed(peer), batch.astype(np.float64)
    if peer == "lapx":
        names = ("lapjvx", "lapjvh", "lapjvr", "lapjvs")
        solves = {name: getattr(package, f"{name}_batch") for name in names}
        return {
            name: (lambda s=solve: s(batch, n_threads=threads), lambda answer: np.stack(answer[2]))
            for name, solve in solves.items()
        }
    if peer == "LAP1015":
        inner = package.Lap1015Solver(use_openmp=threads > 1)
        outer = package.BatchedScipySolver(use_openmp=threads > 1)
        return {
            "": (lambda: inner.batch_solve(batch), np.asarray),
            "the package's batched scipy": (lambda: outer.batch_solve(wide), np.asarray),
        }
    if peer == "fastlap":
        return {
            name: (
                lambda name=name: package.solve_lap_batch(wide, name, n_threads=threads),
                lambda answers: np.array([answer[1] for answer in answers]),
            )
            for name in ("lapjv", "auction")
        }
    return {} if threads > 1 else looped(peer, batch)


def looped(peer, batch):
    each = [solvers(peer, one) for one in batch]
    return {
        name: (
            lambda name=name: [one[name][0]() for one in each],
            lambda answers, name=name: np.stack(
                [one[name][1](answer) for one, answer in zip(each, answers, strict=True)]
            ),
        )
        for name in each[0]
    }


@contextmanager
def one_core():
    """Keeps the process on one core, where the system can: no thread runs beside another."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def excess(cost, found, known):
    """(total of the found (rows, columns) - that of the known, what it may be), exact sums rounded once.

    It is inf unless what was found is a complete matching. It may be what *exact* means in this project:
    8 n 2^-53 times the largest cost in the known one.
    """
    rows, columns = map(np.asarray, found)
    if not all(
        len(a) == 0 or 0 <= a.min() <= a.max() < size
        for a, size in zip((rows, columns), cost.shape, strict=True)
    ):
        return math.inf, 0.0
    reached, best = cost[rows, columns].astype(np.float64), cost[known].astype(np.float64)
    allowed = 8 * len(best) * 2.0**-53 * float(np.abs(best).max())
    if not len(np.unique(rows)) == len(np.unique(columns)) == len(rows) == min(cost.shape):
        return math.inf, allowed
    return math.fsum([*reached, *-best]), allowed
