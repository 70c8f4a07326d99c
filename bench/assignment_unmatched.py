"""Gated assignments against lapx's `cost_limit` and scipy on the padded problem: one thread.

    python bench/assignment_unmatched.py [--sizes 20,100,300,1000] [--json FILE]

CPU seconds, medians of calls by turns, after totals were compared; a contestant that needs over 5 s for a
family is not called at larger sizes. The limit is the quantile of the costs above which 50, 90 or 99 % of the
pairs lie. unif: U(0, 1); geo2d: distances of points in the plane; iou: 1 - overlap of boxes; wide: unif,
n x 2n. Everyone gets float64, and we float32, too, in the column of that name. scipy's is the (n + m) square
matrix, made beforehand.
"""

import argparse
import json
import math
import statistics
import time

import numpy as np
import scipy.optimize
from assignment import machine
from peers import installed, one_core
from timing import interleaved, timed

import loomfast

LATE = 5  # seconds
SHARES = (0.5, 0.9, 0.99)


def boxes(rng, n):
    corner, size = rng.random((n, 2)), 0.02 + 0.1 * rng.random((n, 2))
    return corner, corner + size


def overlap(a, b):
    """1 - intersection over union of every pair of boxes."""
    low, high = np.maximum(a[0][:, None], b[0]), np.minimum(a[1][:, None], b[1])
    inside = np.clip(high - low, 0, None).prod(-1)
    areas = [(one[1] - one[0]).prod(-1) for one in (a, b)]
    return 1 - inside / (areas[0][:, None] + areas[1] - inside)


def families(n, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.random((n, 1, 2)), rng.random((1, n, 2))
    first = boxes(rng, n)
    moved = tuple(corner + 0.02 * rng.standard_normal((n, 1)) for corner in first)
    return {
        "unif": rng.random((n, n)),
        "geo2d": np.sqrt(((a - b) ** 2).sum(-1)),
        "iou": overlap(first, moved),
        "wide": rng.random((n, 2 * n)),
    }


def total_of(cost, columns, limit):
    """What a matching costs, with what its unmatched pay."""
    columns = np.asarray(columns)
    rows = np.flatnonzero(columns >= 0)
    left = sum(cost.shape) - 2 * len(rows)
    return math.fsum([*cost[rows, columns[rows]], left * limit / 2])


def padded(cost, limit):
    n, m = cost.shape
    square = np.zeros((n + m, n + m))
    square[:n, :m], square[:n, m:], square[n:, :m] = cost, limit / 2, limit / 2
    return square


def contestants(cost, limit):
    """Name -> (call, columns of its answer)."""
    n, m = cost.shape
    narrow, square = cost.astype(np.float32), padded(cost, limit)
    found = {
        "loomfast": (lambda: loomfast.solve(cost, cost_limit=limit), lambda a: a.col4row),
        "loomfast float32": (lambda: loomfast.solve(narrow, cost_limit=limit), None),
        "scipy": (
            lambda: scipy.optimize.linear_sum_assignment(square),
            lambda a: np.where(a[1][:n] < m, a[1][:n], -1),
        ),
    }
    if lap := installed("lapx"):
        found["lapx"] = (lambda: lap.lapjv(cost, extend_cost=True, cost_limit=limit), lambda a: a[1])
    return found


def race(cost, limit, late):
    """Median seconds of each contestant that is right, and who was wrong."""
    found = {name: pair for name, pair in contestants(cost, limit).items() if name not in late}
    known, times, wrong = None, {}, []
    for name, (call, columns) in found.items():
        taken, answer = timed(call, time.process_time)
        total = known if columns is None else total_of(cost, columns(answer), limit)
        known = total if known is None else known
        if abs(total - known) <= 1e-9 * abs(known):
            times[name] = taken
        else:
            wrong.append(name)
        if taken > LATE:
            late.add(name)
    again = {name: found[name][0] for name, taken in times.items() if taken < LATE / 5}
    repeats = 1 if len(cost) > 200 else 20
    return times | interleaved(again, 5, clock=time.process_time, calls=lambda name: repeats), wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="20,100,300,1000", help="comma-separated n")
    parser.add_argument("--families", default="unif,geo2d,iou,wide")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    rows, late = [], {}
    for n in (int(n) for n in args.sizes.split(",")):
        for family, cost in families(n).items():
            if family not in args.families.split(","):
                continue
            for share in SHARES:
                limit = float(np.quantile(cost, 1 - share))
                with one_core():
                    seconds, wrong = race(cost, limit, late.setdefault((family, share), set()))
                ours = seconds["loomfast"]
                ratios = {name: s / ours for name, s in seconds.items() if name != "loomfast"}
                rows.append({"family": family, "n": n, "share": share, "ours": ours, "ratios": ratios})
                rows[-1]["wrong"] = wrong
                others = "  ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
                failed = "".join(f"  {name}: WRONG" for name in wrong)
                print(
                    f"{family:6} n {n:5} {share:4.0%} above  {1e3 * ours:.3g} ms  {others}{failed}",
                    flush=True,
                )
    for peer in ("lapx", "scipy"):
        found = [row["ratios"][peer] for row in rows if peer in row["ratios"]]
        if found:
            mean = statistics.geometric_mean(found)
            print(f"{peer} over loomfast: geometric mean {mean:.3g}, least {min(found):.3g}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
