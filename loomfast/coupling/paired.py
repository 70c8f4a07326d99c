"""Pairs that were made elsewhere: by a teacher's ODE (reflow; Liu et al., 2023), a network, or by hand."""

import hashlib
from pathlib import Path

import numpy as np

from loomfast._arrays import INTEGERS, integer, is_tensor, item_shape, name_of_dtype, to_numpy
from loomfast.cost import paired_cost
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
)
from loomfast.files import read_tensors, readable, write_tensors
from loomfast.noise import NoiseDomain, noise_from_ids

LOOKED_AT = 64  # items by which pairs are told from others


class Paired(Coupling):
    """Every item has the noise, or the item of another dataset, that somebody paired it with.

    Rectified flow's reflow (Liu et al., 2023, "Flow straight and fast") trains on (z, teacher(z)): the
    dataset is what the teacher made, and its noises are given here.

    Args:
        num_items, shape: of the dataset.
        pairs: (num_items, *shape) floating point, NumPy (memory-mapped, say) or torch; or (num_items,) int64
            noise ids; or a function from items (B,) int64 to their ends (B, *shape), always the same ones.
        seed, domain: whose noise ids are meant, where pairs are ids.
        name: what the pairs are called in a state; by default a digest of some of them. A function should
            have one.
        dataset_fingerprint: any string that names the data; a state with another one is refused.

    Raises:
        ValueError: for pairs of another shape.
    """

    method = "paired"
    summary = "pairs from a file (reflow, Liu et al. 2023; needs pairs)"

    def __init__(
        self,
        num_items,
        shape,
        pairs,
        *,
        seed=0,
        domain=NoiseDomain.SAMPLING,
        name=None,
        dataset_fingerprint="",
    ):
        self.num_items = integer(num_items, "num_items", 1, 1 << 31)
        self.shape = item_shape(shape)
        self.seed = integer(seed, "seed", 0, 1 << 64)
        self.domain = integer(domain, "domain", 0, 1 << 31)
        self.pairs = pairs
        self.by_id = not callable(pairs) and name_of_dtype(pairs.dtype) in INTEGERS
        wanted = (self.num_items, *(() if self.by_id else self.shape))
        if not callable(pairs) and tuple(pairs.shape) != wanted:
            raise ValueError(f"pairs must have shape {wanted}, one end an item, got {tuple(pairs.shape)}")
        self.dataset_fingerprint = dataset_fingerprint
        self.step = 0
        some = np.unique(np.linspace(0, self.num_items - 1, LOOKED_AT).astype(np.int64))
        self.name = self._digest(some) if name is None else str(name)

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration, with the pairs in its file."""
        if not config.pairs:
            raise ValueError(
                "method paired needs coupling.pairs: a .npy file of ends, one an item, or one that "
                "loomfast.coupling.write_pairs wrote"
            )
        pairs, options = read_pairs(config.pairs, fingerprint)
        try:
            return cls(num_items, shape, pairs, dataset_fingerprint=fingerprint, **options)
        except ValueError as error:
            raise ValueError(f"coupling.pairs={config.pairs!r} does not fit this run: {error}") from None

    def _ends(self, rows, x):
        """Return the ends of items (B,), (B, *shape) float32 like ``x``."""
        if self.by_id:
            ids = np.ascontiguousarray(to_numpy(self.pairs)[rows], np.int64)
            return noise_from_ids(like(ids, x), self.shape, seed=self.seed, domain=self.domain)
        found = self.pairs(rows) if callable(self.pairs) else self.pairs[_index(rows, self.pairs)]
        if tuple(found.shape) != (len(rows), *self.shape):
            raise ValueError(
                f"pairs must give ends of shape {(len(rows), *self.shape)}, got {tuple(found.shape)}"
            )
        if is_tensor(found) and is_tensor(x):
            return found.to(x.device).float()
        return like(np.array(to_numpy(found), np.float32), x)

    def _digest(self, rows):
        ends = to_numpy(self.pairs)[rows] if self.by_id else self._ends(rows, np.empty(0, np.float32))
        return hashlib.sha256(np.ascontiguousarray(ends).data).hexdigest()

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) with their ends, like the data ``x`` (B, *shape)."""
        watch = Stopwatch()
        with watch("noise"):
            noise = self._ends(rows, x)
        cost = mean_cost(to_numpy(paired_cost(x, noise)))
        if not np.isfinite(cost) and len(rows):
            raise ValueError("x or its ends contain NaN or infinity; couplings need finite data")
        pair = Pair(noise, rows, cost_before=cost, cost_after=cost, seconds=watch.seconds)
        return Prepared(pair, step)

    def noise_of(self, prepared, x):
        """Return the ends of a Prepared made again; its Pair's ids are the items themselves."""
        return self._ends(prepared.pair.ids, x)

    def recall(self, x, index, *, step):
        """Return the pairs of ``step``: they are the same in all."""
        return self.prepare(x, index, step=check_step(step)).pair

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        return {
            "method": self.method,
            "num_items": self.num_items,
            "shape": list(self.shape),
            "pairs": self.name,
            "dataset_fingerprint": self.dataset_fingerprint,
        }

    def state_dict(self):
        """Return ``step`` (an int64 array of one) and ``metadata``: the pairs are in their file."""
        return {"step": np.array([self.step], dtype=np.int64), "metadata": self.metadata()}

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it belongs to other pairs."""
        check_metadata(state, self.metadata())
        self.step = checked_step(state)


def _index(rows, pairs):
    return like(rows, pairs) if is_tensor(pairs) else rows


def write_pairs(path, pairs, *, seed=0, domain=NoiseDomain.SAMPLING, dataset_fingerprint=""):
    """Write pairs for `Paired` to a .safetensors file, atomically.

    Args:
        path: where to.
        pairs: (num_items, *shape) float32 ends, or (num_items,) int64 noise ids.
        seed, domain: whose ids they are.
        dataset_fingerprint: of the items they belong to; a run with other data refuses the file.
    """
    metadata = {"seed": str(seed), "domain": str(int(domain)), "dataset_fingerprint": dataset_fingerprint}
    write_tensors(path, {"pairs": np.ascontiguousarray(to_numpy(pairs))}, metadata)


def read_pairs(path, dataset_fingerprint=""):
    """Return the pairs in a file, and the other arguments of `Paired` that they bring, a dict.

    A .npy file holds ends alone, and is mapped into memory, not read.

    Raises ValueError if there are none, or if they belong to other data.
    """
    path = Path(path)
    if path.suffix == ".npy":
        with readable(path, "is no .npy file of pairs"):
            pairs = np.load(path, mmap_mode="r", allow_pickle=False)
            if pairs.dtype.kind not in "fiu":
                raise ValueError(f"it holds {pairs.dtype}")
            return pairs, {}
    tensors, metadata = read_tensors(path)
    with readable(path, "holds no pairs that can be used"):
        if "pairs" not in tensors:
            raise ValueError("it has no tensor named pairs")
        belongs = metadata.get("dataset_fingerprint", "")
        if belongs and dataset_fingerprint and belongs != dataset_fingerprint:
            raise ValueError(
                f"they belong to another dataset: its fingerprint is {belongs[:12]}…, here "
                f"{dataset_fingerprint[:12]}…"
            )
        options = {name: int(metadata[name]) for name in ("seed", "domain") if name in metadata}
        return tensors["pairs"], options
