"""What a solve returns, an `Assignment`, and what it raises: every status, its name and its message."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loomfast._arrays import is_tensor

SOLVED = ("optimal", "within_tolerance")
# The codes that the CUDA kernels report are indices into this table. The engine for the CPU reports names.
STATUS = (
    *("optimal", "invalid_entry", "infeasible", "out_of_range", "within_tolerance", "inexact_integers"),
    "invalid_size",
)
# What the kernels count, in the order of `Assignment.stats` of a solve on a GPU.
COUNTERS = ("barriers", "rounds", "bids", "repair_passes", "forest_passes", "forest_steps", "rows_relaxed")
# The phases of a solve on the CPU, under "seconds" of `Assignment.stats`: entries read, checked and scaled;
# minima of columns and rows, and bids without eps; bids with eps; prices lowered and rows freed after those,
# or after a start; shortest augmenting paths; the certificate; anything else.
PHASES = ("read", "reduce", "auction", "repair", "paths", "certify", "rest")

# Status of an unsolved problem -> what is raised. {where}: "[k]" of problem k of a batch; {entry}: the entry
# that is no number, where it is known; {values}: what kind of integers they are.
_ERRORS = {
    "invalid_entry": (
        ValueError,
        "cost{where} contains invalid numeric entries: {entry} must be a number, or +inf where a pair is "
        "forbidden (-inf when maximising)",
    ),
    "infeasible": (
        ValueError,
        "cost{where} matrix is infeasible: no complete matching avoids the forbidden pairs",
    ),
    "inexact_integers": (
        ValueError,
        "cost{where} holds {values} too large to be summed exactly: min(n, m) * max|cost| must be below "
        "2**53; subtract a constant, or pass float64 to accept rounding",
    ),
    "invalid_size": (
        ValueError,
        "cost{where}: sizes must be between 0 and the rows and columns of the batch",
    ),
    "uncertified": (
        ValueError,
        "cost{where} changed while it was being solved: no solution could be certified",
    ),
    "out_of_range": (
        RuntimeError,
        "cost{where}: path lengths left the range of 64-bit labels; solve it on the CPU",
    ),
}


@dataclass(frozen=True)
class Assignment:
    """An optimal matching, its proof, and how it was found.

    Every array has a leading batch axis when the cost had one or was a list; ``total`` and ``gap`` are then
    (b,) arrays, ``status`` and ``stats`` tuples. Arrays are torch tensors where the cost was one. Problems of
    a batch that are smaller than others have -1 (matchings) and 0 (prices) past their sizes.

    Attributes:
        col4row: (n,) int64, the column of each row, -1 where the row is unmatched.
        row4col: (m,) int64, the row of each column, -1 where the column is unmatched.
        u, v: (n,), (m,) float64 dual prices. Minimising with n <= m: ``u[i] + v[j] <= cost[i, j]`` for all
            pairs, ``v <= 0`` and ``v = 0`` on unmatched columns. For n > m it is ``u <= 0`` and ``u = 0`` on
            unmatched rows. Where the unmatched pay (``cost_limit``, ``unmatched_cost``), it is instead
            ``u[i] + v[j] <= cost[i, j]`` for all pairs, ``u[i] <= r[i]`` and ``v[j] <= k[j]``, r and k what
            they pay, with equality on unmatched rows and columns. Maximising reverses the inequalities.
            Either way ``sum(u) + sum(v)`` bounds the optimum. Prices beyond the range of float64 are cut to
            it, where they stay feasible.
        total: the cost of the matching, with what the unmatched pay, if they do.
        gap: a rigorous upper bound on its distance from the optimum, rounded upward.
        status: ``"optimal"`` (gap <= 8 n 2^-53 s, s the largest magnitude among the costs matched and the
            prices; 0 for integers) or ``"within_tolerance"``. Where the unmatched pay, the costs less what is
            paid are solved so, and the gap has the rounding of prices and payments on top: 12 n 2^-53 s with
            a limit, an integer one of integers 0.
        stats: counts of the work done, under ``"path"`` the algorithm that decided, and from 4096 entries on
            under ``"seconds"`` where the time went, by the phases of `loomfast.assignment.PHASES`.

    From ``backend="cuda"`` every field is a device array: ``status`` int32, an index into
    `loomfast.assignment.STATUS` (0: optimal), and ``stats`` int64 counters in the order of
    `loomfast.assignment.COUNTERS`. Inside ``torch.compile``, torch's transforms and its dispatch modes every
    field is a tensor likewise, and ``stats`` is empty.

    Where autograd follows the cost, ``total`` is a tensor with a gradient: the matching, 1 at each matched
    pair and 0 elsewhere (summed over repeated rows), which is the derivative where only one matching is
    optimal, and a subgradient, when minimising a supergradient, where several are. It can be differentiated
    once; the other fields have no gradient.
    """

    col4row: Any
    row4col: Any
    u: Any
    v: Any
    total: Any
    gap: Any
    status: Any
    stats: Any

    def pairs(self):
        """The matched pairs as sorted rows and their columns, as `linear_sum_assignment` returns them.

        Returns:
            ``(rows, columns)``, int64 arrays of the kind of ``col4row``; for a batch a list of them.
        """
        if self.col4row.ndim == 2:
            return [_pairs(one) for one in self.col4row]
        return _pairs(self.col4row)

    def check(self):
        """Wait for a solve on a GPU and raise what the CPU would have raised; returns self."""
        if hasattr(self.status, "tolist"):
            check_status(self.status)
        return self


def _pairs(col4row):
    matched = (col4row >= 0).nonzero()
    (rows,) = matched.T if is_tensor(col4row) else matched
    return rows, col4row[rows]


def array_table(rows, columns):
    """Name -> (shape, dtype) of the arrays that describe one solved problem, in the order of `Assignment`."""
    return {
        "col4row": ((rows,), "int64"),
        "row4col": ((columns,), "int64"),
        "u": ((rows,), "float64"),
        "v": ((columns,), "float64"),
        "total": ((), "float64"),
        "gap": ((), "float64"),
    }


def stacked(results, rows, columns):
    """The results of a batch as one `Assignment`: arrays with a leading axis, tuples of status and stats.

    Matchings shorter than ``rows`` and ``columns`` are padded with -1, prices with 0.
    """
    arrays = {}
    for name, (shape, dtype) in array_table(rows, columns).items():
        arrays[name] = np.full((len(results), *shape), -1 if dtype == "int64" else 0, dtype)
        for k, result in enumerate(results):
            part = getattr(result, name)
            arrays[name][(k, *map(slice, np.shape(part)))] = part
    return Assignment(
        **arrays, status=tuple(r.status for r in results), stats=tuple(r.stats for r in results)
    )


def raise_for(status, where="", *, entry="every entry", values="integers"):
    """Raise the error of a problem that was not solved; nothing happens for a status that is in `SOLVED`.

    Args:
        status: a name out of `STATUS`, or ``"uncertified"``.
        where: ``"[k]"`` for problem k of a batch, empty for a problem alone.
        entry: which entry is invalid, in words.
        values: what the integers are that are too large, in words.

    Raises:
        ValueError: the problem has no solution, or is none.
        RuntimeError: the kernels cannot solve it.
    """
    if status in _ERRORS:
        error, message = _ERRORS[status]
        raise error(message.format(where=where, entry=entry, values=values))


def check_status(status):
    """Wait for the device that ``status`` is on, and raise for the first problem that was not solved.

    Args:
        status: () or (b,) device array of indices into `STATUS`.

    Raises:
        ValueError, RuntimeError: as `raise_for`.
    """
    codes = np.atleast_1d(np.asarray(status.tolist()))
    solved = np.isin(codes, [STATUS.index(name) for name in SOLVED])
    for k in np.flatnonzero(~solved):
        raise_for(STATUS[codes[k]], f"[{k}]" if codes.size > 1 else "")
