"""What all couplings share: the interface, the checks of a batch, and the state on disk."""

import json
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import IntFlag
from typing import Any

import numpy as np

from loomfast import _engine
from loomfast._arrays import (
    FLOATS,
    INTEGERS,
    check_dtype,
    default_threads,
    integer,
    is_tensor,
    name_of_dtype,
    to_numpy,
)
from loomfast.assignment import solve
from loomfast.coupling.cache import mean_of
from loomfast.files import json_object, read_tensors, readable, write_tensors
from loomfast.noise import NoiseDomain, noise_from_ids

LEAST_PER_THREAD = 1 << 20  # numbers moved in memory; below this a thread costs more to wake than it saves
MOST_STEPS = 1 << 32  # a step is one word of the counter behind its draws


class Trouble(IntFlag):
    """Why a step that is made on a device could not be made: bits of `Pair.status`."""

    OUTSIDE = 1
    REPEATED = 2
    OTHER_LABELS = 4
    UNSOLVED = 8
    STALE = 16


_TROUBLES = {
    Trouble.OUTSIDE: "index holds an item outside those of this coupling",
    Trouble.REPEATED: "index holds an item more than once; a batch takes each item at most once",
    Trouble.OTHER_LABELS: "labels differ from those that these items had before, or are below 0",
    Trouble.UNSOLVED: "x contains NaN or infinity; couplings need finite data",
    Trouble.STALE: "prepared is out of date: a step that moved its noises was committed; prepare it again",
}


def check_status(status):
    """Raise ValueError for the first `Trouble` in a status, an int."""
    for trouble, message in _TROUBLES.items():
        if status & trouble:
            raise ValueError(message)


@dataclass(frozen=True)
class Pair:
    """One batch of coupled data and noise; the data keep their order, the noise follows them.

    Attributes:
        noise: (B, *shape) float32, of the kind and on the device of the ``x`` that was given.
        ids: (B,) int64 NumPy array, which noise it is; `Coupling.noise_of` makes it again.
        fields: the per-item arrays that were given to `Coupling.couple`, in the order of the noise.
        swaps: how many items hold another noise than before the coupling.
        cost_before, cost_after: mean transport cost of a pair, before and after (float64; nan where a
            coupling does not look at costs).
        gap: proven bound on how far the batch's *total* cost is from its optimum, in the cost form that was
            solved (nan where nothing was solved).
        seconds: wall time by part: ``noise``, ``cost``, ``solve``, ``write``.
        domain: the `NoiseDomain` of the ids, or (B,) int64 with that of each.
        rows: None where noise k belongs to ``x[k]``; or (B,) int64, and it belongs to ``x[rows[k]]``: a
            coupling that draws from a plan may take an item of the batch twice and leave out another.
        blend: None, or two (B,) float32 arrays (a, b): the noise is a·(noise of the id) + b·x.
        marginal_error: how far the plan behind the pairs is from its marginals, the sum of what is missing
            and of what is too much in rows and columns (nan where there is no such plan).
        status: None; of a coupling whose cache is on a device an int32 tensor () there, 0 where the step
            could be made, else bits of `Trouble`. The ids and the numbers are tensors on that device then,
            too, but for ``seconds``, which are the host's; `on_host` waits for them.
    """

    noise: Any
    ids: np.ndarray
    fields: tuple = ()
    swaps: int = 0
    cost_before: float = float("nan")
    cost_after: float = float("nan")
    gap: float = float("nan")
    seconds: dict | None = None
    domain: NoiseDomain | np.ndarray = NoiseDomain.FRESH
    rows: np.ndarray | None = None
    blend: tuple | None = None
    marginal_error: float = float("nan")
    status: Any = None

    def on_host(self):
        """Return the Pair with its ids and numbers on the host, in one copy; itself where they are.

        Raises ValueError if the step could not be made, as a coupling on the host would have.
        """
        if self.status is None:
            return self
        import torch

        numbers = (self.swaps, self.cost_before, self.cost_after, self.gap, self.status)
        swaps, before, after, gap, status = torch.stack([number.double() for number in numbers]).tolist()
        check_status(int(status))
        numbers = {"swaps": int(swaps), "cost_before": before, "cost_after": after, "gap": gap}
        return replace(self, ids=to_numpy(self.ids), status=None, **numbers)


@dataclass(frozen=True)
class Prepared:
    """A coupling that has been computed and not been written back yet; `Coupling.commit` takes it.

    Attributes:
        pair: what `commit` returns.
        step: the step it was computed for.
        update: what `commit` needs to write back; its form is the coupling's own.
    """

    pair: Pair
    step: int
    update: Any = None


