"""Small questions the public operations ask about their arguments. Imports torch only if the caller has."""

import dataclasses
import importlib
import math
import operator
import os
import sys

import numpy as np

# The one table of dtypes: those whose numbers are read, every one of them exactly, by the names that NumPy,
# torch and DLPack share. All others are refused by name.
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
REAL = ("bool", *INTEGERS, *FLOATS)
# By NumPy's dtypes: it takes longer to say the name of one than a small request takes.
NAMES = {np.dtype(name): name for name in REAL if name != "bfloat16"}
MOST_THREADS = 1 << 16


def is_tensor(array):
    """Whether ``array`` is a torch tensor, without importing torch to find out."""
    kind = type(array)
    if kind is np.ndarray:
        return False
    if kind.__module__ == "torch" and kind.__name__ == "Tensor":  # most of all, and faster than the search
        return True
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in kind.__mro__)


def library(*arrays):
    """Whose arrays these are: "torch" if one is a tensor, "cuda" if one is `on_device`, else "numpy"."""
    found = "numpy"
    for array in arrays:
        if type(array) is np.ndarray:
            continue
        if is_tensor(array):
            return "torch"
        if on_device(array):
            found = "cuda"
    return found


def module(name):
    """The module of that name, imported at its first use: an import statement asks more, every time."""
    return sys.modules.get(name) or importlib.import_module(name)


def on_device(array):
    """Whether ``array`` is another library's array in the memory of a CUDA device, CuPy's say.

    That is what it says by DLPack or by ``__cuda_array_interface__``; a torch tensor is none of these.
    """
    if type(array) is np.ndarray or is_tensor(array):
        return False
    if hasattr(array, "__dlpack_device__"):
        cuda_device_type = 2  # kDLCUDA
        return array.__dlpack_device__()[0] == cuda_device_type
    return hasattr(array, "__cuda_array_interface__")


def to_numpy(array):
    """A NumPy array of a NumPy array or a torch tensor: a view where it can be, a copy off a device."""
    return array.detach().cpu().resolve_neg().numpy() if is_tensor(array) else np.asarray(array)


def name_of_dtype(dtype):
    """The bare name of a NumPy or torch dtype: as in `REAL` where it is one of those."""
    if isinstance(dtype, np.dtype) and dtype in NAMES:
        return NAMES[dtype]
    return getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")


def check_dtype(dtype, name, takes, what):
    """TypeError that names the argument and the dtype, unless it is one of ``takes``."""
    found = name_of_dtype(dtype)
    if found not in takes:
        raise TypeError(f"{name} must {what}, got {found}; it takes {', '.join(takes)}")
    return found


def real_array(value, name, takes=REAL, what="hold real numbers"):
    """A NumPy or torch array on the CPU as a NumPy array in the machine's byte order; bfloat16 widened.

    Raises TypeError for a dtype that is not one of ``takes``.
    """
    array = value.detach() if is_tensor(value) else np.asarray(value)
    found = check_dtype(array.dtype, name, takes, what)
    if is_tensor(array):
        array = array.float() if found == "bfloat16" else array
        return to_numpy(array)
    if found == "bfloat16":
        return widened(array.view(np.uint16))
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def integer_array(values, name):
    """NumPy or array-like integers (n,) that int64 holds, or an error that names them."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {values.shape}")
    if not values.size:
        return values.astype(np.int64)
    check_dtype(values.dtype, name, INTEGERS, "be integers")
    if values.dtype == np.uint64 and values.max() >= 1 << 63:
        raise ValueError(f"{name} must fit int64, got a uint64 of 2^63 or more")
    return values


def widened(bits):
    """float32 of the bits of bfloat16, a uint16 array."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def integer(value, name, low, high=None):
    """``value`` as int in [low, high), or from ``low`` on; else an error. True and 2.0 are no integers."""
    try:
        if isinstance(value, bool):
            raise TypeError
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r} of type {type(value).__name__}") from None
    if high is None and value < low:
        raise ValueError(f"{name} must be at least {low}, got {value}")
    if high is not None and not low <= value < high:
        raise ValueError(f"{name} must be in [{low}, {high}), got {value}")
    return value


