"""The noise cache: which noise every item holds, and what the solver learnt about every noise.

``ids[i, k]`` is the id of the k-th noise of item i. At first item i holds ids i·K … i·K + K − 1, so the ids
of all items together are 0 … N·K − 1, and they stay a permutation of that for ever.
"""

import numpy as np


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
        order: (B,) int; item i would receive the noise of item ``order[i]``.
        before, after: (B,) float64; cost of item i with its own noise, and with that of ``order[i]``.
        relative_rounding: bound on the relative rounding error of one entry of ``before``/``after``.
        weight, change: item i's cost changes by ``weight * change[i]`` on top, with ``change`` (B,) of −1, 0
            and 1. These are counted before they are weighed: a weight of 1e18 hides nothing of the rest.

    Returns:
        (B,) int64: like ``order``, with ``i`` itself wherever i's cycle is left alone.
    """
    cycle = cycle_labels(order)
    old = np.bincount(cycle, weights=before, minlength=len(order))
    new = np.bincount(cycle, weights=after, minlength=len(order))
    magnitude = np.bincount(cycle, weights=np.abs(before) + np.abs(after), minlength=len(order))
    extra = 0.0
    if change is not None:
        extra = weight * np.bincount(cycle, weights=change, minlength=len(order))
    better = (new - old) + extra < -relative_rounding * magnitude
    return np.where(better[cycle], order, np.arange(len(order)))


def cycle_labels(order):
    """Return (B,) int64: the smallest member of each element's cycle under the permutation ``order`` (B,).

    Pointer doubling: after k rounds every element knows the smallest of 2ᵏ successors.
    """
    label = np.arange(len(order))
    jump = np.asarray(order, dtype=np.int64)
    for _ in range(max(1, len(order) - 1).bit_length()):
        label = np.minimum(label, label[jump])
        jump = jump[jump]
    return label
