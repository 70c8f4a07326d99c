"""Small questions the public operations ask about their arguments. Imports torch only if the caller has."""

import math
import operator
import os

import numpy as np


def is_tensor(array):
    """Whether ``array`` is a torch tensor, without importing torch to find out."""
    kind = type(array)
    if kind is np.ndarray:
        return False
    if kind.__module__ == "torch" and kind.__name__ == "Tensor":  # most of all, and faster than the search
        return True
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in kind.__mro__)


def to_numpy(array):
    """A NumPy array of a NumPy array or a torch tensor: a view where it can be, a copy off a device."""
    return array.detach().cpu().resolve_neg().numpy() if is_tensor(array) else np.asarray(array)


def integer(value, name, low, high):
    """``value`` as int in [low, high), or an error that names it."""
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {type(value).__name__}") from None
    if not low <= value < high:
        raise ValueError(f"{name} must be in [{low}, {high}), got {value}")
    return value


def item_shape(shape):
    """An item's shape as a tuple of non-negative ints, from an int or a sequence of ints."""
    if type(shape) is int and shape >> 34 == 0:
        return (shape,)
    sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return tuple(integer(size, "each size in shape", 0, 1 << 34) for size in sizes)


def dtype_name(dtype, takes):
    """The bare name of a NumPy dtype, torch dtype or string, which must be one of ``takes``."""
    name = dtype if isinstance(dtype, str) else str(dtype).removeprefix("torch.")
    if name not in takes:
        try:
            name = np.dtype(dtype).name
        except TypeError:
            name = str(dtype)
    if name not in takes:
        raise TypeError(f"dtype must be one of {', '.join(takes)}, got {name}")
    return name


def numpy_dtype(name):
    """The NumPy dtype of that name; bfloat16 is ml_dtypes', since NumPy has none of its own."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        from ml_dtypes import bfloat16
    except ImportError:
        raise TypeError(
            "NumPy has no bfloat16: install ml_dtypes, or pass torch ids to get a torch tensor"
        ) from None
    return np.dtype(bfloat16)


def default_threads(work, least):
    """Threads for ``work`` units when the caller names none: every core with ``least`` to do."""
    if work < 2 * least:  # asking for the cores costs as much as a small request
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, work // least))


def flat(array):
    """Items as rows: (n, ...) to (n, d)."""
    return array if array.ndim == 2 else array.reshape(array.shape[0], count(array.shape[1:]))


def count(shape):
    """Elements of an array of that shape."""
    return math.prod(shape)


def check_backend(backend, takes):
    if backend not in takes:
        raise ValueError(f"backend must be one of {', '.join(takes)}, got {backend!r}")