def check_integers(config, prefix=""):
    """TypeError for the first field of a dataclass that is declared ``int`` and holds something else."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.type is int or (field.type == int | None and value is not None):
            integer(value, prefix + field.name, -math.inf)


def finite(value, name):
    """``value`` as a float of at least 0 that is not infinite, or an error that names it."""
    real = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not (real and 0 <= value < math.inf):
        raise ValueError(f"{name} must be a finite number of at least 0, got {value!r}")
    return float(value)


def item_shape(shape):
    """An item's shape as a tuple of non-negative ints, from an int or a sequence of ints."""
    if type(shape) is int and shape >> 34 == 0:
        return (shape,)
    if type(shape) is tuple:  # most of all, and the checks below take as long as a small request
        for size in shape:
            if type(size) is not int or size >> 34:
                break
        else:
            return shape
    try:
        sizes = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    except TypeError:
        raise TypeError(f"shape must be an integer or a sequence of integers, got {shape!r}") from None
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


def cores():
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_threads(threads):
    """``threads`` as int, None for the default."""
    return None if threads is None else integer(threads, "threads", 1, MOST_THREADS)


def default_threads(work, least):
    """Threads for ``work`` units when the caller names none: every core with ``least`` to do."""
    if work < 2 * least:  # asking for the cores costs as much as a small request
        return 1
    return max(1, min(cores(), work // least))


def overlaps_itself(shape, strides):
    """Whether elements of an array of that shape may share memory, by its strides in elements.

    Views by slices and transposition never do. Strides that no such view has count as overlapping.
    """
    reach = 0
    for stride, size in sorted(
        (abs(step), size) for step, size in zip(strides, shape, strict=True) if size > 1
    ):
        if stride <= reach:
            return True
        reach += stride * (size - 1)
    return False


def check_out(out, shape, dtype, like, device=None):
    """An error unless ``out`` can be written to: a NumPy array, or a torch tensor where ``device`` is named.

    Args:
        out: what the caller passed.
        shape, dtype: what it must have, as its library says them.
        like: the argument whose kind it must be of, in words.
        device: torch device that it must be on; None asks for a NumPy array.

    Raises:
        TypeError: another kind or dtype.
        ValueError: another shape or device, read-only, or elements that share memory: what is written to one
            would change another.
    """
    if not (isinstance(out, np.ndarray) if device is None else is_tensor(out)):
        kind = "NumPy array" if device is None else "torch tensor"
        raise TypeError(f"out must be a {kind}, like {like}, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype or (device is not None and out.device != device):
        got = f"{tuple(out.shape)} {out.dtype}"
        where = ("", "") if device is None else (f" on {device}", f" on {out.device}")
        wrong = TypeError if out.dtype != dtype else ValueError
        raise wrong(f"out must be {shape} {dtype}{where[0]}, got {got}{where[1]}")
    if device is None:
        if not out.flags.writeable:
            raise ValueError("out must be writeable")
        if out.flags.c_contiguous:
            return
        strides = tuple(stride // out.itemsize for stride in out.strides)
    elif out.is_contiguous():
        return
    else:
        strides = out.stride()
    if 0 not in shape and overlaps_itself(shape, strides):
        raise ValueError(
            f"out must not overlap itself, got shape {shape} with strides {strides}; pass a copy"
        )


def apart(array, out):
    """``array``, or a copy of it where it shares memory with ``out``; both NumPy."""
    return array.copy() if np.may_share_memory(array, out) else array


def flat(array):
    """Items as rows: (n, ...) to (n, d)."""
    return array if array.ndim == 2 else array.reshape(array.shape[0], count(array.shape[1:]))


def count(shape):
    """Elements of an array of that shape."""
    return math.prod(shape)
