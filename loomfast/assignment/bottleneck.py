"""The matching whose dearest pair is the cheapest: `solve_bottleneck`."""

from dataclasses import dataclass
from typing import Any

from loomfast import _engine
from loomfast.assignment.api import matrix_cost
from loomfast.assignment.infeasible import infeasible
from loomfast.assignment.result import SOLVED, Assignment, raise_for


@dataclass(frozen=True)
class BottleneckAssignment(Assignment):
    """An `Assignment` whose dearest pair is as cheap as possible, and the proof of that.

    Attributes:
        bottleneck: the largest cost matched; the smallest when maximising.
        blocking_rows, blocking_columns: sorted int64 arrays, the proof (P. Hall, 1935). With n <= m the rows
            have, by pairs cheaper than ``bottleneck`` (dearer when maximising), no partners but the columns,
            and these are fewer; with n > m the columns are more than the rows, their only such partners.
        u, v, gap: the certificate of the sum, on the pairs that are no dearer than ``bottleneck``, where the
            sum was asked for; else None, None and 0.
    """

    bottleneck: float
    blocking_rows: Any
    blocking_columns: Any


def solve_bottleneck(cost, then_sum=False, *, maximize=False) -> BottleneckAssignment:
    """Find the complete matching whose largest cost is the least, exactly, with its proof.

    Thresholds on the costs, with a matching of the most rows at each (R. Burkard, M. Dell'Amico and
    S. Martello, "Assignment Problems", SIAM 2009, section 6.2; J. E. Hopcroft and R. M. Karp, SIAM J. Comput.
    2(4), 1973). Costs are only compared.

    Args:
        cost: (n, m), any matrix that `loomfast.solve` takes on the CPU; ``+inf`` forbids a pair (``-inf``
            when maximising).
        then_sum: of all such matchings the one with the least sum; otherwise any.
        maximize: the matching whose smallest cost is the largest instead, and then the largest sum.

    Returns:
        A `BottleneckAssignment` of NumPy arrays, of torch tensors where the cost was one.

    Raises:
        InfeasibleError: no complete matching exists; ``rows`` and ``columns`` of the error prove it. It is a
            ValueError.
        ValueError: a shape, NaN, an infinity of the wrong sign, integers beyond 2^53, or with ``then_sum``
            too large to be summed exactly.
        TypeError: a dtype that is not real.
    """
    array, dtype, wrap = matrix_cost(cost)
    found = _engine.assignment_solve_bottleneck(array, dtype, bool(maximize), bool(then_sum))
    by_row = array.shape[0] <= array.shape[1]
    if found["status"] == "infeasible":
        what = "cost is infeasible, no complete matching avoids the forbidden pairs"
        raise infeasible(found["crowded"], found["neighbours"], by_row, what)
    if found["status"] == "inexact_integers" and not then_sum:
        raise ValueError(
            f"cost holds {array.dtype} values beyond 2**53, which float64 cannot tell apart; subtract a "
            "constant, or pass float64 to accept rounding"
        )
    if found["status"] not in SOLVED:
        row, column = found["bad"]
        raise_for(found["status"], entry=f"entry ({row}, {column})", values=f"{array.dtype} values")
        raise RuntimeError(f"the solver stopped with status {found['status']}")
    col4row, row4col, u, v = found["arrays"]
    blocking = (found["crowded"], found["neighbours"])
    return BottleneckAssignment(
        wrap(col4row),
        wrap(row4col),
        wrap(u) if then_sum else None,
        wrap(v) if then_sum else None,
        found["total"],
        found["gap"],
        found["status"],
        {"path": found["path"]},
        found["bottleneck"],
        *(blocking if by_row else blocking[::-1]),
    )
