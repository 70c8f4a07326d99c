"""`linear_sum_assignment` and `solve`: what callers may pass, and where it is solved."""

from dataclasses import fields

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import REAL, check_threads, cores, integer, is_tensor, module, name_of_dtype, widened
from loomfast._engine import linear_sum_assignment
from loomfast.assignment import cuda
from loomfast.assignment.reference import solve as reference_solve
from loomfast.assignment.result import SOLVED, STATUS, Assignment, raise_for, stacked
from loomfast.assignment.start import host_start
from loomfast.backends import auto_solver, check_solver


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
            a cost there, and `loomfast.backends.auto_solver` for a cost on a GPU.
        threads: threads to share a batch between; by default the cores this process may run on. The answer
            does not depend on it.

    A torch cost may be solved inside ``torch.compile(fullgraph=True)`` and ``torch.vmap``, and ``total`` has
    a gradient where the cost requires one: see `Assignment`.

    Raises:
        ValueError: a shape, NaN, an infinity of the wrong sign, no feasible matching, integers too large to
            be summed exactly (n * max|cost| >= 2^53), or an unknown backend.
        TypeError: a dtype that is none of the above; row_repeats or threads that are not integers.
        RuntimeError: a backend that cannot run here.
    """
    if is_tensor(cost) and (operators := module("loomfast.assignment.torch_ops")).takes(cost):
        given = {"maximize": maximize, "start": start, "tolerance": tolerance, "row_repeats": row_repeats}
        return operators.solve_tensor(cost, backend=backend, threads=threads, **given)
    _check_tolerance(tolerance)
    row_repeats = integer(row_repeats, "row_repeats", 1, _engine.most_rows + 1)
    threads = check_threads(threads)
    options = {"maximize": bool(maximize), "tolerance": float(tolerance), "row_repeats": row_repeats}
    if backend == "cuda" or (backend == "auto" and cuda.on_cuda(cost)):
        return _solve_on_device(cost, start, options, backend, threads)
    return _solve_on_host(cost, start, options, backend, threads)


def _solve_on_device(cost, start, options, backend, threads):
    """`solve` for ``backend="cuda"``, and for ``"auto"`` with a cost on a GPU, where the result is, too."""
    if backend == "auto":
        cost, _ = cuda.device_array(cost)
        if not _stays_on_device(cost.shape, options["row_repeats"]):
            host_cost, start = cuda.on_host(cost), cuda.on_host(start)
            return cuda.moved(_solve_on_host(host_cost, start, options, "cpu", threads), cost)
    return cuda.solve(cost, start=start, **options)


def _stays_on_device(shape, row_repeats):
    if len(shape) < 2 or cuda.unavailable() is not None:
        return False
    batch, rows, columns = (1, *shape)[-3:]
    return auto_solver(rows * row_repeats, columns, batch) == "cuda"


def _solve_on_host(cost, start, options, backend, threads):
    """`solve` on the CPU, by the engine or by the reference."""
    array, dtype, batched, wrap = _as_costs(cost)
    check_solver(backend)
    problem_shape = (len(array), array.shape[1] * options["row_repeats"], array.shape[2])
    _check_size(*problem_shape[1:])
    known = host_start(start, problem_shape, batched)
    if backend == "reference":
        parts = _by_reference(array, dtype, options, problem_shape, batched)
    else:
        parts = _by_engine(array, dtype, options, known, batched, threads)
    return Assignment(*(wrap(part) if isinstance(part, np.ndarray) else part for part in parts))


def _by_engine(array, dtype, options, known, batched, threads):
    """The fields of the `Assignment` of costs (b, n, m), without the batch axis unless ``batched``."""
    *arrays, reports = _engine.assignment_solve(
        array,
        dtype,
        options["maximize"],
        options["tolerance"],
        options["row_repeats"],
        *known,
        threads or cores(),
    )
    for k, (status, row, column, _) in enumerate(reports):
        if status not in SOLVED:
            entry, values = f"entry ({row}, {column})", f"{array.dtype} values"
            raise_for(status, f"[{k}]" if batched else "", entry=entry, values=values)
    if batched:
        return *arrays, tuple(report[0] for report in reports), tuple(report[3] for report in reports)
    col4row, row4col, u, v, total, gap = (part[0] for part in arrays)
    ((status, _, _, stats),) = reports
    return col4row, row4col, u, v, float(total), float(gap), status, stats


def _by_reference(array, dtype, options, problem_shape, batched):
    """The same by the obvious NumPy version, which knows no start and no tolerance."""
    if dtype == "bfloat16":
        array = widened(array)
    maximize, row_repeats = options["maximize"], options["row_repeats"]
    with default_arithmetic():
        results = [reference_solve(cost, maximize=maximize, row_repeats=row_repeats) for cost in array]
    found = stacked(results, *problem_shape[1:]) if batched else results[0]
    return tuple(getattr(found, field.name) for field in fields(found))


def _check_tolerance(tolerance):
    real = np.isscalar(tolerance) and np.isreal(tolerance) and not isinstance(tolerance, bool)
    if not (real and 0 <= tolerance < np.inf):
        raise ValueError(f"tolerance must be a finite number >= 0, got {tolerance!r}")


def _check_size(rows, columns):
    if max(rows, columns) > _engine.most_rows:
        raise ValueError(
            f"cost must have at most 2**30 rows (row_repeats included) and columns, got {rows} x {columns}"
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


def matrix_cost(cost):
    """One matrix as (ndarray (n, m) that the engine reads, name of its dtype, wrapper of results).

    Raises ValueError for another number of dimensions or a size beyond 2^30, TypeError for another dtype.
    """
    array, dtype, wrap = _as_array(cost)
    if array.ndim != 2:
        raise ValueError(
            f"cost must be a matrix (n, m), got {array.ndim} dimensions with shape {array.shape}"
        )
    _check_size(*array.shape)
    return array, dtype, wrap


def _linear_sum_assignment_of_any(cost, maximize):
    """`linear_sum_assignment` of what the extension does not read directly."""
    if is_tensor(cost):
        if module("loomfast._torch").watched():
            return module("loomfast.assignment.torch_ops").pairs_of_tensor(cost, maximize)
        if cuda.on_cuda(cost):
            return _pairs_on_device(cost, maximize)
    array, dtype, wrap = _as_array(cost)
    check_two_axes(array.ndim)
    _check_size(*array.shape)
    if dtype == "bfloat16":
        array = widened(array)
    rows, cols = linear_sum_assignment(np.asarray(array), maximize)
    return wrap(rows), wrap(cols)


def _pairs_on_device(cost, maximize):
    """The same for a torch tensor on a GPU, solved where `auto_solver` says; waits for the device."""
    check_two_axes(cost.dim())
    if 0 in cost.shape or not _stays_on_device(cost.shape, 1):
        return tuple(part.to(cost.device) for part in _linear_sum_assignment_of_any(cost.cpu(), maximize))
    found = cuda.solve(cost, maximize=maximize)
    status = STATUS[int(found.status)]
    if status == "infeasible":
        raise ValueError("cost matrix is infeasible")
    if status == "invalid_entry":
        raise ValueError("matrix contains invalid numeric entries")
    raise_for(status)
    if cost.shape[0] > cost.shape[1]:
        return tuple(found.row4col.sort())
    return found.col4row.new_ones(len(cost)).cumsum(0) - 1, found.col4row


def check_two_axes(axes):
    """ValueError in scipy's words unless a cost has two axes."""
    if axes != 2:
        raise ValueError(f"expected a matrix (2-D array), got a {axes} array")
