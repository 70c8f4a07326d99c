"""The k cheapest matchings, cheapest first: `solve_k_best`."""

import numpy as np

from loomfast import _engine
from loomfast._arrays import integer
from loomfast.assignment.api import matrix_cost
from loomfast.assignment.result import SOLVED, Assignment, raise_for


def solve_k_best(cost, k, *, maximize=False) -> list[Assignment]:
    """Find the ``k`` cheapest complete matchings, each once, cheapest first.

    K. G. Murty, "An algorithm for ranking all the assignments in order of increasing cost", Operations
    Research 16(3), 1968; M. L. Miller, H. S. Stone and I. J. Cox, "Optimizing Murty's ranked assignment
    method", IEEE Transactions on Aerospace and Electronic Systems 33(3), 1997: what remains is solved from
    the prices of what it was divided from, along one shortest path, and only when a lower bound says that it
    may come next.

    Args:
        cost: (n, m), any matrix that `loomfast.solve` takes on the CPU; ``+inf`` forbids a pair (``-inf``
            when maximising).
        k: how many; fewer are returned where there are no more.
        maximize: the dearest ones instead, dearest first.

    Returns:
        `Assignment`s of min(n, m) pairs by their ``total``. The first is that of `loomfast.solve`. The others
        share its prices u and v, ``gap`` bounds their distance from it, ``status`` is ``"ranked"``. Totals of
        floating-point costs that differ by less than the rounding of their sums (8 n 2^-53 times the largest
        cost matched) may take each other's place.

    Raises:
        ValueError: k below 1, or a cost that `loomfast.solve` refuses.
        TypeError: k that is not an integer, or a dtype that is not real.
    """
    k = integer(k, "k", 1)
    array, dtype, wrap = matrix_cost(cost)
    col4row, row4col, totals, u, v, gap, status, row, column = _engine.assignment_solve_k_best(
        array, dtype, min(k, 1 << 62), bool(maximize)
    )
    if status not in SOLVED:
        raise_for(status, entry=f"entry ({row}, {column})", values=f"{array.dtype} values")
        raise RuntimeError(f"the solver stopped with status {status}")
    order = np.argsort(-totals if maximize else totals, kind="stable")
    totals = totals[order]
    # Bounds on distances from the optimum, rounded upward.
    gaps = np.nextafter(np.abs(totals - totals[0]) + gap, np.inf)
    gaps[0] = gap
    u, v = wrap(u), wrap(v)
    matchings = zip(wrap(col4row[order]), wrap(row4col[order]), totals.tolist(), gaps.tolist(), strict=True)
    return [
        Assignment(x, y, u, v, total, gap, "ranked" if rank else "optimal", {"path": "k best", "rank": rank})
        for rank, (x, y, total, gap) in enumerate(matchings)
    ]
