"""The draws of a training step: words, uniforms and normals as functions of (seed, domain, step, item)."""

import numpy as np

from loomfast import _engine
from loomfast._arrays import integer, integer_array, item_shape
from loomfast.noise.cpu import fill
from loomfast.noise.format import STEP_BIT


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
    items, seed, word3 = _counters(index, seed, step, domain)
    out = np.empty((len(items), integer(num_words, "num_words", 0, 1 << 34)), np.uint32)
    _engine.noise_bits(items, seed, word3, out)
    return out


def step_choices(index, num, *, seed, step, domain):
    """int64 ``(len(index),)``: for each item one of 0 ... num - 1, as likely as any, by `step_bits`."""
    words = step_bits(index, 1, seed=seed, step=step, domain=domain)[:, 0]
    num = np.uint64(integer(num, "num", 1, 1 << 32))
    return (words.astype(np.uint64) * num >> np.uint64(32)).astype(np.int64)


def step_uniforms(index, num, *, seed, step, domain):
    """float32 uniforms in [0, 1) ``(len(index), num)``: the top 24 bits of ``step_bits`` times 2^-24."""
    words = step_bits(index, num, seed=seed, step=step, domain=domain)
    return (words >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


def step_normals(index, shape, *, seed, step, domain):
    """float32 standard normals ``(len(index), *shape)`` of one training step: Box-Muller on ``step_bits``."""
    items, seed, word3 = _counters(index, seed, step, domain)
    out = np.empty((len(items), *item_shape(shape)), np.float32)
    fill(items, out, seed, word3)
    return out


def _counters(index, seed, step, domain):
    """What the engine draws a step's words from: words 1 and 2 as uint64 (n,), the seed, and word 3."""
    index = integer_array(index, "index")
    if index.size and (index.min() < 0 or index.max() >= 1 << 32):
        raise ValueError(f"index must be in [0, 2^32), got {index.min()} to {index.max()}")
    step = integer(step, "step", 0, 1 << 32)
    word3 = STEP_BIT + integer(domain, "domain", 0, 1 << 31)
    return index.astype(np.uint64) | np.uint64(step << 32), integer(seed, "seed", 0, 1 << 64), word3
