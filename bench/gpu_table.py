"""README's table of GPU times, from the findings kept in bench/results/gpu.

    python bench/gpu_table.py [--write]      print the table, or put it into README.md

Of every figure the newest finding counts; what no finding holds is "not measured".
"""

import argparse
import json
import sys
from pathlib import Path

from gpu.table import OURS, best_cpu, best_peer

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "results" / "gpu"
BEGIN, END = "<!-- gpu table: made by bench/gpu_table.py -->", "<!-- end of the gpu table -->"
NOT_MEASURED = "not measured"
PROBLEMS = (
    *(("img", 1, n, n) for n in (512, 1024, 2048, 4096, 16384)),
    *(("img", 64, 512, 512), ("unif", 208, 300, 300), ("unif", 1024, 64, 64), ("unif", 96, 100, 50)),
)


def read_runs(folder):
    """The runs of the check kept in ``folder``, newest first: {step: findings}, of right steps only."""
    runs = []
    for path in sorted(folder.glob("*/machine.json")):
        run = {}
        for file in sorted(path.parent.glob("*.json")):
            for step, result in json.loads(file.read_text()).items():
                if result["outcome"] == "right" or step == "versions":
                    run[step] = result["findings"]
        # Nothing is reported of a run whose golden results were not repeated.
        if "golden" in run:
            runs.append(run)
    return sorted(runs, key=lambda run: run["versions"]["date"], reverse=True)


def _find(runs, step, matches):
    for run in runs:
        for row in run.get(step, {}).get("rows", []):
            if all(row.get(name) == value for name, value in matches.items()):
                return row
    return None


def assignment_row(runs, family, batch, n, m):
    row = _find(runs, "assignment", {"family": family, "batch": batch, "n": n, "m": m})
    what = f"{family} {n} × {m}" if batch == 1 else f"{batch} {family} problems of {n} × {m}"
    if row is None or OURS not in row["seconds"]:
        return what, NOT_MEASURED, NOT_MEASURED
    ours = row["seconds"][OURS]
    peers = [f"{name} {seconds / ours:.2g}" for name, seconds in [best_peer(row)] if best_peer(row)]
    cpu = best_cpu(row)
    peers += [f"our CPU with the copy {cpu / ours:.2g}"] if cpu else []
    return what, f"{1e3 * ours:.3g} ms", ", ".join(peers) or NOT_MEASURED


def other_rows(runs):
    for dtype in ("float32", "bfloat16"):
        row = _find(runs, "noise_and_cost", {"what": "noise", "items": 4096, "dtype": dtype})
        yield _versus(f"noise, 4096 × 3072, {dtype}", row, ("cuda", "triton"), ("torch.randn", "memset"))
    for precision in ("float32", "bfloat16"):
        row = _find(runs, "noise_and_cost", {"what": "cost", "n": 4096, "precision": precision})
        name = f"pairwise_cost, 4096² × 3072, {precision}"
        yield _versus(name, row, ("pairwise_cost",), ("product alone", "from ids"))
    for batch in (128, 512, 2048):
        row = _find(runs, "coupling", {"batch": batch})
        what = f"LOOM step, {batch} × 3072, cache on the device"
        yield _versus(what, row, ("on the device", "captured"), ("cache on the host",))
    for batch in (128, 512, 2048):
        row = _find(runs, "training", {"batch": batch})
        what = f"training step of cifar10, batch {batch}, LOOM ahead"
        if row is None or "loom ahead" not in row["ms"]:
            yield what, NOT_MEASURED, NOT_MEASURED
        else:
            ahead, alone = row["ms"]["loom ahead"], row["ms"]["independent"]
            yield what, f"{ahead:.3g} ms", f"independent noise {alone / ahead:.2g}"


def _versus(what, row, ours, others):
    if row is None or not any(name in row["seconds"] for name in ours):
        return what, NOT_MEASURED, NOT_MEASURED
    seconds = row["seconds"]
    best = min((name for name in ours if name in seconds), key=seconds.get)
    ratios = [f"{name} {seconds[name] / seconds[best]:.2g}" for name in others if name in seconds]
    return what, f"{1e3 * seconds[best]:.3g} ms ({best})", ", ".join(ratios)


def markdown(runs):
    """The table with the line that says where it was measured."""
    lines = ["| on a GPU | time | time of others, over ours |", "|---|---|---|"]
    rows = [assignment_row(runs, *problem) for problem in PROBLEMS]
    lines += [f"| {what} | {time} | {others} |" for what, time, others in [*rows, *other_rows(runs)]]
    for run in runs[:1]:
        found = run["versions"]
        card, packages = found["card"], found["packages"]
        lines += [
            "",
            f"{card['name']}, driver {card['driver_version']}, torch {packages['torch']}, triton "
            f"{packages['triton']}, {found['date']}, commit {found['kit']['commit'][:12]} "
            "(`make gpu-kit`, `bench/gpu_check.py`).",
        ]
    return "\n".join(lines)


def replaced(readme, table):
    """README's text with the table between its two marks."""
    before, found, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not found or not ended:
        raise SystemExit(f"README.md has no lines {BEGIN!r} and {END!r} for the table to stand between")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    table = markdown(read_runs(RESULTS))
    if parser.parse_args().write:
        readme = ROOT / "README.md"
        readme.write_text(replaced(readme.read_text(), table))
    else:
        print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
