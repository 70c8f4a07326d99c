"""Noise as a pure function of an id: bit-identical on every backend and machine (noise format 1).

Philox4x32-10 under the run's 64-bit seed, Box-Muller in exactly rounded float32. Two counter layouts, which
never meet because only the second sets the top bit of word 3:

=================  =======================  ================  ================  ==============
use                word 0                   word 1            word 2            word 3
=================  =======================  ================  ================  ==============
noise of an id     block within the item    id, low 32 bits   id, high 32 bits  domain
a step's draws     block                    item index        step              2^31 + domain
=================  =======================  ================  ================  ==============

A block is four normals (or words). Nothing about batch size, threads, device or world size enters, so a
checkpoint needs no generator state and a sample is never a training noise.
"""

from enum import IntEnum

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import (
    FLOATS,
    INTEGERS,
    apart,
    check_backend,
    check_dtype,
    check_numpy_out,
    check_threads,
    default_threads,
    dtype_name,
    flat,
    integer,
    is_tensor,
    item_shape,
    numpy_dtype,
    real_array,
)
from loomfast.noise import reference as reference

NOISE_FORMAT = 1
BACKENDS = ("auto", "reference", "cpu", "cuda", "triton")
DTYPES = ("float32", "bfloat16", "float64")
LEAST_PER_THREAD = 1 << 17  # normals; below this a thread costs more to start than it saves


class NoiseDomain(IntEnum):
    """Word 3 of the noise of an id: what the noise is for."""

    CACHE = 0
    FRESH = 1
    SAMPLING = 2
    VALIDATION = 3


class StepDomain(IntEnum):
    """Word 3, less 2^31, of a training step's draws: what is drawn."""

    DATA_ORDER = 0
    CACHE_CHOICE = 1
    TIMESTEP = 2
    SIGMA = 3
    FLIP = 4
    LABEL_DROPOUT = 5
    DROPOUT = 6
    BLOCKS = 7


def noise_from_ids(
    ids, shape, *, seed, domain=0, dtype="float32", device=None, out=None, backend="auto", threads=None
):
    """Standard normal noise of each id: ``(len(ids), *shape)``.

    Args:
        ids: (n,) integers, NumPy or torch; any int64, read as two's complement.
        shape: shape of one item. Element e (row-major) is normal e % 4 of block e // 4.
        seed: the run's seed, in [0, 2^64).
        domain: a ``NoiseDomain`` or any integer in [0, 2^31).
        dtype: float32, bfloat16 or float64 (a NumPy or torch dtype, or its name). The last two are the
            float32 values converted, bfloat16 to nearest even.
        device: torch device of the result; without it the ids' own. Naming one returns a tensor.
        out: where to write; the result's kind, shape, dtype and device, any strides.
        backend: "auto" is "cpu" on the CPU and "triton" on an NVIDIA GPU; or "reference", "cpu", "cuda",
            "triton". A named backend that cannot run here raises RuntimeError.
        threads: CPU threads; without it one per 2^17 normals up to the cores this process may use. The bits
            do not depend on it.

    Returns:
        A NumPy array for NumPy ids, a torch tensor for torch ids or a named device.

    Raises:
        ValueError: seed, domain, shape, ids' shape, out or backend out of range, or out overlapping itself.
        TypeError: ids not integers, unknown dtype, out of the wrong kind or dtype.
        RuntimeError: the named backend cannot run here.
    """
    shape = item_shape(shape)
    seed = integer(seed, "seed", 0, 1 << 64)
    domain = integer(domain, "domain", 0, 1 << 31)
    name = dtype_name(dtype, DTYPES)
    check_backend(backend, BACKENDS)
    threads = check_threads(threads)
    if is_tensor(ids) or device is not None:
        from loomfast.noise import torch_ops as ops

        result = None
        if name == "float32" and device is None and backend in ("auto", "cpu"):
            result = ops.noise_at_once(ids, shape, seed, domain, out, threads)
        if result is None:
            result = ops.noise(ids, shape, seed, domain, name, device, out, backend, threads)
        return result
    ids = check_ids(ids)
    _check_numpy_backend(backend)
    result = check_numpy_out(out, (len(ids), *shape), numpy_dtype(name), "the ids")
    if backend == "reference":
        values = reference.noise_from_ids(ids, shape, seed=seed, domain=domain)
        result[...] = _converted(values, name).view(result.dtype)
        return result
    ids = ids if out is None else apart(ids, result)
    target = result if result.flags.c_contiguous else np.empty(result.shape, result.dtype)
    fill_cpu(ids, target.view(np.uint16) if name == "bfloat16" else target, seed, domain, threads)
    if target is not result:
        result[...] = target
    return result


def interpolate_from_ids(x, ids, t, *, seed, domain=0, backend="auto", threads=None):
    """A training batch in one pass: t x + (1 - t) z and x - z, z being the noise of each id, never stored.

    LOOM-CFM, equation 3, without its epsilon. The float32 bits are those of the two expressions on
    ``noise_from_ids``, every product and sum rounded.

    Args:
        x: (n, ...) data, floating point, NumPy or torch; computed in float32.
        ids: (n,) integers, the noise of each item.
        t: (n,) times in [0, 1].
        seed, domain, backend, threads: as in ``noise_from_ids``.

    Returns:
        (point, velocity), float32 of x's shape, kind and device.

    Raises:
        ValueError, TypeError, RuntimeError: as ``noise_from_ids``, and if the batch sizes differ.
    """
    seed, domain = integer(seed, "seed", 0, 1 << 64), integer(domain, "domain", 0, 1 << 31)
    check_backend(backend, BACKENDS)
    threads = check_threads(threads)
    if is_tensor(x):
        from loomfast.noise import torch_ops as ops

        return ops.interpolate(x, ids, t, seed, domain, backend, threads)
    return _interpolate_arrays(x, ids, t, seed, domain, backend, threads)


