"""The assignment solver on CUDA: device arrays of torch or CuPy in, the same kind out.

Nothing here synchronises with the device: the work is enqueued on the caller's current stream, the memory
comes from the caller's allocator, and status, gap and counters stay on the device until someone reads
them, so that a solve can be captured in a CUDA graph.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from loomfast import _engine
from loomfast._arrays import FLOATS, REAL, count, integer, is_tensor, name_of_dtype, on_device
from loomfast.assignment.result import COUNTERS, Assignment, array_table
from loomfast.assignment.sizes import parse_sizes
from loomfast.assignment.start import parse_start
from loomfast.backends import cuda_unavailable

_TYPES = {name: code for code, name in enumerate(FLOATS)}  # the engine's enum class CostType
_INTEGERS = set(REAL) - set(FLOATS) - {"uint64"}
_LARGEST = 2**20


class _Described(NamedTuple):
    """Where a device array lies and what it holds; strides in elements."""

    address: int
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Kind(NamedTuple):
    """How one library's arrays are described, made and ordered."""

    describe: Callable[[Any], _Described]
    as_float64: Callable[[Any], Any]
    as_int64: Callable[[Any, Any], Any]  # contiguous, on the device of another
    plain: Callable[[Any], Any]  # with what its memory alone does not say, a pending negation, carried out
    empty: Callable[[tuple[int, ...], str, Any], Any]
    device: Callable[[Any], Any]
    scope: Callable[[Any], AbstractContextManager]
    stream: Callable[[Any], int]


def _torch_kind():
    import torch

    return _Kind(
        describe=lambda a: _Described(a.data_ptr(), name_of_dtype(a.dtype), tuple(a.shape), a.stride()),
        as_float64=lambda a: a.to(torch.float64),
        as_int64=lambda a, like: torch.as_tensor(a, dtype=torch.int64, device=like.device).contiguous(),
        plain=lambda a: a.resolve_neg() if is_tensor(a) else a,
        empty=lambda shape, dtype, like: torch.empty(shape, dtype=getattr(torch, dtype), device=like.device),
        device=lambda a: a.device,
        scope=lambda a: torch.cuda.device(a.device),
        stream=lambda a: torch.cuda.current_stream(a.device).cuda_stream,
    )


