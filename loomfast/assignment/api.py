"""The linear assignment problem, solved exactly and certified: `linear_sum_assignment` and `solve`."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import (
    FLOATS,
    INTEGERS,
    REAL,
    check_threads,
    cores,
    integer,
    is_tensor,
    name_of_dtype,
    real_array,
    widened,
)
from loomfast._engine import linear_sum_assignment
from loomfast.assignment import cuda as _cuda

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
    `loomfast.assignment.cuda.STATUS` (0: optimal), and ``stats`` int64 counters in the order of
    `loomfast.assignment.cuda.COUNTERS`.
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
            the problem, which share storage. At most 2^30 rows and columns in all.
        backend: ``"cpu"``, ``"cuda"``, ``"reference"`` (the obvious NumPy version) or ``"auto"``: the CPU for
            a cost there, and `loomfast.assignment.cuda.auto_backend` for a cost on a GPU.
        threads: threads to share a batch between; by default the cores this process may run on. The answer
            does not depend on it.

    Raises:
        ValueError: a shape, NaN, an infinity of the wrong sign, no feasible matching, integers too large to
            be summed exactly (n * max|cost| >= 2^53), or an unknown backend.
        TypeError: a dtype that is none of the above; row_repeats or threads that are not integers.
        RuntimeError: a backend that cannot run here.
    """
    _check_tolerance(tolerance)
    row_repeats = integer(row_repeats, "row_repeats", 1, _engine.most_rows + 1)
    threads = check_threads(threads)
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
    _check_size(*problem_shape[1:])
    known = _as_start(start, problem_shape, batched)
    if backend == "reference":
        from loomfast.assignment.reference import solve as reference_solve

        if dtype == "bfloat16":
            array = widened(array)
        with default_arithmetic():
            results = [reference_solve(c, maximize=maximize, row_repeats=row_repeats) for c in array]
        parts = _stack(results, problem_shape)
    else:
        *arrays, reports = _engine.assignment_solve(
            array, dtype, bool(maximize), float(tolerance), row_repeats, *known, threads or cores()
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


def _check_tolerance(tolerance):
    real = np.isscalar(tolerance) and np.isreal(tolerance) and not isinstance(tolerance, bool)
    if not (real and 0 <= tolerance < np.inf):
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance!r}")


def _check_size(rows, columns):
    if max(rows, columns) > _engine.most_rows:
        raise ValueError(
            f"cost must have at most 2**30 rows (row_repeats included) and columns, got {rows} x {columns}"
        )


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


def _as_array(cost):
    """The cost as (ndarray of a readable dtype, dtype name, wrapper of results into the caller's kind)."""
    if is_tensor(cost):
        return _from_torch(cost)
    if not hasattr(cost, "__array__") and hasattr(cost, "__dlpack__"):
        return _from_dlpack(cost)
    array = np.asarray(cost)
    name = _readable(array.dtype)
    if name == "bfloat16":
        return array.view(np.uint16), name, np.asarray
    return array.astype(array.dtype.newbyteorder("="), copy=False), name, np.asarray


def _from_torch(cost):
    import torch

    if cost.device.type != "cpu":
        raise RuntimeError(
            f"cost is on {cost.device}: this version solves on the CPU; pass cost.cpu() to solve it there"
        )
    cost, name = cost.detach(), _readable(cost.dtype)
    bits = cost.view(torch.uint16) if name == "bfloat16" else cost
    return bits.resolve_neg().numpy(), name, torch.from_numpy


def _from_dlpack(cost):
    device, _ = cost.__dlpack_device__()
    if int(device) not in _HOST_DEVICES:
        raise RuntimeError(f"cost is on a device of DLPack's type {int(device)}: pass it on the CPU")
    try:
        capsule = cost.__dlpack__(max_version=(1, 0))
    except TypeError:  # an exporter from before versions
        capsule = cost.__dlpack__()
    name = _readable(_engine.dlpack_dtype(capsule))
    return _engine.dlpack_array(capsule, np.dtype("uint16" if name == "bfloat16" else name)), name, np.asarray


_HOST_DEVICES = (1, 3)  # kDLCPU, kDLCUDAHost


def _readable(dtype):
    """The name of a dtype that can be solved; TypeError in scipy's words for any other."""
    name = dtype if isinstance(dtype, str) else name_of_dtype(dtype)
    if name not in REAL:
        raise TypeError(
            f"Cannot cast array data from {dtype!r} to dtype('float64') according to the rule 'safe'"
        )
    return name


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
        start = start if is_tensor(start) else np.asarray(start)
        start = (start, None) if name_of_dtype(start.dtype) in INTEGERS else (None, start)
    if len(start) == 2:
        start = (start[0], None, start[1])
    if len(start) != 3:
        raise ValueError(
            "start must be an Assignment, col4row, v, a pair (col4row, v) or a triple (col4row, u, v), "
            f"got {len(start)} parts"
        )
    b, n, m = shape
    return (
        _start_part("start col4row", start[0], np.int64, INTEGERS, (b, n), batched),
        _start_part("start u", start[1], np.float64, FLOATS, (b, n), batched),
        _start_part("start v", start[2], np.float64, FLOATS, (b, m), batched),
    )


def _start_part(name, value, dtype, takes, shape, batched):
    if value is None:
        return None
    array = real_array(
        value, name, takes, "be integers" if dtype is np.int64 else "hold floating-point numbers"
    )
    expected = shape if batched else shape[1:]
    if array.shape != expected:
        raise ValueError(f"{name} must have shape {expected}, got {array.shape}")
    return np.ascontiguousarray(array, dtype).reshape(shape)


def _linear_sum_assignment_of_any(cost, maximize):
    """`linear_sum_assignment` of what the extension does not read directly."""
    array, dtype, wrap = _as_array(cost)
    if array.ndim != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {array.ndim} array")
    _check_size(*array.shape)
    if dtype == "bfloat16":
        array = widened(array)
    rows, cols = linear_sum_assignment(np.asarray(array), maximize)
    return wrap(rows), wrap(cols)
