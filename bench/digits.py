"""LOOM against independent coupling on scikit-learn's digits: one table, one picture.

For every seed two networks are trained side by side, one thread each, alike but for the coupling. Both are
sampled at several numbers of function evaluations and compared with the held-out digits.

    python bench/digits.py --seeds 0 1 2 --out runs/demo
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from loomfast import console
from loomfast.files import read_json, write_json
from loomfast.models import item_shape
from loomfast.plots import save_comparison
from loomfast.runs.directory import load_model, read_log
from loomfast.sampling.generate import generate

COUPLINGS = ("independent", "loom")
NFE = (1, 2, 4, 8, 40)
PICTURED = 64  # samples of each picture, where as many are asked for


def main():
    arguments = parse_arguments()
    torch.set_num_threads(2)
    start = time.monotonic()
    results = []
    for seed in arguments.seeds:
        runs = {method: arguments.out / f"{method}-seed{seed}" for method in COUPLINGS}
        train(runs, seed, arguments)
        results += evaluate(runs, seed, arguments)
    picture = draw(arguments.out, arguments.seeds[0], min(PICTURED, arguments.num))
    write_json(arguments.out / "digits.json", results)
    print_table(results)
    print_ratios(results)
    print("\npictures:")
    first = arguments.out / f"loom-seed{arguments.seeds[0]}"
    for path in (picture, first / "coupling.png", *sorted((first / "samples").glob("*.png"))):
        print(f"  {path}")
    print(f"numbers: {arguments.out / 'digits.json'}  ({time.monotonic() - start:.0f} s)")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=2500, help="training steps (default: %(default)s)")
    parser.add_argument("--num", type=int, default=2000, help="samples for each number of evaluations")
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    return parser.parse_args()


def train(runs, seed, arguments):
    """Train all couplings at once, a process with one thread for each; resumes what is there."""
    processes = {
        method: loomfast(
            "train", "digits", "--coupling.method", method, "--seed", seed, "--steps", arguments.steps,
            "--threads", 1, "--out", folder,
        )
        for method, folder in runs.items()
    }  # fmt: skip
    total = arguments.steps * len(runs)
    with console.progress(total, f"train {' and '.join(runs)}, seed {seed}") as update:
        while any(p.poll() is None for p in processes.values()):
            time.sleep(0.5)
            update(sum(logged_steps(folder / "log.jsonl") for folder in runs.values()))
    finish(processes)


def evaluate(runs, seed, arguments):
    """Evaluate all couplings at once; one result with ``coupling`` and ``seed`` for each."""
    processes = {
        method: loomfast(
            "evaluate", folder, "--nfe", ",".join(map(str, NFE)), "--num", arguments.num, "--seed", seed,
            "--json", folder / "metrics.json",
        )
        for method, folder in runs.items()
    }  # fmt: skip
    finish(processes)
    results = []
    for method, folder in runs.items():
        last = read_log(folder / "log.jsonl")[-1]
        measured = read_json(folder / "metrics.json")
        results.append({"coupling": method, "cost_per_pair": last["cost_after"], **measured, "seed": seed})
    return results


def loomfast(*words):
    """Start ``loomfast`` as a process of its own, with one thread, its output kept."""
    command = [sys.executable, "-m", "loomfast", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(processes):
    """Wait for all; a failure ends the bench with what the process said."""
    for method, process in processes.items():
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(f"{method}: {errors.strip()}")


def logged_steps(log):
    return log.read_bytes().count(b"\n") if log.exists() else 0


def draw(out, seed, num):
    """Samples of every coupling at every number of evaluations, from the same noise."""
    rows = {}
    for method in COUPLINGS:
        config, model = load_model(out / f"{method}-seed{seed}")
        shape = item_shape(config.model)
        rows[method] = [generate(model, num, shape, seed=seed, nfe=n) for n in NFE]
    titles = [f"{n} evaluation{'s' * (n > 1)}" for n in NFE]
    title = "the same noise through both networks (Euler at 1 evaluation, midpoint above)"
    return save_comparison(rows, out / "digits.png", columns_titles=titles, title=title)


def print_table(results):
    headers = ["coupling", "seed", *[f"NFE {n}" for n in NFE], "curvature", "cost/pair"]
    rows = [
        [
            r["coupling"],
            r["seed"],
            *[f"{s['frechet']:.2f}" for s in r["samples"]],
            f"{r['curvature']:.4f}",
            f"{r['cost_per_pair']:.1f}",
        ]
        for r in results
    ]
    first = results[0]
    print(
        f"\nFréchet distance to {first['reference']} of {first['data']} (features of a small fixed "
        f"classifier, {first['num']} samples, {first['steps']} training steps)\n"
    )
    print(console.table(headers, rows))


def print_ratios(results):
    """LOOM over independent coupling, seed by seed: the claim the demo makes."""
    print()
    by_key = {(r["coupling"], r["seed"]): r for r in results}
    for seed in sorted({r["seed"] for r in results}):
        loom, independent = by_key["loom", seed], by_key["independent", seed]
        ratios = [
            f"NFE {a['nfe']}: {a['frechet'] / b['frechet']:.2f}"
            for a, b in zip(loom["samples"], independent["samples"], strict=True)
        ]
        curvature = loom["curvature"] / independent["curvature"]
        print(f"loom / independent, seed {seed}: {', '.join(ratios)}, curvature: {curvature:.2f}")


if __name__ == "__main__":
    main()
