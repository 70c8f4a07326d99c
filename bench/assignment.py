"""The assignment solver against every peer in peers.py: one thread, interleaved, validated before timing.

    python bench/assignment.py [--families img,unif] [--sizes 128,256] [--limit SECONDS] [--json FILE]

img: squared distances of 32x32x3 patches of scikit-learn's two photographs, in [-1, 1], to N(0, I) noise;
unif: U(0, 1); geo2d and geo2dn: squared distances of N(0, I) points to U(0, 1)^2 and to N(0, I) points;
hilbert: 1 / (i + j + 1); cosine: 1 - the cosine of N(0, I) vectors of 128 numbers; int8: integers below 128;
iou: 1 - intersection over union of unit boxes and the same boxes moved, 1 for nearly all pairs; binary: 0 or
1; constant. loomfast gets float32, and float64 beside it; each peer the dtype and the solver it is fastest
with. The table gives the peer's time over ours in float32; the best peer is the fastest of all that were
right. "all in float64" is the same where every contestant has float64 (or whole numbers).

Families that others measure with, scipy's, LAP1015's and OR-Library's, are in known_families.py.

A peer's answer is right if the exact sum of its costs is the optimum up to rounding, which a certificate
proves; one that is not shows WRONG and counts for nothing. The process stays on one core, with the peers'
threads switched off; time is its CPU time, medians of calls by turns. Every variant of a peer is first
called in a process of its own, which --limit CPU seconds end ("over"). One that takes three times its peer's
fastest, or is ended, is not called at larger sizes of the family; those far from the strongest peer have that
one call only. "one call": loops over one small matrix in cache. Batches are in assignment_batches.py.
"""

import argparse
import json
import math
import platform
import statistics
import time
import warnings
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from known_families import SHAPES, known_costs
from peers import LAPX, PEERS, excess, installed, one_core, solvers
from scipy.optimize import linear_sum_assignment as scipy_solve
from timing import bounded, interleaved, timed

import loomfast
from loomfast import doctor

FLOORS = {  # n: family: (scipy, lapx, POT)
    128: {"img": (6, 3.5, 6), "unif": (3, 0.8, 5), "geo2d": (4, 3.5, 4)},
    256: {"img": (14, 7, 9), "unif": (6, 1.2, 10), "geo2d": (11, 9, 7)},
    512: {"img": (28, 9, 15), "unif": (7, 1.6, 14), "geo2d": (22, 17, 10)},
    1024: {"img": (55, 25, 25), "unif": (10, 1.9, 25), "geo2d": (38, 28, 11)},
    2048: {"img": (120, 35, 35), "unif": (17, 3.8, 45), "geo2d": (70, 55, 17)},
    4096: {"img": (230, 60, None), "unif": (18, 4, None), "geo2d": (170, 80, None)},
}
FLOOR_OF = ("scipy", "lapx", "POT")
BEST_FLOORS = {  # family: {n: least ratio of the best peer}
    "img": {128: 3.5, 512: 10, 1024: 12, 2048: 15, 4096: 20},
    "geo2d": {512: 8.9, 1024: 9.9, 2048: 13.5},
    "hilbert": {1024: 12.6},
    "unif": {128: 1.4, 512: 1.6, 1024: 2, 2048: 3.5},
    "cosine": {1024: 2.5},
    "geo2dn": {1024: 4},
} | {family: dict.fromkeys((128, 512, 1024), 1.2) for family in ("int8", "iou", "binary", "constant")}
SIZES = {
    "img": (128, 512, 1024, 2048, 4096),
    "geo2d": (512, 1024, 2048),
    "geo2dn": (1024,),
    "hilbert": (1024,),
    "unif": (128, 512, 1024, 2048),
    "cosine": (1024,),
    "int8": (512, 1024),
    "iou": (128, 1024),
    "binary": (512, 1024),
    "constant": (512, 1024),
}
TINY = "tiny calls"
LIMIT_SECONDS = 5.0  # of a first call
FIRST_SECONDS = 0.01  # within which the first call is repeated
SLOW_SECONDS = 5  # above which there is no other
HOPELESS = 3  # times its peer's fastest, from which on a variant is left out at larger sizes
CLOSE, FAR = 1.5, 5  # times its peer's fastest, and the strongest peer's, up to which it is called again


