"""What couplings are worth and what they cost: shares of the global gain, steps, prefetch, prices, figures.

    python bench/coupling.py [--parts share,step,ahead,semidiscrete,figures,global] [--items N] [--epochs N]
                             [--json FILE] [--figure FILE] [--quick]

Data are 32x32x3 crops of scikit-learn's two photographs, in [-1, 1]. The parts:

share         mean cost per pair of fresh minibatch OT and of LOOM after --epochs (200) epochs, as a share of
              what the exact coupling of all --items (16384) gains over independent noise
step          one LOOM step, ids to write-back, against the authors' algorithm written plainly with torch and
              scipy (a generator for each item, an n x n x d broadcast, linear_sum_assignment), and memory
ahead         how much of the coupling's time a step does not wait for when it is prepared while a network
              trains on one core (hidden), and what that saves of it when the network is slower beside it
semidiscrete  how equally likely items are (chi-square over its degrees of freedom: 1 for independent draws),
              and the cost per pair, with and without the correction of the prices
figures       the paper's Figures 9 to 12: reassignments and cost as training goes on, for batch sizes and
              numbers of caches
global        the exact coupling of 50,000 items in a process of its own: seconds and peak memory, everything
              included; about 100 s and 12 GB, and not among the default parts

Torch and NumPy run on one thread, but for ``global``, which takes all cores. --quick is for trying it out.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from coupling_figures import draw, loom_curves
from scipy.optimize import linear_sum_assignment
from timing import extra_memory, interleaved, report

from loomfast.cost import paired_cost
from loomfast.coupling import Ahead, Loom, MinibatchOT, Semidiscrete, solve_globally
from loomfast.data import load_dataset
from loomfast.noise import noise_from_ids
from loomfast.training.batches import data_order

SHAPE = (3, 32, 32)
SIZE = 3072
PARTS = ("share", "step", "ahead", "semidiscrete", "figures")


def batches(num_items, size, epoch):
    """The batches of an epoch, as index arrays."""
    order = data_order(num_items, 0, epoch)
    return [order[i : i + size] for i in range(0, num_items - size + 1, size)]


def held_cost(coupler, data):
    """Mean cost per pair of everything a LOOM cache holds."""
    costs = [
        paired_cost(data[rows], noise_from_ids(coupler.ids[rows, k], SHAPE, seed=coupler.seed))
        for k in range(coupler.num_caches)
        for rows in np.array_split(np.arange(len(data)), max(1, len(data) // 512))
    ]
    return float(np.concatenate(costs).mean())


def share(items, epochs, quick):
    data = load_dataset("patches32", num_items=items).train
    x = torch.from_numpy(data)
    best = Loom(items, SHAPE, num_caches=1)
    exact = solve_globally(best, data)
    whole = exact.cost_independent - exact.cost_after

    def row(what, batch, cost, **more):
        gain = (exact.cost_independent - cost) / whole
        return {"part": "share", "what": what, "batch": batch, "cost": cost, "share": gain, **more}

    rows = [
        row("independent", 0, exact.cost_independent),
        row("global", items, exact.cost_after, gap=exact.gap, seconds=sum(exact.seconds.values())),
    ]
    for size in (128, 256, 512, 1024, 2048, 4096, 8192):
        if 2 * size <= items:
            fresh = MinibatchOT(items, SHAPE)
            costs = [fresh.couple(x[i], i).cost_after for i in batches(items, size, 0)]
            rows.append(row("fresh minibatch OT", size, float(np.mean(costs))))
    for size in (512,) if quick else (128, 512, 2048):
        loom = Loom(items, SHAPE, num_caches=1)
        begin = time.perf_counter()
        for epoch in range(epochs):
            for index in batches(items, size, epoch):
                loom.couple(x[index], index)
        seconds = time.perf_counter() - begin
        rows.append(row(f"LOOM, {epochs} epochs", size, held_cost(loom, data), seconds=seconds))
    return rows


def authors_step(x, seeds):
    """The authors' step, plainly: noise of each pair by its seed, all distances, scipy, swapped seeds."""
    z = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(int(s))) for s in seeds])
    cost = (x.view(len(x), 1, SIZE) - z.view(1, len(z), SIZE)).pow(2).sum(-1).sqrt()
    _, columns = linear_sum_assignment(cost.numpy())
    return z[columns], seeds[columns]


