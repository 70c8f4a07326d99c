"""What the paper tried before it took several caches (LOOM-CFM, Appendix F, approaches 1 and 2).

Both replace noises of the cache by new ones. A cache holds ids; of each the *generation* is kept, how often
its noise was replaced, and the noise is that of id + generation·2³².
"""

from dataclasses import replace

import numpy as np

from loomfast._arrays import finite, integer, to_numpy
from loomfast.coupling.interface import checked_entry
from loomfast.coupling.loom import Loom
from loomfast.coupling.plans import uniforms
from loomfast.noise import StepDomain

_32 = np.int64(32)


class _Renewed(Loom):
    """A `Loom` whose noises have generations."""

    takes_init = False

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration."""
        return cls(
            num_items,
            shape,
            num_caches=config.num_caches,
            seed=seed,
            metric=config.metric,
            dataset_fingerprint=fingerprint,
            **cls.options(config),
        )

    def _generations(self, ids, rows, step):
        """Return the generations of noises ``ids`` (B,) that ``rows`` take up in ``step``, (B,) int64."""
        raise NotImplementedError

    def _noise(self, ids, x, rows, step):
        return super()._noise(ids + (self._generations(ids, rows, step) << _32), x, rows, step)

    def pair_up(self, x, rows, step, labels):
        """Take the batch's pairs, with noises renewed, and make them optimal; nothing is written yet."""
        prepared = super().pair_up(x, rows, step, labels)
        update = prepared.update
        of_old = self._generations(update.old_ids, rows, step)
        order = np.argsort(update.old_ids)
        place = order[np.searchsorted(update.old_ids, update.new_ids, sorter=order)]
        ids = update.new_ids + (of_old[place] << _32)
        return replace(prepared, pair=replace(prepared.pair, ids=ids))

    def recall(self, x, index, *, step):
        """Return what `Loom.recall` does, of the noises as they were renewed by then."""
        pair = super().recall(x, index, step=step)
        rows = np.asarray(to_numpy(index), np.int64)
        return replace(pair, ids=pair.ids + (self._generations(pair.ids, rows, step) << _32))


class RefreshedLoom(_Renewed):
    """LOOM-CFM whose noises are all replaced every so many epochs (Appendix F, approach 1).

    Args:
        num_items, shape, num_caches, seed, metric, dataset_fingerprint: as for `Loom`.
        refresh_epochs: epochs between replacements, an epoch being as many steps as pass all items.
    """

    method = "loom-refresh"
    summary = "as loom, all noise replaced every few epochs (LOOM-CFM, Appendix F.1)"

    def __init__(self, num_items, shape, *, refresh_epochs=10, **options):
        super().__init__(num_items, shape, **options)
        self.refresh_epochs = integer(refresh_epochs, "refresh_epochs", 1)

    @classmethod
    def options(cls, config):
        """Return the number of epochs of a configuration, a dict."""
        return {"refresh_epochs": config.refresh_epochs}

    def _generations(self, ids, rows, step):
        steps = max(1, self.num_items // max(1, len(ids))) * self.refresh_epochs
        return np.full(len(ids), step // steps, np.int64)

    def metadata(self):
        """Return what a state of this coupling belongs to, with the number of epochs."""
        return {**super().metadata(), "refresh_epochs": self.refresh_epochs}


class InjectedLoom(_Renewed):
    """LOOM-CFM in which each item of a batch gets new noise with a small probability (Appendix F, approach
    2).

    Args:
        num_items, shape, num_caches, seed, metric, dataset_fingerprint: as for `Loom`.
        injection: φ, the probability, in [0, 1]; the paper tried .1 and .01.

    Attributes:
        generation: (num_items·num_caches,) int32, how often each noise was replaced.
    """

    method = "loom-inject"
    summary = "as loom, some noises replaced in every batch (LOOM-CFM, Appendix F.2)"

    def __init__(self, num_items, shape, *, injection=0.05, **options):
        super().__init__(num_items, shape, **options)
        self.injection = finite(injection, "injection")
        if self.injection > 1:
            raise ValueError(f"injection must be in [0, 1], got {injection}")
        self.generation = np.zeros(self.ids.size, np.int32)

    @classmethod
    def options(cls, config):
        """Return the probability of a configuration, a dict."""
        return {"injection": config.injection}

    @classmethod
    def cache_bytes(cls, config, num_items):
        """Return the bytes of the cache, with an int32 generation for every noise."""
        return 16 * num_items * config.num_caches

    def _injected(self, rows, step):
        return uniforms(rows, seed=self.seed, step=step, domain=StepDomain.INJECTION) < self.injection

    def _generations(self, ids, rows, step):
        now = self.generation[ids].astype(np.int64)
        return now if step < self.step else now + self._injected(rows, step)

    def commit(self, prepared):
        """Write the batch's new pairs and the generations of its noises back, and return its Pair."""
        update, new = prepared.update, prepared.step >= self.step
        pair = super().commit(prepared)
        if new:
            self.generation[update.old_ids] += self._injected(update.rows, prepared.step)
        return pair

    def metadata(self):
        """Return what a state of this coupling belongs to, with the probability."""
        return {**super().metadata(), "injection": self.injection}

    def state_dict(self):
        """Return `Loom`'s state with the generations."""
        return {**super().state_dict(), "generation": self.generation.copy()}

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it is damaged or belongs to another coupling."""
        generation = checked_entry(state, "generation", self.generation.shape, np.int32, low=0)
        super().load_state_dict(state)
        self.generation = generation
