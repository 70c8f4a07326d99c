"""The k best matchings against fastlap and against Murty's partition over scipy: one thread, validated first.

    python bench/assignment_k_best.py [--sizes 10,30,100] [--json FILE]

CPU seconds, medians of calls by turns; a contestant that needs over 10 s for a family is not called at larger
sizes. unif: U(0, 1); ints: integers below 100; geo2d: squared distances of points in the plane; gated: unif
with 70 % forbidden; wide: unif, n x 2n. "plain" is Murty's partition with a heap, `linear_sum_assignment` of
scipy for every part, forbidden pairs as +inf, in Python.
"""

import argparse
import heapq
import json
import statistics
import time

import numpy as np
from assignment import machine
from peers import installed, one_core
from scipy.optimize import linear_sum_assignment
from timing import interleaved, timed

import loomfast

LATE = 10  # seconds


def families(n, seed=0):
    rng = np.random.default_rng(seed)
    gated = rng.random((n, n))
    keep = rng.random((n, n)) < 0.3
    keep[np.arange(n), rng.permutation(n)] = True
    gated[~keep] = np.inf
    points = rng.random((2, n, 2))
    return {
        "unif": rng.random((n, n)),
        "ints": rng.integers(0, 100, (n, n)).astype(np.float64),
        "geo2d": ((points[0][:, None] - points[1][None]) ** 2).sum(-1),
        "gated": gated,
        "wide": rng.random((n, 2 * n)),
    }


def plain(cost, k):
    """Totals of the k best by Murty's partition, every part solved from nothing."""
    n = len(cost)
    rows, cols = linear_sum_assignment(cost)
    heap, totals, number = [(cost[rows, cols].sum(), 0, cols, (), ())], [], 0
    while heap and len(totals) < k:
        total, _, cols, fixed, excluded = heapq.heappop(heap)
        totals.append(total)
        held = dict(fixed)
        for row in range(n):
            if row in held:
                continue
            part = cost.copy()
            for i, j in held.items():
                kept = part[i, j]
                part[i, :] = part[:, j] = np.inf
                part[i, j] = kept
            lacking = (*excluded, (row, cols[row]))
            for i, j in lacking:
                part[i, j] = np.inf
            try:
                found = linear_sum_assignment(part)
            except ValueError:  # no matching is left in this part
                pass
            else:
                number += 1
                item = (part[found].sum(), number, found[1], tuple(held.items()), lacking)
                heapq.heappush(heap, item)
            held[row] = cols[row]
    return np.array(totals)


def contestants(cost, k):
    """Name -> call that returns the totals."""
    found = {
        "loomfast": lambda: np.array([a.total for a in loomfast.solve_k_best(cost, k)]),
        "plain": lambda: plain(cost, k),
    }
    if fastlap := installed("fastlap"):
        found["fastlap"] = lambda: np.array([answer[0] for answer in fastlap.solve_lap_kbest(cost, k)])
    return found


def race(cost, k, late):
    """Median seconds of each contestant that is right, and what each of the others did."""
    calls = {name: call for name, call in contestants(cost, k).items() if name not in late}
    times, wrong, known = {}, {}, None
    for name, call in calls.items():
        try:
            taken, totals = timed(call, time.process_time)
        except Exception as error:  # a peer's own
            wrong[name] = f"{type(error).__name__}: {error}"[:60]
            continue
        known = totals if known is None else known
        if len(totals) == len(known) and np.allclose(totals, known, rtol=1e-9):
            times[name] = taken
        else:
            wrong[name] = "WRONG"
        if taken > LATE:
            late.add(name)
    again = {name: calls[name] for name, taken in times.items() if taken < LATE / 20}
    return times | interleaved(again, 5, clock=time.process_time, warm=0), wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="10,30,100", help="comma-separated n")
    parser.add_argument("--ks", default="10,100,1000", help="comma-separated k")
    parser.add_argument("--families", default="unif,ints,geo2d,gated,wide")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    rows, late = [], {}
    for n in (int(n) for n in args.sizes.split(",")):
        for family, cost in families(n).items():
            if family not in args.families.split(","):
                continue
            for k in (int(k) for k in args.ks.split(",")):
                with one_core():
                    seconds, wrong = race(cost, k, late.setdefault(family, set()))
                ours = seconds["loomfast"]
                ratios = {name: s / ours for name, s in seconds.items() if name != "loomfast"}
                row = {"family": family, "n": n, "k": k, "ours": ours, "ratios": ratios, "wrong": wrong}
                rows.append(row)
                others = "  ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
                failed = "  ".join(f"{name}: {why}" for name, why in wrong.items())
                print(f"{family:6} n {n:4} k {k:5}  {1e3 * ours:.3g} ms  {others}  {failed}", flush=True)
    for peer in ("fastlap", "plain"):
        found = [row["ratios"][peer] for row in rows if peer in row["ratios"]]
        if found:
            mean = statistics.geometric_mean(found)
            print(f"{peer} over loomfast: geometric mean {mean:.3g}, least {min(found):.3g}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
