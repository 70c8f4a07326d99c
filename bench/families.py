"""The assignment solver on every family of costs, against scipy: one thread, interleaved, totals compared.

    python bench/families.py [--cases N] [--only FACTOR=LEVEL ...] [--quick] [--json FILE]

A case is one level of each factor of FACTORS: shape, values, gating, offsets of rows and of columns, scale,
dtype, order in memory and start. Cases are drawn with a fixed seed so that every two levels that go together
meet in one; a case alone determines its costs: `cost_of(case)` and `start_of(case, cost)` make it again.

loomfast gets the costs as the case says. scipy gets the array it takes fastest, float64 in C order; a second
ratio, "given the same array", adds what that conversion takes, which scipy would make itself. Beside them run
the case's siblings, other forms of the same numbers: float32 where float64 holds nothing more, C order, no
start. Each contestant is called by turns until it has used its share of CPU time, at least twice if a call
takes less than a second; the fastest call counts. Time is CPU time of the process: a second thread would be
charged, another program is not.

The totals are compared as exact sums: ours may exceed scipy's by 8 n 2^-53 times the largest cost that
scipy matched. Any that exceeds it is printed as WRONG and ends the run with exit code 1.
"""

import argparse
import json
import math
import sys
import time
import zlib
from collections import namedtuple
from itertools import combinations, product
from pathlib import Path

import numpy as np
from assignment import boxes, costs
from peers import excess
from scipy.optimize import linear_sum_assignment as scipys
from timing import machine

import loomfast

FACTORS = {
    "shape": (
        *("128x128", "512x512", "1024x1024", "2000x2000", "1500x1770", "1770x1500", "400x1600", "200x2000"),
        *("1000x4000", "4000x1000", "300x3000", "3000x300", "20000x50", "50x20000", "100000x3"),
    ),
    "values": (
        *("random", "plane", "small integers", "constant", "bits"),
        *("equal rows", "equal columns", "Toeplitz", "boxes"),
    ),
    "gating": ("none", "half", "band", "triangle", "sparse"),
    "rows": ("0", "1e3", "1e6"),
    "columns": ("0", "1e3", "1e6"),
    "scale": ("1", "1e-30", "1e30"),
    "dtype": ("float64", "float32", "int64", "uint8"),
    "order": ("C", "F", "strided"),
    "start": ("none", "good", "own v", "30 v", "100 scales", "shuffled"),
}
Case = namedtuple("Case", FACTORS)
# What most costs are like: drawn half of the time. None: no level is usual.
USUAL = dict.fromkeys(FACTORS) | {
    "gating": "none",
    "rows": "0",
    "columns": "0",
    "scale": "1",
    "start": "none",
}
# Levels that cannot meet: integers have no infinity, and small ones no room.
APART = {
    *((("dtype", kind), ("gating", level)) for kind in ("int64", "uint8") for level in FACTORS["gating"][1:]),
    *((("dtype", kind), ("scale", level)) for kind in ("int64", "uint8") for level in FACTORS["scale"][1:]),
    *((("dtype", "uint8"), (side, size)) for side in ("rows", "columns") for size in ("1e3", "1e6")),
}
# What the project promises, and of which form of a case over its sibling.
CLAIMS = {"float64 / float32": 1.25, "Fortran / C order": 1.2, "strided / C order": None, "start / cold": 1.2}
CPU_SECONDS = 0.12


def pairs(case):
    """The pairs of levels that meet in a case."""
    return set(combinations(zip(FACTORS, case, strict=True), 2))


def together(case):
    return not any((a, b) in APART or (b, a) in APART for a, b in pairs(case))


def possible_pairs():
    """Every two levels of different factors that can meet."""
    levels = [[(factor, level) for level in FACTORS[factor]] for factor in FACTORS]
    every = (pair for one, other in combinations(levels, 2) for pair in product(one, other))
    return [(a, b) for a, b in every if (a, b) not in APART and (b, a) not in APART]


