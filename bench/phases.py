"""Where the milliseconds of a solve go, by family and size: makes docs/profile.md and docs/profile.png.

    python bench/phases.py [--families img,unif] [--sizes 512,1024] [--rounds 9] [--out docs] [--json FILE]

float32, one thread, medians of the seconds by phase that `Assignment.stats` reports, and its counters. The
families are those of assignment.py. The phases are what `loomfast.assignment.PHASES` says.
"""

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
from assignment import SIZES, costs
from peers import one_core
from timing import machine

import loomfast
from loomfast.assignment import PHASES

COUNTS = ("bids", "scans", "phases", "augmentations")


def profile(family, n, rounds):
    """The medians of the seconds by phase of a family's problem of n x n, and the counters."""
    cost, seconds = costs(family, n), []
    with one_core():
        for _ in range(rounds):
            found = loomfast.solve(cost)
            seconds.append(found.stats["seconds"])
    medians = {phase: statistics.median(one[phase] for one in seconds) for phase in PHASES}
    return {"family": family, "n": n, "path": found.stats["path"], **medians} | {
        name: found.stats[name] for name in COUNTS
    }


def page(rows, where):
    """The page, as Markdown."""
    lines = [
        "# Where the milliseconds go",
        "",
        "Made by `make bench-phases`. Shares of the time of `loomfast.solve`, float32, one thread, medians;",
        'the same seconds are in `Assignment.stats["seconds"]` of any solve of at least 4096 entries. The',
        "families are those of `bench/assignment.py`.",
        "",
        "- **read**: entries checked, scaled, rounded to float32, minima of rows and columns;",
        "- **reduce**: rows matched with their minima, bids without eps (Jonker and Volgenant's reductions);",
        "- **auction**: bids with eps, which falls from phase to phase (Bertsekas);",
        "- **repair**: prices lowered, rows freed whose pair is not tight;",
        "- **paths**: shortest augmenting paths; prices of unmatched columns settled;",
        "- **certify**: the proof, in float64; **rest**: anything else.",
        "",
        f"{where['processor']}, load {where['load_average']:.1f}.",
        "",
        "![shares of the time by family and size](profile.png)",
        "",
        f"| costs | n | ms | {' | '.join(PHASES)} | way | {' | '.join(COUNTS)} |",
        "|---" * (4 + len(PHASES) + len(COUNTS)) + "|",
    ]
    for row in rows:
        whole = sum(row[phase] for phase in PHASES)
        shares = " | ".join(f"{100 * row[phase] / whole:.0f} %" for phase in PHASES)
        counts = " | ".join(str(row[name]) for name in COUNTS)
        lines.append(
            f"| {row['family']} | {row['n']} | {1e3 * whole:.3g} | {shares} | {row['path']} | {counts} |"
        )
    return "\n".join(lines) + "\n"


def picture(rows, path):
    """Bars of the shares, one for each row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 0.28 * len(rows) + 1.2))
    names = [f"{row['family']} {row['n']}" for row in rows]
    whole = np.array([sum(row[phase] for phase in PHASES) for row in rows])
    left = np.zeros(len(rows))
    for phase in PHASES:
        share = np.array([row[phase] for row in rows]) / whole
        axes.barh(names, share, left=left, label=phase)
        left += share
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the time")
    axes.legend(ncols=len(PHASES), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--families", default=",".join(SIZES), help="some of: " + ", ".join(SIZES))
    parser.add_argument("--sizes", default="", help="n, instead of the sizes of assignment.py")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    sizes = [int(n) for n in args.sizes.split(",") if n]
    where, rows = machine(), []
    for family in args.families.split(","):
        for n in sizes or SIZES[family]:
            rows.append(profile(family, n, args.rounds))
            print(rows[-1], flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "profile.md").write_text(page(rows, where))
    picture(rows, args.out / "profile.png")
    print(f"written to {args.out / 'profile.md'}")
    if args.json:
        Path(args.json).write_text(json.dumps({"machine": where, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
