"""Noise on the CPU, of NumPy ids, by the engine."""

import numpy as np

from loomfast import _engine
from loomfast._arrays import apart, check_out, default_threads, flat, numpy_dtype
from loomfast.backends import check_backend_of_arrays
from loomfast.noise import reference
from loomfast.noise.spec import check_ids

LEAST_PER_THREAD = 1 << 17  # normals; below this a thread costs more to start than it saves


def noise_of_array(ids, shape, name, spec, out):
    """`noise_from_ids` for NumPy or array-like ids (n,)."""
    ids = check_ids(ids)
    check_backend_of_arrays(spec.backend)
    result = out
    if out is None:
        result = np.empty((len(ids), *shape), numpy_dtype(name))
    else:
        check_out(out, (len(ids), *shape), numpy_dtype(name), "the ids")
        ids = apart(ids, out)
    if spec.backend == "reference":
        values = reference.noise_from_ids(ids, shape, seed=spec.seed, domain=spec.domain)
        values = reference.to_bfloat16_bits(values) if name == "bfloat16" else values.astype(name)
        result[...] = values.view(result.dtype)
        return result
    target = result if result.flags.c_contiguous else np.empty(result.shape, result.dtype)
    bits = target.view(np.uint16) if name == "bfloat16" else target
    fill(ids, bits, spec.seed, spec.domain, spec.threads)
    if target is not result:
        result[...] = target
    return result


def fill(ids, out, seed, word3, threads=0):
    """The normals of int64 or uint64 ids (n,) into contiguous ``out`` (n, ...).

    ``out`` is float32, float64, or uint16 for the bits of bfloat16; word3 is the domain.
    """
    threads = threads or default_threads(out.size, LEAST_PER_THREAD)
    _engine.noise_fill(ids.view(np.uint64), seed, word3, flat(out), threads)


def fill_nearest(x, ids, g, q, out, factors, *, seed, domain, threads=0):
    """The nearest to each item of its noise z and of candidates (g, q) into ``out``, as a z + b x.

    x and ``out`` (n, ...) are contiguous float32, ids int64 (n,), g and q contiguous float64 (n, k),
    ``factors`` two float32 arrays (n,) that take a and b. What a candidate is says
    `loomfast.coupling.nearest`.
    """
    threads = threads or default_threads(out.size, LEAST_PER_THREAD)
    arrays = (flat(x), g, q, flat(out), *factors)
    _engine.noise_fill_nearest(ids.view(np.uint64), seed, domain, *arrays, threads)


def fill_interpolated(x, ids, t, point, velocity, spec):
    """t x + (1 - t) z and x - z into ``point`` and ``velocity``, z being the noise of the ids.

    x (n, ...), point and velocity are contiguous float32, ids int64 (n,) and t float32 (n,).
    """
    threads = spec.threads or default_threads(x.size, LEAST_PER_THREAD)
    arrays = (flat(x), np.ascontiguousarray(t), flat(point), flat(velocity))
    _engine.noise_interpolate(ids.view(np.uint64), spec.seed, spec.domain, *arrays, threads)
