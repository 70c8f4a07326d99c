"""`linear_sum_assignment` and `solve`: what callers may pass, and where it is solved."""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import (
    NAMES,
    REAL,
    check_threads,
    cores,
    integer,
    is_tensor,
    module,
    name_of_dtype,
    widened,
)
from loomfast._engine import linear_sum_assignment
from loomfast.assignment import cuda
from loomfast.assignment.reference import solve as reference_solve
from loomfast.assignment.result import SOLVED, STATUS, Assignment, raise_for, stacked
from loomfast.assignment.sizes import host_sizes
from loomfast.assignment.start import host_start
from loomfast.assignment.unmatched import parse_unmatched
from loomfast.backends import auto_solver, check_solver


def solve(
    cost,
    *,
    maximize=False,
    cost_limit=None,
    unmatched_cost=None,
    sizes=None,
    start=None,
    tolerance=0.0,
    row_repeats=1,
    backend="auto",
    threads=None,
) -> Assignment:
    """Solve the assignment problem exactly, with dual prices and a certified gap.

    Every row or every column is matched, whichever are fewer. With ``cost_limit`` or ``unmatched_cost`` any
    matching is allowed, and those that stay unmatched pay: minimise the sum of ``cost[i, j]`` over matched
    pairs, ``r[i]`` over unmatched rows and ``k[j]`` over unmatched columns, which is the complete problem of
    the (n + m) x (m + n) matrix [[cost, r], [k, 0]] of R. Jonker and A. Volgenant's extension (as lapx's
    ``lapjv(extend_cost=True, cost_limit=...)`` has it), without that matrix.

    Args:
        cost: (n, m) or (b, n, m), or a list of b matrices of any shapes and dtypes; of float16, bfloat16,
            float32, float64, any integer type or bool; any strides; an ndarray, a torch CPU tensor, or
            anything with ``__array__`` or ``__dlpack__``; on a GPU a torch tensor or CuPy array.
            ``+inf`` forbids a pair (``-inf`` when maximising). Finite costs that stand for "forbidden", 1e15
            or 1e300 beside ordinary ones, are matched as seldom as possible, and what remains is optimal on
            its own scale.
        maximize: maximise the total instead.
        cost_limit: pairs dearer than this number are left unmatched, and every unmatched row and column pays
            half of it (pairs of less than it when maximising: what the unmatched have is added to the total).
            A pair of exactly the limit costs the same matched or not. It may be negative. ``inf`` (``-inf``
            when maximising) is the same as None: the matching has to be complete. Forbidden pairs are never
            matched, so that with a limit every problem has a solution.
        unmatched_cost: what an unmatched row or column pays, a finite number, or a pair (rows, columns) of
            numbers or arrays (n,) and (m,): r and k. For a batch also (b, n) and (b, m), for a list of
            matrices also lists of arrays. With ``row_repeats`` one for each row of ``cost``. A number is the
            same as ``cost_limit=2 * unmatched_cost``.
        sizes: a pair ``(rows, columns)`` of integer arrays (b,), or None in one place, for a padded batch:
            problem k is the top left ``rows[k]`` by ``columns[k]`` of its costs, and what lies beyond is not
            read. Sizes may be 0. Not with ``row_repeats``.
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
        threads: threads to share a batch between; by default the cores this process may run on. Each takes
            the largest problem that is left. The answer does not depend on it.

    Returns:
        An `Assignment`. Where the problems of a batch have different sizes, its arrays are as long as the
        largest, and past a problem's own size hold -1 (matchings) and 0 (prices). Arrays are torch tensors if
        the cost, or a matrix of the list, is one.

    A torch cost may be solved inside ``torch.compile(fullgraph=True)`` and ``torch.vmap``, and ``total`` has
    a gradient where the cost requires one: see `Assignment`.

    Raises:
        ValueError: a shape, NaN, an infinity of the wrong sign, no feasible matching, integers too large to
            be summed exactly (n * max|cost| >= 2^53), a limit that is NaN or -inf, sizes out of range, or an
            unknown backend; costs of the unmatched with ``backend="cuda"``, which has none (``"auto"`` then
            solves on the CPU).
        TypeError: a dtype that is none of the above; row_repeats, threads or sizes that are not integers.
        RuntimeError: a backend that cannot run here.
    """
    if is_tensor(cost) and (operators := module("loomfast.assignment.torch_ops")).takes(cost):
        given = {"maximize": maximize, "start": start, "tolerance": tolerance, "row_repeats": row_repeats}
        given |= {"cost_limit": cost_limit, "unmatched_cost": unmatched_cost, "sizes": sizes}
        return operators.solve_tensor(cost, backend=backend, threads=threads, **given)
    _check_tolerance(tolerance)
    row_repeats = integer(row_repeats, "row_repeats", 1, _engine.most_rows + 1)
    threads = check_threads(threads)
    options = {"maximize": bool(maximize), "tolerance": float(tolerance), "row_repeats": row_repeats}
    options |= {"sizes": sizes, "unmatched": (cost_limit, unmatched_cost)}
    if backend == "cuda" or (backend == "auto" and cuda.on_cuda(cost)):
        return _solve_on_device(cost, start, options, backend, threads)
    return _solve_on_host(cost, start, options, backend, threads)


