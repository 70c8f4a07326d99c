"""The linear assignment problem, solved exactly and certified: `linear_sum_assignment` and `solve`."""

import os
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import assignment_cuda as _cuda
from ._arrays import to_numpy
from ._engine import assignment_solve as _assignment_solve
from ._engine import linear_sum_assignment

__all__ = ["Assignment", "linear_sum_assignment", "solve"]


@dataclass(frozen=True)
class Assignment:
    """An optimal matching, its proof, and how it was found.

    Every array has a leading batch axis when the cost had one; ``total`` and ``gap`` are then (b,) arrays,
    ``status`` and ``stats`` tuples. Arrays are torch tensors where the cost was one.

    Attributes:
        col4row: (n,) int64, the column of each row, -1 where the row is unmatched.
        row4col: (m,) int64, the row of each column, -1 where the column is unmatched.
        u, v: (n,), (m,) float64 dual prices. Minimising with n <= m: ``u[i] + v[j] <= cost[i, j]`` for all
            pairs, ``v <= 0`` and ``v = 0`` on unmatched columns. For n > m it is ``u <= 0`` and ``u = 0`` on
            unmatched rows. Maximising reverses the inequalities. Prices beyond the range of float64 are cut
            to it, where they stay feasible.
        total: the cost of the matching.
        gap: a rigorous upper bound on its distance from the optimum, rounded upward.
        status: ``"optimal"`` (gap <= 8 n 2^-53 s, s the largest magnitude among the costs matched and the
            prices; 0 for integers) or ``"within_tolerance"``.
        stats: counts of the work done, and under ``"path"`` the algorithm that decided.

    From ``backend="cuda"`` every field is a device array: ``status`` int32, an index into
    `loomfast.assignment_cuda.STATUS` (0: optimal), and ``stats`` int64 counters in the order of
    `loomfast.assignment_cuda.COUNTERS`.
    """

    col4row: Any
    row4col: Any
    u: Any
    v: Any
    total: Any
    gap: Any
    status: Any
    stats: Any

    def check(self):
        """Wait for a solve on a GPU and raise ValueError if it failed; returns self."""
        if hasattr(self.status, "tolist"):
            _cuda.check_status(self.status)
        return self


def solve(
    cost, *, maximize=False, start=None, tolerance=0.0, row_repeats=1, backend="auto", threads=None
) -> Assignment:
    """Solve the assignment problem exactly, with dual prices and a certified gap.

    Args:
        cost: (n, m) or (b, n, m) of float16, bfloat16, float32, float64, any integer type or bool; any
            strides; an ndarray, a torch CPU tensor, or anything with ``__array__`` or ``__dlpack__``; on a
            GPU a torch tensor or CuPy array.
            ``+inf`` forbids a pair (``-inf`` when maximising). Finite costs that stand for "forbidden", 1e15
            or 1e300 beside ordinary ones, are matched as seldom as possible, and what remains is optimal on
            its own scale.
        maximize: maximise the total instead.
        start: where to start from: a previous `Assignment`, a matching (col4row, integers), column prices
            (v, floats), ``(col4row, v)`` or ``(col4row, u, v)`` with None for what is not known. Of the
            prices, those of the longer side are used: v for n <= m, u for n > m. A start changes the time
            a solve takes, never what is optimal; one that fits badly is dropped.
        tolerance: may stop once ``gap <= tolerance * sum_i(mean_j cost - min_j cost)``; square problems
            only, others are solved exactly.
        row_repeats: row i of ``cost`` stands for rows ``i * row_repeats ... (i + 1) * row_repeats - 1`` of
            the problem, which share storage.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"`` (the obvious NumPy version) or ``"auto"``: the CPU for
            a cost there, and `loomfast.assignment_cuda.auto_backend` for a cost on a GPU.
        threads: threads to share a batch between; all the cores by default. The answer does not depend on it.

    Raises:
        ValueError: a shape, NaN, an infinity of the wrong sign, no feasible matching, integers too large to
            be summed exactly (n * max|cost| >= 2^53), or an unknown backend.
        TypeError: a dtype that is not a real number.
        RuntimeError: a backend that cannot run here.
    """
    _check_options(tolerance, row_repeats, threads)
    if backend == "cuda" or (backend == "auto" and _cuda.on_cuda(cost)):

        def on_cpu(cost, start):
            return solve(
                cost,
                maximize=maximize,
                start=start,
                tolerance=tolerance,
                row_repeats=row_repeats,
                backend="cpu",
                threads=threads,
            )

        return _cuda.solve_where_best(cost, backend, maximize, start, tolerance, row_repeats, on_cpu)
    array, dtype, batched, wrap = _as_costs(cost)
    if backend not in ("auto", "cpu", "reference"):
        raise _unknown_backend(backend)
    problem_shape = (len(array), array.shape[1] * row_repeats, array.shape[2])
    known = _as_start(start, problem_shape, batched)
    if backend == "reference":
        from .reference.assignment import solve as reference_solve

        if dtype == "bfloat16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        results = [reference_solve(c, maximize=maximize, row_repeats=row_repeats) for c in array]
        parts = _stack(results, problem_shape)
    else:
        workers = threads if threads is not None else (os.cpu_count() or 1)
        *arrays, reports = _assignment_solve(
            array, dtype, bool(maximize), float(tolerance), row_repeats, *known, workers
        )
        for k, (status, row, col, _) in enumerate(reports):
            _raise_for(status, row, col, array, f"[{k}]" if batched else "")
        parts = (*arrays, tuple(r[0] for r in reports), tuple(r[3] for r in reports))
    if not batched:
        parts = tuple(part[0] for part in parts)
        parts = (*parts[:4], float(parts[4]), float(parts[5]), *parts[6:])
    return Assignment(*(wrap(part) if isinstance(part, np.ndarray) else part for part in parts))


