"""Assignment problems for the CUDA kernels: every family, shape, type, layout and kind of start."""

import numpy as np
from cases import FAMILIES, forbid
from cuda_on_cpu.assignment import Problem, shared_of_cluster

TIED = {"small integers", "bits", "constant", "equal rows", "equal columns", "duplicates"}
DTYPES = ("float32", "float64", "float16", "bfloat16")


def as_values(cost):
    """The float64 values that a stored cost stands for."""
    if cost.dtype == np.uint16:
        return (cost.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return cost.astype(np.float64)


def _stored(rng, cost, dtype):
    """``cost`` in ``dtype``, or float64 where its values do not fit."""
    largest = np.abs(cost[np.isfinite(cost)]).max(initial=0.0)
    if dtype == "float16" and (largest > 6e4 or 0 < largest < 1e-3):
        dtype = "float64"
    if dtype == "bfloat16":
        stored = (cost.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
    else:
        stored = cost.astype(dtype)
    layout = rng.integers(3)
    if layout == 1:  # columns first
        return np.ascontiguousarray(stored.T).T
    if layout == 2:  # every second entry of something larger
        larger = np.full((2 * stored.shape[0], 2 * stored.shape[1]), 7, stored.dtype)
        larger[::2, ::2] = stored
        return larger[::2, ::2]
    return stored


def _shape(rng, largest):
    n = int(rng.integers(1, largest + 1))
    if rng.random() < 0.45:
        return n, n
    return n, int(rng.integers(1, largest + 1))


def _start(rng, shape, problem):
    """Nothing, most of the time; otherwise a matching and prices that may be nonsense."""
    n, m = shape
    if rng.random() < 0.2:
        problem.start_col4row = rng.integers(-1, m, n)
    for name, length in (("start_u", n), ("start_v", m)):
        if rng.random() < 0.2:
            prices = -rng.random(length) * 10.0 ** rng.integers(-3, 3)
            prices[rng.random(length) < 0.1] = rng.choice([np.nan, np.inf, -1e300])
            setattr(problem, name, prices)


def instances(count, kernel, seed, *, largest=24, large_share=0.25, large=(48, 72)):
    """``count`` problems; ``large_share`` of them square or nearly so with n in ``large``."""
    rng = np.random.default_rng(seed)
    names = sorted(FAMILIES)
    problems = []
    for k in range(count):
        name = names[k % len(names)]
        if k % 100 < 100 * large_share:
            n = int(rng.integers(*large))
            shape = (n, n + int(rng.choice([0, 0, 3, 20]))) if rng.random() < 0.7 else (n + 5, n)
        else:
            shape = _shape(rng, largest)
        cost = np.asarray(FAMILIES[name](rng, *shape), np.float64)
        maximize = bool(rng.random() < 0.2)
        if rng.random() < 0.15:
            cost = forbid(rng, cost)
            cost = -cost if maximize else cost
        problem = Problem(_stored(rng, cost, str(rng.choice(DTYPES))), kernel, maximize=maximize)
        problem.threads = int(rng.choice([32, 64, 96]))
        problem.blocks = int(rng.integers(1, 5))
        if kernel == "grid32":  # crews are a power of two
            problem.threads = {96: 128}.get(problem.threads, problem.threads)
            problem.crew_warps = max(1, problem.threads // (32, 64)[k % 2])
            problem.lists = k % 3 > 0
        if rng.random() < 0.4:  # small labels: several stages, and starting over
            problem.label_bits = 24
        if rng.random() < 0.3:  # the quantised costs in the workspace, or costs that a cluster does not hold
            shared = 140 * max(shape) + 2800
            problem.shared_limit = shared_of_cluster(problem) if kernel == "cluster" else shared
        _start(rng, shape, problem)
        problems.append(problem)
    return problems


def describe(problems):
    """How many problems are large (n >= 48), and how many are tied or rectangular."""
    names = sorted(FAMILIES)
    large = sum(min(p.cost.shape) >= 48 for p in problems)
    special = sum(
        p.cost.shape[0] != p.cost.shape[1] or names[k % len(names)] in TIED for k, p in enumerate(problems)
    )
    return large, special
