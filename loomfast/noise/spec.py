"""Which noise is asked for: what is no array, checked once as a `NoiseSpec`, and the checks of arrays."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from loomfast._arrays import check_threads, integer, integer_array
from loomfast.backends import check_backend

BACKENDS = ("auto", "reference", "cpu", "cuda", "triton")
DTYPES = ("float32", "bfloat16", "float64")


class NoiseSpec(NamedTuple):
    """Which noise, and by what, as `noise_spec` makes it. It travels through torch's operators as `text`.

    Attributes:
        seed: the run's seed, in [0, 2^64).
        domain: word 3 of the counters, in [0, 2^31).
        backend: a name out of `BACKENDS`.
        threads: CPU threads, 0 for as many as are worth it.
    """

    seed: int
    domain: int
    backend: str
    threads: int

    def text(self):
        """The spec as one string, from which `parse` makes it again."""
        return f"seed={self.seed} domain={self.domain} backend={self.backend} threads={self.threads}"

    @staticmethod
    @lru_cache
    def parse(text):
        """The spec of a string that `text` made."""
        values = dict(part.split("=") for part in text.split())
        return NoiseSpec(
            int(values["seed"]), int(values["domain"]), values["backend"], int(values["threads"])
        )


def noise_spec(seed, domain, backend, threads):
    """The `NoiseSpec` of a caller's arguments, or the ValueError or TypeError that names the wrong one."""
    seed = integer(seed, "seed", 0, 1 << 64)
    domain = integer(domain, "domain", 0, 1 << 31)
    check_backend(backend, BACKENDS)
    return NoiseSpec(seed, domain, backend, 0 if threads is None else check_threads(threads))


_KNOWN: dict[tuple, NoiseSpec] = {}
MOST_KNOWN = 1024


def known_noise_spec(seed, domain, backend, threads):
    """`noise_spec` from memory where it was asked for before, which takes less time than the checks.

    Not to be called where torch.compile looks on: it would compile anew whenever the memory grows.
    """
    key = seed, domain, backend, threads, type(seed), type(domain), type(threads)
    try:
        spec = _KNOWN.get(key)
    except TypeError:  # something in it has no hash: no name or integer, then, or an array of one
        key, spec = None, None
    if spec is None:
        spec = noise_spec(seed, domain, backend, threads)
        if key is not None and len(_KNOWN) < MOST_KNOWN:
            _KNOWN[key] = spec
    return spec


def check_ids(ids):
    """NumPy or array-like ids as contiguous int64 (n,)."""
    return np.ascontiguousarray(integer_array(ids, "ids"), np.int64)


def check_batch(x_shape, ids_shape, t_shape):
    """ValueError unless x is (n, ...), ids (n,) and t (n,)."""
    if not x_shape or tuple(ids_shape) != tuple(x_shape[:1]) or tuple(t_shape) != tuple(x_shape[:1]):
        got = f"{tuple(x_shape)}, {tuple(ids_shape)} and {tuple(t_shape)}"
        raise ValueError(f"x, ids and t must be (n, ...), (n,) and (n,), got {got}")