def _cupy_kind():
    import cupy

    return _Kind(
        describe=lambda a: _Described(
            a.data.ptr, name_of_dtype(a.dtype), a.shape, tuple(s // a.itemsize for s in a.strides)
        ),
        as_float64=lambda a: a.astype("float64"),
        as_int64=lambda a, like: cupy.ascontiguousarray(cupy.asarray(a, "int64")),
        plain=lambda a: a,
        empty=lambda shape, dtype, like: cupy.empty(shape, dtype),
        device=lambda a: a.device,
        scope=lambda a: a.device,
        stream=lambda a: cupy.cuda.get_current_stream().ptr,
    )


def _library_of(value):
    """``"torch"`` or ``"cupy"`` if ``value`` is a device array of that library, else None."""
    if is_tensor(value):
        return "torch" if value.device.type == "cuda" else None
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(value, cupy.ndarray):
        return "cupy"
    return None


def on_cuda(value) -> bool:
    """Whether ``value`` is on a CUDA device: a torch tensor, a CuPy array, or what exports one.

    That is by DLPack or by ``__cuda_array_interface__``.
    """
    if _library_of(value) is not None:
        return True
    return on_device(value)


def unavailable() -> str | None:
    """Why ``backend="cuda"`` cannot run here and how to get it, or None."""
    return cuda_unavailable(_engine)


def solve(cost, *, maximize=False, start=None, tolerance=0.0, row_repeats=1, sizes=None):
    """`loomfast.solve` for a cost on a CUDA device; returns an `Assignment` of device arrays.

    Args:
        cost: (n, m) or (b, n, m) with n * row_repeats, m <= 2^20: a torch CUDA tensor, a CuPy array, or
            anything that exports a CUDA array through DLPack or ``__cuda_array_interface__``; float16,
            bfloat16, float32, float64, or integers of up to 53 bits (solved as float64). Any strides.
        maximize: maximise instead.
        start: a previous `Assignment`, a matching col4row, column prices v, a pair (col4row, v) or a triple
            (col4row, u, v), of whose prices those of the longer side are used; arrays on the same device.
        tolerance: may stop once ``gap <= tolerance * sum_i(mean_j cost - min_j cost)``; square problems only,
            others are solved exactly.
        row_repeats: row i of ``cost`` stands for so many rows of the problem.
        sizes: a pair ``(rows, columns)`` of integer arrays (b,), or None in one place: problem k is the
            top left ``rows[k]`` by ``columns[k]`` of its costs. Matchings are -1 and prices 0 past them.
            The host does not look at arrays on the device: where one is out of range, ``status`` says so.

    Problems of up to 64 rows by 128 columns, or the other way round, are solved by a warp each, from scratch
    and exactly, whatever ``start`` and ``tolerance`` say: their reductions and short paths take a few
    microseconds, no more than it would take to check a start, so neither could save time there.

    The kernels hold costs as integers in units that suit the largest: the gap is at most 8 n 2^-53 times the
    largest finite magnitude of a cost. Beside costs of 1e15 that stand for "forbidden" that is coarse, and
    the CPU's bound, on the scale of the costs matched, is not; use ``+inf`` here.

    ``status`` is an int32 device array of indices into `loomfast.assignment.STATUS`, ``stats`` an int64 one
    of `loomfast.assignment.COUNTERS`; ``Assignment.check()`` waits for the device and raises what the CPU
    would have raised.

    Raises:
        RuntimeError: there are no CUDA kernels or no device here.
        ValueError, TypeError: a shape, dtype or device that cannot be solved.
    """
    reason = unavailable()
    if reason:
        raise RuntimeError(f"backend='cuda' cannot run here: {reason}")
    cost, library = device_array(cost)
    kind = _torch_kind() if library == "torch" else _cupy_kind()
    row_repeats = integer(row_repeats, "row_repeats", 1, _LARGEST + 1)
    described = kind.describe(cost)
    _check_cost(described, row_repeats)
    # Whatever device is current, everything is made, cast and launched on that of the cost.
    with kind.scope(cost):
        cost = kind.as_float64(cost) if described.dtype in _INTEGERS else kind.plain(cost)
        # Kept until the launch: a resolved view is memory of its own.
        start = tuple(None if part is None else kind.plain(part) for part in parse_start(start))
        sizes = tuple(
            None if part is None else kind.as_int64(part, cost)
            for part in parse_sizes(sizes, described.shape, row_repeats)
        )
        *lead, n, m = described.shape
        outputs = {
            name: kind.empty((*lead, *shape), dtype, cost)
            for name, (shape, dtype) in _output_table(n * row_repeats, m).items()
        }
        problem = {
            **_cost_entries(kind.describe(cost), row_repeats),
            "integers": described.dtype in _INTEGERS,
            "maximize": bool(maximize),
            "tolerance": float(tolerance),
            **_start_entries(start, kind, cost, tuple(lead), n * row_repeats, m),
            **{
                f"sizes_{name}": 0 if part is None else kind.describe(part).address
                for name, part in zip(("rows", "columns"), sizes, strict=True)
            },
            **{name: kind.describe(array).address for name, array in outputs.items()},
        }
        workspace = kind.empty((max(1, _engine.cuda_assignment_workspace(problem)),), "uint8", cost)
        _engine.cuda_assignment_solve(problem, kind.describe(workspace).address, kind.stream(cost))
    return Assignment(stats=outputs.pop("counters"), **outputs)


def device_array(cost):
    """(the cost as an array of torch or CuPy, ``"torch"`` or ``"cupy"``).

    What another library exports becomes an array of torch where torch is loaded, else of CuPy.

    Raises:
        TypeError: a cost that is not on a CUDA device, or of a dtype that cannot be solved.
    """
    library = _library_of(cost)
    if library is not None:
        return cost, library
    if not on_cuda(cost):
        raise TypeError(f"backend='cuda' takes an array on a CUDA device, got {type(cost).__name__}")
    by_dlpack = hasattr(cost, "__dlpack_device__")
    if not by_dlpack:
        _check_dtype(np.dtype(cost.__cuda_array_interface__["typestr"]).name)
    if "torch" in sys.modules:
        from loomfast._torch import imported

        return imported(cost), "torch"
    import cupy

    return cupy.from_dlpack(cost) if by_dlpack else cupy.asarray(cost), "cupy"


def on_host(value):
    """Device arrays, and tuples and Assignments of them, as host arrays; anything else as it is."""
    if isinstance(value, Assignment):
        return on_host((value.col4row, value.u, value.v))
    if isinstance(value, tuple):
        return tuple(map(on_host, value))
    library = _library_of(value)
    return value.cpu() if library == "torch" else value.get() if library == "cupy" else value


def moved(result, like):
    """An Assignment whose arrays are on the device of ``like``, a device array of torch or CuPy."""

    def move(value):
        if is_tensor(like):
            return value.to(like.device) if is_tensor(value) else value
        import cupy

        with like.device:
            return cupy.asarray(value) if isinstance(value, np.ndarray) else value

    return replace(result, **{field.name: move(getattr(result, field.name)) for field in fields(result)})


def _check_dtype(name):
    if name not in _TYPES and name not in _INTEGERS:
        raise TypeError(f"cost must be floating point or integers of up to 53 bits, got {name}")


def _check_cost(described, row_repeats):
    shape = described.shape
    if len(shape) not in (2, 3):
        raise ValueError(
            f"cost must be a matrix (n, m) or a batch (b, n, m), got {len(shape)} dimensions "
            f"with shape {shape}"
        )
    _check_dtype(described.dtype)
    if 0 in shape or max(shape[-2] * row_repeats, shape[-1]) > _LARGEST:
        repeated = f" with row_repeats {row_repeats}" if row_repeats > 1 else ""
        raise ValueError(
            f"backend='cuda' takes 1 to {_LARGEST} rows and columns, got shape {shape}{repeated}"
        )


def _output_table(rows, columns):
    """Name -> (shape of one instance, dtype) of what the engine writes."""
    extra = {"status": ((), "int32"), "counters": ((len(COUNTERS),), "int64")}
    return array_table(rows, columns) | extra


def _cost_entries(described, row_repeats):
    """The entries of the engine's problem that say where the costs are."""
    batch, rows, columns = (1, *described.shape)[-3:]
    *batch_stride, row_stride, column_stride = described.strides
    return {
        "cost": described.address,
        "type": _TYPES[described.dtype],
        "batch": batch,
        "rows": rows * row_repeats,
        "columns": columns,
        "batch_stride": batch_stride[0] if batch_stride else 0,
        "row_stride": row_stride,
        "column_stride": column_stride,
        "row_repeats": row_repeats,
    }


def _start_entries(start, kind, cost, lead, rows, columns):
    """The entries of the engine's problem that say where the start is: addresses, 0 for what is not given."""
    table, entries = array_table(rows, columns), {}
    for name, value in zip(("col4row", "u", "v"), start, strict=True):
        entries[f"start_{name}"] = 0
        if value is None:
            continue
        shape, dtype = table[name]
        shape, found = (*lead, *shape), kind.describe(value)
        packed = tuple(count(found.shape[k + 1 :]) for k in range(len(found.shape)))
        fits = (found.dtype, found.shape, tuple(found.strides)) == (dtype, shape, packed)
        if not fits or kind.device(value) != kind.device(cost):
            raise ValueError(
                f"start {name} must be a contiguous {dtype} array of shape {shape} on {kind.device(cost)}, "
                f"got {found.dtype} of shape {found.shape} and strides {tuple(found.strides)} "
                f"on {kind.device(value)}"
            )
        entries[f"start_{name}"] = found.address
    return entries
