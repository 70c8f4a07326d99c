"""The assignment problem in rational arithmetic: slow, obvious, and never wrong."""

from fractions import Fraction

import numpy as np


def exact_matching(cost):
    """Columns of an optimal matching of the rows of ``cost`` (n <= m; +inf forbids), or None.

    Kuhn and Munkres's algorithm with potentials, every number a Fraction.
    """
    n, m = cost.shape
    entries = [[Fraction(float(c)) if np.isfinite(c) else None for c in row] for row in cost]
    u, v = [Fraction(0)] * (n + 1), [Fraction(0)] * (m + 1)
    owner = [0] * (m + 1)  # row of each column, counted from 1; 0 where it is free
    for row in range(1, n + 1):
        owner[0], column = row, 0
        way, least, used = [0] * (m + 1), [None] * (m + 1), [False] * (m + 1)
        while owner[column]:
            used[column] = True
            i, nearest = owner[column], None
            for j in range(1, m + 1):
                if used[j]:
                    continue
                c = entries[i - 1][j - 1]
                if c is not None and (least[j] is None or c - u[i] - v[j] < least[j]):
                    least[j], way[j] = c - u[i] - v[j], column
                if least[j] is not None and (nearest is None or least[j] < least[nearest]):
                    nearest = j
            if nearest is None:
                return None
            step = least[nearest]
            for j in range(m + 1):
                if used[j]:
                    u[owner[j]] += step
                    v[j] -= step
                elif least[j] is not None:
                    least[j] -= step
            column = nearest
        while column:
            owner[column] = owner[way[column]]
            column = way[column]
    matching = [0] * n
    for j in range(1, m + 1):
        if owner[j]:
            matching[owner[j] - 1] = j - 1
    return matching


def exact_sum(values):
    return sum((Fraction(float(x)) for x in values), Fraction(0))
