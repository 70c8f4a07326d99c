"""Exact optimal transport of two point clouds: a torus becomes two balls, each point by the cheapest way.

    python docs/examples/point_clouds.py [--out docs/examples] [--small]

``solve_points`` makes no matrix: memory is that of the points. The prices that come with the matching prove
that no other one is cheaper, here checked once more for some points against all others.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import loomfast


def torus(n, rng):
    """n points of a torus of radii 1 and .35, (n, 3)."""
    a, b = rng.uniform(0, 2 * np.pi, (2, n))
    radius = 1 + 0.35 * np.cos(b)
    return np.stack([radius * np.cos(a), radius * np.sin(a), 0.35 * np.sin(b)], 1)


def two_balls(n, rng):
    """n points of two balls of radius .6, (n, 3)."""
    direction = rng.standard_normal((n, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    centre = np.where(rng.random((n, 1)) < 0.5, -0.9, 0.9) * [1, 0, 0]
    return centre + 0.6 * np.cbrt(rng.random((n, 1))) * direction


def check(x, z, found, sample):
    """The largest violation of u[i] + v[j] <= |x_i - z_j|^2 for some rows and all columns."""
    cost = np.square(x[sample, None] - z).sum(-1)
    return float((found.u[sample, None] + found.v - cost).max())


def draw(x, y, path):
    """The way of all points at five times; colours are those of the torus's angle."""
    colour = np.arctan2(x[:, 1], x[:, 0])
    figure, axes = plt.subplots(1, 5, figsize=(12, 2.6), subplot_kw={"projection": "3d"})
    for axis, t in zip(axes, np.linspace(0, 1, 5), strict=True):
        axis.scatter(*((1 - t) * x + t * y).T, s=1.2, c=colour, cmap="twilight", lw=0)
        axis.set_axis_off()
        axis.set_box_aspect((1, 1, 0.6))
        axis.set_xlim(-1.3, 1.3)
        axis.set_ylim(-1.3, 1.3)
        axis.set_zlim(-0.8, 0.8)
        axis.view_init(35, -70)
        axis.set_title(f"t = {t:g}", fontsize=9)
    figure.subplots_adjust(0, 0, 1, 0.92, 0, 0)
    figure.savefig(path, dpi=90)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--small", action="store_true", help="a few points, for a test")
    arguments = parser.parse_args()
    n, rng = 300 if arguments.small else 5000, np.random.default_rng(0)
    x, z = torus(n, rng), two_balls(n, rng)
    start = time.perf_counter()
    found = loomfast.solve_points(x, z)
    seconds = time.perf_counter() - start
    independent = np.square(x - z).sum(1).mean()
    violation = check(x, z, found, rng.choice(n, 50, replace=False))
    print(
        f"{n} points in {seconds:.2f} s: {found.total / n:.4f} a pair (in random order {independent:.4f}), "
        f"proven to {found.gap / n:.1e}, W2 {np.sqrt(found.total / n):.4f}; "
        f"prices too high by {max(violation, 0):.0e}"
    )
    draw(x, z[found.col4row], arguments.out / "point_clouds.png")


if __name__ == "__main__":
    main()