def _solve_on_device(cost, start, options, backend, threads):
    """`solve` for ``backend="cuda"``, and for ``"auto"`` with a cost on a GPU, where the result is, too."""
    complete = all(part is None for part in options["unmatched"])
    if backend == "auto":
        cost, _ = cuda.device_array(cost)
        if not (complete and _stays_on_device(cost.shape, options["row_repeats"])):
            options |= {name: cuda.on_host(options[name]) for name in ("sizes", "unmatched")}
            host_cost, start = cuda.on_host(cost), cuda.on_host(start)
            return cuda.moved(_solve_on_host(host_cost, start, options, "cpu", threads), cost)
    unmatched = options.pop("unmatched")
    if not complete:
        name = "cost_limit" if unmatched[0] is not None else "unmatched_cost"
        raise ValueError(f"{name} cannot be used with backend='cuda': pass backend='cpu' or 'auto'")
    return cuda.solve(cost, start=start, **options)


def _stays_on_device(shape, row_repeats):
    if len(shape) < 2 or cuda.unavailable() is not None:
        return False
    batch, rows, columns = (1, *shape)[-3:]
    return auto_solver(rows * row_repeats, columns, batch) == "cuda"


def _solve_on_host(cost, start, options, backend, threads):
    """`solve` on the CPU, by the engine or by the reference."""
    costs = _as_costs(cost)
    check_solver(backend)
    b, n, m = costs.shape
    row_repeats = options["row_repeats"]
    _check_size(n * row_repeats, m)
    sizes, unmatched = _parsed(costs, options)
    known = host_start(start, (b, n * row_repeats, m), costs.batched)
    if backend == "reference":
        parts = _by_reference(costs, options, sizes, unmatched)
    else:
        parts = _by_engine(costs, options, known, sizes, unmatched, threads)
    if costs.wrap is np.asarray:
        return Assignment(*parts)
    return Assignment(*(costs.wrap(part) if isinstance(part, np.ndarray) else part for part in parts))


def _parsed(costs, options):
    """(sizes, what the unmatched pay) as the engine takes them, each None where it was not given."""
    given, sizes = options["sizes"], None
    if given is not None:
        if isinstance(costs.array, list):
            raise ValueError("sizes are those of a padded batch: the matrices of a list have their own")
        sizes = host_sizes(given, costs.shape if costs.batched else costs.shape[1:], options["row_repeats"])
    cost_limit, unmatched_cost = options["unmatched"]
    if cost_limit is None and unmatched_cost is None:
        return sizes, None
    b, n, m = costs.shape
    used = sizes
    if isinstance(costs.array, list):
        used = tuple(np.array([matrix.shape[axis] for matrix, _ in costs.array]) for axis in (0, 1))
    shape = (b if costs.batched else None, n, m)
    unmatched = parse_unmatched(
        cost_limit, unmatched_cost, shape=shape, maximize=options["maximize"], sizes=used
    )
    return sizes, unmatched


