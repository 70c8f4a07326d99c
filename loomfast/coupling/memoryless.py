"""What the couplings share that draw new noise in every step and remember nothing.

The noise of item i at step s has id s·2³² + i in the domain of fresh training noise, so it depends on nothing
but (seed, step, item). Where the flow begins at other data instead of noise (Tong et al., 2024, Section 5:
single cells, image translation), item i gets an item of this *source*, drawn by (seed, step, item) as well.
"""

from pathlib import Path

import numpy as np

from loomfast._arrays import integer, is_tensor, item_shape, to_numpy
from loomfast.cost import paired_cost, reassigned_cost
from loomfast.coupling.interface import (
    Coupling,
    Pair,
    check_metadata,
    check_step,
    checked_step,
    exchanged,
    like,
    mean_cost,
    viewed,
)
from loomfast.files import readable
from loomfast.noise import NOISE_FORMAT, NoiseDomain, StepDomain, noise_from_ids, step_choices


class Fresh(Coupling):
    """A coupling with new noise in every step, and a state that is the step alone.

    A class derived from it has `pair_up`, which begins with `_draw` and ends with `_pair`.

    Args:
        num_items: number of items in the dataset.
        shape: shape of one item.
        seed: the run's seed; noise is a function of (seed, step, item).
        source: None for noise; or (num_source, *shape) floating point, NumPy (memory-mapped, say) or torch:
            the items at the other end of the flow.
        dataset_fingerprint: any string that names the data; a state with another one is refused.

    Raises:
        ValueError, TypeError: for sizes that are no sizes, or a source of another shape.
    """

    takes_source = True

    def __init__(self, num_items, shape, *, seed=0, source=None, dataset_fingerprint=""):
        self.num_items = integer(num_items, "num_items", 1, 1 << 31)
        self.shape = item_shape(shape)
        self.seed = integer(seed, "seed", 0, 1 << 64)
        self.source = source
        if source is not None and (len(source) < 1 or tuple(source.shape[1:]) != self.shape):
            raise ValueError(
                f"source must hold items of shape {self.shape}, one at least, got shape {tuple(source.shape)}"
            )
        self.dataset_fingerprint = dataset_fingerprint
        self.step = 0

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration, with the options of `options`."""
        return cls(
            num_items,
            shape,
            seed=seed,
            source=read_source(config.source),
            dataset_fingerprint=fingerprint,
            **cls.options(config),
        )

    @classmethod
    def options(cls, config):
        """Return what of a configuration this coupling's constructor takes beside what all take, a dict."""
        return {}

    def _draw(self, x, rows, step):
        """Return the ids of these items in this step, (B,) int64, and their noise, (B, *shape) like ``x``."""
        if self.source is None:
            ids = (np.int64(step) << np.int64(32)) + rows
        else:
            where = {"seed": self.seed, "step": step, "domain": StepDomain.SOURCE}
            ids = step_choices(rows, len(self.source), **where)
        return ids, self._ends(ids, x)

    def _ends(self, ids, x):
        """Return the noise of ids (B,), or the items of the source, (B, *shape) float32 like ``x``."""
        if self.source is None:
            return noise_from_ids(like(ids, x), self.shape, seed=self.seed, domain=NoiseDomain.FRESH)
        if is_tensor(self.source) and is_tensor(x):
            return self.source[like(ids, self.source)].to(x.device).float()
        return like(np.ascontiguousarray(to_numpy(self.source[ids]), np.float32), x)

    def noise_of(self, prepared, x):
        """Return the noise of a Prepared made again, or the items of the source where there is one."""
        return super().noise_of(prepared, x) if self.source is None else self._ends(prepared.pair.ids, x)

    def _pair(self, x, noise, ids, watch, *, order=None, rows=None, metric="sqeuclidean", **more):
        """Return the Pair in which item k, or ``rows[k]``, has noise ``order[k]`` of those drawn; None: k."""
        with watch("write"):
            swaps = 0
            if order is None:
                before = after = to_numpy(paired_cost(x, noise, metric=metric))
            else:
                order = to_numpy(order)
                both = viewed(x, noise)
                before, after = reassigned_cost(*both, order, items=rows, metric=metric)
                places = np.arange(len(order)) if rows is None else rows
                swaps = int(np.count_nonzero(order != places))
                noise, ids = exchanged(noise, order), ids[order]
        return Pair(
            noise=noise,
            ids=ids,
            swaps=swaps,
            cost_before=mean_cost(before),
            cost_after=mean_cost(after),
            seconds=watch.seconds,
            rows=rows,
            **more,
        )

    def recall(self, x, index, *, step):
        """Return the pairs of ``step``, computed again: they depend on nothing but seed, step and items."""
        return self.prepare(x, index, step=check_step(step)).pair

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        source = {} if self.source is None else {"num_source": len(self.source)}
        return {
            "method": self.method,
            "num_items": self.num_items,
            "shape": list(self.shape),
            "seed": self.seed,
            "noise_format": NOISE_FORMAT,
            "dataset_fingerprint": self.dataset_fingerprint,
            **source,
        }

    def state_dict(self):
        """Return ``step`` (an int64 array of one) and ``metadata``: nothing else is remembered."""
        return {"step": np.array([self.step], dtype=np.int64), "metadata": self.metadata()}

    def load_state_dict(self, state):
        """Take up a state of `state_dict`; ValueError if it belongs to another coupling."""
        check_metadata(state, self.metadata())
        self.step = checked_step(state)


class FreshByCost(Fresh):
    """A `Fresh` coupling that looks at transport costs.

    Args:
        metric: ``"sqeuclidean"`` (paper, eq. 7) or ``"euclidean"``; the rest is as for `Fresh`.
    """

    def __init__(self, num_items, shape, *, metric="sqeuclidean", **options):
        super().__init__(num_items, shape, **options)
        self.metric = metric

    @classmethod
    def options(cls, config):
        """Return the metric of a configuration, a dict."""
        return {"metric": config.metric}

    def metadata(self):
        """Return what a state of this coupling belongs to, with the metric."""
        return {**super().metadata(), "metric": self.metric}


def read_source(path):
    """Return the items in the .npy file ``path``, mapped and not read, (num_source, *shape); None for "".

    Raises ValueError if it is no array of floating-point numbers, OSError if it cannot be opened.
    """
    if not path:
        return None
    with readable(Path(path), "is no .npy file of floating-point items"):
        source = np.load(path, mmap_mode="r", allow_pickle=False)
        if source.dtype.kind != "f" or source.ndim < 2:
            raise ValueError(f"it holds {source.dtype} of shape {source.shape}")
    return source
