"""Bottleneck assignments against fastlap and against thresholds over scipy: one thread, validated first.

    python bench/assignment_bottleneck.py [--sizes 30,100,300] [--json FILE]

CPU seconds, medians of calls by turns; a contestant that needs over 5 s for a family is not called at
larger sizes. unif: U(0, 1); ints: integers below 100; geo2d: squared distances of points in the plane;
equal: all one; wide: unif, n x 2n. "thresholds" is bisection on the distinct costs with scipy's
maximum_bipartite_matching.
"""

import argparse
import json
import statistics
import time

import numpy as np
from assignment import machine
from peers import installed, one_core
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from timing import interleaved, timed

import loomfast

LATE = 5  # seconds


def families(n):
    rng = np.random.default_rng(n)
    points = rng.random((2, n, 2))
    return {
        "unif": rng.random((n, n)),
        "ints": rng.integers(0, 100, (n, n)).astype(np.float64),
        "geo2d": ((points[0][:, None] - points[1][None]) ** 2).sum(-1),
        "equal": np.ones((n, n)),
        "wide": rng.random((n, 2 * n)),
    }


def thresholds(cost):
    values = np.unique(cost)
    low, high = 0, len(values) - 1
    while low < high:
        middle = (low + high) // 2
        matched = maximum_bipartite_matching(csr_array(cost <= values[middle]), perm_type="column")
        low, high = (low, middle) if np.all(matched >= 0) else (middle + 1, high)
    return values[low]


def contestants(cost):
    """Name -> call that returns the bottleneck."""
    found = {
        "loomfast": lambda: loomfast.solve_bottleneck(cost).bottleneck,
        "then_sum": lambda: loomfast.solve_bottleneck(cost, then_sum=True).bottleneck,
        "thresholds": lambda: thresholds(cost),
    }
    if fastlap := installed("fastlap"):
        found["fastlap"] = lambda: fastlap.solve_lbap(cost)[0]
    return found


def race(cost, late):
    """Median seconds of each contestant that is right, and those that are wrong."""
    calls = {name: call for name, call in contestants(cost).items() if name not in late}
    known, times, wrong = loomfast.solve_bottleneck(cost).bottleneck, {}, []
    for name, call in calls.items():
        seconds, answer = timed(call, time.process_time)
        if answer == known:
            times[name] = seconds
        else:
            wrong.append(name)
        if seconds > LATE:
            late.add(name)
    again = {name: calls[name] for name, seconds in times.items() if seconds < LATE / 10}
    return times | interleaved(again, 5, clock=time.process_time, warm=0), wrong


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="30,100,300", help="comma-separated n")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    rows, late = [], {}
    for n in (int(n) for n in args.sizes.split(",")):
        for family, cost in families(n).items():
            with one_core():
                seconds, wrong = race(cost, late.setdefault(family, set()))
            ours = seconds["loomfast"]
            ratios = {name: taken / ours for name, taken in seconds.items() if name != "loomfast"}
            rows.append({"family": family, "n": n, "ours": ours, "ratios": ratios, "wrong": wrong})
            others = "  ".join(f"{name} {ratio:.3g}" for name, ratio in ratios.items())
            failed = "".join(f"  {name}: WRONG" for name in wrong)
            print(f"{family:6} n {n:5}  {1e3 * ours:.3g} ms  {others}{failed}", flush=True)
    for peer in ("fastlap", "thresholds"):
        found = [row["ratios"][peer] for row in rows if peer in row["ratios"]]
        if found:
            mean = statistics.geometric_mean(found)
            print(f"{peer} over loomfast: geometric mean {mean:.3g}, least {min(found):.3g}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