def _by_engine(costs, options, known, sizes, unmatched, threads):
    """The fields of the `Assignment`, without the batch axis for one matrix."""
    if threads is None:
        threads = cores() if costs.shape[0] > 1 else 1
    *arrays, reports = _engine.assignment_solve(
        costs.array,
        costs.dtype,
        options["maximize"],
        options["tolerance"],
        options["row_repeats"],
        *known,
        sizes,
        unmatched,
        threads,
    )
    for k, (status, row, column, _) in enumerate(reports):
        if status not in SOLVED:
            entry, values = f"entry ({row}, {column})", f"{costs.matrix(k)[0].dtype} values"
            raise_for(status, f"[{k}]" if costs.batched else "", entry=entry, values=values)
    if costs.batched:
        return *arrays, tuple(report[0] for report in reports), tuple(report[3] for report in reports)
    ((status, _, _, stats),) = reports
    return *arrays, status, stats


def _by_reference(costs, options, sizes, unmatched):
    """The same by the obvious NumPy version, which knows no start and no tolerance."""
    maximize, row_repeats = options["maximize"], options["row_repeats"]
    b, n, m = costs.shape
    results = []
    with default_arithmetic():
        for k in range(b):
            matrix, dtype = costs.matrix(k)
            rows, columns = (None if part is None else int(part[k]) for part in sizes or (None, None))
            matrix = (widened(matrix) if dtype == "bfloat16" else matrix)[:rows, :columns]
            paid = unmatched and tuple(
                part[k] if isinstance(part, np.ndarray) else part for part in unmatched
            )
            results.append(
                reference_solve(matrix, maximize=maximize, row_repeats=row_repeats, unmatched=paid)
            )
    found = stacked(results, n * row_repeats, m) if costs.batched else results[0]
    return tuple(getattr(found, field.name) for field in fields(found))


def _check_tolerance(tolerance):
    if type(tolerance) is float and 0.0 <= tolerance < np.inf:
        return
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
    if type(cost) is np.ndarray and cost.dtype.isnative and cost.dtype in NAMES:  # most of all
        return cost, NAMES[cost.dtype], np.asarray
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


class _Costs(NamedTuple):
    """The problems of one call."""

    array: Any  # (n, m) or (b, n, m), or a list of pairs: a matrix (n, m) and the name of its dtype
    dtype: str  # the name of the array's, empty for a list
    shape: tuple[int, int, int]  # b, and n and m of the largest problems
    batched: bool
    wrap: Callable[[np.ndarray], Any]  # results into the caller's kind

    def matrix(self, k):
        """Problem k and the name of its dtype."""
        if isinstance(self.array, list):
            return self.array[k]
        return (self.array[k] if self.batched else self.array), self.dtype


def _as_costs(cost):
    if isinstance(cost, list | tuple) and cost and _is_matrix(cost[0]):
        return _as_list(cost)
    array, dtype, wrap = _as_array(cost)
    if array.ndim not in (2, 3):
        raise ValueError(
            f"cost must be a matrix (n, m) or a batch (b, n, m), got {array.ndim} dimensions "
            f"with shape {array.shape}"
        )
    if array.ndim == 2:
        return _Costs(array, dtype, (1, *array.shape), False, wrap)
    return _Costs(array, dtype, array.shape, True, wrap)


def _is_matrix(value):
    """Whether the first of a list is a matrix, an array or lists in a list, and not the row of one."""
    shape = getattr(value, "shape", None)
    if shape is None:
        return isinstance(value, list | tuple) and len(value) > 0 and isinstance(value[0], list | tuple)
    return len(shape) == 2


def _as_list(costs):
    matrices, wrap = [], np.asarray
    for k, cost in enumerate(costs):
        array, dtype, wrapped = _as_array(cost)
        if array.ndim != 2:
            raise ValueError(
                f"cost[{k}] must be a matrix (n, m) like cost[0], got {array.ndim} dimensions "
                f"with shape {array.shape}"
            )
        wrap = wrap if wrapped is np.asarray else wrapped
        matrices.append((array, dtype))
    rows, columns = (max(matrix.shape[axis] for matrix, _ in matrices) for axis in (0, 1))
    return _Costs(matrices, "", (len(matrices), rows, columns), True, wrap)


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
    return _pairs_on_host(cost, maximize)


def _pairs_on_host(cost, maximize):
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
        return tuple(part.to(cost.device) for part in _pairs_on_host(cost.cpu(), maximize))
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
