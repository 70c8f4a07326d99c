"""The obvious assignment solver: shortest augmenting paths in NumPy, one row at a time.

D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and
Electronic Systems 52(4), 2016. Prices are the certificate: see `loomfast.Assignment`.
"""

import math

import numpy as np

from loomfast.assignment.result import Assignment, raise_for


def solve(cost, *, maximize=False, row_repeats=1) -> Assignment:
    """Solve one (n, m) problem in float64. Raises ValueError like `loomfast.solve`."""
    c = np.repeat(np.asarray(cost, np.float64), row_repeats, axis=0)
    sign = -1.0 if maximize else 1.0
    c = sign * c
    if not np.all(c > -np.inf):
        row, col = np.argwhere(~(c > -np.inf))[0]
        raise_for("invalid_entry", entry=f"entry ({row // row_repeats}, {col})")
    transposed = c.shape[0] > c.shape[1]
    x, y, u, v = _shortest_paths(c.T if transposed else c)
    if transposed:
        x, y, u, v = y, x, v, u
    matched = np.flatnonzero(x >= 0)
    costs = c[matched, x[matched]]
    total = math.fsum(costs)
    gap = math.fsum([*costs, *-u, *-v])  # correctly rounded: one step up bounds it
    gap = float(np.nextafter(gap, np.inf)) if gap > 0 else 0.0
    if np.asarray(cost).dtype.kind in "biu":
        gap = float(np.floor(gap))
    return Assignment(
        x, y, sign * u + 0.0, sign * v + 0.0, sign * total + 0.0, gap, "optimal", {"path": "reference"}
    )


def _shortest_paths(c):
    n, m = c.shape
    x, y = np.full(n, -1), np.full(m, -1)
    u, v = np.zeros(n), np.zeros(m)
    for free_row in range(n):
        distance, predecessor = np.full(m, np.inf), np.full(m, -1)
        scanned = np.zeros(m, bool)
        i, length = free_row, 0.0
        while True:  # Dijkstra over reduced costs c - u - v >= 0, from the free row to a free column
            through_i = length + (c[i] - u[i] - v)
            closer = ~scanned & (through_i < distance)
            distance[closer] = through_i[closer]
            predecessor[closer] = i
            length = distance[~scanned].min(initial=np.inf)
            if length == np.inf:
                raise_for("infeasible")
            nearest = np.flatnonzero(~scanned & (distance == length))
            free = nearest[y[nearest] < 0]
            j = free[0] if free.size else nearest[0]
            if free.size:
                break
            scanned[j] = True
            i = y[j]
        v[scanned] -= length - distance[scanned]
        while True:  # exchange along the path
            i = predecessor[j]
            y[j] = i
            x[i], j = j, x[i]
            if i == free_row:
                break
        matched = x >= 0
        u[matched] = np.min(c[matched] - v, axis=1)
    above = np.any(u.astype(np.longdouble)[:, None] + v > c, axis=1)  # where min(c - v) was rounded up
    return x, y, np.where(above, np.nextafter(u, -np.inf), u), v
