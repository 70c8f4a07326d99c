"""The paper's Figures 9 to 12 on patches32: how a LOOM coupling settles.

    python bench/coupling_figures.py [--epochs N] [--figure FILE]

Reassignments in a minibatch and the cost of a pair against steps: for batch sizes with one cache (Figures 9
and 10), and for numbers of caches, which stand for sizes of the dataset, with batches of 128 (Figures 11
and 12).
"""

import argparse

import numpy as np
import torch

from loomfast.coupling import Loom
from loomfast.data import load_dataset
from loomfast.training.batches import data_order

SIZES = (64, 128, 256, 512)
CACHES = (1, 2, 4)
BATCH = 128


def curve(x, size, num_caches, epochs):
    """One run: steps, reassigned share of a batch, cost of a pair after the step."""
    loom = Loom(len(x), tuple(x.shape[1:]), num_caches=num_caches)
    swaps, costs = [], []
    for epoch in range(epochs):
        order = data_order(len(x), 0, epoch)
        for first in range(0, len(x) - size + 1, size):
            index = order[first : first + size]
            pair = loom.couple(x[index], index)
            swaps.append(pair.swaps / size)
            costs.append(pair.cost_after)
    return {"batch": size, "caches": num_caches, "epochs": epochs, "swaps": swaps, "costs": costs}


def loom_curves(epochs):
    """All runs: the batch sizes at equal epochs, the caches at equal steps."""
    x = torch.from_numpy(load_dataset("patches32").train)
    by_size = [curve(x, size, 1, epochs) for size in SIZES]
    by_caches = [curve(x, BATCH, caches, epochs) for caches in CACHES]
    return by_size, by_caches


def draw(curves, path):
    """The four figures as one PNG; returns a row for each run: where it began and where it ended."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, grid = plt.subplots(2, 2, figsize=(10, 7), dpi=110, layout="constrained")
    for axes_row, runs, label in zip(grid, curves, ("batch", "caches"), strict=True):
        for run in runs:
            name = f"{label} {run[label]}"
            for axes, values in zip(axes_row, (run["swaps"], run["costs"]), strict=True):
                by_epoch = np.reshape(values, (run["epochs"], -1)).mean(axis=1)
                axes.plot(np.arange(run["epochs"]) + 1, by_epoch, label=name)
        for axes, title in zip(
            axes_row,
            ("reassigned share of a minibatch", "transport cost of a pair, mean of the epoch"),
            strict=True,
        ):
            axes.set_title(title)
            axes.set_xlabel("epoch")
            axes.legend(frameon=False)
        axes_row[0].set_yscale("log")
    figure.suptitle("LOOM on patches32 (5500 crops of photographs)")
    figure.savefig(path)
    plt.close(figure)
    rows = []
    for run in (*curves[0], *curves[1]):
        tail = max(1, len(run["swaps"]) // 20)
        rows.append(
            {
                "part": "figures",
                "batch": run["batch"],
                "caches": run["caches"],
                "steps": len(run["swaps"]),
                "reassigned_first_step": run["swaps"][0],
                "reassigned_at_the_end": float(np.mean(run["swaps"][-tail:])),
                "cost_first_step": run["costs"][0],
                "cost_at_the_end": float(np.mean(run["costs"][-tail:])),
            }
        )
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--figure", default="bench-coupling.png")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for row in draw(loom_curves(arguments.epochs), arguments.figure):
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    print(arguments.figure)


if __name__ == "__main__":
    main()
