"""Where a solve may start from: ``start`` in all its forms, as a matching and two vectors of prices."""

import numpy as np

from loomfast._arrays import FLOATS, INTEGERS, name_of_dtype, real_array
from loomfast.assignment.result import Assignment


def parse_start(start):
    """The parts ``(col4row, u, v)`` of a start, each an array as it was given, or None where it was not.

    Args:
        start: None, an `Assignment`, a matching (integers), column prices (floating point), a pair
            ``(col4row, v)`` or a triple ``(col4row, u, v)``; an array of any library.

    Raises:
        ValueError: a tuple of another length.
    """
    if start is None:
        return None, None, None
    if isinstance(start, Assignment):
        return start.col4row, start.u, start.v
    if not isinstance(start, tuple):
        start = start if hasattr(start, "dtype") else np.asarray(start)
        is_matching = name_of_dtype(start.dtype) in INTEGERS
        return (start, None, None) if is_matching else (None, None, start)
    if len(start) == 2:
        return start[0], None, start[1]
    if len(start) != 3:
        raise ValueError(
            "start must be an Assignment, col4row, v, a pair (col4row, v) or a triple (col4row, u, v), "
            f"got {len(start)} parts"
        )
    return start


def host_start(start, problem_shape, batched):
    """`parse_start` for the engine on the CPU: C-contiguous int64 (b, n), float64 (b, n) and float64 (b, m).

    Args:
        start: as in `parse_start`; NumPy arrays, torch CPU tensors or what NumPy makes arrays of.
        problem_shape: ``(b, n, m)``.
        batched: whether the cost had a batch axis, and so ``start`` must have one.

    Raises:
        ValueError: a part of another shape.
        TypeError: a matching that does not hold integers, or prices that are not floating point.
    """
    if start is None:
        return None, None, None
    col4row, u, v = parse_start(start)
    b, n, m = problem_shape
    return (
        _host_part("start col4row", col4row, np.int64, INTEGERS, (b, n), batched),
        _host_part("start u", u, np.float64, FLOATS, (b, n), batched),
        _host_part("start v", v, np.float64, FLOATS, (b, m), batched),
    )


def _host_part(name, value, dtype, takes, shape, batched):
    if value is None:
        return None
    what = "be integers" if takes is INTEGERS else "hold floating-point numbers"
    array = real_array(value, name, takes, what)
    expected = shape if batched else shape[1:]
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}")
    return np.ascontiguousarray(array, dtype).reshape(shape)