def patches(rng, n):
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    out = np.empty((n, 32, 32, 3), np.float32)
    for k in range(n):
        photograph = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(size - 31) for size in photograph.shape[:2])
        out[k] = photograph[top : top + 32, left : left + 32]
    return out.reshape(n, -1) / 127.5 - 1


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def boxes(n, m, rng):
    """1 - intersection over union of random boxes and moved ones: exactly 1 for nearly all."""
    middle = rng.random((max(n, m), 2)) * math.sqrt(max(n, m))
    a, b = middle[:n], rng.permutation(middle + rng.normal(0, 0.2, middle.shape))[:m]
    sides = np.maximum(0, 1 - np.abs(a[:, None] - b[None]))
    shared = sides.prod(2)
    return (1 - shared / (2 - shared)).astype(np.float32)


def costs(family, n, m=None, seed=0):
    rng, m = np.random.default_rng(seed), m or n
    if family == "unif":
        return rng.random((n, m), np.float32)
    if family in ("int8", "binary"):
        return rng.integers(0, 128 if family == "int8" else 2, (n, m)).astype(np.float32)
    if family == "constant":
        return np.full((n, m), 3, np.float32)
    if family == "hilbert":
        return (1 / (np.add.outer(np.arange(n), np.arange(m)) + 1.0)).astype(np.float32)
    if family == "iou":
        return boxes(n, m, rng)
    if family == "cosine":
        a, b = (unit(rng.normal(size=(count, 128))) for count in (n, m))
        return (1 - a @ b.T).astype(np.float32)
    if family in ("geo2d", "geo2dn"):
        a, b = rng.normal(size=(n, 2)), rng.random((m, 2)) if family == "geo2d" else rng.normal(size=(m, 2))
    else:
        a, b = patches(rng, n), rng.standard_normal((m, 3072), np.float32)
    c = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * (a @ b.T)
    return np.ascontiguousarray(np.maximum(c, 0), np.float32)


def contestants(cost):
    """(peer or "loomfast", variant) -> (solve, pairs): a call, and what makes rows and columns of its answer.

    Where columns are fewer, peers other than scipy get the transposed costs, in C order.
    """
    found, tall = {}, cost.shape[0] > cost.shape[1]
    rows = np.arange(min(cost.shape))
    for array in (cost, cost.astype(np.float64)):
        found["loomfast", str(array.dtype)] = (lambda a=array: loomfast.linear_sum_assignment(a)), tuple
    for peer in filter(installed, PEERS):
        turned = np.ascontiguousarray(cost.T) if tall and peer != "scipy" else cost
        for variant, (solve, columns) in solvers(peer, turned).items():
            if peer == "scipy":
                pairs = tuple
            elif tall:
                pairs = lambda answer, columns=columns: (columns(answer), rows)  # noqa: E731
            else:
                pairs = lambda answer, columns=columns: (rows, columns(answer))  # noqa: E731
            found[peer, variant] = solve, pairs
    return found


def validated(cost, runners, limit):
    """Seconds of one call of each runner that is right, how wrong the others are, why some have no answer.

    The certificate of our own answer says what is right. Each runner has a process of its own, which
    ``limit`` seconds of CPU end. The CPU clock of a fresh process may stand still for milliseconds, so it is
    the clock on the wall that counts: the least time of the calls that fit in FIRST_SECONDS.
    """
    wide, known = cost.astype(np.float64), certified(cost)
    seconds, wrong, without = {}, {}, {}
    for key, (solve, pairs) in runners.items():

        def call(solve=solve, pairs=pairs):
            taken, answer = timed(solve)
            spent = taken
            while spent < FIRST_SECONDS:
                again, answer = timed(solve)
                spent += again
                taken = min(taken, again)
            return taken, tuple(np.asarray(part) for part in pairs(answer))

        found, why = bounded(call, limit)
        if found is None:
            without[key] = why
            continue
        above, allowed = excess(wide, found[1], known)
        if above < -allowed or (above > allowed and key[0] == "loomfast"):
            raise SystemExit(f"{key}: {above} from the certified total: loomfast is wrong")
        if above > allowed:
            wrong[key] = above
        else:
            seconds[key] = found[0]
    return seconds, wrong, without


def certified(cost):
    """Rows and columns of an optimal matching, whose gap proves that it is one."""
    found = loomfast.solve(cost)
    rows = np.flatnonzero(found.col4row >= 0)
    pairs = rows, found.col4row[rows]
    s = max(np.abs(cost[pairs]).max(), np.abs(found.u).max(), np.abs(found.v).max())
    if not found.gap <= 8 * len(rows) * 2.0**-53 * s:
        raise SystemExit(f"the gap {found.gap} proves nothing: loomfast is wrong")
    return pairs


