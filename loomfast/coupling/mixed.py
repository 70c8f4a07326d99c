"""Two couplings at once (LOOM-CFM, Appendix F.3): each item is paired by one of them, drawn every step."""

from dataclasses import replace

import numpy as np

from loomfast._arrays import finite, to_numpy
from loomfast.cost import paired_cost
from loomfast.coupling.interface import (
    Coupling,
    Pair,
    Prepared,
    check_metadata,
    checked_step,
    mean_cost,
    recalled,
    taken,
)
from loomfast.coupling.plans import uniforms
from loomfast.noise import StepDomain


class Mixed(Coupling):
    """Takes an item's noise from ``first`` with probability φ, else from ``second``.

    Both couplings see every batch and learn from all of it: fresh noise never replaces the cached one (the
    paper's Appendix F, approach 3). φ may change linearly over the first steps.

    Args:
        first, second: couplings of the same items, shape and seed, neither of which chooses its items.
        share: φ, in [0, 1].
        share_end: φ from step ``share_steps`` on; None for the same.
        share_steps: steps over which φ goes from ``share`` to ``share_end``.

    Raises:
        ValueError: for couplings that do not fit together, or a share that is none.
    """

    method = "mixed"
    summary = "each item by one of two couplings, drawn by a probability (LOOM-CFM, Appendix F.3)"

    def __init__(self, first, second, *, share=0.5, share_end=None, share_steps=0):
        self.first, self.second = first, second
        for name in ("num_items", "shape", "seed"):
            here, there = (getattr(part, name) for part in (first, second))
            if here != there:
                raise ValueError(f"first and second must have one {name}, got {here!r} and {there!r}")
        for part in (first, second):
            if part.chooses_items:
                raise ValueError(f"{part.method} chooses its items and cannot be mixed with another coupling")
        self.num_items, self.shape, self.seed = first.num_items, first.shape, first.seed
        self.needs_labels = first.needs_labels or second.needs_labels
        self.share = _share(share, "share")
        self.share_end = self.share if share_end is None else _share(share_end, "share_end")
        self.share_steps = int(finite(share_steps, "share_steps"))
        self.step = 0

    def share_at(self, step):
        """Return φ at a step."""
        done = min(1.0, step / self.share_steps) if self.share_steps else 1.0
        begin = self.share if self.share_steps else self.share_end
        return begin + (self.share_end - begin) * done

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) by both couplings, and take each item's noise from one of them."""
        parts = [part.pair_up(x, rows, step, labels) for part in (self.first, self.second)]
        of_first = self._of_first(rows, step)
        pair = self._mixed(x, *(part.pair for part in parts), of_first)
        lean = [replace(part, pair=replace(part.pair, noise=None)) for part in parts]
        return Prepared(pair, step, (*lean, of_first))

    def _of_first(self, rows, step):
        return uniforms(rows, seed=self.seed, step=step, domain=StepDomain.MIX) < self.share_at(step)

    def _mixed(self, x, one, two, of_first):
        """Return the Pair that is ``one`` where ``of_first`` (B,) says so and ``two`` elsewhere."""
        noise = self._choose(one.noise, two.noise, of_first)
        rows = None
        if one.rows is not None or two.rows is not None:
            places = np.arange(len(of_first))
            parts = (places if part.rows is None else part.rows for part in (one, two))
            rows = np.where(of_first, *parts)
        cost = mean_cost(to_numpy(paired_cost(taken(x, rows), noise)))
        seconds = {
            name: one.seconds.get(name, 0) + two.seconds.get(name, 0) for name in one.seconds | two.seconds
        }
        ids, domain = (np.where(of_first, getattr(one, n), getattr(two, n)) for n in ("ids", "domain"))
        return Pair(noise, ids, swaps=one.swaps, cost_after=cost, seconds=seconds, domain=domain, rows=rows)

    @staticmethod
    def _choose(one, two, of_first):
        mixed, others = one.clone() if hasattr(one, "clone") else one.copy(), np.flatnonzero(~of_first)
        mixed[others] = two[others]
        return mixed

    def noise_of(self, prepared, x):
        """Return the noise of a Prepared made again, by the two couplings."""
        *parts, of_first = prepared.update
        noises = [c.noise_of(p, x) for c, p in zip((self.first, self.second), parts, strict=True)]
        return self._choose(*noises, of_first)

    def commit(self, prepared):
        """Write back what both couplings found, count the step, and return the Pair."""
        first, second, _ = prepared.update
        self.first.commit(first)
        self.second.commit(second)
        self.step = prepared.step + 1
        return prepared.pair

    def recall(self, x, index, *, step, labels=None):
        """Return the pairs of ``step`` after it was committed, from what the two couplings recall."""
        parts = [recalled(part, x, index, step, labels) for part in (self.first, self.second)]
        return self._mixed(x, *parts, self._of_first(np.asarray(to_numpy(index), np.int64), step))

    def metadata(self):
        """Return what a state of this coupling belongs to, with what its two couplings' belong to."""
        return {
            "method": self.method,
            "share": [self.share, self.share_end, self.share_steps],
            "first": self.first.metadata(),
            "second": self.second.metadata(),
        }

    def state_dict(self):
        """Return the states of both couplings under ``first.`` and ``second.``, ``step`` and ``metadata``."""
        state = {"step": np.array([self.step], dtype=np.int64), "metadata": self.metadata()}
        for name in ("first", "second"):
            part = getattr(self, name).state_dict()
            state |= {f"{name}.{key}": value for key, value in part.items() if key != "metadata"}
        return state

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it is damaged or belongs to another coupling."""
        check_metadata(state, self.metadata())
        step = checked_step(state)
        for name in ("first", "second"):
            part = {key.removeprefix(f"{name}."): v for key, v in state.items() if key.startswith(f"{name}.")}
            getattr(self, name).load_state_dict({**part, "metadata": state["metadata"][name]})
        self.step = step


def _share(value, name):
    if not 0 <= finite(value, name) <= 1:
        raise ValueError(f"{name} must be in [0, 1], got {value}")
    return float(value)
