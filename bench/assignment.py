"""The assignment solver against every peer in peers.py: one thread, interleaved, validated before timing.

    python bench/assignment.py [--sizes 128,256] [--families img,unif] [--json FILE]

img: squared distances of 32x32x3 patches of scikit-learn's two photographs, in [-1, 1], to N(0, I) noise;
unif: U(0, 1); geo2d: squared distances of N(0, I) points to U(0, 1)^2 points. loomfast gets float32, and
float64 beside it; each peer the dtype and the solver it is fastest with. The table gives the peer's time over
ours in float32; the best peer is the fastest of all that were right.

A peer's answer is right if the exact sum of its costs is the optimum up to rounding; one that is not shows
WRONG and counts for nothing. The process stays on one core, with the peers' threads switched off; time is its
CPU time, medians of calls by turns. A variant that first takes three times its peer's fastest is not called
again, at larger sizes of the family neither; one that needs over 5 s runs once.
"""

import argparse
import json
import platform
import time
import warnings
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from peers import PEERS, excess, installed, one_core, solvers
from timing import interleaved, timed

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
SLOW_SECONDS = 5
HOPELESS = 3


def patches(rng, n):
    from sklearn.datasets import load_sample_images

    photographs = load_sample_images().images
    out = np.empty((n, 32, 32, 3), np.float32)
    for k in range(n):
        photograph = photographs[rng.integers(len(photographs))]
        top, left = (rng.integers(size - 31) for size in photograph.shape[:2])
        out[k] = photograph[top : top + 32, left : left + 32]
    return out.reshape(n, -1) / 127.5 - 1


def costs(family, n, m=None, seed=0):
    rng, m = np.random.default_rng(seed), m or n
    if family == "unif":
        return rng.random((n, m), np.float32)
    if family == "geo2d":
        a, b = rng.normal(size=(n, 2)), rng.random((m, 2))
    else:
        a, b = patches(rng, n), rng.standard_normal((m, 3072), np.float32)
    c = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * (a @ b.T)
    return np.ascontiguousarray(np.maximum(c, 0), np.float32)


def contestants(cost):
    """(peer or "loomfast", variant) -> (solve, columns)."""
    found = {}
    for array in (cost, cost.astype(np.float64)):
        solve = (lambda array=array: loomfast.linear_sum_assignment(array)), lambda answer: answer[1]
        found["loomfast", str(array.dtype)] = solve
    for peer in PEERS:
        if installed(peer):
            found |= {(peer, variant): pair for variant, pair in solvers(peer, cost).items()}
    return found


def validated(cost, runners):
    """Seconds of one call of each runner that is right, and by how much the others are wrong."""
    wide, known = cost.astype(np.float64), loomfast.linear_sum_assignment(cost)
    seconds, wrong = {}, {}
    for key, (solve, columns) in runners.items():
        taken, answer = timed(solve, time.process_time)
        above, allowed = excess(wide, (np.arange(len(cost)), columns(answer)), known)
        if above < -allowed or (above > allowed and key[0] == "loomfast"):
            raise SystemExit(f"{key}: {above} from loomfast's total: loomfast is wrong")
        if above > allowed:
            wrong[key] = above
        else:
            seconds[key] = taken
    return seconds, wrong


def race(cost, repeats, hopeless):
    """Median seconds of the contestants that are right, by turns, and the wrong ones; hopeless grows."""
    runners = {key: pair for key, pair in contestants(cost).items() if key not in hopeless}
    first, wrong = validated(cost, runners)
    fastest = {}
    for (peer, _), seconds in first.items():
        fastest[peer] = min(seconds, fastest.get(peer, seconds))
    late = {key for key, seconds in first.items() if seconds > HOPELESS * fastest[key[0]]}
    hopeless |= {key for key in late if key[0] != "loomfast"}
    once = {key: seconds for key, seconds in first.items() if key not in hopeless}
    again = {key: runners[key][0] for key, seconds in once.items() if seconds <= SLOW_SECONDS}
    medians = interleaved(
        again,
        repeats,
        clock=time.process_time,
        warm=0,
        calls=lambda key: 3 if key[0] == "loomfast" else 1,
    )
    return once | medians, wrong


def result(seconds, wrong):
    """What a race says: our times, for each peer its best variant and the ratio or why not, the best peer."""
    ours = {variant: s for (name, variant), s in seconds.items() if name == "loomfast"}
    peers = {}
    for peer in PEERS:
        mine = {variant: s for (name, variant), s in seconds.items() if name == peer}
        mistakes = {variant: above for (name, variant), above in wrong.items() if name == peer}
        if mine:
            best = min(mine, key=mine.get)
            peers[peer] = {"variant": best, "seconds": mine[best], "ratio": mine[best] / ours["float32"]}
        else:
            why = "WRONG" if mistakes else "does not take it" if installed(peer) else "not installed"
            peers[peer] = {"why not": why}
        if mistakes:
            peers[peer]["wrong"] = mistakes
    right = [peer for peer in peers if "ratio" in peers[peer]]
    best = min(right, key=lambda peer: peers[peer]["ratio"], default=None)
    return {"ours": ours, "peers": peers, "best": best}


def cell(peer, found, floor=None):
    if "ratio" not in found:
        return f"{peer}: {found['why not']}"
    short = "" if floor is None or found["ratio"] >= floor else f" SHORT of {floor}"
    mistakes = f" ({', '.join(found['wrong'])}: WRONG)" if found.get("wrong") else ""
    return f"{peer} {found['ratio']:.2f}{short} [{found['variant'] or 'only'}]{mistakes}"


def show(label, row, floors=()):
    ms = ", ".join(f"{1e3 * seconds:.3g}" for seconds in row["ours"].values())
    floors = dict(floors)
    cells = "; ".join(cell(peer, found, floors.get(peer)) for peer, found in row["peers"].items())
    print(f"{label}  {ms} ms  best {row['best']};  {cells}", flush=True)


def table(sizes, families):
    rows = []
    print("our ms in float32, float64; then the time of each peer over ours in float32 [its best variant]")
    for family in families:
        hopeless = set()
        for n in sorted(sizes):
            repeats = max(3, min(40, int(3e7 / n**2.2)))
            with one_core():
                row = result(*race(costs(family, n), repeats, hopeless))
            floors = zip(FLOOR_OF, FLOORS.get(n, {}).get(family, ()), strict=False)
            show(f"{family:6}{n:6}", row, floors)
            rows.append({"family": family, "n": n} | row)
    return rows


def short(number):
    """Two digits, without an exponent."""
    return f"{float(f'{number:.2g}'):g}"


def markdown(rows):
    """The table as the README shows it."""
    print(f"\n| costs | n | ms, float32 | float64 | {' | '.join(PEERS)} | best peer |")
    print("|---" * (len(PEERS) + 5) + "|")
    for row in rows:
        ratios = [
            short(found["ratio"]) if "ratio" in found else found["why not"] for found in row["peers"].values()
        ]
        ms = " | ".join(short(1e3 * seconds) for seconds in row["ours"].values())
        print(f"| {row['family']} | {row['n']} | {ms} | {' | '.join(ratios)} | {row['best']} |")


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
    parser.add_argument("--sizes", default="128,256,512,1024", help="comma-separated n")
    parser.add_argument("--families", default="img,unif,geo2d")
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    report = {"machine": machine()}
    print(report["machine"])
    report["table"] = table([int(n) for n in args.sizes.split(",")], args.families.split(","))
    markdown(report["table"])
    if args.json:
        with open(args.json, "w") as f:
            json.dump(report, f, indent=1)


if __name__ == "__main__":
    main()