def race(cost, repeats, hopeless, limit=LIMIT_SECONDS):
    """Median seconds of the contestants that are right, by turns; the wrong ones; those without an answer.

    hopeless grows by the variants that are no more to be called at larger sizes of the family.
    """
    runners = {key: pair for key, pair in contestants(cost).items() if key not in hopeless}
    first, wrong, without = validated(cost, runners, limit)
    fastest = {}
    for (peer, _), seconds in first.items():
        fastest[peer] = min(seconds, fastest.get(peer, seconds))
    hopeless |= {key for key, why in without.items() if why.startswith("over")}
    hopeless |= {
        key for key, seconds in first.items() if seconds > HOPELESS * fastest[key[0]] and key[0] != "loomfast"
    }
    strongest = min((s for peer, s in fastest.items() if peer != "loomfast"), default=math.inf)
    again = {
        key: runners[key][0]
        for key, seconds in first.items()
        if key[0] == "loomfast"
        or (seconds <= CLOSE * fastest[key[0]] and seconds <= min(FAR * strongest, SLOW_SECONDS))
    }
    medians = interleaved(
        again,
        repeats,
        clock=time.process_time,
        warm=0,
        calls=lambda key: 3 if key[0] == "loomfast" else 1,
    )
    return first | medians, wrong, without


def result(seconds, wrong, without=None):
    """What a race says: our times, for each peer its best variant and the ratio or why not, the best peer."""
    ours = {variant: s for (name, variant), s in seconds.items() if name == "loomfast"}
    peers = {}
    for peer in PEERS:
        mine = {variant: s for (name, variant), s in seconds.items() if name == peer}
        mistakes = {variant: above for (name, variant), above in wrong.items() if name == peer}
        reasons = [why for (name, _), why in (without or {}).items() if name == peer]
        if mine:
            best = min(mine, key=mine.get)
            peers[peer] = {"variant": best, "seconds": mine[best], "ratio": mine[best] / ours["float32"]}
        else:
            why = "WRONG" if mistakes else "does not take it" if installed(peer) else "not installed"
            peers[peer] = {"why not": reasons[0] if reasons else why}
        if mistakes:
            peers[peer]["wrong"] = mistakes
    right = [peer for peer in peers if "ratio" in peers[peer]]
    best = min(right, key=lambda peer: peers[peer]["ratio"], default=None)
    wide = {key: s for key, s in seconds.items() if key[0] != "loomfast" and "float32" not in key[1]}
    best_wide = min(wide, key=wide.get, default=None)
    in_float64 = (
        {"best": None, "ratio": math.nan}
        if best_wide is None
        else {"best": best_wide[0], "variant": best_wide[1], "ratio": wide[best_wide] / ours["float64"]}
    )
    return {"ours": ours, "peers": peers, "best": best, "float64": in_float64}


def cell(peer, found, floor=None):
    if "ratio" not in found:
        return f"{peer}: {found['why not']}"
    short = "" if floor is None or found["ratio"] >= floor else f" SHORT of {floor}"
    mistakes = f" ({', '.join(found['wrong'])}: WRONG)" if found.get("wrong") else ""
    return f"{peer} {found['ratio']:.2f}{short} [{found['variant'] or 'only'}]{mistakes}"


def show(label, row, floors=(), floor=None):
    ms = ", ".join(f"{1e3 * seconds:.3g}" for seconds in row["ours"].values())
    floors = dict(floors)
    cells = "; ".join(cell(peer, found, floors.get(peer)) for peer, found in row["peers"].items())
    best = "none" if row["best"] is None else cell(row["best"], row["peers"][row["best"]], floor)
    wide = row["float64"]
    print(
        f"{label}  {ms} ms  best {best}; all in float64 {wide['best']} {wide['ratio']:.2f};  {cells}",
        flush=True,
    )


def shapes_of(family, sizes):
    """The (n, m) of a family that are run: those of the table, or squares of the sizes asked for."""
    if sizes:
        return [(n, n) for n in sorted(sizes)]
    return SHAPES[family] if family in SHAPES else [(n, n) for n in SIZES[family]]


def table(families, sizes, limit, keep):
    """The rows, each of which `keep` is told of at once, so that a run that is ended leaves what it found."""
    rows = []
    print("our ms in float32, float64; then the time of each peer over ours in float32 [its best variant]")
    for family in families:
        hopeless = set()
        for n, m in shapes_of(family, sizes):
            repeats = max(3, min(25, int(1.5e7 / n**2.2)))
            cost = (known_costs if family in SHAPES else costs)(family, n, m)
            with one_core():
                row = result(*race(cost, repeats, hopeless, limit))
            floors = zip(FLOOR_OF, FLOORS.get(n, {}).get(family, ()), strict=False)
            show(f"{family:18} {n:5} x {m:<5}", row, floors, BEST_FLOORS.get(family, {}).get(n, 1.2))
            rows.append({"family": family, "n": n, "m": m} | row)
            keep(rows)
    return rows


