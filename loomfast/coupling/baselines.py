"""Couplings that draw new noise in every step and remember nothing: the baselines of the paper.

The noise of item i at step s has id s·2³² + i in the domain of fresh training noise, so it depends on
nothing but (seed, step, item).
"""

import numpy as np

from loomfast._arrays import integer, item_shape, to_numpy
from loomfast.cost import paired_cost, pairwise_cost
from loomfast.coupling.interface import (
    Coupling,
    Pair,
    Prepared,
    Stopwatch,
    check_metadata,
    check_step,
    checked_step,
    like,
    mean_cost,
    solve_batch,
)
from loomfast.noise import NOISE_FORMAT, NoiseDomain, noise_from_ids


class _Fresh(Coupling):
    """What the couplings with fresh noise share: their noise, and a state that is the step alone."""

    def __init__(self, num_items, shape, *, seed=0, dataset_fingerprint=""):
        self.num_items = integer(num_items, "num_items", 1, 1 << 31)
        self.shape = item_shape(shape)
        self.seed = integer(seed, "seed", 0, 1 << 64)
        self.dataset_fingerprint = dataset_fingerprint
        self.step = 0

    def _draw(self, x, rows, step):
        """Return the ids of these items in this step, (B,) int64, and their noise, (B, *shape) like ``x``."""
        ids = (np.int64(step) << np.int64(32)) + rows
        return ids, noise_from_ids(like(ids, x), self.shape, seed=self.seed, domain=NoiseDomain.FRESH)

    def recall(self, x, index, *, step):
        """Return the pairs of ``step``, computed again: they depend on nothing but seed, step and items."""
        return self.prepare(x, index, step=check_step(step)).pair

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        return {
            "method": self.method,
            "num_items": self.num_items,
            "shape": list(self.shape),
            "seed": self.seed,
            "noise_format": NOISE_FORMAT,
            "dataset_fingerprint": self.dataset_fingerprint,
        }

    def state_dict(self):
        """Return ``step`` (an int64 array of one) and ``metadata``: nothing else is remembered."""
        return {"step": np.array([self.step], dtype=np.int64), "metadata": self.metadata()}

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it belongs to another coupling."""
        check_metadata(state, self.metadata())
        self.step = checked_step(state)


class Independent(_Fresh):
    """Data and noise drawn independently: p(x, z) = p(x) p(z) (paper, Section 2.1).

    Args:
        num_items: number of items in the dataset.
        shape: shape of one item.
        seed: the run's seed; noise is a function of (seed, step, item).
        dataset_fingerprint: any string that names the data; a state with another one is refused.
    """

    method = "independent"
    summary = "as drawn"

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) with new noise, of the kind and on the device of ``x`` (B, *shape)."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        cost = mean_cost(to_numpy(paired_cost(x, noise)))
        return Prepared(Pair(noise, ids, cost_before=cost, cost_after=cost, seconds=watch.seconds), step)


class MinibatchOT(_Fresh):
    """New noise in every step, assigned optimally inside the batch, then forgotten.

    BatchOT of Pooladian et al. (2023) and, with exact plans, OT-CFM of Tong et al. (2023); the paper's
    ablation "without saving local reassignments" (Section 4.1).

    Args:
        num_items, shape, seed, dataset_fingerprint: as for `Independent`.
        metric: ``"sqeuclidean"`` (paper, eq. 7) or ``"euclidean"``.
    """

    method = "minibatch-ot"
    summary = "new noise, optimal in the batch"

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling that a configuration describes, with its metric."""
        return cls(num_items, shape, seed=seed, metric=config.metric, dataset_fingerprint=fingerprint)

    def __init__(self, num_items, shape, *, seed=0, metric="sqeuclidean", dataset_fingerprint=""):
        super().__init__(num_items, shape, seed=seed, dataset_fingerprint=dataset_fingerprint)
        self.metric = metric

    def metadata(self):
        """Return what a state of this coupling belongs to, with the metric."""
        return {**super().metadata(), "metric": self.metric}

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with new noise, optimally in the batch."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        with watch("cost"):
            cost = pairwise_cost(x, noise, metric=self.metric, assignment_only=True)
        with watch("solve"):
            assignment = solve_batch(cost, x)
        with watch("write"):
            order = to_numpy(assignment.col4row)
            before = to_numpy(paired_cost(x, noise, metric=self.metric))
            noise = noise[order]
            after = to_numpy(paired_cost(x, noise, metric=self.metric))
        pair = Pair(
            noise=noise,
            ids=ids[order],
            swaps=int((order != np.arange(len(order))).sum()),
            cost_before=mean_cost(before),
            cost_after=mean_cost(after),
            gap=float(assignment.gap),
            seconds=watch.seconds,
        )
        return Prepared(pair, step)
