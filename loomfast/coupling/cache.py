"""The noise cache: which noise every item holds, and what the solver learnt about every noise.

``ids[i, k]`` is the id of the k-th noise of item i. At first item i holds ids i·K … i·K + K − 1, so the ids
of all items together are 0 … N·K − 1, and they stay a permutation of that for ever.
"""

import math

import numpy as np

from loomfast import _engine
from loomfast._arrays import is_tensor


def initial_ids(num_items, num_caches):
    """Return τ₀ = Id as int32 (num_items, num_caches): the ids 0 … num_items·num_caches − 1 in order."""
    count = num_items * num_caches
    if count > np.iinfo(np.int32).max:
        raise ValueError(f"num_items·num_caches must be below 2³¹, got {num_items}·{num_caches} = {count}")
    return np.arange(count, dtype=np.int32).reshape(num_items, num_caches)


def is_permutation(ids):
    """Return whether the ids of a cache, an integer array, are each of 0 … size − 1 once."""
    seen = np.zeros(ids.size, dtype=bool)
    flat = ids.reshape(-1)
    if flat.size and (flat.min() < 0 or flat.max() >= flat.size):
        return False
    seen[flat] = True
    return bool(seen.all())


def improving_cycles(order, before, after, relative_rounding, *, weight=0.0, change=None):
    """The part of a reassignment that is worth writing back.

    A reassignment is a permutation, hence a set of cycles, and each cycle can be taken or left alone. Only
    cycles whose total cost falls by more than rounding are taken: the batch's cost then never increases
    (Theorem 1), and permutations of equal cost (duplicate images) do not churn the cache.

    Args:
        order: (B,) int64, of NumPy or torch, as all others; item i would receive the noise of ``order[i]``.
        before, after: (B,) float64; cost of item i with its own noise, and with that of ``order[i]``.
        relative_rounding: bound on the relative rounding error of one entry of ``before``/``after``.
        weight, change: item i's cost changes by ``weight * change[i]`` on top, with ``change`` (B,) of −1, 0
            and 1. These are counted before they are weighed: a weight of 1e18 hides nothing of the rest.

    Returns:
        (B,) int64: like ``order``, with ``i`` itself wherever i's cycle is left alone.
    """
    if not is_tensor(order):
        return _engine.coupling_improving(order, before, after, relative_rounding, weight, change)[0]
    torch = _library_of(order)
    extra = torch.zeros_like(before) if change is None else change
    sums = cycle_sums(order, torch.stack((before, after, before.abs() + after.abs(), extra)))
    old, new, magnitude, extra = sums
    better = (new - old) + weight * extra < -relative_rounding * magnitude
    return torch.where(better, order, _places(order))


def cycle_sums(order, values):
    """Return (k, B): for each element, the sums of ``values`` (k, B) over its cycle of a permutation (B,).

    From the smallest member of a cycle on, pointer doubling again: after j rounds every element has the sum
    of the 2ʲ elements from it on, or of all to the end of its cycle. What is added to what depends on nothing
    but ``order``: the bits are the same for torch on any device and for the engine, which has NumPy's arrays.
    """
    if not is_tensor(order):
        return _engine.coupling_cycle_sums(order, values)
    torch, label = _library_of(order), cycle_labels(order)
    jump, open_ended = order, order != label
    for _ in range(max(1, len(order) - 1).bit_length()):
        values = values + torch.where(open_ended, values[:, jump], 0.0)
        open_ended = open_ended & open_ended[jump]
        jump = jump[jump]
    return values[:, label]


def mean_of(values):
    """Return the mean of float64 values (B,) as a scalar of their library, by halves: B − 1 sums, log B deep.

    The bits are the same for NumPy and for torch on any device. nan for no values.
    """
    if not is_tensor(values):
        return _engine.coupling_mean(values)
    if len(values) == 0:
        return values.sum() * math.nan
    rest, left, join = values, len(values), _library_of(values).concatenate
    while left > 1:
        half, odd = divmod(left, 2)
        paired = rest[:half] + rest[half : 2 * half]
        rest, left = join((paired, rest[2 * half :])) if odd else paired, half + odd
    return rest[0] / len(values)


def cycle_labels(order):
    """Return (B,) int64: the smallest member of each element's cycle under the permutation ``order`` (B,).

    Pointer doubling: after k rounds every element knows the smallest of 2ᵏ successors.
    """
    label, minimum = _places(order), _library_of(order).minimum
    jump = order
    for _ in range(max(1, len(order) - 1).bit_length()):
        label = minimum(label, label[jump])
        jump = jump[jump]
    return label


def _library_of(array):
    """NumPy or torch, whichever the array is of."""
    if not is_tensor(array):
        return np
    import torch

    return torch


def _places(order):
    """0 … B − 1, int64, as an array of the kind and on the device of ``order`` (B,)."""
    if not is_tensor(order):
        return np.arange(len(order))
    import torch

    return torch.arange(len(order), device=order.device)