def selection(count, seed=0):
    """`count` different cases in which every possible pair of levels meets, if count allows; greedy."""
    rng = np.random.default_rng(seed)

    def draw(fixed):
        """A case with the levels fixed, the others often as usual; APART always leaves one."""
        while True:
            levels = {
                factor: usual if usual and rng.random() < 0.5 else str(rng.choice(FACTORS[factor]))
                for factor, usual in USUAL.items()
            } | fixed
            if together(case := Case(**levels)):
                return case

    todo = possible_pairs()
    todo = {todo[k]: None for k in rng.permutation(len(todo))}  # a set that keeps its order
    chosen = {}
    while len(chosen) < count:
        fixed = dict(next(iter(todo))) if todo else {}
        found = [draw(fixed) for _ in range(12 if todo else 1)]
        case = max(found, key=lambda case: sum(pair in todo for pair in pairs(case)))
        chosen[case] = None
        for pair in pairs(case):
            todo.pop(pair, None)
    return list(chosen)


def shape_of(case):
    return tuple(int(size) for size in case.shape.split("x"))


def seed_of(case):
    """Of the numbers only, not of the form they are passed in."""
    return zlib.crc32(repr(case[:5]).encode())


def values(kind, n, m, rng):
    """(n, m) costs of about 1, or small integers."""
    seed = int(rng.integers(2**31))
    if kind in ("random", "plane"):
        return costs({"random": "unif", "plane": "geo2d"}[kind], n, m, seed)
    if kind == "small integers":
        return rng.integers(0, 10, (n, m))
    if kind == "constant":
        return np.full((n, m), 3)
    if kind == "bits":
        return rng.integers(0, 2, (n, m))
    if kind == "equal rows":
        return rng.random((-(-n // 3), m), np.float32).repeat(3, 0)[:n]
    if kind == "equal columns":
        return rng.random((n, -(-m // 3)), np.float32).repeat(3, 1)[:, :m]
    if kind == "Toeplitz":  # of two levels: Toeplitz blocks, themselves in Toeplitz order
        i, j = np.arange(n)[:, None], np.arange(m)
        outer, inner = rng.integers(0, 10, n // 32 + m // 32 + 2), rng.integers(0, 10, 64)
        return outer[i // 32 - j // 32 + m // 32] + inner[i % 32 - j % 32 + 31]
    return boxes(n, m, rng)


def allowed(kind, n, m, rng):
    """(n, m) of bool: the pairs not forbidden, a complete matching among them."""
    if n > m:
        return allowed(kind, m, n, rng).T
    i, j = np.arange(n)[:, None], np.arange(m)
    if kind == "band":
        return np.abs(j * n / m - i) <= max(4, n / 16)
    if kind == "triangle":
        return j >= i
    keep = rng.random((n, m), np.float32) < {"none": 1, "half": 0.5, "sparse": 0.02}[kind]
    keep[np.arange(n), rng.permutation(m)[:n]] = True
    return keep


def cost_of(case):
    """The costs of a case, in its dtype and order."""
    (n, m), rng = shape_of(case), np.random.default_rng(seed_of(case))
    cost = values(case.values, n, m, rng)
    if case.dtype in ("int64", "uint8") and cost.dtype == np.float32:
        cost = cost * (250 / cost.max() if case.dtype == "uint8" else 2**20)
    cost = cost.astype(case.dtype)
    for offset, count, axis in ((case.rows, n, 1), (case.columns, m, 0)):
        if offset != "0":
            cost += np.expand_dims(rng.integers(0, int(float(offset)), count), axis).astype(case.dtype)
    if case.scale != "1":
        cost *= np.dtype(case.dtype).type(case.scale)
    if case.gating != "none":
        cost[~allowed(case.gating, n, m, rng)] = np.inf
    return laid_out(cost, case.order)


def laid_out(cost, order):
    if order != "strided":
        return np.asarray(cost, order=order)
    n, m = cost.shape
    view = np.zeros((n, 2 * m), cost.dtype)[:, ::2]
    view[:] = cost
    return view


def start_of(case, cost):
    """What the case starts from: None, or something that `loomfast.solve` takes."""
    if case.start == "none":
        return None
    (n, m), rng = cost.shape, np.random.default_rng(seed_of(case) + 1)
    if case.start == "shuffled":
        col4row = np.full(n, -1)
        col4row[rng.permutation(n)[: min(n, m)]] = rng.permutation(m)[: min(n, m)]
        return col4row
    if case.start == "100 scales":
        finite = cost[np.isfinite(cost)].astype(np.float64)
        size = 100 * max(np.ptp(finite), abs(finite[0]))
        return None, size * rng.random(n), size * rng.random(m)
    known = loomfast.solve(cost, threads=1)
    if case.start == "good":
        return known
    factor = 30 if case.start == "30 v" else 1
    return None, factor * known.u, factor * known.v


def fastest(contestants, cpu_seconds):
    """Least CPU seconds of a call of each, and first answers: by turns, until each has used its share."""
    best, spent, answers = dict.fromkeys(contestants, math.inf), dict.fromkeys(contestants, 0.0), {}
    for k in range(50):
        for name, function in contestants.items():
            if spent[name] > (cpu_seconds if k > 1 else 1):
                continue
            begin = time.process_time()
            answer = function()
            seconds = time.process_time() - begin
            answers.setdefault(name, answer)
            best[name], spent[name] = min(best[name], seconds), spent[name] + seconds
    return best, answers


def siblings(case, cost):
    """Claim -> the same numbers in the form to compare with."""
    found = {}
    if cost.dtype == np.float64:
        single = cost.astype(np.float32)
        if np.array_equal(single, cost):
            found["float64 / float32"] = laid_out(single, case.order)
    if case.order != "C":
        found[f"{'Fortran' if case.order == 'F' else 'strided'} / C order"] = np.ascontiguousarray(cost)
    return found


def measure(case, cpu_seconds=CPU_SECONDS):
    """The row of one case: seconds, ratios to scipy and to the siblings, and whether the total is right."""
    cost = cost_of(case)
    start, wide = start_of(case, cost), np.ascontiguousarray(cost, np.float64)

    def solve(array):
        if start is None:
            return lambda: loomfast.linear_sum_assignment(array)
        return lambda: loomfast.solve(array, start=start, threads=1)

    contestants = {"loomfast": solve(cost), "scipy": lambda: scipys(wide)}
    contestants["conversion"] = lambda: np.ascontiguousarray(cost, np.float64)
    contestants |= {claim: solve(array) for claim, array in siblings(case, cost).items()}
    if start is not None:
        contestants["start / cold"] = lambda: loomfast.solve(cost, threads=1)
    seconds, answers = fastest(contestants, cpu_seconds)
    ours, answer = seconds["loomfast"], answers["loomfast"]
    if start is not None:
        rows = np.flatnonzero(answer.col4row >= 0)
        answer = rows, answer.col4row[rows]
    above, allowance = excess(wide, answer, answers["scipy"])
    claims = {name: ours / seconds[name] for name in CLAIMS if name in seconds}
    return {
        **case._asdict(),
        "seconds": seconds,
        "ratio": seconds["scipy"] / ours,
        "ratio_same_array": (seconds["scipy"] + seconds["conversion"]) / ours,
        "claims": claims,
        "above_scipy": above,
        "wrong": above > allowance,
    }


def geometric_mean(ratios):
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan


def line(row):
    form = "  ".join(str(row[factor]) for factor in FACTORS)
    return f"{row['ratio']:8.2f}  {1e3 * row['seconds']['loomfast']:9.3f} ms  {form}"


def summarise(rows):
    """What the rows say together, printed and returned."""
    ratios, same_array = ([row[name] for row in rows] for name in ("ratio", "ratio_same_array"))
    slower = sum(ratio < 1 for ratio in ratios)
    print(f"\nscipy's time over ours, the worst 20 ({'  '.join(FACTORS)}):")
    for row in sorted(rows, key=lambda row: row["ratio"])[:20]:
        print(line(row))
    found = {"cases": len(rows), "worst": min(ratios), "slower than scipy": slower}
    found["geometric mean"] = geometric_mean(ratios)
    print(
        f"\n{len(rows)} cases: geometric mean {found['geometric mean']:.2f} (goal 5), "
        f"worst {found['worst']:.2f} (goal 1), {slower} slower than scipy"
    )
    slower = sum(ratio < 1 for ratio in same_array)
    mean = geometric_mean(same_array)
    found["same array"] = {"worst": min(same_array), "slower than scipy": slower, "geometric mean": mean}
    print(
        f"given the same array: geometric mean {mean:.2f}, worst {min(same_array):.2f}, "
        f"{slower} slower than scipy"
    )
    found["by level"] = {
        factor: {
            level: geometric_mean(of_level)
            for level in levels
            if (of_level := [row["ratio"] for row in rows if row[factor] == level])
        }
        for factor, levels in FACTORS.items()
    }
    for factor, means in found["by level"].items():
        print(f"  {factor:8}", "  ".join(f"{level}: {mean:.2f}" for level, mean in means.items()))
    found["claims"] = claims_of(rows)
    return found


def claims_of(rows):
    """Each claim over all the cases that test it, printed with its worst five."""
    found = {}
    for claim, limit in CLAIMS.items():
        tested = sorted(
            (row for row in rows if claim in row["claims"]),
            key=lambda row: row["claims"][claim],
            reverse=True,
        )
        ratios = [row["claims"][claim] for row in tested]
        if not ratios:
            continue
        above = sum(ratio > limit for ratio in ratios) if limit else None
        found[claim] = {"cases": len(ratios), "geometric mean": geometric_mean(ratios)}
        found[claim] |= {"worst": ratios[0], "limit": limit, "above": above}
        goal = f", {above} above {limit}" if limit else ""
        print(
            f"\n{claim}: {len(ratios)} cases, geometric mean {geometric_mean(ratios):.2f}{goal}; the worst:"
        )
        for row in tested[:5]:
            print(f"  {row['claims'][claim]:.2f}{line(row)}")
    return found


def parse(words):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", type=int, default=480, help="cases drawn")
    parser.add_argument(
        "--only", action="append", default=[], metavar="FACTOR=LEVEL", help="those of the cases with it"
    )
    parser.add_argument("--quick", action="store_true", help="30 cases below 600,000 entries, briefly")
    parser.add_argument("--json", help="write every case and the summary here")
    args = parser.parse_args(words)
    if args.cases < 1:
        parser.error(f"--cases must be at least 1, got {args.cases}")
    for word in args.only:
        factor, _, level = word.partition("=")
        if level not in FACTORS.get(factor, ()):
            known = "; ".join(f"{name}={', '.join(levels)}" for name, levels in FACTORS.items())
            parser.error(f"--only {word} is not a FACTOR=LEVEL; there are: {known}")
    return args


def chosen(args):
    cases = selection(args.cases)
    for word in args.only:
        factor, _, level = word.partition("=")
        cases = [case for case in cases if getattr(case, factor) == level]
    if args.quick:
        cases = [case for case in cases if math.prod(shape_of(case)) < 600_000][:30]
    return cases


def main(words=None):
    args = parse(words)
    rows = []
    for case in chosen(args):
        row = measure(case, CPU_SECONDS / 10 if args.quick else CPU_SECONDS)
        print(line(row), "WRONG" if row["wrong"] else "", flush=True)
        rows.append(row)
    if not rows:
        raise SystemExit(f"none of the {args.cases} cases has all of {', '.join(args.only)}: draw more")
    summary = summarise(rows)
    if args.json:
        text = json.dumps({"machine": machine(), "summary": summary, "cases": rows}, indent=1)
        Path(args.json).write_text(text + "\n")
    if wrong := sum(row["wrong"] for row in rows):
        print(f"{wrong} cases are WRONG: a total exceeds scipy's")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
