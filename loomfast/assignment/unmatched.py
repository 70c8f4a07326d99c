"""What rows and columns pay that stay unmatched: ``cost_limit`` and ``unmatched_cost`` in all their forms."""

import math

import numpy as np

from loomfast._arrays import is_tensor, real_array, to_numpy

_WHEN_MAXIMISING = "a number below inf when maximising"
MOST = 1e300  # of a number that unmatched rows or columns pay: sums of two stay far from overflow


def parse_unmatched(cost_limit, unmatched_cost, *, shape, maximize, sizes=None):
    """What the engine is told of the unmatched: None, or ``(limit, rows, columns)``.

    Args:
        cost_limit, unmatched_cost: as in `loomfast.solve`; at most one of them.
        shape: (b, n, m) of the cost, or of the largest problems; b is None for one matrix.
        maximize: as in `loomfast.solve`: with it the limit that allows every pair is -inf.
        sizes: (rows, columns), int64 arrays (b,), or None in one place: what lies past them is not looked at.

    Returns:
        None where every matching has to be complete; else a float and None, None, or a float that means
        nothing and C-contiguous float64 arrays (b, n) and (b, m), b = 1 for one matrix.

    Raises:
        ValueError: both are given, a number that is none or infinite, another shape.
        TypeError: what does not hold real numbers.
    """
    if cost_limit is None and unmatched_cost is None:
        return None
    if cost_limit is not None and unmatched_cost is not None:
        raise ValueError("cost_limit and unmatched_cost are two ways to say the same: pass one of them")
    unlimited = -math.inf if maximize else math.inf
    if cost_limit is not None:
        limit = _number(cost_limit, "cost_limit", unlimited)
        return None if limit == unlimited else (limit, None, None)
    if not isinstance(unmatched_cost, tuple | list):
        unmatched_cost = (unmatched_cost, unmatched_cost)
    if len(unmatched_cost) != 2:
        raise ValueError(
            "unmatched_cost must be a number or a pair (rows, columns) of numbers or arrays, "
            f"got {len(unmatched_cost)} parts"
        )
    rows, columns = unmatched_cost
    if _is_number(rows) and _is_number(columns):
        paid = [_number(part, "unmatched_cost", unlimited) for part in (rows, columns)]
        if paid == [unlimited, unlimited]:
            return None
        if paid[0] == paid[1] and abs(paid[0]) <= MOST:
            return 2 * paid[0], None, None
    sizes = sizes or (None, None)
    parts = (("rows", rows, shape[1], sizes[0]), ("columns", columns, shape[2], sizes[1]))
    return 0.0, *(_part(f"unmatched_cost {name}", value, shape[0], *rest) for name, value, *rest in parts)


def _is_number(value):
    """Whether a value is one number: a scalar of Python, NumPy or torch."""
    return np.isscalar(value) or getattr(value, "shape", None) == ()


def _number(value, name, unlimited):
    """A real number as float, neither NaN nor infinite, but for ``unlimited``, an infinity or None."""
    plain = value.item() if hasattr(value, "item") and _is_number(value) else value
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        raise TypeError(f"{name} must be a real number, got {value!r} of type {type(value).__name__}")
    try:
        number = float(plain)
    except OverflowError:
        number = math.inf if plain > 0 else -math.inf
    if math.isnan(number) or (math.isinf(number) and number != unlimited):
        wanted = {None: "finite", math.inf: "a number above -inf"}
        raise ValueError(f"{name} must be {wanted.get(unlimited, _WHEN_MAXIMISING)}, got {plain!r}")
    return number


def _part(name, value, batch, length, sizes):
    """The numbers of one side as float64 (b, length)."""
    b = 1 if batch is None else batch
    if isinstance(value, tuple | list) and batch is not None and any(np.ndim(one) == 1 for one in value):
        array = _padded(name, value, b, length, sizes)
    elif _is_number(value):
        array = np.full((b, length), _number(value, name, None), np.float64)
    else:
        array = real_array(value if hasattr(value, "dtype") else np.asarray(value), name).astype(np.float64)
        if array.shape not in ((length,), (b, length)[batch is None :]):
            shapes = f"({length},)" if batch is None else f"({length},) or ({b}, {length})"
            raise ValueError(f"{name} must be a number or have shape {shapes}, got {array.shape}")
        array = np.ascontiguousarray(np.broadcast_to(array, (b, length)))
    used = np.ones((b, length), bool) if sizes is None else np.arange(length) < sizes[:, None]
    wrong = used & ~(np.abs(array) <= MOST)
    if wrong.any():
        raise ValueError(
            f"{name} must be finite numbers, of a magnitude of at most {MOST:g}, got {array[wrong][0]!r}"
        )
    return np.where(used, array, 0.0)


def _padded(name, values, b, length, sizes):
    """Numbers given by the problem, padded with zeros."""
    if len(values) != b:
        raise ValueError(f"{name} must have one array for each of the {b} problems, got {len(values)}")
    array = np.zeros((b, length))
    for k, value in enumerate(values):
        one = real_array(to_numpy(value) if is_tensor(value) else np.asarray(value), f"{name} [{k}]")
        expected = length if sizes is None else int(sizes[k])
        if one.shape != (expected,):
            raise ValueError(f"{name} [{k}] must have shape ({expected},), got {one.shape}")
        array[k, :expected] = one
    return array