class Coupling:
    """The base of every coupling of ``num_items`` data items, each of ``shape``, with noise of a ``seed``.

    A coupling says which items a step takes (`items`), pairs them with noise from a domain of its own
    (`prepare`, `commit`), and keeps what it learnt (`state_dict`). To write another one, derive a class with
    `pair_up`, `recall`, `metadata`, `state_dict`, `load_state_dict` and, if it learns anything, `commit`, and
    add it to `loomfast.coupling.build.COUPLINGS`: it is then a ``--coupling.method`` of training.

    Attributes:
        method: the name of the coupling in a configuration, of the class.
        summary: what it does, in a few words for ``loomfast train --help``, of the class.
        takes_init: whether it can start from a file of `loomfast couple`, of the class.
        takes_source: whether it can take items of another dataset instead of noise, of the class.
        takes_labels: whether `from_config` takes the dataset's labels, of the class.
        needs_labels: whether `couple` and `recall` take labels, and cannot do without.
        chooses_items: whether `items` follows from what was coupled so far, of the class; `pair_up` then has
            to refuse other items.
        num_items: how many items there are. shape: of one item. seed: of the run.
        step: the step the next call counts as, unless it names one.
    """

    method = ""
    summary = ""
    takes_init = False
    takes_source = False
    needs_labels = False
    takes_labels = False
    chooses_items = False

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a `loomfast.config.CouplingConfig`; see `build_coupler` on arguments."""
        return cls(num_items, shape, seed=seed, dataset_fingerprint=fingerprint)

    @classmethod
    def cache_bytes(cls, config, num_items):
        """Return the bytes in which a coupling of ``num_items`` items remembers noises; 0 by default."""
        return 0

    @classmethod
    def description(cls, config):
        """Return the coupling of this configuration in a few words, for a model card."""
        return cls.method

    def can_be_on(self, device):
        """Whether `to` can move it to a torch device: False for couplings that remember on the host alone."""
        return False

    def to(self, device):
        """Keep what is remembered on a torch device, where the coupling can; returns self.

        Most stay on the host. Elsewhere steps take and give tensors of the device, and wait for nothing; see
        `Pair.status`.
        """
        return self

    def items(self, step, num, in_turn):
        """(num,) int64: the different items that step ``step`` takes.

        Args:
            step: a step that comes next, or the one that was committed last.
            num: how many items it takes.
            in_turn: function (step, num) -> (num,) int64, the items whose turn it is in the order of the
                dataset. Most couplings take these.
        """
        return in_turn(step, num)

    def prepare(self, x, index, *, step=None, labels=None, fields=()):
        """Compute what `couple` would do, and change nothing: it may run while a network trains.

        Args:
            x: (B, *shape) floating point, NumPy array or torch tensor: the data of the batch.
            index: (B,) integers: which items they are, each at most once.
            step: the training step; one more than the last by default.
            labels: (B,) integers of 0 or more, the items' labels, or (B, c) floating point, their conditions;
                only couplings that say so look at them.
            fields: per-item arrays that are handed on as ``Pair.fields``, and not looked at.

        Returns:
            Prepared: for `commit`. Its pair has the noise for ``x``, and what the step does.

        Raises:
            ValueError, TypeError: for a repeated or unknown item, a wrong shape or dtype, labels that are
                missing or not those seen before, or data that are not finite. The coupling is what it was.
        """
        rows = checked_batch(x, index, self.shape, self.num_items)
        if not self.chooses_items:  # what `items` chose is distinct, and `pair_up` takes nothing else
            check_distinct(rows)
        step = self.step if step is None else check_step(step)
        prepared = self.pair_up(x, rows, step, labels)
        if fields:
            taken = prepared.pair.rows
            fields = tuple(fields) if taken is None else tuple(field[taken] for field in fields)
            prepared = replace(prepared, pair=replace(prepared.pair, fields=fields))
        return prepared

    def pair_up(self, x, rows, step, labels):
        """Return the Prepared of a checked batch: data ``x`` (B, *shape), items ``rows`` (B,) int64."""
        raise NotImplementedError

    def commit(self, prepared):
        """Write back what `prepare` computed, count the step, and return the Pair."""
        self.step = prepared.step + 1
        return prepared.pair

    def couple(self, x, index, *, step=None, labels=None, fields=()):
        """Pair the items ``index`` (B,) with noise and write the result back: `prepare`, then `commit`."""
        return self.commit(self.prepare(x, index, step=step, labels=labels, fields=fields))

    def recall(self, x, index, *, step):
        """The Pair these items had after ``step`` was committed, before a later step touched them.

        This is how a step that feeds several optimizer steps is continued after a restart; nothing is solved.
        """
        raise NotImplementedError

    def noise_of(self, prepared, x):
        """Return the noise of a Prepared made again from its ids, like the ``x`` (B, *shape) it was made for.

        The same bits wherever it is done: what one process coupled, the others need to be told as ids only.
        """
        pair = prepared.pair
        domains = np.unique(pair.domain)
        noise = noise_from_ids(like(pair.ids, x), self.shape, seed=self.seed, domain=int(domains[0]))
        for domain in domains[1:]:
            of_it = np.flatnonzero(pair.domain == domain)
            noise[of_it] = noise_from_ids(
                like(pair.ids[of_it], x), self.shape, seed=self.seed, domain=int(domain)
            )
        return noise if pair.blend is None else blended(noise, taken(x, pair.rows), pair.blend)

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        raise NotImplementedError

    def state_dict(self):
        """Return everything needed to go on later: arrays, and ``metadata`` that says whose they are."""
        raise NotImplementedError

    def load_state_dict(self, state):
        """Take up a state; ValueError if it is damaged or belongs to another dataset, seed or metric."""
        raise NotImplementedError

    def save(self, path):
        """Write the state to ``path`` (safetensors), atomically."""
        state = self.state_dict()
        metadata = {"coupling": json.dumps(state["metadata"], sort_keys=True)}
        write_tensors(path, {k: v for k, v in state.items() if k != "metadata"}, metadata)

    def load(self, path):
        """Take up the state written by `save`. Raises ValueError if it is not a coupling's, or another's."""
        tensors, metadata = read_tensors(path)
        metadata = coupling_metadata(path, metadata)
        with readable(path, "cannot be taken up"):
            self.load_state_dict({**tensors, "metadata": metadata})


@contextmanager
def fits_this_run(config):
    """Have a ValueError that is raised within say that it is the file ``config.init`` that does not fit."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"coupling.init={config.init!r} does not fit this run: {error}") from None


