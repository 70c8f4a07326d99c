"""LOOM-CFM (Davtyan et al., ICLR 2025, Algorithm 1): a coupling that is improved for ever.

Each minibatch takes its items with the noises they hold now, solves the assignment inside the batch exactly,
and writes the result back. What one batch learns, all later batches start from.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from loomfast._arrays import finite, integer, is_tensor, item_shape, to_numpy
from loomfast.assignment import cuda
from loomfast.cost import paired_cost, pairwise_cost, reassigned_cost
from loomfast.coupling.cache import improving_cycles, initial_ids, is_permutation, mean_of
from loomfast.coupling.interface import (
    Coupling,
    Pair,
    Prepared,
    Stopwatch,
    check_metadata,
    check_status,
    check_step,
    checked_batch,
    checked_entry,
    checked_step,
    exchanged,
    fits_this_run,
    like,
    mean_cost,
    solve_batch,
    viewed,
)
from loomfast.coupling.whole_dataset import solve_globally
from loomfast.noise import NOISE_FORMAT, NoiseDomain, StepDomain, noise_from_ids, step_choices

_EPS = np.finfo(np.float64).eps


@dataclass(frozen=True)
class Update:
    """What `Loom.prepare` found out about a batch: the places it read, and what belongs there."""

    places: np.ndarray  # where the batch's ids are in the flat cache
    old_ids: np.ndarray
    new_ids: np.ndarray
    prices: np.ndarray  # of old_ids, as the solver left them
    rows: np.ndarray
    labels: np.ndarray | None


class Loom(Coupling):
    """A permutation of noise ids, improved by every batch it sees (paper, Sections 3.1 and 3.2).

    Args:
        num_items: number of items in the dataset.
        shape: shape of one item.
        num_caches: noises an item holds; a step uses one of them, chosen at random (Section 3.2). More of
            them protect a small dataset from overfitting, and converge more slowly.
        seed: the run's seed; noise is a function of (seed, id), the choice of caches of (seed, step, item).
        metric: ``"sqeuclidean"`` (eq. 7) or ``"euclidean"`` (the authors' code).
        label_weight: added to the cost of a pair whose labels differ, in the units of the metric, as in
            C2OT; `couple` then needs labels. A noise has for ever the label of the item that held it first,
            so that noise and label stay independent; a large weight lets noises move within a class only.
        tolerance: each batch may stop this share of its gain short of its optimum, as in `loomfast.solve`.
        precision: of the cost's product, as in `loomfast.pairwise_cost`; ``"bfloat16"`` needs torch data.
        dataset_fingerprint: any string that names the data; a state with another one is refused.
        device: None keeps the cache on the host. With a torch device, ``"cuda"`` say, the cache is there, and
            a step is made there whole: its batch has to be on that device, its `Pair` is, and nothing waits
            for the device. What a step of the host would raise of the contents of ``index``, ``labels`` and
            ``x`` is in ``Pair.status`` then; such a step changes nothing, `check` and `state_dict` raise it.

    Attributes:
        ids: (num_items, num_caches) int32, the noises each item holds now: always a permutation of
            0 … num_items·num_caches − 1. With a device, it and the other arrays are tensors there.
        prices: (num_items·num_caches,) float64, the last dual price of every noise id: where the next
            batch's solver starts.
        labels: (num_items,) int64, the labels seen so far, −1 where none was; None without a label_weight.
        duals: (num_items,) float64, the item prices of the last exact solve over all items, or None: what
            `Semidiscrete` couples fresh noise with.
        step: the step the next call counts as, unless it names one.
        device: the torch device of the cache, or None.

    Raises:
        ValueError, TypeError: for sizes below 1 or not integers, 2³¹ noises and more, or a weight or a
            tolerance that is negative or not finite.
    """

    method = "loom"
    summary = "remembered and improved (LOOM-CFM, Davtyan et al. 2025)"
    takes_init = True

    def __init__(
        self,
        num_items,
        shape,
        *,
        num_caches=4,
        seed=0,
        metric="sqeuclidean",
        label_weight=0.0,
        tolerance=0.0,
        precision=None,
        dataset_fingerprint="",
        device=None,
    ):
        self.num_items = integer(num_items, "num_items", 1, 1 << 31)
        self.num_caches = integer(num_caches, "num_caches", 1, 1 << 31)
        self.shape = item_shape(shape)
        self.seed = integer(seed, "seed", 0, 1 << 64)
        self.metric = metric
        self.label_weight = finite(label_weight, "label_weight")
        self.tolerance = finite(tolerance, "tolerance")
        self.precision = precision
        self.dataset_fingerprint = dataset_fingerprint
        self.ids = initial_ids(self.num_items, self.num_caches)
        self.prices = np.zeros(self.ids.size, dtype=np.float64)
        self.labels = np.full(self.num_items, -1, dtype=np.int64) if self.label_weight else None
        self.duals = None
        self.step = 0
        self.device = self.trouble = None
        self.to(device)

    def can_be_on(self, device):
        """Whether `to` can move the cache there: to a GPU where the assignment's CUDA kernels can run."""
        return device.type != "cuda" or cuda.unavailable() is None

    def to(self, device):
        """Move the cache to a torch device, or with None to the host, as NumPy arrays; returns self.

        Raises ValueError if a step that came before could not be made (see `check`), and RuntimeError for a
        GPU on which the assignment cannot be solved.
        """
        if device is None and self.device is None:
            return self
        names = ("ids", "prices", "labels")
        self.check()
        values = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        if device is None:
            self.device = self.trouble = None
            values = {name: to_numpy(value).copy() for name, value in values.items()}
        else:
            import torch

            if not self.can_be_on(torch.device(device)):
                raise RuntimeError(f"device={str(device)!r} cannot hold a coupling: {cuda.unavailable()}")
            values = {name: torch.as_tensor(value).to(device, copy=True) for name, value in values.items()}
            self.device = values["ids"].device
            self.trouble = torch.zeros((), dtype=torch.int32, device=self.device)
        for name, value in values.items():
            setattr(self, name, value)
        return self

    def check(self):
        """Wait for the device of the cache, and raise ValueError if a step could not be made; returns self.

        On the host, where such a step raises at once, there is nothing to wait for.
        """
        if self.trouble is not None:
            status = int(self.trouble)
            self.trouble.zero_()
            check_status(status)
        return self

    def captured(self, x):
        """Return a `loomfast.coupling.captured.CapturedStep` for batches like ``x`` (B, *shape)."""
        from loomfast.coupling.captured import CapturedStep

        return CapturedStep(self, x)

    def prepare(self, x, index, *, step=None, labels=None, fields=()):
        """As `Coupling.prepare`; with a device, ``step`` may also be an int64 tensor () there."""
        if self.device is None:
            return super().prepare(x, index, step=step, labels=labels, fields=fields)
        from loomfast.coupling import on_device

        rows = on_device.as_rows(x, index, self)
        step = self.step if step is None else step if is_tensor(step) else check_step(step)
        prepared = on_device.pair_up(self, x, rows, step, on_device.as_labels(labels, rows, self))
        return replace(prepared, pair=replace(prepared.pair, fields=tuple(fields)))

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration, started from ``config.init`` where a run begins."""
        coupler = cls(
            num_items,
            shape,
            num_caches=config.num_caches,
            seed=seed,
            metric=config.metric,
            label_weight=config.label_weight,
            tolerance=config.tolerance,
            precision=config.precision,
            dataset_fingerprint=fingerprint,
        )
        if fresh and config.init:
            with fits_this_run(config):
                coupler.load(config.init)
            coupler.step = 0
        return coupler

    @classmethod
    def cache_bytes(cls, config, num_items):
        """Return the bytes of the cache: an int32 id and a float64 price for every noise."""
        return 12 * num_items * config.num_caches

    @classmethod
    def description(cls, config):
        """Return the coupling of this configuration in a few words, for a model card."""
        return f"{cls.method}, {config.num_caches} noises an item, {config.metric} cost"

    def pair_up(self, x, rows, step, labels):
        """Take the batch's pairs and make them optimal (Algorithm 1, lines 3-4); nothing is written yet.

        The step chooses the caches. ``labels`` (B,) are needed with a label_weight.
        """
        watch = Stopwatch()
        labels = self.checked_labels(labels, rows)

        with watch("noise"):
            places = self._places(rows, step)
            ids = self.ids.reshape(-1)[places].astype(np.int64)  # τ of the step before
            noise = self._noise(ids, x, rows, step)
            pair_labels = None if labels is None else (labels, self._labels_of(ids, rows, labels))
        with watch("cost"):
            cost = pairwise_cost(
                x,
                noise,
                metric=self.metric,
                labels=pair_labels and tuple(like(part, x) for part in pair_labels),
                label_weight=self.label_weight,
                assignment_only=True,
                precision=self.precision,
            )
        with watch("solve"):
            (cost,) = viewed(cost)
            start = like(np.arange(len(rows)), cost), like(self.prices[ids], cost)
            assignment = solve_batch(cost, x, start=start, tolerance=self.tolerance)  # ω of eq. 9
        with watch("write"):
            found = to_numpy(assignment.col4row)
            order, before, after = self._strict_improvement(x, noise, found, pair_labels)
            swaps, new_ids = int(np.count_nonzero(order != np.arange(len(order)))), ids[order]
            if swaps:
                noise = exchanged(noise, order)
        pair = Pair(
            noise=noise,
            ids=new_ids,
            swaps=swaps,
            cost_before=before,
            cost_after=after,
            gap=float(assignment.gap),
            seconds=watch.seconds,
            domain=NoiseDomain.CACHE,
        )
        update = Update(places, ids, new_ids.copy(), to_numpy(assignment.v), rows, labels)
        return Prepared(pair, step, update)

    def commit(self, prepared):
        """Write the batch's new pairs back (Algorithm 1, line 5; eq. 10) and return its Pair.

        Raises ValueError if another step was committed since `prepare` that moved one of its noises.
        """
        update = prepared.update
        if self.device is not None:
            from loomfast.coupling import on_device

            on_device.commit(self, update)
            if not is_tensor(prepared.step):
                self.step = prepared.step + 1
            return prepared.pair
        held = self.ids.reshape(-1)
        if not (held[update.places] == update.old_ids).all():
            raise ValueError(
                f"prepared is out of date: step {prepared.step} was prepared before a step that moved its "
                "noises was committed; prepare it again"
            )
        held[update.places] = update.new_ids
        self.remember_prices(update.old_ids, update.prices)
        if self.labels is not None:
            self.labels[update.rows] = update.labels
        self.step = prepared.step + 1
        return prepared.pair

    def recall(self, x, index, *, step):
        """The noises items ``index`` (B,) hold in the caches ``step`` chose, as a Pair without swaps.

        Nothing is solved: this is how a step that was committed is continued after a restart.
        """
        if self.device is not None:
            from loomfast.coupling import on_device

            return on_device.recall(self, x, on_device.as_rows(x, index, self), check_step(step))
        rows, step = checked_batch(x, index, self.shape, self.num_items), check_step(step)
        ids = self.ids.reshape(-1)[self._places(rows, step)].astype(np.int64)
        noise = self._noise(ids, x, rows, step)
        cost = mean_cost(to_numpy(paired_cost(x, noise, metric=self.metric)))
        return Pair(noise, ids, cost_before=cost, cost_after=cost, seconds={}, domain=NoiseDomain.CACHE)

    def solve_globally(self, data, **options):
        """Couple the whole dataset exactly; see `loomfast.coupling.whole_dataset.solve_globally`."""
        return solve_globally(self, data, **options)

    def checked_labels(self, labels, rows):
        """Return the batch's labels as (B,) int64, or None where labels do not count.

        Raises ValueError if they are needed and missing, no labels, or not those seen before.
        """
        if self.labels is None:
            return None
        if labels is None:
            raise ValueError(f"labels are needed, one for each item: label_weight is {self.label_weight}")
        labels = to_numpy(labels)
        if labels.shape != rows.shape or labels.dtype.kind not in "iu" or (labels < 0).any():
            raise ValueError(
                f"labels must be {len(rows)} integers of 0 or more, got shape {labels.shape} {labels.dtype}; "
                "conditions that are no classes are for ConditionalLoom, method loom-conditional"
            )
        known = self.labels[rows]
        other = np.flatnonzero((known >= 0) & (known != labels))
        if other.size:
            i = other[0]
            raise ValueError(f"labels[{i}] is {labels[i]}, but item {rows[i]} had label {known[i]} before")
        return labels.astype(np.int64)

    def _labels_of(self, ids, rows, labels):
        """Return the labels of noises, (B,) int64: a noise has that of the item which held it at first.

        A noise moves only in a batch that its item takes part in, so the item's label is known by then: from
        an earlier batch or from this one.
        """
        holders = ids // self.num_caches
        found = self.labels[holders]
        new = found < 0
        by_row = np.argsort(rows)
        found[new] = labels[by_row[np.searchsorted(rows, holders[new], sorter=by_row)]]
        return found

    def _noise(self, ids, x, rows, step):
        """Return the noises ``ids`` (B,) that items ``rows`` hold in ``step``, (B, *shape) like ``x``."""
        return noise_from_ids(like(ids, x), self.shape, seed=self.seed, domain=NoiseDomain.CACHE)

    def _choose_caches(self, rows, step):
        """Return one of each item's caches, (B,) int64, uniformly by (seed, step, item) (Section 3.2)."""
        return step_choices(rows, self.num_caches, seed=self.seed, step=step, domain=StepDomain.CACHE_CHOICE)

    def _places(self, rows, step):
        """Return where in the flat cache the noises are that ``step`` chooses of items (B,), (B,) int64."""
        return rows * self.num_caches + self._choose_caches(rows, step)

    def _strict_improvement(self, x, noise, order, labels=None):
        """Return what of ``order`` is worth writing, the mean pair cost before, and after.

        The solver's costs are float32 and may lack the norms; what counts here are the O(B·d) costs of the
        old and new pairs, computed directly in float64.
        """
        before, after = reassigned_cost(*viewed(x, noise), order, metric=self.metric)
        rounding = (math.prod(self.shape) + len(order)) * _EPS
        if labels is None:
            kept = improving_cycles(order, before, after, rounding)
        else:
            differs = np.stack([labels[0] != labels[1], labels[0] != labels[1][order]]).astype(np.float64)
            weight, change = self.label_weight, differs[1] - differs[0]
            kept = improving_cycles(order, before, after, rounding, weight=weight, change=change)
            before, after = before + weight * differs[0], after + weight * differs[1]
        after = np.where(kept == order, after, before)
        return kept, mean_cost(before), mean_cost(after)

    def remember_prices(self, ids, v):
        """Keep a batch's dual prices ``v``, moved to the mean these noises had: prices are relative."""
        if len(ids):
            self.prices[ids] = v - mean_of(v) + mean_of(self.prices[ids])

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        weight = {"label_weight": self.label_weight} if self.label_weight else {}
        return {
            "method": self.method,
            "num_items": self.num_items,
            "num_caches": self.num_caches,
            "shape": list(self.shape),
            "seed": self.seed,
            "metric": self.metric,
            "cost_form": "full" if self.metric == "euclidean" else "without norms",
            "noise_format": NOISE_FORMAT,
            "dataset_fingerprint": self.dataset_fingerprint,
            **weight,
        }

    def state_dict(self):
        """Return copies of ``ids``, ``prices`` and ``step`` on the host, and the ``metadata`` they belong to.

        ``labels`` and ``duals`` are among them where there are any. Raises ValueError as `check`.
        """
        self.check()
        optional = {"labels": self.labels, "duals": self.duals}
        return {
            "ids": to_numpy(self.ids).copy(),
            "prices": to_numpy(self.prices).copy(),
            "step": np.array([self.step], dtype=np.int64),
            **{name: to_numpy(value).copy() for name, value in optional.items() if value is not None},
            "metadata": self.metadata(),
        }

    def load_state_dict(self, state):
        """Take up a state of `state_dict`.

        Raises:
            ValueError: if it belongs to another dataset, seed, shape, metric or noise format, if its ids
                are not a permutation, or if an entry is missing or damaged. The coupling is then what it was.
        """
        check_metadata(state, self.metadata())
        ids = checked_entry(state, "ids", tuple(self.ids.shape), np.int32)
        if not is_permutation(ids):
            raise ValueError("the state's ids are damaged: they are not a permutation of the noise ids")
        prices = checked_entry(state, "prices", tuple(self.prices.shape), np.float64)
        step = checked_step(state)
        duals = labels = None
        if "duals" in state:
            duals = checked_entry(state, "duals", (self.num_items,), np.float64)
        if self.labels is not None:
            labels = checked_entry(state, "labels", (self.num_items,), np.int64, low=-1)
        device = self.device
        self.device = self.trouble = None
        self.ids, self.prices, self.duals, self.labels = ids, prices, duals, labels
        self.step = step
        self.to(device)
