"""Pairwise cost in NumPy: float64 differences, one row at a time."""

import numpy as np

from loomfast._arrays import flat


def pairwise_cost(x, z, *, metric="sqeuclidean", labels=None, label_weight=0.0, assignment_only=False):
    """float64 (n, m): |x_i - z_j|^2 (LOOM-CFM, eq. 7) or |x_i - z_j|, plus label_weight where labels differ.

    ``assignment_only`` with "sqeuclidean" is -2 x_i . z_j: the terms of a row or a column alone are left out.
    ``labels`` is a pair (n,), (m,).
    """
    x, z = (flat(np.asarray(items, np.float64)) for items in (x, z))
    cost = np.empty((len(x), len(z)))
    for i, row in enumerate(x):
        if assignment_only and metric == "sqeuclidean":
            cost[i] = -2 * (z @ row)
        else:
            cost[i] = np.square(row - z).sum(axis=1)
    if metric == "euclidean":
        cost = np.sqrt(cost)
    if labels is not None:
        cost += label_weight * (np.asarray(labels[0])[:, None] != np.asarray(labels[1])[None, :])
    return cost


def paired_cost(x, z, *, metric="sqeuclidean"):
    """float64 (n,): the cost of each pair (x_i, z_i)."""
    x, z = (flat(np.asarray(items, np.float64)) for items in (x, z))
    cost = np.square(x - z).sum(axis=1)
    return np.sqrt(cost) if metric == "euclidean" else cost
