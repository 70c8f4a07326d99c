"""Fidelity and diversity apart: precision, recall, density and coverage from nearest neighbours."""

import numpy as np

from loomfast._arrays import integer
from loomfast.metrics.distances import _pair, _squared_distances

BLOCK = 1024  # rows of a matrix of distances that are held at a time


def neighbour_scores(real, made, k=5):
    """How much of the samples is like the data, and how much of the data the samples are like.

    A point lies in the ball of another one if it is no farther than that one's ``k``-th nearest neighbour
    within its own set. precision: share of samples in the ball of a real item; recall: share of real items in
    the ball of a sample (Kynkäänniemi et al., 2019, equations 1 and 2). density: how many balls of real items
    a sample lies in, over k; coverage: share of real items with a sample in their ball (Naeem et al., 2020,
    equations 4 and 5). All are shares but the density, which may exceed 1.

    Args:
        real, made: (N, ...) and (M, ...), data and samples or features of them, NumPy or torch. N and M
            should be alike: precision and recall are of balls that shrink with the number of items.
        k: which neighbour; at least 1 and less than N and M.

    Returns:
        dict: ``precision``, ``recall``, ``density``, ``coverage``, floats.

    Raises:
        ValueError: for items of unlike sizes, values that are not finite, or too few items for ``k``.
    """
    real, made = _pair("real", real, "made", made)
    k = integer(k, "k", 1)
    if min(len(real), len(made)) <= k:
        raise ValueError(f"k must be less than the items of each set, {len(real)} and {len(made)}; got {k}")
    radius_real, radius_made = _radii(real, k), _radii(made, k)
    balls = np.zeros(len(made), np.int64)  # of real items, that a sample lies in
    recalled, covered = 0, 0
    for first in range(0, len(real), BLOCK):
        rows = slice(first, first + BLOCK)
        distances = _squared_distances(real[rows], made)
        inside = distances <= radius_real[rows, None]
        balls += inside.sum(axis=0)
        covered += int(inside.any(axis=1).sum())
        recalled += int((distances <= radius_made).any(axis=1).sum())
    return {
        "precision": float((balls > 0).mean()),
        "recall": recalled / len(real),
        "density": float(balls.mean() / k),
        "coverage": covered / len(real),
    }


def _radii(points, k):
    """Return the squared distance of each point to its k-th nearest other one, (N,) float64."""
    radii = np.empty(len(points))
    for first in range(0, len(points), BLOCK):
        rows = np.arange(first, min(first + BLOCK, len(points)))
        distances = _squared_distances(points[rows], points)
        distances[np.arange(len(rows)), rows] = np.inf
        radii[rows] = np.partition(distances, k - 1, axis=1)[:, k - 1]
    return radii
