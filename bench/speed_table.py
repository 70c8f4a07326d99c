"""A table, and a figure, of what ``pytest bench --benchmark-json FILE`` measured.

    python bench/speed_table.py FILE [--markdown FILE] [--figure FILE.svg]

A line a case: our median time and throughput, and the time of each peer over ours; means by operation.
"""

import argparse
import json
import math
import statistics
from collections import defaultdict
from pathlib import Path

from registry import OURS


def cases(report):
    """Case -> its operation, throughput, our seconds and their spread, ratios by peer, the least first."""
    groups = defaultdict(dict)
    for entry in report["benchmarks"]:
        groups[entry["group"]][entry["name"]] = entry
    found = {}
    for group, entries in groups.items():
        if OURS not in entries:
            continue
        info, ours = entries[OURS]["extra_info"], entries[OURS]["stats"]["median"]
        ratios = {n: e["stats"]["median"] / ours for n, e in entries.items() if n != OURS}
        ratios = dict(sorted(ratios.items(), key=lambda pair: pair[1]))
        found[group] = {
            "operation": info["operation"],
            "rate": f"{info['work'] / ours:.3g} {info['unit']} a second",
            "seconds": ours,
            "spread": entries[OURS]["stats"]["iqr"] / ours,
            "ratios": ratios,
        }
    return found


def lines(report):
    """The Markdown lines of the table, and of its means."""
    processor = report["machine_info"]["cpu"].get("brand_raw", "an unnamed processor")
    yield f"One thread of {processor}, {report['datetime'][:10]}; the time of"
    yield "others over ours, the fastest first; medians, and the spread of ours (IQR over median)."
    yield ""
    yield "| case | ours, ms | spread | throughput | time of others / ours |"
    yield "|---|---|---|---|---|"
    found = cases(report)
    for name, row in found.items():
        others = (
            ", ".join(f"{peer} {ratio:.2f}" for peer, ratio in row["ratios"].items()) or "nobody is installed"
        )
        yield f"| {name} | {1e3 * row['seconds']:.3g} | {row['spread']:.0%} | {row['rate']} | {others} |"
    yield ""
    for operation in dict.fromkeys(row["operation"] for row in found.values()):
        best = [
            next(iter(row["ratios"].values()))
            for row in found.values()
            if row["operation"] == operation and row["ratios"]
        ]
        if best:
            mean, least = statistics.geometric_mean(best), min(best)
            yield f"{operation}: fastest other over ours, geometric mean {mean:.2f}, least {least:.2f}"


def draw(report, path):
    """Bars of the fastest other's time over ours, a line a case, on a logarithmic axis."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [
        (name, *next(iter(row["ratios"].items()))) for name, row in cases(report).items() if row["ratios"]
    ]
    names, peers, ratios = zip(*reversed(rows), strict=True)
    figure, axes = plt.subplots(figsize=(8, 0.28 * len(rows) + 1), layout="constrained")
    axes.barh(names, [math.log2(ratio) for ratio in ratios], color=["C0" if r >= 1 else "C3" for r in ratios])
    for k, (peer, ratio) in enumerate(zip(peers, ratios, strict=True)):
        axes.annotate(f" {ratio:.2f} {peer}", (max(math.log2(ratio), 0), k), va="center", fontsize=8)
    ticks = range(math.floor(math.log2(min(ratios))), math.ceil(math.log2(max(ratios))) + 2)
    axes.set_xticks(ticks, [f"{2.0**tick:g}" for tick in ticks])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel("time of the fastest other over ours")
    figure.savefig(path)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("json", type=Path, help="what pytest-benchmark wrote")
    parser.add_argument("--markdown", type=Path, help="write the table there, too")
    parser.add_argument("--figure", type=Path, help="draw the ratios there")
    arguments = parser.parse_args()
    report = json.loads(arguments.json.read_text())
    text = "\n".join(lines(report)) + "\n"
    print(text, end="")
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.figure:
        draw(report, arguments.figure)


if __name__ == "__main__":
    main()
