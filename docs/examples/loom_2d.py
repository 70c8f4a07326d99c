"""LOOM on two dimensions, as an animation: what three Euler steps make of noise, with and without it.

    python docs/examples/loom_2d.py [--out docs/examples] [--small]

Two networks, alike but for the noise that they are trained with: independent, and LOOM's. The frames show
the same noise going through both, and the pairs that LOOM holds while it trains.
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.animation import FuncAnimation, PillowWriter

from loomfast.coupling import Independent, Loom
from loomfast.data import load_dataset
from loomfast.flow import flow_matching_loss
from loomfast.metrics import exact_w2
from loomfast.models import MLPConfig, build
from loomfast.noise import noise_from_ids
from loomfast.sample import generate

NFE, SHOWN = 3, 300


def train(coupler, data, steps, batch=256):
    """A network trained with the noise of a coupling; and the noises of LOOM's items now and then."""
    torch.manual_seed(0)
    network = build(MLPConfig(dim=2, width=96))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    held = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        index = torch.randperm(len(data), generator=generator)[:batch]
        pair = coupler.couple(data[index], index)
        loss = flow_matching_loss(
            network, data[index], pair.noise, torch.rand(len(index), generator=generator)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if isinstance(coupler, Loom) and (step in (0, 7, 31, 127, 511) or step == steps - 1):
            held.append((step + 1, noise_from_ids(coupler.ids[:SHOWN, 0], (2,), seed=0)))
    return network, held


def paths(network, num):
    """The same noise through a network: (NFE + 1, num, 2) states of Euler's method."""
    options = {"seed": 1, "solver": "euler", "nfe": NFE, "trajectory": True}
    return generate(network, num, (2,), **options).numpy()


def frames_of(states, between):
    """States and straight lines between them, ``between`` frames each: (frames, num, 2)."""
    part = np.linspace(0, 1, between, endpoint=False)[:, None, None]
    moves = [(1 - part) * a + part * b for a, b in pairwise(states)]
    return np.concatenate([*moves, np.repeat(states[-1:], between, axis=0)])


def animate(data, held, states, path, between=6):
    moving = [frames_of(one, between) for one in states]
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.9), dpi=72)
    for axis in axes:
        axis.scatter(*data.T, s=2, color="#cbd5e0", lw=0)
        axis.set_xlim(-3.2, 3.2)
        axis.set_ylim(-3.2, 3.2)
        axis.axis("off")
    lines = [axes[0].plot([], [], color="#a0aec0", lw=0.5)[0] for _ in range(SHOWN)]
    dots = [axis.scatter([], [], s=4, color="#dd6b20", lw=0) for axis in axes]
    axes[1].set_title(f"independent, {NFE} steps", fontsize=9)
    axes[2].set_title(f"LOOM, {NFE} steps", fontsize=9)

    def show(frame):
        step, noise = held[min(frame * len(held) // len(moving[0]), len(held) - 1)]
        axes[0].set_title(f"LOOM's pairs, batch {step}", fontsize=9)
        for line, x, z in zip(lines, data, noise, strict=False):
            line.set_data(*np.stack([z, x]).T)
        for dot, places in zip(dots, (noise, moving[0][frame], moving[1][frame]), strict=True):
            dot.set_offsets(places)

    figure.tight_layout(pad=0.3)
    FuncAnimation(figure, show, frames=len(moving[0])).save(path, writer=PillowWriter(fps=8))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--small", action="store_true", help="a few steps, for a test")
    arguments = parser.parse_args()
    steps, between = (5, 1) if arguments.small else (3000, 6)
    data = torch.from_numpy(load_dataset("moons", num_items=2048).train)
    options = {"num_items": len(data), "shape": (2,), "seed": 0}
    independent, _ = train(Independent(**options), data, steps)
    loom, held = train(Loom(num_caches=4, **options), data, steps)
    states = [paths(network, 1000) for network in (independent, loom)]
    for name, one in zip(("independent", "LOOM"), states, strict=True):
        print(f"{name}: W2 to the data after {NFE} steps {exact_w2(one[-1], data[:1000]):.3f}")
    animate(data.numpy(), held, states, arguments.out / "loom_2d.gif", between)


if __name__ == "__main__":
    main()