def _unknown_backend(backend):
    if backend == "triton":
        return RuntimeError("solve has no backend='triton': use backend='cpu', 'cuda' or 'auto'")
    return ValueError(f"backend must be 'auto', 'cpu', 'cuda' or 'reference', got {backend!r}")


def _check_options(tolerance, row_repeats, threads):
    if not (np.isscalar(tolerance) and np.isreal(tolerance) and 0 <= tolerance < np.inf):
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance!r}")
    for name, value in (("row_repeats", row_repeats), ("threads", threads)):
        if value is None and name == "threads":
            continue
        if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")


def _stack(results, shape):
    """Batch of results: arrays with a leading axis, statuses and stats as tuples."""
    b, n, m = shape
    lengths = {"col4row": n, "row4col": m, "u": n, "v": m}
    arrays = [
        np.array([getattr(r, name) for r in results], np.int64 if "4" in name else np.float64).reshape(
            b, length
        )
        for name, length in lengths.items()
    ]
    numbers = [np.array([getattr(r, name) for r in results], np.float64) for name in ("total", "gap")]
    return (*arrays, *numbers, tuple(r.status for r in results), tuple(r.stats for r in results))


def _raise_for(status, row, col, array, where):
    if status == "invalid_entry":
        raise ValueError(
            f"cost{where} contains invalid numeric entries: "
            f"entry ({row}, {col}) must be a number, or +inf where a pair is forbidden (-inf when maximising)"
        )
    if status == "infeasible":
        raise ValueError(f"cost{where} matrix is infeasible: no complete matching avoids the forbidden pairs")
    if status == "uncertified":
        raise ValueError(f"cost{where} changed while it was being solved: no solution could be certified")
    if status == "inexact_integers":
        raise ValueError(
            f"cost{where} holds {array.dtype} values too large to be summed exactly: min(n, m) * max|cost| "
            "must be below 2**53; subtract a constant, or pass float64 to accept rounding"
        )


# ---- what callers may pass ------------------------------------------------------------------------------


def _is_torch(value):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _as_array(cost):
    """The cost as (ndarray of a readable dtype, dtype name, wrapper of results into the caller's kind)."""
    if _is_torch(cost):
        import torch

        if cost.device.type != "cpu":
            raise RuntimeError(
                f"cost is on {cost.device}: this version solves on the CPU; pass cost.cpu() to solve it there"
            )
        cost = cost.detach()
        bits = cost.view(torch.uint16) if cost.dtype == torch.bfloat16 else cost
        name = "bfloat16" if cost.dtype == torch.bfloat16 else str(cost.dtype).removeprefix("torch.")
        return bits.resolve_neg().numpy(), name, torch.from_numpy
    if not isinstance(cost, np.ndarray) and not hasattr(cost, "__array__") and hasattr(cost, "__dlpack__"):
        cost = np.from_dlpack(cost)
    array = np.asarray(cost)
    if array.dtype.name == "bfloat16":
        return array.view(np.uint16), "bfloat16", np.asarray
    if array.dtype.kind not in "biuf" or not np.can_cast(array.dtype, np.float64):
        raise TypeError(
            f"Cannot cast array data from {array.dtype!r} to dtype('float64') according to the rule 'safe'"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False), array.dtype.name, np.asarray


def _as_costs(cost):
    array, dtype, wrap = _as_array(cost)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"cost must be a matrix (n, m) or a batch (b, n, m), got {array.ndim} dimensions "
            f"with shape {array.shape}"
        )
    batched = array.ndim == 3
    return (array if batched else array[None]), dtype, batched, wrap


def _as_start(start, shape, batched):
    """`start` as (col4row, u, v), each of them a C-contiguous batch or None."""
    if start is None:
        return None, None, None
    if isinstance(start, Assignment):
        start = (start.col4row, start.u, start.v)
    if not isinstance(start, tuple):
        array = to_numpy(start)
        start = (array, None) if array.dtype.kind in "iu" else (None, array)
    if len(start) == 2:
        start = (start[0], None, start[1])
    if len(start) != 3:
        raise ValueError(
            "start must be an Assignment, col4row, v, a pair (col4row, v) or a triple (col4row, u, v), "
            f"got {len(start)} parts"
        )
    b, n, m = shape
    return (
        _start_part("start col4row", start[0], np.int64, "iu", (b, n), batched),
        _start_part("start u", start[1], np.float64, "f", (b, n), batched),
        _start_part("start v", start[2], np.float64, "f", (b, m), batched),
    )


def _start_part(name, value, dtype, kinds, shape, batched):
    if value is None:
        return None
    array = to_numpy(value)
    expected = shape if batched else shape[1:]
    if array.shape != expected or array.dtype.kind not in kinds:
        raise ValueError(
            f"{name} must have shape {expected} and kind {dtype.__name__}, got {array.shape} {array.dtype}"
        )
    return np.ascontiguousarray(array, dtype).reshape(shape)


def _linear_sum_assignment_of_any(cost, maximize):
    """`linear_sum_assignment` of what the extension does not read directly."""
    array, dtype, wrap = _as_array(cost)
    if array.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {array.ndim} array")
    if dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    rows, cols = linear_sum_assignment(np.asarray(array), maximize)
    return wrap(rows), wrap(cols)
