"""Batches of problems of different sizes: what ``sizes`` may be."""

import numpy as np

from loomfast._arrays import INTEGERS, check_dtype, to_numpy


def parse_sizes(sizes, shape, row_repeats=1):
    """The parts ``(rows, columns)`` of ``sizes``, each an array as it was given, or None where it was not.

    Problem k of a padded batch is the top left ``rows[k]`` by ``columns[k]`` of its costs; what lies beyond
    is not read. A part that is None stands for all rows, or all columns, of every problem.

    Args:
        sizes: None, or a pair of integer arrays (b,), or None in one place; arrays of any library.
        shape: that of the cost: (b, n, m).
        row_repeats: as given beside ``sizes``.

    Raises:
        TypeError: no pair, or a part that does not hold integers.
        ValueError: a cost without a batch axis, a part of another shape, ``row_repeats``, or, where a part is
            not on a device, a size below 0 or above that of the batch.
    """
    if sizes is None:
        return None, None
    if not isinstance(sizes, tuple | list) or len(sizes) != 2:
        raise TypeError(f"sizes must be a pair (rows, columns) of integer arrays, got {type(sizes).__name__}")
    if len(shape) != 3:
        raise ValueError(f"sizes are those of a batch (b, n, m), got a cost of shape {tuple(shape)}")
    if row_repeats != 1:
        raise ValueError(f"sizes cannot be combined with row_repeats, got row_repeats {row_repeats}")
    parts = tuple(part if part is None or hasattr(part, "dtype") else _as_array(part) for part in sizes)
    for name, part, most in zip(("rows", "columns"), parts, shape[1:], strict=True):
        if part is not None:
            _check_part(f"sizes {name}", part, shape[0], most)
    return parts


def host_sizes(sizes, shape, row_repeats=1):
    """`parse_sizes` for a cost on the CPU: None, or a pair of int64 arrays (b,), or None in one place.

    Raises as `parse_sizes` does, also for a size out of range in a tensor.
    """
    parts = [None if part is None else to_numpy(part) for part in parse_sizes(sizes, shape, row_repeats)]
    for name, part, most in zip(("rows", "columns"), parts, shape[1:], strict=False):
        if part is not None:
            _check_part(f"sizes {name}", part, shape[0], most)
    if all(part is None for part in parts):
        return None
    return tuple(None if part is None else np.ascontiguousarray(part, np.int64) for part in parts)


def _as_array(part):
    array = np.asarray(part)
    return array if array.size else array.astype(np.int64)


def _check_part(name, part, batch, most):
    check_dtype(part.dtype, name, INTEGERS, "be integers")
    if tuple(part.shape) != (batch,):
        raise ValueError(f"{name} must have shape ({batch},), one for each problem, got {tuple(part.shape)}")
    if isinstance(part, np.ndarray) and part.size and not 0 <= int(part.min()) <= int(part.max()) <= most:
        wrong = part[(part < 0) | (part > most)][0]
        raise ValueError(f"{name} must be between 0 and {most}, got {wrong}")