def step(quick):
    items, rows = 4096, []
    x = torch.from_numpy(load_dataset("patches32", num_items=items).train)
    for size, wanted in ((128, 50), (512, 300)):
        if quick and size > 128:
            break
        loom = Loom(items, SHAPE, num_caches=1)
        queue = [index for epoch in range(12) for index in batches(items, size, epoch)]
        for index in queue[: len(queue) // 2]:  # a coupling that has begun to settle
            loom.couple(x[index], index)
        index = queue[-1]
        batch = x[index]

        def ours(batch=batch, index=index, loom=loom):
            return loom.couple(batch, index)

        def theirs(batch=batch, index=index):
            return authors_step(batch, index)

        memory = {"loomfast": extra_memory(ours), "authors": extra_memory(theirs)}
        medians = interleaved({"loomfast": ours, "authors": theirs}, 3 if size == 128 else 1)
        medians["loomfast"] = median_of_fresh_steps(loom, x, queue[len(queue) // 2 :])
        rows.append(
            {
                "part": "step",
                "batch": size,
                "loomfast_ms": 1e3 * medians["loomfast"],
                "authors_ms": 1e3 * medians["authors"],
                "ratio": medians["authors"] / medians["loomfast"],
                "wanted": wanted,
                "loomfast_MB": memory["loomfast"] / 1e6,
                "authors_MB": memory["authors"] / 1e6,
                "share_of_memory": memory["loomfast"] / memory["authors"],
            }
        )
    return rows


def median_of_fresh_steps(loom, x, queue):
    """Median seconds of a step on batches the coupling has not just seen."""
    times = []
    for index in queue[:200]:
        batch = x[index]
        begin = time.perf_counter()
        loom.couple(batch, index)
        times.append(time.perf_counter() - begin)
    return float(np.median(times))


def ahead(quick):
    """A network step on one thread, longer than a coupling: alone, after the coupling, beside the next."""
    items, size, steps = 4096, 512, 8 if quick else 48
    x = torch.from_numpy(load_dataset("patches32", num_items=items).train)
    network = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(SIZE, 512), torch.nn.SiLU(), torch.nn.Linear(512, SIZE)
    )
    order = [index for epoch in range(8) for index in batches(items, size, epoch)]

    def batch_at(k):
        return {"x": x[order[k]], "index": order[k]}

    def run(enabled):
        """Median seconds of a step, and of the network's part of it."""
        with Ahead(Loom(items, SHAPE), batch_at, enabled=enabled) as source:
            whole, network_alone = [], []
            for k in range(steps):
                begin = time.perf_counter()
                batch, pair = source.take(k, last=k == steps - 1)
                coupled = time.perf_counter()
                network.zero_grad()
                (network(pair.noise) - batch["x"].flatten(1)).square().mean().backward()
                whole.append(time.perf_counter() - begin)
                network_alone.append(time.perf_counter() - coupled)
        return np.median(whole[1:]), np.median(network_alone[1:])

    found = np.array([[*run(False), *run(True)] for _ in range(5)])
    in_line, alone, in_time, beside = (float(value) for value in np.median(found, axis=0))
    return [
        {
            "part": "ahead",
            "batch": size,
            "network_alone_ms": 1e3 * alone,
            "in_line_ms": 1e3 * in_line,
            "ahead_ms": 1e3 * in_time,
            "network_beside_a_coupling_ms": 1e3 * beside,
            "step_saved": (in_line - in_time) / (in_line - alone),
            "hidden": 1 - (in_time - beside) / (in_line - alone),
            "wanted": 0.9,
        }
    ]


def semidiscrete(items, blocks):
    data = load_dataset("patches32", num_items=items).train
    coupler = Loom(items, SHAPE, num_caches=4)
    exact = solve_globally(coupler, data)
    rows = []
    for size in (32, 128, 1024):
        for correction in (0.0, 0.5):
            fresh = Semidiscrete(data, coupler.duals, correction=correction)
            costs = []
            for _ in range(max(1, blocks * 128 // size)):
                index = fresh.choose(size)
                costs.append(fresh.couple(data[index], index).cost_after)
            expected = fresh.counts.mean()
            rows.append(
                {
                    "part": "semidiscrete",
                    "block": size,
                    "correction": correction,
                    "draws_per_item": float(expected),
                    "chi_square_per_dof": float(((fresh.counts - expected) ** 2).sum() / expected)
                    / (items - 1),
                    "cost": float(np.mean(costs)),
                    "cost_independent": exact.cost_independent,
                    "cost_of_the_cache": exact.cost_after,
                }
            )
    return rows


def everything(items):
    """``loomfast couple`` in a process of its own, all cores, one noise for each item: time and memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, "-m", "loomfast", "couple", "patches32", "--num-items", str(items),
            "--num-caches", "1", "--out", f"{folder}/c.safetensors", "--json", f"{folder}/c.json",
        ]  # fmt: skip
        begin = time.perf_counter()
        subprocess.run(command, check=True, env=all_cores())
        seconds = time.perf_counter() - begin
        result = json.loads(Path(folder, "c.json").read_text())
    peak = 1024 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    row = {"part": "global", "items": items, "seconds": seconds, "peak_GB": peak / 1e9}
    parts = {f"{name}_seconds": value for name, value in result["seconds"].items()}
    costs = {name: result[name] for name in ("cost_independent", "cost_after", "gap")}
    return [row | parts | costs | {"wanted_seconds": 100, "wanted_GB": 13}]


def all_cores():
    """The environment without limits on threads."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--items", type=int, default=16384)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--json", default="bench-coupling.json")
    parser.add_argument("--figure", default="bench-coupling.png")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    items, epochs = (1024, 5) if arguments.quick else (arguments.items, arguments.epochs)
    parts = {
        "share": lambda: share(items, epochs, arguments.quick),
        "step": lambda: step(arguments.quick),
        "ahead": lambda: ahead(arguments.quick),
        "semidiscrete": lambda: semidiscrete(min(items, 4096), 16 if arguments.quick else 400),
        "figures": lambda: draw(loom_curves(epochs=3 if arguments.quick else 60), arguments.figure),
        "global": lambda: everything(1024 if arguments.quick else 50_000),
    }
    rows, begun = [], time.perf_counter()
    for name in arguments.parts.split(","):
        print(f"{time.perf_counter() - begun:.0f} s: {name}", file=sys.stderr, flush=True)
        rows += parts[name]()
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
