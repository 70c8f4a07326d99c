"""Points to points without their matrix: `solve_points` against the stored matrix and POT's lazy solver.

    python bench/points.py [--cases 2:1000,2:10000] [--families uniform-normal] [--limit 60] [--json FILE]
                           [--figure FILE]

From points to a certified matching, everything included. One thread, CPU seconds and peak memory above what
the points take, each contestant in a process of its own, which ends after `--limit` CPU seconds ("over").
loomfast: `solve_points`; stored: this package's `solve` of the float64 matrix; scipy and POT's emd: theirs of
that matrix; POT lazy: its solver that computes costs from points. A total that differs from ours is an error.

Cases are dimension:points; families name the laws of x and z: uniform in a cube, normal, heaps (a thousandth
wide, at two places), grid (whole numbers below 50) or scales (from 1e-4 to 1e3). The slope is that of log
seconds over log n from the first to the last n of a family that ran. The figure has time and memory over n.
"""

import argparse
import json
import time
from math import log

import numpy as np
from peers import installed, one_core
from scipy.optimize import linear_sum_assignment
from timing import bounded, extra_memory, machine

import loomfast

LAWS = {
    "uniform": lambda rng, n, d: rng.random((n, d)),
    "normal": lambda rng, n, d: rng.standard_normal((n, d)),
    "heaps": lambda rng, n, d: 1e-3 * rng.standard_normal((n, d)) + rng.integers(0, 2, (n, 1)),
    "grid": lambda rng, n, d: rng.integers(0, 50, (n, d)),
    "scales": lambda rng, n, d: 10.0 ** rng.integers(-4, 4, (n, 1)) * rng.standard_normal((n, d)),
}
CASES = "2:1000,2:3000,2:10000,2:100000,3:10000,3:100000"
FAMILIES = "uniform-uniform,normal-uniform,normal-normal,heaps-heaps,grid-grid,scales-scales"
MOST_STORED = 10_000  # points; beyond, the float64 matrix takes over 800 MB


def points(family, n, d):
    """x and z, (n, d) float64 that hold float32 numbers."""
    rng = np.random.default_rng(n)
    laws = (LAWS[law] for law in family.split("-"))
    return tuple(law(rng, n, d).astype(np.float32).astype(np.float64) for law in laws)


def matrix(x, z):
    """Squared distances coordinate by coordinate, which cancel nothing."""
    cost = np.zeros((len(x), len(z)))
    for k in range(x.shape[1]):
        cost += np.subtract.outer(x[:, k], z[:, k]) ** 2
    return cost


def contestants(n):
    """{name: a function of x and z that returns the total}, by size."""

    def scipys(x, z):
        cost = matrix(x, z)
        return cost[linear_sum_assignment(cost)].sum()

    def emd(x, z):
        return installed("POT").emd2([], [], matrix(x, z), numItermax=10**9) * len(x)

    def lazy(x, z):
        return installed("POT").emd2_lazy(x, z, numItermax=10**9)[0] * len(x)

    found = {"loomfast": lambda x, z: loomfast.solve_points(x, z, threads=1)}
    if n <= MOST_STORED:
        found |= {"stored": lambda x, z: loomfast.solve(matrix(x, z)), "scipy": scipys}
        if installed("POT"):
            found |= {"POT emd": emd, "POT lazy": lazy}
    return found


def measured(solve, x, z):
    """CPU seconds, extra bytes and total of one call, and the gap and stats where it is certified."""

    def call():
        found.append(solve(x, z))

    found = []
    begin = time.process_time()
    memory = extra_memory(call)
    result = {"seconds": time.process_time() - begin, "bytes": memory}
    (answer,) = found
    if not isinstance(answer, loomfast.Assignment):
        return result | {"total": float(answer)}
    if answer.status != "optimal":
        raise RuntimeError(f"status {answer.status}")
    counts = {name: answer.stats[name] for name in ("path", "bids", "scans", "augmentations")}
    return result | {"total": answer.total, "gap": answer.gap} | counts


