"""Minibatches of minibatches (Nguyen et al., 2022, "On transportation of mini-batches", BoMb-OT)."""

import numpy as np

from loomfast._arrays import integer, to_numpy
from loomfast.assignment import solve
from loomfast.cost import pairwise_cost
from loomfast.coupling.interface import Prepared, Stopwatch, solve_batch
from loomfast.coupling.memoryless import FreshByCost


class Hierarchical(FreshByCost):
    """New noise in every step; k groups of items are assigned to k groups of noise, then inside the groups.

    BoMb-OT: the cost of two groups is that of the optimal assignment between them, and the groups themselves
    are assigned optimally (Nguyen et al., 2022, Section 3.1). k² problems of (B/k)² instead of one of B²;
    with k = 1 it is `MinibatchOT`, with k = B as well.

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        groups: k, which has to divide every batch.

    Raises:
        ValueError: for fewer than one group; in a step, for a batch that k does not divide.
    """

    method = "hierarchical"
    summary = "new noise, groups assigned to groups, then inside them (BoMb-OT, Nguyen et al. 2022)"

    def __init__(self, num_items, shape, *, groups=4, **options):
        super().__init__(num_items, shape, **options)
        self.groups = integer(groups, "groups", 1)

    @classmethod
    def options(cls, config):
        """Return the metric and the number of groups of a configuration, a dict."""
        return {**super().options(config), "groups": config.groups}

    def metadata(self):
        """Return what a state of this coupling belongs to, with the number of groups."""
        return {**super().metadata(), "groups": self.groups}

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with new noise, groups first."""
        num, k = len(rows), self.groups
        if num % k:
            raise ValueError(f"groups must divide the batch of {num} items, got groups={k}")
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        with watch("cost"):
            cost = to_numpy(pairwise_cost(x, noise, metric=self.metric, assignment_only=True))
        with watch("solve"):
            order = group_assignment(cost, k, x)
        return Prepared(self._pair(x, noise, ids, watch, order=order, metric=self.metric), step)


def group_assignment(cost, k, x):
    """Return the columns by row, (B,) int64, of the two-level assignment of costs (B, B) in k groups.

    ``x`` (B, ...) are the data, which an error names where they are not finite.
    """
    size = len(cost) // k
    if not size:
        return np.empty(0, np.int64)
    blocks = cost.reshape(k, size, k, size).transpose(0, 2, 1, 3).reshape(k * k, size, size)
    if not np.isfinite(blocks).all():
        solve_batch(cost, x)
    inside = solve(np.ascontiguousarray(blocks))
    between = solve(np.asarray(inside.total, np.float64).reshape(k, k))
    chosen = np.arange(k) * k + between.col4row
    return (inside.col4row[chosen] + between.col4row[:, None] * size).reshape(-1).astype(np.int64)