def coupling_metadata(path, metadata):
    """Return what the coupling in a file belongs to, from the metadata of the file, a dict of strings.

    Raises ValueError naming ``path`` if the file holds no coupling, or if they are damaged.
    """
    if "coupling" not in metadata:
        raise ValueError(f"path={str(path)!r} holds no coupling: its metadata has no entry 'coupling'")
    with readable(path, "holds no coupling, its metadata are damaged"):
        return json_object(metadata["coupling"])


class Stopwatch:
    """Measures wall time by part: ``with watch("noise"): ...`` adds to ``watch.seconds["noise"]``."""

    def __init__(self):
        self.seconds = {}

    def __call__(self, part):
        self._part = part
        return self

    def __enter__(self):
        self._start = time.perf_counter()

    def __exit__(self, *_):
        self.seconds[self._part] = self.seconds.get(self._part, 0.0) + time.perf_counter() - self._start


def recalled(coupler, x, index, step, labels):
    """Return what a coupling recalls of a step; the labels are for those which need them."""
    more = {"labels": labels} if coupler.needs_labels else {}
    return coupler.recall(x, index, step=step, **more)


def rows_of(x, rows):
    """Return ``x[rows]`` for (n,) int64 NumPy rows; of images, in a third of the time that indexing takes."""
    if is_tensor(x):
        return x.index_select(0, like(rows, x))
    return x.take(rows, axis=0)


def viewed(*arrays):
    """Return tensors on the CPU as NumPy arrays of the same memory; all as they are if one cannot be.

    A small request takes less time of an array than of a tensor.
    """
    for array in arrays:
        if is_tensor(array) and not (array.is_cpu and name_of_dtype(array.dtype) != "bfloat16"):
            return arrays
    return tuple(map(to_numpy, arrays))


def exchanged(noise, order):
    """Return ``noise[order]`` of contiguous ``noise`` (n, ...); on the CPU in its place if it can be."""
    (here,) = viewed(noise)
    if not is_tensor(here):
        threads = default_threads(here.size, LEAST_PER_THREAD)
        if _engine.coupling_permute(here, order, threads):
            return noise
    return rows_of(noise, order)


def taken(x, rows):
    """Return ``x[rows]``, or ``x`` itself where ``rows`` is None."""
    return x if rows is None else rows_of(x, rows)