def contest(family, n, d, limit):
    """{contestant: what was measured, or why not}."""
    x, z = points(family, n, d)
    found = {}
    for name, solve in contestants(n).items():
        measurement, why = bounded(lambda solve=solve: measured(solve, x, z), limit)
        found[name] = measurement or why
    totals = {name: one["total"] for name, one in found.items() if isinstance(one, dict)}
    ours = totals.get("loomfast")
    for name, total in totals.items():
        if ours is not None and abs(total - ours) > 1e-7 * abs(ours) + 1e-12:
            raise SystemExit(f"{family} {n}: {name}'s total is {total!r}, ours {ours!r}")
    return found


def row(family, n, d, limit):
    found = contest(family, n, d, limit)
    ours = found["loomfast"]
    if not isinstance(ours, dict):
        return {"family": family, "d": d, "n": n, "loomfast": ours}
    ratios = {
        name: one["seconds"] / ours["seconds"] if isinstance(one, dict) else one
        for name, one in found.items()
        if name != "loomfast"
    }
    return {"family": family, "d": d, "n": n} | ours | ratios | {"all": found}


def slopes(rows):
    """{(family, d): how seconds grow with n, as a power}."""
    found = {}
    for key in {(one["family"], one["d"]) for one in rows if "seconds" in one}:
        ran = [one for one in rows if (one["family"], one["d"]) == key and "seconds" in one]
        if ran[0]["n"] < ran[-1]["n"]:
            ratio = ran[-1]["seconds"] / ran[0]["seconds"]
            found[key] = log(ratio) / log(ran[-1]["n"] / ran[0]["n"])
    return found


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.5))
    for axis, name, label in zip(axes, ("seconds", "bytes"), ("CPU seconds", "bytes"), strict=True):
        for key in sorted({(one["family"], one["d"]) for one in rows}):
            ran = [one for one in rows if (one["family"], one["d"]) == key and name in one]
            axis.loglog([o["n"] for o in ran], [o[name] for o in ran], "o-", label=f"{key[0]}, {key[1]}-D")
        axis.set(xlabel="points", ylabel=label)
    axes[0].legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", default=CASES)
    parser.add_argument("--families", default=FAMILIES)
    parser.add_argument("--limit", type=float, default=60, help="CPU seconds for a contestant")
    parser.add_argument("--json", default="points.json")
    parser.add_argument("--figure", help="time and memory over n")
    args = parser.parse_args()
    rows = []
    with one_core():
        for family in args.families.split(","):
            for d, n in (map(int, case.split(":")) for case in args.cases.split(",")):
                rows.append(row(family, n, d, args.limit))
                print(described(rows[-1]), flush=True)
                keep(rows, args)
    for (family, d), slope in sorted(slopes(rows).items()):
        print(f"{family}, {d}-D: seconds grow as n^{slope:.2f}")


def described(one):
    """A line of a row: our time and memory, and the others' times over ours."""
    line = f"{one['family']:16} {one['d']}-D n {one['n']:8}"
    if "seconds" not in one:
        return f"{line}  {one['loomfast']}"
    line += f"  {one['seconds']:8.3f} s {one['bytes'] / 1e6:7.1f} MB  {one['path']}"
    others = {name: one[name] for name in ("stored", "scipy", "POT emd", "POT lazy") if name in one}
    shown = (f"  {name} {v if isinstance(v, str) else format(v, '.3g')}" for name, v in others.items())
    return line + "".join(shown)


def keep(rows, args):
    """What is measured so far, so that nothing is lost where a later case takes too long."""
    with open(args.json, "w") as file:
        json.dump({"machine": machine(), "rows": rows}, file, indent=1)
    if args.figure:
        draw(rows, args.figure)


if __name__ == "__main__":
    main()
