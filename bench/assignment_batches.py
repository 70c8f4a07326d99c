"""Batches of assignments, alike and ragged, against every peer that takes them: elapsed time.

    python bench/assignment_batches.py [--threads 2] [--rounds 5] [--scale 1] [--json FILE]

alike: 1024 uniform problems of 64 x 64. ragged: 208 uniform problems of up to 300 x 300, in a padded batch
and in a list. detr: 96 images with 100 queries and 1 to 50 targets. float32 for all who take it, float64 for
the others, each as it likes; totals are compared first. scipy, and lapx where the sizes differ, are called in
a loop, on one thread: they have no other way. --scale divides the number of problems and the sizes.
torch-linear-assignment takes part if it is installed; on the CPU it is a loop over scipy.
"""

import argparse
import importlib
import json
import math

import numpy as np
from assignment import machine
from peers import installed
from scipy.optimize import linear_sum_assignment
from timing import interleaved, timed

import loomfast


def problems(form, scale, seed=0):
    """A list of float32 matrices."""
    rng = np.random.default_rng(seed)
    if form == "alike":
        count, size = 1024 // scale, 64 // scale
        return list(rng.random((count, size, size), np.float32))
    if form == "ragged":
        sizes = rng.integers(200 // scale, 300 // scale + 1, (208 // scale, 2))
        return [rng.random(shape, np.float32) for shape in sizes]
    targets = rng.integers(1, 50 // scale + 1, 96 // scale)
    return [rng.random((100 // scale, m), np.float32) for m in targets]


def padded(matrices):
    """(costs, (rows, columns)): the batch in which problem k is the top left of its costs."""
    rows, columns = np.array([matrix.shape for matrix in matrices]).T
    costs = np.full((len(matrices), rows.max(), columns.max()), np.nan, np.float32)
    for cost, matrix in zip(costs, matrices, strict=True):
        cost[: matrix.shape[0], : matrix.shape[1]] = matrix
    return costs, (rows, columns)


def contestants(matrices, threads):
    """Name -> (call, pairs of rows and columns, by the problem, of what it returns)."""
    costs, sizes = padded(matrices)
    wide = [matrix.astype(np.float64) for matrix in matrices]
    found = {
        "loomfast, list": (lambda: loomfast.solve(matrices, threads=threads), lambda a: a.pairs()),
        "loomfast, sizes": (lambda: loomfast.solve(costs, sizes=sizes, threads=threads), lambda a: a.pairs()),
        "scipy": (lambda: [linear_sum_assignment(one) for one in wide], list),
    }
    alike = len({matrix.shape for matrix in matrices}) == 1
    if lap := installed("lapx"):
        loop = [lambda one=one: lap.lapjv(one, extend_cost=True) for one in wide]
        found["lapx lapjv"] = (
            lambda: [call() for call in loop],
            lambda answers: [by_rows(a[1]) for a in answers],
        )
        for name in ("lapjvx", "lapjvs", "lapjvr") if alike else ():
            solve = getattr(lap, f"{name}_batch")
            found[f"lapx {name}_batch"] = (
                lambda solve=solve: solve(costs, n_threads=threads),
                lambda a: list(zip(a[1], a[2], strict=True)),
            )
    if alike and (fastlap := installed("fastlap")):
        stacked = np.stack(wide)
        for name in ("lapjv", "auction"):
            found[f"fastlap {name}"] = (
                lambda name=name: fastlap.solve_lap_batch(stacked, name, n_threads=threads),
                lambda answers: [by_rows(a[1]) for a in answers],
            )
    return found | torch_linear_assignment(matrices, alike)


def torch_linear_assignment(matrices, alike):
    """Its batches are of one shape; ragged ones are a loop."""
    try:
        package = importlib.import_module("torch_linear_assignment")
    except ImportError:
        return {}
    import torch

    batches = [np.stack(matrices)] if alike else [matrix[None] for matrix in matrices]
    batches = [torch.from_numpy(batch) for batch in batches]
    return {
        "torch-linear-assignment": (
            lambda: [package.batch_linear_assignment(batch) for batch in batches],
            lambda answers: [by_rows(one) for answer in answers for one in answer.numpy()],
        )
    }


def by_rows(columns):
    columns = np.asarray(columns)
    rows = np.flatnonzero(columns >= 0)
    return rows, columns[rows]


def totals(matrices, pairs):
    return np.array(
        [
            math.fsum(matrix[rows, columns]) if len(rows) == min(matrix.shape) else math.nan
            for matrix, (rows, columns) in zip(matrices, pairs, strict=True)
        ]
    )


def race(matrices, threads, rounds):
    """Median elapsed seconds of each contestant that is right, and what was wrong with the others."""
    found, times, wrong, known = contestants(matrices, threads), {}, {}, None
    for name, (call, pairs) in found.items():
        try:
            taken, answer = timed(call)
            reached = totals(matrices, pairs(answer))
        except Exception as error:  # a peer's own
            wrong[name] = f"{type(error).__name__}: {error}"[:60]
            continue
        known = reached if known is None else known
        if np.allclose(reached, known, rtol=1e-9):
            times[name] = taken
        else:
            wrong[name] = "WRONG"
    again = {name: found[name][0] for name, taken in times.items() if taken < 10}
    return times | interleaved(again, rounds, warm=1), wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--forms", default="alike,ragged,detr")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=1, help="divides numbers and sizes")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    rows = []
    for form in args.forms.split(","):
        seconds, wrong = race(problems(form, args.scale), args.threads, args.rounds)
        ours = min(taken for name, taken in seconds.items() if name.startswith("loomfast"))
        peers = {name: taken / ours for name, taken in seconds.items() if not name.startswith("loomfast")}
        for name, taken in seconds.items():
            print(f"{form:6}  {name:24} {1e3 * taken:9.4g} ms  {taken / ours:.3g}", flush=True)
        for name, why in wrong.items():
            print(f"{form:6}  {name:24} {why}")
        best = min(peers, key=peers.get)
        print(f"{form}: {best} takes {peers[best]:.3g} times as long, {args.threads} threads", flush=True)
        rows.append({"form": form, "seconds": seconds, "wrong": wrong, "best": best, "ratio": peers[best]})
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "threads": args.threads, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
