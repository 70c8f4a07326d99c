"""The sparse solver against scipy's min_weight_full_bipartite_matching and lapx's lapmod, by family.

    python bench/assignment_sparse.py [--sizes 1000,20000] [--families random,band] [--limit 60] [--json FILE]

One thread, CPU seconds of a call, medians of up to five, each contestant in a process of its own; the totals
have to agree, and a contestant that takes over `--limit` seconds is left out ("over"). Everybody gets float64
CSR.

random D: D entries a row, U(0, 1), with a hidden matching; ints, ties, equal, lognormal: random 10 with
integers below 101, below 4, all one, and lognormal (sigma 3); band: 11 diagonals; wide band: 81; chain: a
cycle; grid: a pixel and its four neighbours; knn: squared distances to the ten nearest points, and to a
random one; power law: hubs; blocks: dense ones of 50; triangle: no column after the row's own; arrow: a
diagonal, a row and a column; wide 1.2 and 4, tall 1.2: more columns, or rows; infeasible: three entries a
row; blocked: two rows have one column.
"""

import argparse
import json
import multiprocessing
import statistics
import time

import numpy as np
import scipy.sparse as sp
from assignment import machine
from peers import installed, one_core
from scipy.sparse.csgraph import min_weight_full_bipartite_matching
from scipy.spatial import cKDTree

import loomfast


def graph(rows, cols, values, shape):
    """CSR of the first entry of every pair."""
    _, first = np.unique(rows.astype(np.int64) * shape[1] + cols, return_index=True)
    return sp.csr_array((np.asarray(values, np.float64)[first], (rows[first], cols[first])), shape=shape)


def random(rng, n, degree=10, ratio=1.0, values=None):
    m = int(n * ratio)
    rows = np.concatenate([np.arange(n), np.repeat(np.arange(n), degree - 1)])
    cols = np.concatenate([rng.permutation(m)[:n], rng.integers(0, m, n * (degree - 1))])
    return graph(rows, cols, values(len(rows)) if values else rng.random(len(rows)) + 1e-9, (n, m))


def band(rng, n, width=5):
    rows = np.repeat(np.arange(n), 2 * width + 1)
    cols = rows + np.tile(np.arange(-width, width + 1), n)
    inside = (cols >= 0) & (cols < n)
    return graph(rows[inside], cols[inside], rng.random(inside.sum()) + 1e-9, (n, n))


def chain(rng, n):
    i = np.arange(n)
    rows, cols = np.concatenate([i, i]), np.concatenate([i, (i + 1) % n])
    return graph(rows, cols, rng.random(2 * n) + 1e-9, (n, n))


def grid(rng, n):
    side = int(n**0.5)
    i = np.arange(side * side)
    rows, cols = [i], [i]
    for down, right in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        a, b = i // side + down, i % side + right
        inside = (a >= 0) & (a < side) & (b >= 0) & (b < side)
        rows.append(i[inside])
        cols.append((a * side + b)[inside])
    rows, cols = np.concatenate(rows), np.concatenate(cols)
    return graph(rows, cols, rng.random(len(rows)) + 1e-9, (side * side,) * 2)


def knn(rng, n, neighbours=10):
    a, b = rng.random((n, 2)), rng.random((n, 2))
    near, cols = cKDTree(b).query(a, neighbours)
    some = rng.permutation(n)
    rows = np.concatenate([np.repeat(np.arange(n), neighbours), np.arange(n)])
    costs = np.concatenate([near.ravel() ** 2, ((a - b[some]) ** 2).sum(1)])
    return graph(rows, np.concatenate([cols.ravel(), some]), n * costs + 1e-9, (n, n))


def power_law(rng, n, degree=10):
    weights = np.cumsum(np.arange(1, n + 1) ** -0.8)
    ends = [
        rng.permutation(n)[np.searchsorted(weights, rng.random(n * (degree - 1)) * weights[-1])] for _ in "ab"
    ]
    rows, cols = np.concatenate([np.arange(n), ends[0]]), np.concatenate([rng.permutation(n), ends[1]])
    return graph(rows, cols, rng.random(len(rows)) + 1e-9, (n, n))


def blocks(rng, n, size=50):
    n -= n % size
    rows = np.repeat(np.arange(n), size)
    cols = rows // size * size + np.tile(np.arange(size), n)
    return graph(rows, cols, rng.random(len(rows)) + 1e-9, (n, n))


def triangle(rng, n, degree=8):
    rows = np.repeat(np.arange(n), degree)
    cols = rows - (rng.random(len(rows)) ** 4 * np.minimum(rows, 1000)).astype(int)
    rows, cols = np.concatenate([np.arange(n), rows]), np.concatenate([np.arange(n), cols])
    return graph(rows, cols, rng.random(len(rows)) + 1e-9, (n, n))


def arrow(rng, n):
    i = np.arange(n)
    rows, cols = np.concatenate([i, i, 0 * i]), np.concatenate([i, 0 * i, i])
    return graph(rows, cols, rng.random(3 * n) + 1e-9, (n, n))


