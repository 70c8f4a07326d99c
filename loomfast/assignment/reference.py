"""The obvious assignment solver: shortest augmenting paths in NumPy, one row at a time.

D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE Transactions on Aerospace and
Electronic Systems 52(4), 2016. Prices are the certificate: see `loomfast.Assignment`.
"""

import heapq
import math

import numpy as np

from loomfast.assignment.result import Assignment, raise_for


def solve(cost, *, maximize=False, row_repeats=1, unmatched=None) -> Assignment:
    """Solve one (n, m) problem in float64. Raises ValueError like `loomfast.solve`.

    ``unmatched``: what the unmatched pay, as `parse_unmatched` returns it, for this problem.
    """
    c = np.repeat(np.asarray(cost, np.float64), row_repeats, axis=0)
    sign = -1.0 if maximize else 1.0
    c = sign * c
    if not np.all(c > -np.inf):
        row, col = np.argwhere(~(c > -np.inf))[0]
        raise_for("invalid_entry", entry=f"entry ({row // row_repeats}, {col})")
    if unmatched is not None:
        limit, rows, columns = unmatched
        r = np.full(len(c), limit / 2) if rows is None else np.repeat(rows[: len(cost)], row_repeats)
        k = np.full(c.shape[1], limit / 2) if columns is None else columns[: c.shape[1]]
        return _signed(sign, *_solve_unmatched(c, sign * r, sign * k))
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
    return _signed(sign, x, y, u, v, total, gap)


def _signed(sign, x, y, u, v, total, gap):
    stats = {"path": "reference"}
    return Assignment(x, y, sign * u + 0.0, sign * v + 0.0, sign * total + 0.0, gap, "optimal", stats)


def _solve_unmatched(c, r, k):
    """(x, y, u, v, total, gap) of an (n, m) cost whose rows pay r and columns k where they stay unmatched.

    The (n + m) square matrix [[c, r], [k, 0]]: a row of c in a column behind the m-th is unmatched, and so
    is a column in a row behind the n-th.
    """
    n, m = c.shape
    square = np.zeros((n + m, m + n))
    square[:n, :m], square[:n, m:], square[n:, :m] = c, r[:, None], k
    x, y, u, v = _shortest_paths(square)
    x, y = np.where(x < m, x, -1)[:n], np.where(y < n, y, -1)[:m]
    rows = np.flatnonzero(x >= 0)
    dear = rows[c[rows, x[rows]] > r[rows] + k[x[rows]]]  # by less than what was rounded
    y[x[dear]] = x[dear] = -1
    # v[j] and the price of any added row are at most k[j] together; u are the greatest prices that v allows.
    v = np.minimum(v[:m] + u[n:].max(initial=-np.inf), k)
    u = np.minimum(np.min(c - v, axis=1, initial=np.inf), r)
    above = np.any(u.astype(np.longdouble)[:, None] + v > c, axis=1)
    u = np.where(above, np.nextafter(u, -np.inf), u)
    matched = np.flatnonzero(x >= 0)
    paid = [*c[matched, x[matched]], *r[x < 0], *k[y < 0]]
    gap = math.fsum([*paid, *-u, *-v])
    return x, y, u, v, math.fsum(paid), float(np.nextafter(gap, np.inf)) if gap > 0 else 0.0


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


def k_best(cost, k):
    """Totals of the k cheapest matchings of a float64 (n, m) cost, cheapest first: Murty's partition.

    K. G. Murty, "An algorithm for ranking all the assignments in order of increasing cost", Operations
    Research 16(3), 1968. Raises ValueError where there is no matching at all.
    """
    c = np.asarray(cost, np.float64)
    c = c.T if c.shape[0] > c.shape[1] else c
    best = _shortest_paths(c)[0]
    parts = [(c[np.arange(len(c)), best].sum(), 0, tuple(best.tolist()), c)]
    totals, number = [], 0
    while parts and len(totals) < k:
        total, _, columns, part = heapq.heappop(parts)
        totals.append(float(total))
        for row, column in enumerate(columns):
            lacking = part.copy()
            lacking[row, column] = np.inf
            try:
                found = _shortest_paths(lacking)[0]
            except ValueError:
                found = None  # this part is empty
            if found is not None:
                number += 1
                total = c[np.arange(len(c)), found].sum()
                heapq.heappush(parts, (total, number, tuple(found.tolist()), lacking))
            part = part.copy()  # the next parts have this pair
            kept = part[row, column]
            part[row, :] = part[:, column] = np.inf
            part[row, column] = kept
    return totals


def bottleneck(cost):
    """The least largest cost of a complete matching of a float64 (n, m) cost: thresholds by bisection.

    Raises ValueError where there is no matching.
    """
    c = np.asarray(cost, np.float64)
    c = c.T if c.shape[0] > c.shape[1] else c
    values = np.unique(c[np.isfinite(c)])
    low, high = 0, len(values)
    while low < high:
        middle = (low + high) // 2
        if _most_rows(c <= values[middle]) == len(c):
            high = middle
        else:
            low = middle + 1
    if low == len(values):
        raise_for("infeasible")
    return float(values[low])


def _most_rows(allowed):
    """How many rows of a (n, m) bool matrix can be matched, by one augmenting path after the other."""
    owner = np.full(allowed.shape[1], -1)

    def augment(row, seen):
        for column in np.flatnonzero(allowed[row] & ~seen):
            if seen[column]:
                continue
            seen[column] = True
            if owner[column] < 0 or augment(owner[column], seen):
                owner[column] = row
                return True
        return False

    return sum(augment(row, np.zeros(allowed.shape[1], bool)) for row in range(len(allowed)))
