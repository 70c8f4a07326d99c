"""Semidiscrete coupling: fresh noise for ever, each to the item in whose cell it falls.

With the dual prices u of an exact coupling of the whole dataset, noise z belongs to the item
argmin_i c(x_i, z) - u_i: the optimal map from the normal law to the data (Genevay et al., 2016, "Stochastic
optimization for large-scale optimal transport", for the dual and its averaged stochastic ascent). Nothing is
memorised, so no cache can be overfitted. With labels every class is a problem of its own: all of the normal
law goes to it, so that noise and class stay independent.
"""

import numpy as np

from loomfast._arrays import finite, integer, to_numpy
from loomfast.assignment import solve
from loomfast.cost import paired_cost, pairwise_cost
from loomfast.coupling.interface import (
    Coupling,
    Pair,
    Prepared,
    Stopwatch,
    check_metadata,
    check_step,
    checked_batch,
    checked_entry,
    checked_step,
    coupling_metadata,
    fits_this_run,
    like,
    mean_cost,
)
from loomfast.coupling.plans import uniforms
from loomfast.files import read_tensors, readable
from loomfast.noise import NOISE_FORMAT, NoiseDomain, StepDomain, noise_from_ids

PROBES = 256  # noises that measure the scale of the prices
LEARN_PER_ITEM, MOST_LEARNT, LEARN_BLOCK = (
    32,
    1 << 18,
    64,
)  # noises that prices are learnt from, and at a time


