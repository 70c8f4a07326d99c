"""A picture of every coupling on 8 gaussians -> moons: who is paired with whom, and at what cost.

    python bench/couplings_figure.py [--out docs/couplings.png] [--steps 200]

1024 points of two moons (3·(x, y) − 1, noise .2) are coupled with points of eight gaussians (on a circle of
radius 5, standard deviation .3), each a function of its noise id, in batches of 128; the last batch is drawn.
`nearest` and `semidiscrete` are couplings with a normal law, which they are shown with. Colours are the
moons' labels.
"""

import argparse

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import make_moons

from loomfast.config import CouplingConfig
from loomfast.coupling import COUPLINGS, Loom, Mixed, Paired, build_coupler
from loomfast.coupling.memoryless import Fresh
from loomfast.noise import noise_from_ids

NUM, BATCH = 1024, 128
NORMAL = ("nearest", "semidiscrete")
SPECIAL = {"mixed": {"mixed_second": "minibatch-ot"}, "hierarchical": {"groups": 8}, "partial": {"mass": 0.7}}


def eight_gaussians(ids, seed, domain=1):
    """The points of ids (n,): (n, 2) float32; the lowest bits say which gaussian."""
    angle = (ids * 2654435761 >> 7) % 8 * (np.pi / 4)
    noise = noise_from_ids(ids, (2,), seed=seed, domain=domain)
    return (5 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.3 * noise).astype(np.float32)


def moons():
    points, labels = make_moons(NUM, noise=0.2, random_state=0)
    return (3 * points - 1).astype(np.float32), labels.astype(np.int64)


def coupler_of(method, x, labels):
    """The coupling of this name, from eight gaussians where it can be."""
    config = CouplingConfig(method=method, num_caches=1, **SPECIAL.get(method, {}))
    if method == "paired":  # by angle, as somebody may have made them
        ends = eight_gaussians(np.arange(NUM), 0)
        order = np.empty(NUM, np.int64)
        order[np.argsort(np.arctan2(x[:, 1] - 0.3, x[:, 0] - 0.5))] = np.argsort(
            np.arctan2(ends[:, 1], ends[:, 0])
        )
        return Paired(NUM, (2,), ends[order])
    coupler = build_coupler(config, NUM, (2,), seed=0, fingerprint="", data=x, labels=labels)
    for part in (coupler.first, coupler.second) if isinstance(coupler, Mixed) else (coupler,):
        if method not in NORMAL and isinstance(part, Fresh):
            part._ends = lambda ids, x: eight_gaussians(ids, 0)
        elif isinstance(part, Loom):
            part._noise = from_gaussians(part)
    return coupler


def from_gaussians(loom):
    """What a LOOM cache's ids are here, of noises that were renewed as well."""

    def points(ids, x, rows, step):
        renewed = loom._generations(ids, rows, step) << 32 if hasattr(loom, "_generations") else 0
        return eight_gaussians(ids + renewed, 0, domain=0)

    return points


def last_pair(coupler, x, labels, steps):
    """The items and the Pair of the last of so many steps."""
    rng = np.random.default_rng(0)
    for step in range(steps):
        index = rng.permutation(NUM)[:BATCH]
        index = coupler.items(step, BATCH, lambda step, num, index=index: index)
        more = {"labels": labels[index]} if coupler.needs_labels else {}
        pair = coupler.couple(x[index], index, **more)
    return index, pair


def draw(axes, method, x, labels, steps):
    coupler = coupler_of(method, x, labels)
    steps = steps if isinstance(coupler, Loom | Mixed) else 1  # others learn nothing from a step
    index, pair = last_pair(coupler, x, labels, steps)
    rows = np.arange(BATCH) if pair.rows is None else pair.rows
    index, z = index[rows], np.asarray(pair.noise)
    for a, b, label in zip(x[index], z, labels[index], strict=True):
        axes.plot([a[0], b[0]], [a[1], b[1]], color=f"C{label}", lw=0.4, alpha=0.6)
    axes.scatter(*z.T, s=4, color="0.3")
    axes.scatter(*x[index].T, s=4, c=[f"C{label}" for label in labels[index]])
    cost = ((x[index] - z) ** 2).sum(1).mean()
    axes.set_title(f"{method}: {cost:.1f}", fontsize=9)
    axes.set_aspect("equal")
    axes.set_xlim(-6.5, 7)
    axes.set_ylim(-6.5, 6.5)
    axes.axis("off")
    return cost


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", default="docs/couplings.png")
    parser.add_argument("--steps", type=int, default=200)
    arguments = parser.parse_args()
    x, labels = moons()
    figure, grid = plt.subplots(3, 6, figsize=(15, 7.6), layout="tight")
    for axes in grid.flat:
        axes.axis("off")
    for axes, method in zip(grid.flat, COUPLINGS, strict=False):
        print(f"{method}: cost of a pair {draw(axes, method, x, labels, arguments.steps):.2f}")
    figure.savefig(arguments.out, dpi=110)
    print(arguments.out)


if __name__ == "__main__":
    main()
