"""Couplings that keep noise and condition independent (Cheng and Schwing, 2025, "The curse of conditions",
C2OT).

Noise that is coupled regardless of conditions depends on them: class 3 would be trained with one corner of
the normal law and sampled with all of it. C2OT lets every noise have the condition that it was drawn with,
and adds to the cost of a pair a weight times the distance of conditions.
"""

import math

import numpy as np

from loomfast._arrays import finite, to_numpy
from loomfast.cost import pairwise_cost, reassigned_cost
from loomfast.coupling.cache import improving_cycles
from loomfast.coupling.interface import (
    Pair,
    Prepared,
    Stopwatch,
    checked_entry,
    exchanged,
    mean_cost,
    solve_batch,
    viewed,
)
from loomfast.coupling.loom import Loom, Update
from loomfast.coupling.memoryless import FreshByCost
from loomfast.noise import NoiseDomain

CONDITION_METRICS = ("cosine", "sqeuclidean")


def checked_conditions(labels, num):
    """Return labels (num,) int64, or conditions (num, c) float32, after checking them; fields become vectors.

    Raises ValueError if they are missing, neither, negative labels, or not finite.
    """
    if labels is None:
        raise ValueError("labels are needed, one for each item: (B,) integers, or (B, c) conditions")
    labels = to_numpy(labels)
    if labels.ndim > 2:
        labels = labels.reshape(len(labels), -1)
    if labels.shape == (num,) and labels.dtype.kind in "iu" and (labels >= 0).all():
        return labels.astype(np.int64)
    if labels.ndim == 2 and len(labels) == num and labels.shape[1] and labels.dtype.kind == "f":
        bad = np.flatnonzero(~np.isfinite(labels).all(axis=1))
        if bad.size:
            raise ValueError(f"labels[{bad[0]}] contains NaN or infinity")
        return labels.astype(np.float32)
    raise ValueError(
        f"labels must be {num} integers of 0 or more, or ({num}, c) floating-point conditions, got shape "
        f"{labels.shape} {labels.dtype}"
    )


def condition_cost(of_items, of_noises, metric):
    """Return the distances of conditions, (n, m) float64: labels differ or not; else 1 − cosine or |.|²."""
    if of_items.ndim == 1:
        return (of_items[:, None] != of_noises[None]).astype(np.float64)
    if metric == "sqeuclidean":
        return pairwise_cost(of_items, of_noises).astype(np.float64)
    items, noises = (
        part / np.maximum(np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True), 1e-300)
        for part in (of_items, of_noises)
    )
    return np.maximum(1 - items @ noises.T, 0.0)


def weight_for_ratio(cost, conditions, ratio):
    """Return the least weight w at which a share ``ratio`` of pairs may still replace what they would
    replace.

    C2OT's search (Section 3.3): the share of pairs (i, j) with cost[i, j] + w·conditions[i, j] <= cost[j, j],
    the noise j's own pair, falls as w rises. What its authors search for by bisection is the (ratio·n²)-th
    largest of the weights at which a pair drops out.

    Args:
        cost: (n, n) float, transport costs; item i and noise i were drawn with the same condition.
        conditions: (n, n) float of 0 or more, distances of conditions.
        ratio: in [0, 1].
    """
    own = np.diagonal(cost)[None]
    candidates = cost <= own
    far = candidates & (conditions > 0)
    leaves_at = np.sort((own - cost)[far] / conditions[far])[::-1]
    allowed = int(ratio * cost.size) - int(candidates.sum() - far.sum())
    if not leaves_at.size or allowed >= len(leaves_at):
        return 0.0
    if allowed <= 0:
        return float(2 * leaves_at[0])
    return float(0.5 * (leaves_at[allowed - 1] + leaves_at[allowed]))


def _check_options(label_weight, target_ratio, condition_metric):
    finite(label_weight, "label_weight")
    if not 0 <= finite(target_ratio, "target_ratio") <= 1:
        raise ValueError(f"target_ratio must be in [0, 1], got {target_ratio}")
    if condition_metric not in CONDITION_METRICS:
        raise ValueError(f"condition_metric must be cosine or sqeuclidean, got {condition_metric!r}")


