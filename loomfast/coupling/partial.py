"""Partial and unbalanced transport inside the batch: not all mass has to move. Both plans are POT's."""

import numpy as np

from loomfast._arrays import finite, to_numpy
from loomfast.cost import pairwise_cost
from loomfast.coupling.entropic import check_finite_costs
from loomfast.coupling.interface import Prepared, Stopwatch
from loomfast.coupling.memoryless import FreshByCost
from loomfast.coupling.plans import draw_pairs
from loomfast.extras import need


class _ByPlan(FreshByCost):
    """New noise in every step, and pairs drawn with replacement from an entropic plan of POT."""

    def __init__(self, num_items, shape, *, epsilon=0.05, **options):
        super().__init__(num_items, shape, **options)
        self.epsilon = finite(epsilon, "epsilon")
        if not self.epsilon:
            raise ValueError("epsilon must be positive, got 0")
        self._ot = need("ot", "ot")

    @classmethod
    def options(cls, config):
        """Return the metric and epsilon of a configuration, a dict."""
        return {**super().options(config), "epsilon": config.epsilon}

    def metadata(self):
        """Return what a state of this coupling belongs to, with epsilon."""
        return {**super().metadata(), "epsilon": self.epsilon}

    def _plan(self, cost):
        """Return the plan of costs (B, B) float64 whose mean is 1, as masses (B, B)."""
        raise NotImplementedError

    def pair_up(self, x, rows, step, labels):
        """Pair items out of ``rows`` (B,) with new noise: B draws from the plan of the batch."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        if not len(rows):
            return Prepared(self._pair(x, noise, ids, watch, metric=self.metric), step)
        with watch("cost"):
            cost = to_numpy(pairwise_cost(x, noise, metric=self.metric)).astype(np.float64)
            check_finite_costs(cost, x)
        with watch("solve"):
            plan = self._plan(cost / (cost.mean() or 1.0))
            if not np.isfinite(plan).all() or not plan.sum() > 0:
                raise ValueError(
                    f"epsilon={self.epsilon} is too small for POT's {self.method} plan of step {step}: its "
                    "masses are not finite; take a larger one"
                )
            places, order = draw_pairs(plan, len(rows), seed=self.seed, step=step)
        more = {"order": order, "rows": places, "metric": self.metric}
        return Prepared(self._pair(x, noise, ids, watch, **more), step)


class Partial(_ByPlan):
    """New noise in every step; only a share of the mass is transported, the dearest pairs are left out.

    Mini-batch partial transport of Nguyen et al. (2022), "Improving mini-batch optimal transport via partial
    transportation", by the entropic iterations of Benamou et al. (2015) in POT (``pip install
    'loomfast[ot]'``).

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        epsilon: the regularisation, a share of the batch's mean cost.
        mass: the share of the mass that is transported, in (0, 1].

    Raises:
        ImportError: without POT. ValueError: for an epsilon or a mass that is none.
    """

    method = "partial"
    summary = "new noise by a partial plan of the batch (m-POT, Nguyen et al. 2022; needs POT)"

    def __init__(self, num_items, shape, *, mass=0.9, **options):
        super().__init__(num_items, shape, **options)
        self.mass = finite(mass, "mass")
        if not 0 < self.mass <= 1:
            raise ValueError(f"mass must be in (0, 1], got {mass}")

    @classmethod
    def options(cls, config):
        """Return the metric, epsilon and mass of a configuration, a dict."""
        return {**super().options(config), "mass": config.mass}

    def metadata(self):
        """Return what a state of this coupling belongs to, with the mass."""
        return {**super().metadata(), "mass": self.mass}

    def _plan(self, cost):
        even = np.full(len(cost), 1 / len(cost))
        solver = self._ot.partial.entropic_partial_wasserstein
        return solver(even, even, cost, reg=self.epsilon, m=self.mass)


class Unbalanced(_ByPlan):
    """New noise in every step; the marginals are asked for by a penalty, not demanded.

    Unbalanced transport with KL penalties (Chizat et al., 2018) inside minibatches (Fatras et al., 2021), by
    the iterations of POT (``pip install 'loomfast[ot]'``).

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        epsilon: the regularisation, a share of the batch's mean cost.
        marginal_weight: the penalty of a marginal, in units of the mean cost; infinity would be `Sinkhorn`.

    Raises:
        ImportError: without POT. ValueError: for an epsilon or a weight that is not positive.
    """

    method = "unbalanced"
    summary = "new noise by an unbalanced plan of the batch (Fatras et al. 2021; needs POT)"

    def __init__(self, num_items, shape, *, marginal_weight=1.0, **options):
        super().__init__(num_items, shape, **options)
        self.marginal_weight = finite(marginal_weight, "marginal_weight")
        if not self.marginal_weight:
            raise ValueError("marginal_weight must be positive, got 0")

    @classmethod
    def options(cls, config):
        """Return the metric, epsilon and the marginals' weight of a configuration, a dict."""
        return {**super().options(config), "marginal_weight": config.marginal_weight}

    def metadata(self):
        """Return what a state of this coupling belongs to, with the marginals' weight."""
        return {**super().metadata(), "marginal_weight": self.marginal_weight}

    def _plan(self, cost):
        even = np.full(len(cost), 1 / len(cost))
        solver = self._ot.unbalanced.sinkhorn_knopp_unbalanced
        return solver(even, even, cost, reg=self.epsilon, reg_m=self.marginal_weight)
