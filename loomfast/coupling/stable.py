"""Stable marriages inside the batch (Pooladian et al., 2023, "Multisample flow matching", BatchStable)."""

import numpy as np

from loomfast._arrays import to_numpy
from loomfast.cost import pairwise_cost
from loomfast.coupling.entropic import check_finite_costs
from loomfast.coupling.interface import Prepared, Stopwatch
from loomfast.coupling.memoryless import FreshByCost


def stable_matching(cost):
    """Return a stable matching of the rows and columns of a square cost matrix, (n,) int64 columns by row.

    No row and column would both rather have each other: the matching of Gale and Shapley (1962) where both
    sides rank by cost, which is the only one where no two costs are equal. A pair that is best for both of
    its ends is in it; such pairs are taken out until none is left, in O(n²) for most costs.

    Args:
        cost: (n, n) finite numbers. Equal ones rank by their index.
    """
    cost = np.asarray(cost)
    match = np.full(len(cost), -1)
    rows, columns = np.arange(cost.shape[0]), np.arange(cost.shape[1])
    while rows.size:
        best_column, best_row = cost.argmin(axis=1), cost.argmin(axis=0)
        mutual = best_row[best_column] == np.arange(len(rows))
        match[rows[mutual]] = columns[best_column[mutual]]
        left = np.ones(len(columns), bool)
        left[best_column[mutual]] = False
        cost = cost[np.ix_(~mutual, left)]
        rows, columns = rows[~mutual], columns[left]
    return match


class Stable(FreshByCost):
    """New noise in every step, and a stable matching inside the batch.

    BatchStable of Pooladian et al. (2023): cheaper to find than the optimum, and nearly as straight. The
    arguments are those of `FreshByCost`.
    """

    method = "stable"
    summary = "new noise, a stable matching in the batch (BatchStable, Pooladian et al. 2023)"

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with new noise, stably in the batch."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        with watch("cost"):
            cost = to_numpy(pairwise_cost(x, noise, metric=self.metric))
            check_finite_costs(cost, x)
        with watch("solve"):
            order = stable_matching(cost)
        return Prepared(self._pair(x, noise, ids, watch, order=order, metric=self.metric), step)
