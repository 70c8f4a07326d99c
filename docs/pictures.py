"""The pictures of docs/how_it_works.md, made with the page's own code.

python docs/pictures.py [--out docs]
"""

import argparse
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

PAGE = Path(__file__).parent / "how_it_works.md"
BLUE, ORANGE, GREY, GREEN = "#2b6cb0", "#dd6b20", "#a0aec0", "#2f855a"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE.parent)
    out = parser.parse_args().out
    plt.rcParams.update({"font.size": 9, "figure.dpi": 110, "savefig.bbox": "tight"})
    page = {}
    exec("\n".join(re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)), page)
    for draw in (draw_auction, draw_certificate, draw_noise, draw_loom, draw_flow_map):
        figure = draw(page)
        figure.savefig(out / f"how_it_works_{draw.__name__.removeprefix('draw_')}.png")
        plt.close(figure)


def draw_auction(page):
    """Every bid: the matrix, who holds which column, and the prices below."""
    cost = page["COST"]
    bids = list(page["auction"](cost, 1 / 7))
    columns = 4
    rows = -(-len(bids) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.75 * columns, 2.15 * rows), squeeze=False)
    for axis in axes.flat[len(bids) :]:
        axis.axis("off")
    for number, (axis, (row, column_of, price)) in enumerate(zip(axes.flat, bids, strict=False), 1):
        _matrix(axis, cost, row, column_of)
        for j, one in enumerate(price):
            axis.text(j, 6.15, f"{one:.1f}", ha="center", va="center", fontsize=7, color=ORANGE)
        axis.set_title(f"bid {number}: row {row}", fontsize=8)
        axis.set_ylim(6.5, -0.5)
    figure.tight_layout(pad=0.5)
    return figure


def _matrix(axis, values, row, column_of, text="{:.0f}"):
    """Numbers in a grid; the row that bids is shaded, matched entries are framed."""
    axis.axis("off")
    axis.set_xlim(-0.5, 5.5)
    axis.set_ylim(5.5, -0.5)
    if row is not None:
        axis.axhspan(row - 0.45, row + 0.45, color=BLUE, alpha=0.15, lw=0)
    for i in range(6):
        for j in range(6):
            matched = column_of[i] == j
            weight, colour = ("bold", BLUE) if matched else ("normal", "#2d3748")
            axis.text(j, i, text.format(values[i, j]), ha="center", va="center", weight=weight, color=colour)
            if matched:
                axis.add_patch(plt.Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, ec=BLUE, lw=1.4))


def draw_certificate(page):
    """The costs with u and v at their sides, and the reduced costs."""
    cost, u, v, column_of = (page[name] for name in ("COST", "u", "v", "column_of"))
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.6, 3.4), gridspec_kw={"wspace": 0.4})
    _matrix(left, cost, None, column_of)
    _matrix(right, (cost - u[:, None] - v).round(1) + 0.0, None, column_of, "{:.1f}")
    for k in range(6):
        left.text(6.1, k, f"{u[k]:.2f}", ha="center", va="center", color=GREEN)
        left.text(k, 6.0, f"{v[k]:.1f}", ha="center", va="center", color=ORANGE, fontsize=8)
    left.text(6.1, -0.75, "u", ha="center", color=GREEN, style="italic")
    left.text(-0.9, 6.0, "v", ha="center", va="center", color=ORANGE, style="italic")
    left.set_ylim(6.4, -0.9)
    right.set_ylim(6.4, -0.9)
    left.set_title(f"total {page['total']}, sum of u and v {u.sum() + v.sum():.2f}", fontsize=9)
    right.set_title("c - u - v: nothing below 0", fontsize=9)
    return figure