@default_arithmetic()
def _interpolate_arrays(x, ids, t, seed, domain, backend, threads):
    """``interpolate_from_ids`` for NumPy arrays, its plain arguments already checked."""
    _check_numpy_backend(backend)
    x, ids, t = real_array(x, "x", FLOATS, "hold floating-point numbers"), check_ids(ids), real_array(t, "t")
    check_batch(x.shape, ids.shape, t.shape)
    x, t = np.ascontiguousarray(x, np.float32), np.asarray(t, np.float32)
    if backend == "reference":
        return reference.interpolate_from_ids(x, ids, t, seed=seed, domain=domain)
    point, velocity = np.empty_like(x), np.empty_like(x)
    fill_interpolated_cpu(x, ids, t, point, velocity, seed, domain, threads)
    return point, velocity


def fill_interpolated_cpu(x, ids, t, point, velocity, seed, word3, threads=None):
    """The engine's interpolation of contiguous float32 x (n, ...) into point and velocity."""
    threads = threads or default_threads(x.size, LEAST_PER_THREAD)
    arrays = (flat(x), np.ascontiguousarray(t), flat(point), flat(velocity))
    _engine.noise_interpolate(ids.view(np.uint64), seed, word3, *arrays, threads)


def fill_cpu(ids, out, seed, word3, threads=None):
    """The engine's normals into contiguous ``out`` (n, ...): float32, float64, or bfloat16 as uint16."""
    threads = threads or default_threads(out.size, LEAST_PER_THREAD)
    _engine.noise_fill(ids.view(np.uint64), seed, word3, flat(out), threads)


def step_bits(index, num_words, *, seed, step, domain):
    """uint32 words ``(len(index), num_words)`` of one training step.

    Args:
        index: (n,) item indices in [0, 2^32); the words of an item do not depend on the others.
        num_words: words per item.
        seed: the run's seed, in [0, 2^64).
        step: the training step, in [0, 2^32).
        domain: a ``StepDomain`` or any integer in [0, 2^31).

    Raises:
        ValueError, TypeError: an argument out of range or not an integer.
    """
    items, seed, word3 = _check_step(index, seed, step, domain)
    out = np.empty((len(items), integer(num_words, "num_words", 0, 1 << 34)), np.uint32)
    _engine.noise_bits(items, seed, word3, out)
    return out


def step_uniforms(index, num, *, seed, step, domain):
    """float32 uniforms in [0, 1) ``(len(index), num)``: the top 24 bits of ``step_bits`` times 2^-24."""
    words = step_bits(index, num, seed=seed, step=step, domain=domain)
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def step_normals(index, shape, *, seed, step, domain):
    """float32 standard normals ``(len(index), *shape)`` of one training step: Box-Muller on ``step_bits``."""
    items, seed, word3 = _check_step(index, seed, step, domain)
    out = np.empty((len(items), *item_shape(shape)), np.float32)
    fill_cpu(items, out, seed, word3)
    return out


def check_batch(x_shape, ids_shape, t_shape):
    """x (n, ...), ids (n,) and t (n,)."""
    if not x_shape or tuple(ids_shape) != tuple(x_shape[:1]) or tuple(t_shape) != tuple(x_shape[:1]):
        got = f"{tuple(x_shape)}, {tuple(ids_shape)} and {tuple(t_shape)}"
        raise ValueError(f"x, ids and t must be (n, ...), (n,) and (n,), got {got}")


def _check_numpy_backend(backend):
    if backend in ("cuda", "triton"):
        raise RuntimeError(f"backend={backend!r} needs torch tensors on a GPU; NumPy arrays are on the CPU")


def check_ids(ids):
    """ids as contiguous int64 (n,)."""
    return np.ascontiguousarray(_whole(ids, "ids"), np.int64)


def _whole(values, name):
    """NumPy integers (n,) that int64 holds, or an error that names them."""
    values = np.asarray(values)
    if values.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {values.shape}")
    if not values.size:
        return values.astype(np.int64)
    check_dtype(values.dtype, name, INTEGERS, "be integers")
    if values.dtype == np.uint64 and values.max() >= 1 << 63:
        raise ValueError(f"{name} must fit int64, got a uint64 of 2^63 or more")
    return values


def _check_step(index, seed, step, domain):
    index = _whole(index, "index")
    if index.size and (index.min() < 0 or index.max() >= 1 << 32):
        raise ValueError(f"index must be in [0, 2^32), got {index.min()} to {index.max()}")
    step = integer(step, "step", 0, 1 << 32)
    word3 = reference.STEP_BIT + integer(domain, "domain", 0, 1 << 31)
    return index.astype(np.uint64) | np.uint64(step << 32), integer(seed, "seed", 0, 1 << 64), word3


def _converted(values, name):
    return reference.to_bfloat16_bits(values) if name == "bfloat16" else values.astype(name)