def blended(noise, x, blend):
    """Return a·noise + b·x, (B, *shape) float32, for ``blend`` = (a, b) of (B,) float32 each.

    Every product and sum is rounded on its own, so that all machines have the same bits. ``noise`` is
    overwritten.
    """
    moved = np.flatnonzero((blend[0] != 1) | (blend[1] != 0))
    a, b = (like(part[moved].reshape(-1, *[1] * (noise.ndim - 1)), x) for part in blend)
    towards = x[moved].float() if is_tensor(x) else x[moved].astype(np.float32)
    noise[moved] = noise[moved] * a + towards * b
    return noise


def like(array, x):
    """Return a NumPy array as an array of the kind and on the device of ``x``, NumPy or torch."""
    if not is_tensor(x):
        return array
    import torch

    return torch.from_numpy(array).to(x.device)


def checked_batch(x, index, shape, num_items):
    """Return the items of a batch as (B,) int64, after checking ``x`` and ``index`` against the coupling.

    Raises ValueError or TypeError for an unknown item, or a wrong shape or dtype.
    """
    rows = to_numpy(index)
    if rows.ndim != 1 or name_of_dtype(rows.dtype) not in INTEGERS:
        raise ValueError(f"index must be a vector of integers, got shape {rows.shape}, dtype {rows.dtype}")
    rows = rows.astype(np.int64)
    if tuple(x.shape) != (len(rows), *shape):
        raise ValueError(f"x must have shape {(len(rows), *shape)} to go with index, got {tuple(x.shape)}")
    check_dtype(x.dtype, "x", FLOATS, "hold floating-point numbers")
    outside = np.flatnonzero((rows < 0) | (rows >= num_items))
    if outside.size:
        i = outside[0]
        raise ValueError(f"index[{i}] = {rows[i]} is outside the {num_items} items of this coupling")
    return rows


def check_distinct(rows):
    """Raise ValueError if an item is twice in a batch: it would write two noises to one place."""
    ordered = np.sort(rows)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if twice.size:
        raise ValueError(f"index holds item {twice[0]} more than once; a batch takes each item at most once")


def mean_cost(costs):
    """Return the mean of costs (B,) as a float; nan for an empty batch."""
    return float(mean_of(costs))


def solve_batch(cost, x, **options):
    """Return the optimal Assignment of ``cost`` (B, B), solved with these options of `loomfast.solve`.

    Raises ValueError naming the item if there is none because the data ``x`` (B, ...) are not finite.
    """
    try:
        return solve(cost, **options).check()
    except ValueError:
        bad = np.flatnonzero(~np.isfinite(to_numpy(x)).reshape(len(x), -1).all(axis=1))
        if bad.size:
            raise ValueError(f"x[{bad[0]}] contains NaN or infinity; couplings need finite data") from None
        raise


def check_step(step):
    """Return a training step as int; raises an error if it is none."""
    return integer(step, "step", 0, MOST_STEPS)


def check_metadata(state, expected):
    """Raise ValueError naming the first entry in which a stored state and this coupling differ."""
    found = state.get("metadata")
    if not isinstance(found, dict):
        raise ValueError("the state has no metadata")
    for name, value in expected.items():
        if found.get(name) != value:
            raise ValueError(
                f"this state belongs to another coupling: its {name} is {found.get(name)!r}, here {value!r}"
            )


def checked_entry(state, name, shape, dtype, low=-math.inf):
    """Return a copy of the state's array ``name``, NumPy's or a tensor, as an array.

    Raises ValueError if it is not finite, of another shape or dtype, or below ``low``.
    """
    value = state.get(name)
    if value is None:
        raise ValueError(f"the state has no {name}")
    value = to_numpy(value).copy() if is_tensor(value) else np.array(value)
    if value.shape != shape or value.dtype != dtype or not np.isfinite(value).all():
        raise ValueError(
            f"the state's {name} are damaged: finite {np.dtype(dtype)} of shape {shape} are needed, "
            f"got {value.dtype} of shape {value.shape}"
        )
    if (value < low).any():
        raise ValueError(f"the state's {name} are damaged: they must be at least {low}, got {value.min()}")
    return value


def checked_step(state):
    """Return the step in a state as int; raises ValueError if it is missing or no step."""
    step = int(checked_entry(state, "step", (1,), np.int64, low=0)[0])
    if step > MOST_STEPS:
        raise ValueError(f"the state's step is damaged: it must be at most {MOST_STEPS}, got {step}")
    return step
