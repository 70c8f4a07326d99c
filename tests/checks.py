"""Checks that every backend's answers must pass."""

import numpy as np


def check_assignment(cost, result, *, maximize=False, row_repeats=1, tolerance=None, every_cost=False):
    """The matching is complete, the prices certify it, and the certificate meets the exactness bound.

    The bound is on the scale of the costs matched and the prices, or with ``every_cost`` of all costs.

    Sums are taken in long double, whose rounding is far below the slack that the contract allows.
    """
    cost = np.asarray(cost)
    integers = cost.dtype.kind in "biu"
    c = np.repeat(cost.astype(np.float64), row_repeats, axis=0)
    n, m = c.shape
    x, y = np.asarray(result.col4row), np.asarray(result.row4col)
    u, v = np.asarray(result.u), np.asarray(result.v)
    assert x.dtype == y.dtype == np.int64
    assert u.dtype == v.dtype == np.float64
    assert x.shape == u.shape == (n,)
    assert y.shape == v.shape == (m,)

    rows = np.flatnonzero(x >= 0)
    assert len(rows) == min(n, m)
    assert np.all((x >= -1) & (x < m))
    assert np.array_equal(y[x[rows]], rows)
    assert np.count_nonzero(y >= 0) == len(rows)
    if integers:
        assert int(result.total) == int(cost.astype(object).repeat(row_repeats, 0)[rows, x[rows]].sum())

    wide = c.astype(np.longdouble)
    sign = -1 if maximize else 1
    matched = wide[rows, x[rows]]
    used = np.concatenate([np.abs(c[rows, x[rows]]), np.abs(u), np.abs(v)])
    if every_cost:
        used = np.abs(c[np.isfinite(c)])
    bound = 8 * min(n, m) * 2.0**-53 * used.max(initial=0.0)
    assert np.all(np.isfinite(matched))
    assert abs(result.total - matched.sum()) <= 2.0**-51 * np.abs(matched).sum()
    if integers:  # integer totals differ by integers: a gap below 1 proves optimality
        bound = 0.0

    assert np.all(np.isfinite(u))
    assert np.all(np.isfinite(v))
    slack = sign * (wide - u.astype(np.longdouble)[:, None] - v.astype(np.longdouble)[None, :])
    rounding = 2.0**-60 * (np.abs(u).max(initial=0.0) + np.abs(v).max(initial=0.0))
    assert slack.min(initial=np.inf) >= -rounding, "dual prices are infeasible"
    short_side, long_matching = (v, y) if n <= m else (u, x)
    assert np.all(sign * short_side <= 0), "a price on the longer side has the wrong sign"
    assert np.all(short_side[long_matching < 0] == 0), "an unmatched price is not zero"

    gap = sign * (matched.sum() - u.astype(np.longdouble).sum() - v.astype(np.longdouble).sum())
    floor = np.floor(float(gap) + 1e-6) if integers else gap
    assert result.gap >= floor - 2.0**-60 * (np.abs(u).sum() + np.abs(v).sum() + np.abs(matched).sum())
    if tolerance is None:
        assert result.status == "optimal"
        assert result.gap <= bound, f"gap {result.gap} exceeds the exactness bound {bound}"
    else:
        span = sign * (wide.mean(axis=1) - (sign * wide).min(axis=1) * sign)
        assert result.gap <= max(tolerance * span.sum() * (1 + 1e-9), bound)


def optimal_total(cost, maximize=False):
    """scipy's optimum in float64."""
    from scipy.optimize import linear_sum_assignment

    cost = np.asarray(cost, np.float64)
    return cost[linear_sum_assignment(cost, maximize)].sum()