def infeasible(rng, n):
    return graph(np.repeat(np.arange(n), 3), rng.integers(0, n, 3 * n), rng.random(3 * n) + 1e-9, (n, n))


def blocked(rng, n):
    entries = random(rng, n).tocoo()
    kept = entries.row > 1
    rows, cols = np.append(entries.row[kept], [0, 1]), np.append(entries.col[kept], [5, 5])
    return graph(rows, cols, np.append(entries.data[kept], [1, 1]), (n, n))


FAMILIES = {
    "random 10": random,
    "random 4": lambda rng, n: random(rng, n, 4),
    "random 8": lambda rng, n: random(rng, n, 8),
    "random 30": lambda rng, n: random(rng, n // 3, 30),
    "ints": lambda rng, n: random(rng, n, values=lambda k: rng.integers(1, 101, k)),
    "ties": lambda rng, n: random(rng, n, values=lambda k: rng.integers(1, 4, k)),
    "equal": lambda rng, n: random(rng, n, values=np.ones),
    "lognormal": lambda rng, n: random(rng, n, values=lambda k: rng.lognormal(0, 3, k)),
    "band": band,
    "wide band": lambda rng, n: band(rng, n // 4, 40),
    "chain": chain,
    "grid": grid,
    "knn": knn,
    "power law": power_law,
    "blocks": blocks,
    "triangle": triangle,
    "arrow": arrow,
    "wide 1.2": lambda rng, n: random(rng, n, ratio=1.2),
    "wide 4": lambda rng, n: random(rng, n // 2, ratio=4.0),
    "tall 1.2": lambda rng, n: sp.csr_array(random(rng, n, ratio=1.2).T.tocsr()),
    "infeasible": infeasible,
    "blocked": blocked,
}


def contestants(costs):
    found = {
        "loomfast": loomfast.min_weight_full_bipartite_matching,
        "scipy": min_weight_full_bipartite_matching,
    }
    if (lap := installed("lapx")) and costs.shape[0] == costs.shape[1]:
        indptr, n = costs.indptr.astype(np.int32), len(costs.indptr) - 1
        found["lapmod"] = lambda g: (
            np.arange(n),
            lap.lapmod(n, g.data, indptr, g.indices.astype(np.int32))[1],
        )
    return found


def timed(solve, costs):
    """CPU seconds, and the total or None where the solver says that there is no matching."""
    begin = time.process_time()
    try:
        found = solve(costs)
    except ValueError:
        return time.process_time() - begin, None
    seconds = time.process_time() - begin
    return seconds, float(costs[found].sum())


def contest(family, n, name, results):
    """In a process of its own: seconds and total of a first call and of two more if they are short."""
    with one_core():
        costs = FAMILIES[family](np.random.default_rng(n), n)
        solve = contestants(costs).get(name)
        if solve is None:
            return results.put(None)
        calls = [timed(solve, costs)]
        while len(calls) < 5 and sum(seconds for seconds, _ in calls) < 1:
            calls.append(timed(solve, costs))
        results.put((statistics.median(seconds for seconds, _ in calls), calls[0][1]))


def race(family, n, name, limit):
    results = multiprocessing.Queue()
    process = multiprocessing.Process(target=contest, args=(family, n, name, results))
    process.start()
    try:
        return results.get(timeout=limit)
    except Exception:  # queue.Empty, of a module that is not imported for it alone
        return "over"
    finally:
        process.kill()
        process.join()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,20000", help="comma-separated rows")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--limit", type=float, default=60, help="seconds for a contestant")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    rows = []
    for n in (int(n) for n in args.sizes.split(",")):
        for family in args.families.split(","):
            ours = race(family, n, "loomfast", 10 * args.limit)
            if ours == "over":
                print(f"{family:12} n {n:7}  over {10 * args.limit:g} s", flush=True)
                continue
            seconds, total = ours
            row = {"family": family, "n": n, "ours": seconds, "ratios": {}}
            for peer in ("scipy", "lapmod"):
                found = race(family, n, peer, args.limit)
                if isinstance(found, tuple) and total is not None:
                    right = found[1] is not None and abs(found[1] - total) <= 1e-9 * abs(total)
                    row["ratios"][peer] = found[0] / seconds if right else "WRONG"
                elif isinstance(found, tuple):
                    row["ratios"][peer] = found[0] / seconds if found[1] is None else "WRONG"
                elif found:
                    row["ratios"][peer] = f"over {args.limit / seconds:.3g}"
            rows.append(row)
            others = "  ".join(
                f"{peer} {ratio if isinstance(ratio, str) else format(ratio, '.3g')}"
                for peer, ratio in row["ratios"].items()
            )
            print(f"{family:12} n {n:7}  {1e3 * seconds:9.4g} ms  {others}", flush=True)
    known = [row["ratios"]["scipy"] for row in rows if isinstance(row["ratios"].get("scipy"), float)]
    if known:
        mean = statistics.geometric_mean(known)
        print(f"scipy over loomfast: geometric mean {mean:.3g}, least {min(known):.3g}")
    if args.json:
        with open(args.json, "w") as file:
            json.dump({"machine": machine(), "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
