"""Warm starts of the assignment solver at every age of a LOOM coupling, against cold solves: one thread.

    python bench/warm_starts.py [--sizes 128,512,2048] [--epochs 1,2,3,5,...] [--items N] [--batches N]
                                [--rounds N] [--json FILE]

A LOOM coupling of --items patches of scikit-learn's two photographs with as many noises, one each: every
batch starts from its items' own noises and from the price last remembered for each noise, as loomfast.Loom
does. (All costs -2 x.z are computed once here, since only the solver is timed.) In the epochs named, warm and
cold solves of up to --batches batches are interleaved, after their totals have been found to agree.

POT's network simplex, which takes prices too, solves the first batch of each cold and warm, once each.

loose: share of rows that a start leaves loose; pushed: share of batches that pushing prices settled; ratio:
warm / cold, of all batches together (below 1, the start helps), and of the worst batch. Floors: never above
1.2 together; at the last epoch at most 1 / 1.7, and 1 / 2 at 2048. POT_warm_ratio: POT's warm time over ours
on that batch.
"""

import argparse
import time

import numpy as np
from assignment import patches
from peers import installed
from timing import interleaved, report

import loomfast
from loomfast.noise import NoiseDomain, noise_from_ids

EPOCHS = "1,2,3,5,7,10,15,20,30,50,80"


def gram(items):
    """-2 x.z for patches x and noises z, (items, items) float32."""
    x = patches(np.random.default_rng(0), items)
    z = noise_from_ids(np.arange(items), x.shape[1:], seed=0, domain=NoiseDomain.CACHE)
    return -2 * x @ z.T


def solve_pair(cost, start):
    """A warm and a cold solution, whose totals must agree within what their certificates leave open."""
    warm, cold = loomfast.solve(cost, start=start, threads=1), loomfast.solve(cost, threads=1)
    rounding = 1e-12 * abs(cold.total)
    if abs(warm.total - cold.total) > warm.gap + cold.gap + rounding:
        raise SystemExit(f"totals differ: {warm.total!r} warm, {cold.total!r} cold")
    return warm


def compare(cost, start, rounds):
    """Median seconds of a warm and of a cold solve."""
    seconds = interleaved(
        {
            "warm": lambda: loomfast.solve(cost, start=start, threads=1),
            "cold": lambda: loomfast.solve(cost, threads=1),
        },
        rounds,
    )
    return seconds["warm"], seconds["cold"]


def pots(cost, prices, total):
    """POT's milliseconds for a batch, cold and from the prices; nothing if it is not installed."""
    ot = installed("POT")
    if ot is None:
        return {}
    wide, ones = cost.astype(np.float64), np.ones(len(cost))
    start = (wide - prices).min(1), prices.astype(np.float64)
    found = {}
    for name, potentials in (("POT_cold_ms", None), ("POT_warm_ms", start)):
        begin = time.perf_counter()
        plan = ot.emd(ones, ones, wide, numItermax=10**9, potentials_init=potentials)
        found[name] = 1e3 * (time.perf_counter() - begin)
        if abs((plan * wide).sum() - total) > 1e-9 * abs(total):
            raise SystemExit(f"{name}: POT's total is {(plan * wide).sum()!r}, ours {total!r}")
    return found


def summary(n, epoch, warms, seconds, pot):
    if pot:
        pot = pot | {"POT_warm_ratio": pot["POT_warm_ms"] / (1e3 * seconds[0][0])}
    warm, cold = np.array(seconds).T
    return {
        "n": n,
        "epoch": epoch,
        "batches": len(warms),
        "loose": float(np.mean([w.stats["loose"] / n for w in warms])),
        "pushed": float(np.mean([w.stats["path"] == "warm start" for w in warms])),
        "cold_ms": 1e3 * float(np.median(cold)),
        "ratio": float(warm.sum() / cold.sum()),
        "worst": float((warm / cold).max()),
    } | pot


def coupling(costs, n, epochs, batches, rounds):
    """Trains one coupling with batches of n; a row of results for every epoch to be measured."""
    items = len(costs)
    rng, held, prices = np.random.default_rng(1), np.arange(items), np.zeros(items)
    rows = []
    for epoch in range(1, max(epochs) + 1):
        order, warms, seconds, pot = rng.permutation(items), [], [], {}
        for first in range(0, items - n + 1, n):
            batch = order[first : first + n]
            noises = held[batch]
            cost, start = costs[np.ix_(batch, noises)], (np.arange(n), prices[noises])
            if epoch in epochs and len(warms) < batches:
                warm = solve_pair(cost, start)
                pot = pot or pots(cost, prices[noises], warm.total)
                warms.append(warm)
                seconds.append(compare(cost, start, rounds))
            else:
                warm = loomfast.solve(cost, start=start, threads=1)
            held[batch] = noises[warm.col4row]
            prices[noises] += warm.v - start[1] - (warm.v - start[1]).mean()
        if epoch in epochs:
            rows.append(summary(n, epoch, warms, seconds, pot))
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="128,512,2048", help="comma-separated batch sizes")
    parser.add_argument("--epochs", default=EPOCHS, help="comma-separated epochs to measure")
    parser.add_argument("--items", type=int, default=4096)
    parser.add_argument("--batches", type=int, default=16, help="most batches measured in an epoch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", default="warm_starts.json")
    args = parser.parse_args()
    sizes, epochs = ([int(k) for k in text.split(",")] for text in (args.sizes, args.epochs))
    if max(sizes) > args.items:
        parser.error(f"--items {args.items} is too few for batches of {max(sizes)}")
    costs = gram(args.items)
    report([row for n in sizes for row in coupling(costs, n, epochs, args.batches, args.rounds)], args.json)


if __name__ == "__main__":
    main()
