"""Which cost is asked for: what is no array, checked once as a `CostSpec`, and the checks of arrays."""

import math
from functools import lru_cache
from typing import NamedTuple

from loomfast._arrays import check_threads, count, real_array
from loomfast.backends import check_backend
from loomfast.noise.spec import MOST_KNOWN, NoiseSpec

METRICS = ("sqeuclidean", "euclidean")
PRECISIONS = (None, "float64", "float32", "tf32", "bfloat16")
BACKENDS = ("auto", "reference", "cpu", "triton")


class CostSpec(NamedTuple):
    """Which cost, and by what, as `cost_spec` makes it: a plain tuple, whose fields are fast to look at.

    It travels through torch's operators as the string `text`.

    Attributes:
        metric: a name out of `METRICS`.
        label_weight: what is added where labels differ, in the units of the metric.
        assignment_only: whether any matrix with the same optimal assignments will do.
        precision: of the product, out of `PRECISIONS`; None keeps that of the inputs.
        backend: a name out of `BACKENDS`.
        threads: CPU threads, 0 for as many as are worth it.
        euclidean: whether the cost is the distance itself, not its square.
        drops_norms: whether the cost is -2 x.z: |x|^2 and |z|^2 are the same for all of a row or of a column,
            and change no optimal assignment.
        takes_tiles: whether the engine's tiles may compute it, on the CPU and in float32.
    """

    metric: str
    label_weight: float
    assignment_only: bool
    precision: str | None
    backend: str
    threads: int
    euclidean: bool
    drops_norms: bool
    takes_tiles: bool

    def text(self):
        """The spec as one string, from which `parse` makes it again."""
        return (
            f"metric={self.metric} label_weight={self.label_weight!r} assignment_only={self.assignment_only} "
            f"precision={self.precision} backend={self.backend} threads={self.threads}"
        )

    @staticmethod
    @lru_cache
    def parse(text):
        """The spec of a string that `text` made."""
        values = dict(part.split("=") for part in text.split())
        return cost_spec(
            values["metric"],
            float(values["label_weight"]),
            values["assignment_only"] == "True",
            None if values["precision"] == "None" else values["precision"],
            values["backend"],
            int(values["threads"]) or None,
        )


class FromIdsSpec(NamedTuple):
    """Which cost to which noise."""

    noise: NoiseSpec
    cost: CostSpec

    def text(self):
        """The two specs as one string, from which `parse` makes them again."""
        return f"{self.noise.text()} | {self.cost.text()}"

    @staticmethod
    @lru_cache
    def parse(text):
        """The specs of a string that `text` made."""
        noise, cost = text.split(" | ")
        return FromIdsSpec(NoiseSpec.parse(noise), CostSpec.parse(cost))


_KNOWN: dict[tuple, CostSpec] = {}


def known_cost_spec(metric, label_weight, assignment_only, precision, backend, threads):
    """`cost_spec` from memory where it was asked for before, as `loomfast.noise.spec.known_noise_spec`."""
    key = metric, label_weight, assignment_only, precision, backend, threads, type(threads)
    try:
        spec = _KNOWN.get(key)
    except TypeError:  # something in it has no hash: no name or number, then, or an array of one number
        key, spec = None, None
    if spec is None:
        spec = cost_spec(metric, label_weight, assignment_only, precision, backend, threads)
        if key is not None and len(_KNOWN) < MOST_KNOWN:
            _KNOWN[key] = spec
    return spec


def cost_spec(metric, label_weight, assignment_only, precision, backend, threads):
    """The `CostSpec` of a caller's arguments, or the ValueError or TypeError that names the wrong one."""
    check_metric(metric)
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(str, PRECISIONS))}, got {precision!r}")
    check_backend(backend, BACKENDS)
    if not math.isfinite(label_weight):
        raise ValueError(f"label_weight must be finite, got {label_weight}")
    return CostSpec(
        metric=metric,
        label_weight=float(label_weight),
        assignment_only=bool(assignment_only),
        precision=precision,
        backend=backend,
        threads=0 if threads is None else check_threads(threads),
        euclidean=metric == "euclidean",
        drops_norms=bool(assignment_only) and metric == "sqeuclidean",
        takes_tiles=backend in ("auto", "cpu") and precision in (None, "float32"),
    )


def check_metric(metric):
    """ValueError unless the metric is one of `METRICS`."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")


def check_shapes(x_shape, z_shape):
    """ValueError unless x (n, ...) and z (m, ...) hold items of one size."""
    if len(x_shape) == len(z_shape) == 2 and x_shape[1] == z_shape[1]:
        return
    if not x_shape or not z_shape:
        raise ValueError(f"x and z must have an item axis, got shapes {tuple(x_shape)} and {tuple(z_shape)}")
    if count(x_shape[1:]) != count(z_shape[1:]):
        got = f"{tuple(x_shape)} and {tuple(z_shape)}"
        raise ValueError(f"x and z must hold items of one size, got shapes {got}")


def check_as_many(x, z):
    """ValueError unless x and z hold as many items."""
    if x.shape[0] != z.shape[0]:
        raise ValueError(f"x and z must hold as many items, got {x.shape[0]} and {z.shape[0]}")


def split_labels(labels, n, m):
    """The pair (labels_x, labels_z) of lengths n and m, or None; one array serves both when n = m."""
    if labels is None:
        return None
    if not isinstance(labels, (tuple, list)):
        labels = (labels, labels)
    if len(labels) != 2 or len(labels[0]) != n or len(labels[1]) != m:
        got = " and ".join(str(len(part)) for part in labels)
        raise ValueError(f"labels must be a pair of lengths {n} and {m}, got {got}")
    return tuple(labels)


def numpy_labels(labels, n, m):
    """`split_labels` as NumPy arrays of real numbers."""
    pair = split_labels(labels, n, m)
    return pair and tuple(real_array(part, "labels") for part in pair)


def real_items(array, name):
    """NumPy items (n, ...) of real numbers that float64 holds, or an error that names them."""
    array = real_array(array, name)
    check_held(array, name)
    return array


def check_held(array, name):
    """ValueError if NumPy integers are beyond 2^53: they are computed in float64, which would round them."""
    if array.dtype.kind in "iu" and array.itemsize == 8 and array.size:
        largest = max(int(array.max()), -int(array.min()))
        if largest > 1 << 53:
            raise ValueError(f"{name} must hold integers of at most 2^53, got one of magnitude {largest}")