class Semidiscrete(Coupling):
    """Couples fresh noise with the items of a dataset by the prices of a global solve.

    Unlike other couplings it chooses the items: `choose` draws a block of new noises and gives each one the
    item that is best for it at these prices, each item at most once in a block (an exact rectangular
    assignment). `couple` then pairs them. Prices from finitely many noises make some cells too large; after
    every block each chosen item becomes a little dearer and all others a little cheaper, so that in the long
    run every item is chosen equally often (stochastic ascent of the dual).

    Args:
        data: (num_items, *shape) float32, NumPy or torch: the dataset, which is held on to.
        duals: (num_items,) float64: item prices, `Loom.duals` after `Loom.solve_globally`. None learns them
            here, by averaged stochastic ascent: each of 32 noises an item (262,144 at most) looks at all
            items.
        labels: (num_items,) integers of 0 or more: the classes that are coupled apart; None for one.
        seed: the run's seed; noise is a function of (seed, step, place in the block).
        metric: the metric the duals belong to.
        correction: the step of the prices, in units of the mean margin by which a noise prefers its item; 0
            leaves them as they are.
        dataset_fingerprint: any string that names the data; a state with another one is refused.

    Attributes:
        duals: the prices now. counts: (num_items,) int64, how often each item was chosen. step: as in `Loom`.

    Raises:
        ValueError: for duals or labels of another shape, duals that are not finite, or a correction that is
            negative or not finite.
    """

    method = "semidiscrete"
    summary = "new noise, by the prices of a global solve (init) or learnt ones (Genevay et al. 2016)"
    takes_init = True
    chooses_items = True
    takes_labels = True

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh, labels=None):
        """Return the coupling that a configuration describes, with the prices of ``config.init`` if any."""
        data = data() if callable(data) else data
        if config.by_class and labels is None:
            raise ValueError("coupling.by_class needs data with labels")
        duals = None if fresh else np.zeros(num_items)  # a run that goes on has its own in its state
        if fresh and config.init:
            with fits_this_run(config):
                duals = read_duals(
                    config.init,
                    num_items=num_items,
                    shape=shape,
                    metric=config.metric,
                    dataset_fingerprint=fingerprint,
                )
        return cls(
            data,
            duals,
            labels=labels if config.by_class else None,
            seed=seed,
            metric=config.metric,
            dataset_fingerprint=fingerprint,
        )

    def __init__(
        self,
        data,
        duals=None,
        *,
        labels=None,
        seed=0,
        metric="sqeuclidean",
        correction=0.5,
        dataset_fingerprint="",
    ):
        self.data = data
        self.num_items, self.shape = len(data), tuple(data.shape[1:])
        self.labels = None if labels is None else _checked_labels(labels, self.num_items)
        self._ordered = None if labels is None else np.argsort(self.labels, kind="stable")
        self.seed = integer(seed, "seed", 0, 1 << 64)
        self.metric = metric
        self.duals = self._first_guess() if duals is None else np.array(duals)
        if self.duals.shape != (self.num_items,) or self.duals.dtype != np.float64:
            got = f"{self.duals.dtype} of shape {self.duals.shape}"
            raise ValueError(f"duals must be float64 of shape {(self.num_items,)}, got {got}")
        if not np.isfinite(self.duals).all():
            raise ValueError("duals must be finite, got NaN or infinity")
        self.correction = finite(correction, "correction")
        self.dataset_fingerprint = dataset_fingerprint
        self.counts = np.zeros(self.num_items, dtype=np.int64)
        self.step = 0
        self._scale = self._margin()
        if duals is None:
            self._learn()
        self._last = np.empty(0, np.int64)  # items of the last committed block
        self._chosen = None, None  # a step, and the items chosen for it

    def choose(self, num, *, step=None):
        """Return the items that step ``step``'s new noises go to, (num,) int64, in the order of the noises.

        Changes nothing that is saved; the same prices, seed and step give the same items. Raises ValueError
        for more than num_items.
        """
        num = integer(num, "num", 1, self.num_items + 1)
        step = self.step if step is None else check_step(step)
        noise, chosen = self._noise(num, step), np.empty(num, np.int64)
        for places, items in self._classes(num, step):
            found = solve(self._costs(noise[places], items))
            chosen[places] = items[to_numpy(found.col4row)]
        self._chosen = step, chosen.copy()
        return chosen

    def items(self, step, num, in_turn=None):
        """Return what `choose` gives for this step, or gave if it is the one committed last: (num,) int64."""
        if step == self.step - 1 and len(self._last) == num:
            return self.last_choice()
        return self.choose(num, step=step)

    def pair_up(self, x, rows, step, labels):
        """Pair the items `choose` gave for this step with the noises that chose them.

        Raises ValueError for other items than those.
        """
        watch = Stopwatch()
        if self._chosen[0] != step or not np.array_equal(self._chosen[1], rows):
            raise ValueError(f"index must be what choose({len(rows)}, step={step}) returned")
        with watch("noise"):
            noise = like(self._noise(len(rows), step), x)
        return Prepared(self._pair(x, noise, step, watch), step, rows)

    def commit(self, prepared):
        """Move the prices by what was chosen, count it, and return the Pair."""
        rows = prepared.update
        self._ascend(rows, self.correction * self._scale)
        self.counts[rows] += 1
        self._last = rows
        self.step = prepared.step + 1
        return prepared.pair

    def recall(self, x, index, *, step):
        """Return the Pair of the block that was committed last; raises ValueError for any other."""
        rows = checked_batch(x, index, self.shape, self.num_items)
        if step != self.step - 1 or not np.array_equal(rows, self._last):
            raise ValueError(f"only the last block, of step {self.step - 1}, can be recalled, not {step}")
        return self._pair(x, like(self._noise(len(rows), step), x), step, Stopwatch())

    def last_choice(self):
        """Return the items of the block that was committed last, (num,) int64."""
        return self._last.copy()

    def _pair(self, x, noise, step, watch):
        cost = mean_cost(to_numpy(paired_cost(x, noise, metric=self.metric)))
        return Pair(noise, _ids(len(noise), step), cost_after=cost, seconds=watch.seconds)

    def _noise(self, num, step):
        return to_numpy(noise_from_ids(_ids(num, step), self.shape, seed=self.seed, domain=NoiseDomain.FRESH))

    def _classes(self, num, step):
        """Return which of ``num`` noises go to which items: [(places (n,), items (m,)) int64], n <= m.

        One pair without labels. With them a pair for each class that comes up, in proportion to its items,
        the places drawn by (seed, step).
        """
        if self.labels is None:
            return [(np.arange(num), np.arange(self.num_items))]
        draw = {"seed": self.seed, "step": step, "domain": StepDomain.CLASSES}
        u = uniforms(np.arange(num + 1), **draw)
        # Items at even distances in the order of the classes are different ones: no class is asked for too
        # much.
        at = ((u[num] + np.arange(num)) * (self.num_items / num)).astype(np.int64)
        classes = self.labels[self._ordered[np.minimum(at, self.num_items - 1)]][np.argsort(u[:num])]
        return [
            (np.flatnonzero(classes == label), np.flatnonzero(self.labels == label))
            for label in np.unique(classes)
        ]

    def _costs(self, noise, items=slice(None)):
        """Return what each of the items costs each noise, its price taken off: (len(noise), n) float32."""
        data = self.data if isinstance(items, slice) or len(items) == self.num_items else self.data[items]
        cost = to_numpy(pairwise_cost(like(noise, self.data), data, metric=self.metric, assignment_only=True))
        cost -= self.duals[items].astype(np.float32)
        return cost

    def _margin(self):
        """Return the mean lead of a noise's best item over its second, at the prices given, as a float."""
        ids, leads = _ids(PROBES, 0), []
        noise = to_numpy(noise_from_ids(ids, self.shape, seed=self.seed, domain=NoiseDomain.VALIDATION))
        for places, items in self._classes(min(PROBES, self.num_items), 0):
            if len(items) > 1:
                best = np.partition(self._costs(noise[places], items), 1, axis=1)[:, :2]
                leads.append(best[:, 1] - best[:, 0])
        return float(np.concatenate(leads).mean()) if leads else 0.0

    def _first_guess(self):
        """Return prices (num_items,) float64 at which items of all lengths are about as likely.

        A noise costs an item c = const − 2 x·z, of standard deviation 2|x| about the mean item: the price
        makes the rare low cost that wins one of N items come as often for long items as for short ones.
        """
        flat = to_numpy(self.data).reshape(self.num_items, -1)
        centred = np.linalg.norm(flat - flat.mean(axis=0, dtype=np.float64).astype(np.float32), axis=1)
        rare = np.sqrt(2 * np.log(max(self.num_items, 2)))
        scale = 2.0 if self.metric == "sqeuclidean" else 0.0
        return -scale * rare * centred.astype(np.float64)

    def _learn(self):
        """Find prices by stochastic ascent of the dual, and take the mean over its second half."""
        num = min(LEARN_BLOCK, self.num_items)
        blocks = max(1, min(LEARN_PER_ITEM * self.num_items, MOST_LEARNT) // num)
        mean, kept = np.zeros(self.num_items), 0
        for block in range(blocks):
            # Ids below 0 are of no step: what is learnt from is not trained with.
            ids = -1 - np.arange(block * num, (block + 1) * num)
            noise = noise_from_ids(ids, self.shape, seed=self.seed, domain=NoiseDomain.FRESH)
            chosen = np.empty(num, np.int64)
            for places, items in self._classes(num, block):
                chosen[places] = items[self._costs(noise[places], items).argmin(axis=1)]
            self._ascend(chosen, 4 * self._scale / np.sqrt(1 + 16 * block / blocks))
            if 2 * block >= blocks:
                mean += self.duals
                kept += 1
        self.duals = mean / kept
        self._scale = self._margin()

    def _ascend(self, chosen, step):
        """Make the chosen items, (n,) int64, dearer, and all of their classes a little cheaper."""
        np.subtract.at(self.duals, chosen, step)
        if self.labels is None:
            self.duals += step * len(chosen) / self.num_items
            return
        classes, counts = np.unique(self.labels[chosen], return_counts=True)
        for label, count in zip(classes, counts, strict=True):
            members = self.labels == label
            self.duals[members] += step * count / members.sum()

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        return {
            "method": self.method,
            "num_items": self.num_items,
            "shape": list(self.shape),
            "seed": self.seed,
            "metric": self.metric,
            "correction": self.correction,
            "noise_format": NOISE_FORMAT,
            "dataset_fingerprint": self.dataset_fingerprint,
            **({} if self.labels is None else {"by_class": True}),
        }

    def state_dict(self):
        """Return ``duals``, ``counts``, the ``last`` block, ``scale``, ``step``, and ``metadata``."""
        return {
            "duals": self.duals.copy(),
            "counts": self.counts.copy(),
            "last": self._last.copy(),
            "scale": np.array([self._scale]),
            "step": np.array([self.step], dtype=np.int64),
            "metadata": self.metadata(),
        }

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it is damaged or belongs to another coupling."""
        check_metadata(state, self.metadata())
        duals = checked_entry(state, "duals", self.duals.shape, np.float64)
        counts = checked_entry(state, "counts", self.counts.shape, np.int64, low=0)
        scale = checked_entry(state, "scale", (1,), np.float64, low=0)
        step = checked_step(state)
        last = checked_entry(state, "last", (np.size(state.get("last")),), np.int64, low=0)
        if len(np.unique(last)) != len(last) or (last >= self.num_items).any():
            raise ValueError(
                f"the state's last are damaged: they are not different items of {self.num_items}"
            )
        self.duals, self.counts, self._last = duals, counts, last
        self._scale, self.step = float(scale[0]), step


def read_duals(path, *, num_items, shape, metric, dataset_fingerprint):
    """The item prices in a file that a global solve wrote: (num_items,) float64.

    Raises:
        ValueError: if there are none, if they belong to other data or another metric, or if labels had a
            weight in them: a fresh noise has none.
    """
    tensors, metadata = read_tensors(path)
    found = coupling_metadata(path, metadata)
    expected = {
        "num_items": num_items,
        "shape": list(shape),
        "metric": metric,
        "dataset_fingerprint": dataset_fingerprint,
    }
    with readable(path, "has no prices for this"):
        check_metadata({"metadata": found}, expected)
    if "label_weight" in found:
        raise ValueError(f"{path} was coupled with a label_weight, which fresh noise cannot take part in")
    if "duals" not in tensors:
        raise ValueError(f"{path} has no duals: only a global solve, as of `loomfast couple`, writes them")
    with readable(path, "has no prices for this"):
        return checked_entry(tensors, "duals", (num_items,), np.float64)


def _checked_labels(labels, num_items):
    labels = to_numpy(labels)
    if labels.shape != (num_items,) or labels.dtype.kind not in "iu" or (labels < 0).any():
        raise ValueError(
            f"labels must be {num_items} integers of 0 or more, got shape {labels.shape} {labels.dtype}"
        )
    return labels.astype(np.int64)


def _ids(num, step):
    """Return the ids of a block's noises, (num,) int64: step·2³² + place in the block."""
    return (np.int64(step) << np.int64(32)) + np.arange(num, dtype=np.int64)