class Conditional(FreshByCost):
    """New noise in every step, assigned in the batch by transport cost and condition: C2OT.

    `couple` needs labels: (B,) integers, or (B, c) floating-point conditions.

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        label_weight: cost of the distance of two conditions, in the units of the metric. 0 for labels: a
            noise stays within its class (each class is a problem of its own); 0 for conditions: target_ratio
            says.
        target_ratio: where label_weight is 0: the share of pairs of a batch that stay candidates, from which
            the weight is found in every batch (see `weight_for_ratio`).
        condition_metric: ``"cosine"`` (1 − cosine; C2OT's for embeddings) or ``"sqeuclidean"``.

    Raises:
        ValueError: for a weight or a ratio that is none.
    """

    method = "conditional"
    summary = "new noise, optimal in the batch with conditions (C2OT, Cheng and Schwing 2025; needs labels)"
    needs_labels = True

    def __init__(
        self,
        num_items,
        shape,
        *,
        label_weight=0.0,
        target_ratio=0.05,
        condition_metric="cosine",
        **options,
    ):
        super().__init__(num_items, shape, **options)
        _check_options(label_weight, target_ratio, condition_metric)
        self.label_weight, self.target_ratio = float(label_weight), float(target_ratio)
        self.condition_metric = condition_metric

    @classmethod
    def options(cls, config):
        """Return the metric, the weight and the ratio of a configuration, a dict."""
        own = {name: getattr(config, name) for name in ("label_weight", "target_ratio", "condition_metric")}
        return {**super().options(config), **own}

    def metadata(self):
        """Return what a state of this coupling belongs to, with the weight and the ratio."""
        own = {name: getattr(self, name) for name in ("label_weight", "target_ratio", "condition_metric")}
        return {**super().metadata(), **own}

    def recall(self, x, index, *, step, labels=None):
        """Return the pairs of ``step``, computed again from the items, their labels and the step."""
        return self.prepare(x, index, step=step, labels=labels).pair

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` with new noise that was drawn with their ``labels``."""
        watch = Stopwatch()
        labels = checked_conditions(labels, len(rows))
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        if labels.ndim == 1 and not self.label_weight:
            with watch("solve"):
                order, gap = self._by_class(x, noise, labels)
        else:
            with watch("cost"):
                cost = self._costs(x, noise, labels)
            with watch("solve"):
                assignment = solve_batch(cost, x)
                order, gap = assignment.col4row, float(assignment.gap)
        more = {"order": order, "metric": self.metric, "gap": gap}
        return Prepared(self._pair(x, noise, ids, watch, **more), step)

    def _by_class(self, x, noise, labels):
        """Return the columns by row and the gap of one assignment for each class."""
        order, gap = np.empty(len(labels), np.int64), 0.0
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            cost = pairwise_cost(x[members], noise[members], metric=self.metric, assignment_only=True)
            assignment = solve_batch(cost, x[members])
            order[members] = members[to_numpy(assignment.col4row)]
            gap += float(assignment.gap)
        return order, gap

    def _costs(self, x, noise, labels):
        """Return the costs of all pairs with their conditions, (B, B) float64."""
        cost = to_numpy(pairwise_cost(x, noise, metric=self.metric)).astype(np.float64)
        far = condition_cost(labels, labels, self.condition_metric)
        return cost + (self.label_weight or weight_for_ratio(cost, far, self.target_ratio)) * far


class ConditionalLoom(Loom):
    """LOOM-CFM whose costs have C2OT's condition term, with labels or continuous conditions.

    A noise has for ever the condition of the item that held it first, as with `Loom`'s ``label_weight``. The
    weight may be found in every batch by C2OT's target ratio; a batch then never costs more, at its own
    weight, than before it.

    Args:
        num_items, shape, num_caches, seed, metric, dataset_fingerprint: as for `Loom`.
        label_weight, target_ratio, condition_metric: as for `Conditional`; a label_weight of 0 is found by
            the ratio for labels as well.

    Attributes:
        conditions: (num_items, c) float32, those seen so far (c = 1 for labels), NaN where none was; None
            before the first batch.
    """

    method = "loom-conditional"
    summary = "remembered and improved, with conditions (LOOM-CFM and C2OT; needs labels)"
    takes_init = False
    needs_labels = True

    def __init__(
        self, num_items, shape, *, label_weight=0.0, target_ratio=0.05, condition_metric="cosine", **options
    ):
        super().__init__(num_items, shape, **options)
        _check_options(label_weight, target_ratio, condition_metric)
        self.condition_weight, self.target_ratio = float(label_weight), float(target_ratio)
        self.condition_metric = condition_metric
        self.conditions = None

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration."""
        names = ("num_caches", "metric", "label_weight", "target_ratio", "condition_metric")
        options = {name: getattr(config, name) for name in names}
        return cls(num_items, shape, seed=seed, dataset_fingerprint=fingerprint, **options)

    def pair_up(self, x, rows, step, labels):
        """Take the batch's pairs and make them optimal by cost and condition; nothing is written yet."""
        watch = Stopwatch()
        labels = checked_conditions(labels, len(rows))
        discrete = labels.ndim == 1
        here = labels[:, None].astype(np.float32) if discrete else labels
        self._check_known(here, rows)
        with watch("noise"):
            held = self._places(rows, step)
            ids = self.ids.reshape(-1)[held].astype(np.int64)
            noise = self._noise(ids, x, rows, step)
            there = self._conditions_of(ids, rows, here)
        with watch("cost"):
            cost = to_numpy(pairwise_cost(x, noise, metric=self.metric)).astype(np.float64)
            ends = (here[:, 0], there[:, 0]) if discrete else (here, there)
            far = condition_cost(*ends, self.condition_metric)
            weight = self.condition_weight or weight_for_ratio(cost, far, self.target_ratio)
        with watch("solve"):
            found = solve_batch(cost + weight * far, x)
        with watch("write"):
            order, before, after = self._improvement(x, noise, found.col4row, weight * far)
        pair = Pair(
            noise=exchanged(noise, order),
            ids=ids[order],
            swaps=int((order != np.arange(len(order))).sum()),
            cost_before=before,
            cost_after=after,
            gap=float(found.gap),
            seconds=watch.seconds,
            domain=NoiseDomain.CACHE,
        )
        return Prepared(pair, step, Update(held, ids, ids[order], found.v, rows, here))

    def _improvement(self, x, noise, order, extra):
        """Return what of ``order`` is worth writing, with the mean cost before and after."""
        places = np.arange(len(order))
        before, after = reassigned_cost(*viewed(x, noise), order, metric=self.metric)
        before, after = before + extra[places, places], after + extra[places, order]
        rounding = (math.prod(self.shape) + len(order)) * np.finfo(np.float64).eps
        order = improving_cycles(order, before, after, rounding)
        kept = np.where(order == places, before, after)
        return order, mean_cost(before), mean_cost(kept)

    def commit(self, prepared):
        """Write the batch's new pairs and its conditions back, and return its Pair."""
        pair = super().commit(prepared)
        rows, here = prepared.update.rows, prepared.update.labels
        if self.conditions is None:
            self.conditions = np.full((self.num_items, here.shape[1]), np.nan, np.float32)
        self.conditions[rows] = here
        return pair

    def recall(self, x, index, *, step, labels=None):
        """Return what `Loom.recall` does; the labels are not looked at."""
        return super().recall(x, index, step=step)

    def _check_known(self, here, rows):
        """Raise ValueError unless the conditions are of the size, and the values, that were seen before."""
        if self.conditions is None:
            return
        if here.shape[1] != self.conditions.shape[1]:
            raise ValueError(
                f"labels must have {self.conditions.shape[1]} numbers an item as before, got {here.shape[1]}"
            )
        known = self.conditions[rows]
        other = np.flatnonzero((~np.isnan(known) & (known != here)).any(axis=1))
        if other.size:
            i = other[0]
            raise ValueError(f"labels[{i}] is {here[i]}, but item {rows[i]} had {known[i]} before")

    def _conditions_of(self, ids, rows, here):
        """Return the conditions of noises, (B, c): those of the items which held them at first."""
        holders = ids // self.num_caches
        found = np.full_like(here, np.nan) if self.conditions is None else self.conditions[holders]
        new = np.isnan(found).any(axis=1)
        by_row = np.argsort(rows)
        found[new] = here[by_row[np.searchsorted(rows, holders[new], sorter=by_row)]]
        return found

    def metadata(self):
        """Return what a state of this coupling belongs to, with the weight and the ratio."""
        return {
            **super().metadata(),
            "condition_weight": self.condition_weight,
            "target_ratio": self.target_ratio,
            "condition_metric": self.condition_metric,
        }

    def state_dict(self):
        """Return `Loom`'s state with ``known``, whether a condition was seen, and the ``conditions``."""
        if self.conditions is None:
            return super().state_dict()
        known = ~np.isnan(self.conditions).any(axis=1)
        values = np.where(known[:, None], self.conditions, np.float32(0))
        return {**super().state_dict(), "conditions": values, "known": known.astype(np.int64)}

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it is damaged or belongs to another coupling."""
        conditions = None
        if "conditions" in state:
            shape = self.num_items, np.shape(state["conditions"])[-1]
            conditions = checked_entry(state, "conditions", shape, np.float32)
            known = checked_entry(state, "known", (self.num_items,), np.int64, low=0)
            conditions[known == 0] = np.nan
        super().load_state_dict(state)
        self.conditions = conditions