def tiny_calls(rounds=41, calls=1000):
    """Median seconds of one call of a small matrix in cache: ours, scipy's, every function of lapx's."""
    rows, lap = [], installed("lapx")
    for n in (5, 20):
        cost = np.random.default_rng(n).random((n, n))
        contest = {("scipy", ""): lambda f=scipy_solve, c=cost: f(c)}
        for array in (cost, cost.astype(np.float32)):
            contest["loomfast", str(array.dtype)] = lambda c=array: loomfast.linear_sum_assignment(c)
            for name in (*LAPX, "lapjvxa", "lapjvsa") if lap else ():
                solve = getattr(lap, name)
                contest["lapx", f"{name} {array.dtype}"] = lambda f=solve, c=array: f(c)
        loops = {key: lambda call=call: [call() for _ in range(calls)] for key, call in contest.items()}
        with one_core():
            medians = interleaved(loops, rounds, clock=time.process_time)
        seconds = {key: taken / calls for key, taken in medians.items()}
        best = {peer: min((s, key) for key, s in seconds.items() if key[0] == peer) for peer, _ in seconds}
        ours = best["loomfast"][0]
        text = ", ".join(
            f"{peer} {1e6 * s:.3g} us ({s / ours:.2f}) [{key[1]}]" for peer, (s, key) in best.items()
        )
        print(f"one call, {n} x {n}: {text}", flush=True)
        rows.append({"n": n, "seconds": {" ".join(key): s for key, s in seconds.items()}})
    return rows


def short(number):
    """Two digits, without an exponent."""
    return f"{float(f'{number:.2g}'):g}"


def markdown(rows):
    """The table as the README shows it."""
    print(
        "\n| costs | shape | ours in ms | fastest peer | its time / ours | all in float64 | its time / ours |"
    )
    print("|---" * 7 + "|")
    for row in rows:
        best, wide = row["peers"].get(row["best"]), row["float64"]
        peer = f"{row['best']} {best['variant']}".strip() if best else "none was right"
        ratio = short(best["ratio"]) if best else ""
        ms = short(1e3 * row["ours"]["float32"])
        other = f"{wide['best']} {wide.get('variant', '')}".strip()
        print(
            f"| {row['family']} | {row['n']} x {row['m']} | {ms} | {peer} | {ratio} | {other} | "
            f"{short(wide['ratio'])} |"
        )
    ratios = [row["peers"][row["best"]]["ratio"] for row in rows if row["best"]]
    wide = [row["float64"]["ratio"] for row in rows if row["float64"]["best"]]
    for name, found in (("float32 for us", ratios), ("all in float64", wide)):
        if found:
            print(
                f"{name}: geometric mean {short(statistics.geometric_mean(found))}, least {short(min(found))}"
            )


def machine():
    versions = {}
    for package in ("loomfast", "numpy", *(package for package, _ in PEERS.values())):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    name = platform.processor()
    try:
        with open("/proc/cpuinfo") as f:
            name = next(line.split(":")[1].strip() for line in f if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": name,
        "instructions": doctor.instruction_sets().detail,
        "python": platform.python_version(),
        "versions": versions,
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [*SIZES, *SHAPES, TINY]
    parser.add_argument("--families", default=",".join(names), help="some of: " + ", ".join(names))
    parser.add_argument(
        "--sizes", default="", help="comma-separated n of square problems, instead of the table's"
    )
    parser.add_argument(
        "--limit", type=float, default=LIMIT_SECONDS, help="CPU seconds of a peer's first call"
    )
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    families = args.families.split(",")
    if unknown := set(families) - set(names):
        parser.error(f"--families knows {', '.join(names)}, not {', '.join(sorted(unknown))}")
    warnings.simplefilter("ignore")  # the peers' own
    report = {"machine": machine()}
    print(report["machine"])
    sizes = [int(n) for n in args.sizes.split(",") if n]

    def keep(rows):
        report["table"] = rows
        if args.json:
            with open(args.json, "w") as f:
                json.dump(report, f, indent=1)

    chosen = [family for family in families if family != TINY]
    report["tiny"] = tiny_calls() if TINY in families else []
    keep([])
    markdown(table(chosen, sizes, args.limit, keep))


if __name__ == "__main__":
    main()