def draw_noise(page):
    """From an id to numbers, and the numbers' histogram."""
    figure, (flow, histogram) = plt.subplots(1, 2, figsize=(9, 2.4), gridspec_kw={"width_ratios": [2.4, 1]})
    flow.axis("off")
    flow.set_xlim(0, 12)
    flow.set_ylim(0, 4)
    steps = (
        "seed\nid\ndomain\nblock of four",
        "Philox4x32,\nten rounds",
        "four words\nof 32 bits",
        "Box-Muller,\nexact float32\noperations",
        "four\nnormals",
    )
    for k, words in enumerate(steps):
        box = FancyBboxPatch((2.4 * k + 0.1, 1), 1.8, 2, boxstyle="round,pad=0.08", fc="#ebf4ff", ec=BLUE)
        flow.add_patch(box)
        flow.text(2.4 * k + 1, 2, words, ha="center", va="center", fontsize=7)
        if k:
            ends = (2.4 * k - 0.38, 2), (2.4 * k - 0.02, 2)
            flow.add_patch(FancyArrowPatch(*ends, arrowstyle="->", mutation_scale=9, color=BLUE))
    z = page["loomfast"].noise_from_ids(np.arange(1000), (64,), seed=3).ravel()
    histogram.hist(z, bins=80, range=(-4.5, 4.5), density=True, color=GREY)
    x = np.linspace(-4.5, 4.5, 200)
    histogram.plot(x, np.exp(-x * x / 2) / np.sqrt(2 * np.pi), color=BLUE, lw=1.2)
    histogram.set_title("64,000 numbers of ids 0 to 999", fontsize=8)
    histogram.set_yticks([])
    return figure


def draw_loom(page):
    """Two moons and their noises: independent, after LOOM's batches, optimal; and the cost by batch."""
    x, noise = page["x"], page["loomfast"].noise_from_ids(np.arange(256), (2,), seed=0)
    best = noise[page["loomfast"].solve_points(x, noise).col4row]
    figure, axes = plt.subplots(1, 4, figsize=(12, 3))
    titles = "independent", "LOOM, 200 batches of 32", "optimal"
    for axis, z, title in zip(axes, (noise, page["z"], best), titles, strict=False):
        axis.plot(*np.stack([z, x]).transpose(2, 0, 1), color=GREY, lw=0.5)
        axis.scatter(*z.T, s=5, color=ORANGE, zorder=2)
        axis.scatter(*x.T, s=5, color=BLUE, zorder=2)
        axis.set_title(f"{title}: {np.square(x - z).sum(1).mean():.2f} a pair", fontsize=9)
        axis.axis("off")
    axes[3].plot(np.arange(1, 201), page["costs"], color=BLUE, label="LOOM")
    axes[3].axhline(page["optimum"], color=GREEN, lw=1, ls="--", label="optimum")
    axes[3].set_xlabel("batch")
    axes[3].set_ylabel("cost of a pair")
    axes[3].legend(frameon=False)
    figure.tight_layout()
    return figure


def draw_flow_map(page):
    """N(0, 1) at time 0 to N(1, 0.3^2) at time 1, optimally paired: small steps, and jumps."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 2.8), sharey=True)
    time, starts = np.linspace(0, 1, 50), np.linspace(-2, 2, 9)

    def at(z, t):
        return (1 - t) * z + t * (1 + 0.3 * z)

    titles = "velocity: many small steps", "map: one jump, or two"
    for axis, title in zip(axes, titles, strict=True):
        axis.plot(time, at(starts[:, None], time).T, color=GREY, lw=1)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("t: noise at 0, data at 1")
    for z in starts[::4]:
        steps = np.linspace(0, 1, 9)
        axes[0].plot(steps, at(z, steps), "o-", ms=3, color=BLUE, lw=1)
    for z, stops, bend in ((2, (0, 1), -0.2), (-2, (0, 0.5, 1), 0.25)):
        for start, end in pairwise(stops):
            ends = (start, at(z, start)), (end, at(z, end))
            arc = FancyArrowPatch(
                *ends, connectionstyle=f"arc3,rad={bend}", arrowstyle="->", mutation_scale=12, color=ORANGE
            )
            axes[1].add_patch(arc)
    axes[1].text(0.6, 2.6, r"$X_{0,1}$", color=ORANGE)
    axes[1].text(0.33, -2.05, r"$X_{0,½}$", color=ORANGE)
    axes[1].text(0.72, -1.25, r"$X_{½,1}$", color=ORANGE)
    axes[1].set_ylim(-2.5, 3)
    return figure


if __name__ == "__main__":
    main()
