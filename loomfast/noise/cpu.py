"""Noise on the CPU, by the engine, into contiguous NumPy arrays."""

import numpy as np

from loomfast import _engine
from loomfast._arrays import default_threads, flat

LEAST_PER_THREAD = 1 << 17  # normals; below this a thread costs more to start than it saves


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
