"""The assignment solver's other forms against peers that have them: rectangles, batches, points, tiny ones.

    python bench/assignment_forms.py [--only FORM,...] [--size N] [--count N] [--rounds N] [--json FILE]

rectangles: 1000 x 4000 as in assignment.py. batches: 16 img problems of 500 x 500 on one thread and on all,
in elapsed time, LAP1015's threads within a matrix and the others' over matrices. points: from the points to
the matching, our pairwise_cost and solve against POT's lazy solver; the points are multiples of 1/8, so that
every cost is exact on both sides. tiny: loops over one float64 matrix in cache, against scipy.
"""

import argparse
import json
import os
import time
import warnings

import numpy as np
import scipy.optimize
from assignment import SLOW_SECONDS, costs, machine, patches, race, result, show
from peers import PEERS, batch_solvers, excess, installed, one_core
from timing import interleaved, timed

import loomfast


def rectangles(args):
    """n x 4n against every peer that takes it; those over 100 times ours at n / 4 get no larger one."""
    rows = []
    for family in ("img", "unif", "geo2d"):
        hopeless = set()
        with one_core():
            quarter, *_ = race(costs(family, args.size // 4, args.size), 1, hopeless)
            ours = quarter["loomfast", "float32"]
            slow = {key for key, seconds in quarter.items() if seconds > 100 * ours}
            row = result(*race(costs(family, args.size, 4 * args.size), args.rounds, hopeless | slow))
        for peer in {peer for peer, _ in slow} - {
            peer for peer, found in row["peers"].items() if "ratio" in found
        }:
            row["peers"][peer] = {"why not": "over 100 at a quarter of the size"}
        show(f"{args.size} x {4 * args.size} {family:6}", row, [("scipy", 5)])
        rows.append({"family": family, "n": args.size, "m": 4 * args.size} | row)
    return rows


def batch_calls(batch, cores):
    """(peer or "loomfast", variant, threads) -> (solve, columns)."""
    calls = {}
    for threads in sorted({1, cores}):
        ours = (lambda threads=threads: loomfast.solve(batch, threads=threads)), lambda answer: answer.col4row
        calls["loomfast", "", threads] = ours
        for peer in filter(installed, PEERS):
            found = batch_solvers(peer, batch, threads)
            calls |= {(peer, variant, threads): pair for variant, pair in found.items()}
    return calls


def batches(args):
    """Elapsed seconds of a batch of img problems by one thread and by all, for us and each peer's variant."""
    batch = np.stack([costs("img", args.size // 2, seed=s) for s in range(args.count)])
    calls = batch_calls(batch, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    known = [loomfast.linear_sum_assignment(one) for one in batch]
    times = {}
    for key, (solve, columns) in calls.items():
        taken, answer = timed(solve)
        answers = ((np.arange(batch.shape[1]), chosen) for chosen in columns(answer))
        wrong = [above for above, allowed in map(excess, batch, answers, known) if above > allowed]
        if wrong:
            print(f"  {key}: WRONG in {len(wrong)} of {len(batch)}, by up to {max(wrong):.3g}")
        else:
            times[key] = taken
    again = {key: calls[key][0] for key, taken in times.items() if taken <= SLOW_SECONDS}
    times |= interleaved(again, args.rounds, warm=0)
    rows = []
    for (name, variant, threads), taken in times.items():
        rows.append({"name": name, "variant": variant, "threads": threads, "seconds": taken})
        print(
            f"batch of {len(batch)}, {threads} threads: {name} {variant} {1e3 * rows[-1]['seconds']:.4g} ms"
        )
    return rows


def exact_points(family, n):
    """Two sets of n points, multiples of 1/8 whose squared distances float32 holds exactly."""
    rng = np.random.default_rng(n)
    if family == "img":
        a, b = patches(rng, n), rng.standard_normal((n, 3072))
    else:
        a, b = 16 * rng.normal(size=(n, 2)), 16 * rng.random((n, 2))
    return (np.round(8 * points.clip(-63, 63)).astype(np.float32) / 8 for points in (a, b))


def points(args):
    """CPU seconds from points to a matching, ours and POT's lazy solver's."""
    rows, ot = [], installed("POT")
    for family, n in (("img", args.size // 4), ("geo2d", args.size // 2), ("geo2d", 2 * args.size)):
        a, b = exact_points(family, n)
        wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)

        def ours(a=a, b=b):
            return loomfast.linear_sum_assignment(loomfast.pairwise_cost(a, b, threads=1))

        def lazy(a=wide_a, b=wide_b):
            return ot.emd2_lazy(a, b, numItermax=10**9, log=True)

        with one_core():
            total = loomfast.pairwise_cost(a, b, threads=1)[ours()].astype(np.float64).sum()
            calls = {"loomfast": ours} | ({"POT lazy": lazy} if ot else {})
            if ot and abs(lazy()[0] * n - total) > 1e-12 * total:
                raise SystemExit(f"POT's lazy total for {family} {n} is {lazy()[0] * n!r}, ours {total!r}")
            medians = interleaved(calls, args.rounds, clock=time.process_time, warm=0)
        print(
            f"points, {family} {n}: " + ", ".join(f"{name} {1e3 * s:.3g} ms" for name, s in medians.items())
        )
        rows.append({"family": family, "n": n, "seconds": medians})
    return rows


def tiny(args):
    rows = []
    for n in (2, 5, 10, 16):
        cost = np.random.default_rng(n).random((n, n))
        solvers = {
            "loomfast": loomfast.linear_sum_assignment,
            "scipy": scipy.optimize.linear_sum_assignment,
        }
        calls = {
            name: lambda f=solve, cost=cost: [f(cost) for _ in range(2000)] for name, solve in solvers.items()
        }
        ours, theirs = interleaved(calls, 2 * args.rounds + 1, clock=time.process_time, warm=0).values()
        print(f"{n} x {n} float64: loomfast / scipy {ours / theirs:.2f} (at most 2)")
        rows.append({"n": n, "loomfast / scipy": ours / theirs})
    return rows


# Batches come first: OpenMP counts the cores when it is loaded, and the others keep to one.
FORMS = {"batches": batches, "rectangles": rectangles, "points": points, "tiny": tiny}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(FORMS), help="comma-separated forms")
    parser.add_argument("--size", type=int, default=1000, help="n of the rectangles; the others follow it")
    parser.add_argument("--count", type=int, default=16, help="problems in a batch")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    if unknown := set(args.only.split(",")) - set(FORMS):
        parser.error(f"--only knows {', '.join(FORMS)}, not {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")  # the peers' own
    report = {"machine": machine()}
    print(report["machine"])
    report |= {name: form(args) for name, form in FORMS.items() if name in args.only.split(",")}
    if args.json:
        with open(args.json, "w") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    main()
