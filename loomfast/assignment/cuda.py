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
from loomfast._arrays import FLOATS, REAL, integer
from loomfast.backends import cuda_unavailable

__all__ = ["auto_backend", "check_status", "on_cuda", "solve", "solve_where_best", "unavailable"]

STATUS = (
    *("optimal", "invalid entries", "infeasible", "out of range", "within_tolerance"),
    "inexact_integers",
)
COUNTERS = ("barriers", "rounds", "bids", "repair_passes", "forest_passes", "forest_steps", "rows_relaxed")
_TYPES = {name: code for code, name in enumerate(FLOATS)}  # the engine's enum class CostType
_INTEGERS = set(REAL) - set(FLOATS) - {"uint64"}
_LARGEST = 2**20


class _Kind(NamedTuple):
    """How one library's arrays are described, made and ordered."""

    describe: Callable[
        [Any], tuple[int, str, tuple[int, ...], tuple[int, ...]]
    ]  # address, dtype, shape, strides
    as_float64: Callable[[Any], Any]
    plain: Callable[[Any], Any]  # with what its memory alone does not say, a pending negation, carried out
    empty: Callable[[tuple[int, ...], str, Any], Any]
    device: Callable[[Any], Any]
    scope: Callable[[Any], AbstractContextManager]
    stream: Callable[[Any], int]


def _torch_kind():
    import torch

    return _Kind(
        describe=lambda a: (a.data_ptr(), str(a.dtype).removeprefix("torch."), tuple(a.shape), a.stride()),
        as_float64=lambda a: a.to(torch.float64),
        plain=lambda a: a.resolve_neg() if isinstance(a, torch.Tensor) else a,
        empty=lambda shape, dtype, like: torch.empty(shape, dtype=getattr(torch, dtype), device=like.device),
        device=lambda a: a.device,
        scope=lambda a: torch.cuda.device(a.device),
        stream=lambda a: torch.cuda.current_stream(a.device).cuda_stream,
    )


def _cupy_kind():
    import cupy

    return _Kind(
        describe=lambda a: (a.data.ptr, a.dtype.name, a.shape, tuple(s // a.itemsize for s in a.strides)),
        as_float64=lambda a: a.astype("float64"),
        plain=lambda a: a,
        empty=lambda shape, dtype, like: cupy.empty(shape, dtype),
        device=lambda a: a.device,
        scope=lambda a: a.device,
        stream=lambda a: cupy.cuda.get_current_stream().ptr,
    )


def _library_of(value):
    """``"torch"`` or ``"cupy"`` if ``value`` is a device array of that library, else None."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(value, torch.Tensor):
        return "torch" if value.device.type == "cuda" else None
    if cupy is not None and isinstance(value, cupy.ndarray):
        return "cupy"
    return None


def on_cuda(value) -> bool:
    """Whether ``value`` is on a CUDA device: a torch tensor, a CuPy array, or what exports one.

    That is by DLPack or by ``__cuda_array_interface__``.
    """
    if _library_of(value) is not None:
        return True
    if hasattr(value, "__dlpack_device__"):
        cuda_device_type = 2  # kDLCUDA
        return value.__dlpack_device__()[0] == cuda_device_type
    return hasattr(value, "__cuda_array_interface__")


def unavailable() -> str | None:
    """Why ``backend="cuda"`` cannot run here and how to get it, or None."""
    return cuda_unavailable(_engine)


def auto_backend(rows: int, columns: int, batch: int = 1, *, prefetched: bool = False) -> str:
    """Where ``backend="auto"`` solves a cost that is on a GPU: ``"cuda"`` or ``"cpu"``.

    The CPU is better for a single instance of at most 64 on its shorter side, whose solve takes less than
    the barriers of a GPU; and, when the coupling is computed ahead of the training step that needs it
    (``prefetched``), for a single instance of up to 2048, which the CPU solves in about 20 ms that the GPU
    can spend on the network. Everything else stays on the GPU. The rule rests on estimates from counted
    work (bench/gpu_model.py), not on measurements. Moving a cost to the CPU waits for the device.
    """
    if batch > 1:
        return "cuda"
    return "cpu" if min(rows, columns) <= (2048 if prefetched else 64) else "cuda"


def solve(cost, *, maximize=False, start=None, tolerance=0.0, row_repeats=1):
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

    The kernels hold costs as integers in units that suit the largest: the gap is at most 8 n 2^-53 times the
    largest finite magnitude of a cost. Beside costs of 1e15 that stand for "forbidden" that is coarse, and
    the CPU's bound, on the scale of the costs matched, is not; use ``+inf`` here.

    ``status`` is an int32 device array of indices into `STATUS`, ``stats`` an int64 one of `COUNTERS`;
    ``Assignment.check()`` waits for the device and raises what the CPU would have raised.

    Raises:
        RuntimeError: there are no CUDA kernels or no device here.
        ValueError, TypeError: a shape, dtype or device that cannot be solved.
    """
    reason = unavailable()
    if reason:
        raise RuntimeError(f"backend='cuda' cannot run here: {reason}")
    library = _library_of(cost)
    if library is None:
        cost, library = _import_array(cost)
    kind = _torch_kind() if library == "torch" else _cupy_kind()
    row_repeats = integer(row_repeats, "row_repeats", 1, _LARGEST + 1)
    return _solve(cost, kind, maximize, start, tolerance, row_repeats)


def solve_where_best(cost, backend, maximize, start, tolerance, row_repeats, on_cpu):
    """`loomfast.solve` for ``backend="cuda"``, or ``"auto"`` with a cost on a GPU.

    ``on_cpu(cost, start)`` solves host arrays; its results are moved to the cost's device. Threads mean
    nothing to the GPU.
    """
    options = {"maximize": maximize, "start": start, "tolerance": tolerance, "row_repeats": row_repeats}
    if backend == "cuda":
        return solve(cost, **options)
    library = _library_of(cost)
    if library is None:
        cost, library = _import_array(cost)
    if len(cost.shape) > 1 and unavailable() is None:
        batch, n, m = (1, *cost.shape)[-3:]
        if auto_backend(n * row_repeats, m, batch) == "cuda":
            return solve(cost, **options)
    return _moved(on_cpu(_on_host(cost), _on_host(start)), cost, library)


def _on_host(value):
    """Device arrays, and tuples and Assignments of them, as host arrays; anything else as it is."""
    if hasattr(value, "col4row"):
        return tuple(_on_host(part) for part in (value.col4row, value.u, value.v))
    if isinstance(value, tuple):
        return tuple(map(_on_host, value))
    library = _library_of(value)
    return value.cpu() if library == "torch" else value.get() if library == "cupy" else value


def _moved(result, like, library):
    """An Assignment whose arrays are on the device of ``like``."""

    def move(value):
        if library == "torch":
            return value.to(like.device) if hasattr(value, "to") else value
        import cupy

        with like.device:
            return cupy.asarray(value) if isinstance(value, np.ndarray) else value

    return replace(result, **{field.name: move(getattr(result, field.name)) for field in fields(result)})


def _import_array(cost):
    """(the cost, as an array of torch where it is loaded, else of CuPy; the library's name)."""
    if not on_cuda(cost):
        raise TypeError(f"backend='cuda' takes an array on a CUDA device, got {type(cost).__name__}")
    by_dlpack = hasattr(cost, "__dlpack_device__")
    if not by_dlpack:
        _check_dtype(np.dtype(cost.__cuda_array_interface__["typestr"]).name)
    torch = sys.modules.get("torch")
    if torch is not None:
        return torch.from_dlpack(cost) if by_dlpack else torch.as_tensor(cost, device="cuda"), "torch"
    import cupy

    return cupy.from_dlpack(cost) if by_dlpack else cupy.asarray(cost), "cupy"


def _check_dtype(name):
    if name not in _TYPES and name not in _INTEGERS:
        raise TypeError(f"cost must be floating point or integers of up to 53 bits, got {name}")


def _solve(cost, kind, maximize, start, tolerance, row_repeats):
    from loomfast.assignment import Assignment

    _, dtype, shape, _ = kind.describe(cost)
    if len(shape) not in (2, 3):
        raise ValueError(
            f"cost must be a matrix (n, m) or a batch (b, n, m), got {len(shape)} dimensions "
            f"with shape {shape}"
        )
    _check_dtype(dtype)
    integers = dtype in _INTEGERS
    batch, n, m = (1, *shape)[-3:]
    n *= row_repeats
    if 0 in shape or n < 1 or max(n, m) > _LARGEST:
        repeated = f" with row_repeats {row_repeats}" if row_repeats > 1 else ""
        raise ValueError(
            f"backend='cuda' takes 1 to {_LARGEST} rows and columns, got shape {shape}{repeated}"
        )
    lead = shape[:-2]
    # Whatever device is current, everything is made, cast and launched on that of the cost.
    with kind.scope(cost):
        cost = kind.as_float64(cost) if integers else kind.plain(cost)
        start = _parse_start(start, kind)
        outputs = {
            name: kind.empty((*lead, *tail), dtype, cost)
            for name, (tail, dtype) in _output_table(n, m).items()
        }
        address, dtype, _, strides = kind.describe(cost)
        problem = {
            "cost": address,
            "type": _TYPES[dtype],
            "integers": integers,
            **{"batch": batch, "rows": n, "columns": m},
            **{
                "batch_stride": strides[0] if lead else 0,
                "row_stride": strides[-2],
                "column_stride": strides[-1],
            },
            "row_repeats": int(row_repeats),
            "maximize": bool(maximize),
            "tolerance": float(tolerance),
            **_start_addresses(start, kind, cost, (*lead, n), (*lead, m)),
            **{name: kind.describe(array)[0] for name, array in outputs.items()},
        }
        workspace = kind.empty((max(1, _engine.cuda_assignment_workspace(problem)),), "uint8", cost)
        _engine.cuda_assignment_solve(problem, kind.describe(workspace)[0], kind.stream(cost))
    return Assignment(**{k: v for k, v in outputs.items() if k != "counters"}, stats=outputs["counters"])


def _output_table(n, m):
    """Name -> (shape of one instance, dtype) of what the engine writes."""
    matchings = {"col4row": ((n,), "int64"), "row4col": ((m,), "int64")}
    prices = {"u": ((n,), "float64"), "v": ((m,), "float64")}
    numbers = {"total": ((), "float64"), "gap": ((), "float64"), "status": ((), "int32")}
    return matchings | prices | numbers | {"counters": ((len(COUNTERS),), "int64")}


def _parse_start(start, kind):
    """``start`` as (col4row, u, v), None for what is not given."""
    if start is None:
        return None, None, None
    if hasattr(start, "col4row"):
        start = (start.col4row, start.u, start.v)
    elif not isinstance(start, tuple):
        is_matching = kind.describe(start)[1] == "int64"
        start = (start, None, None) if is_matching else (None, None, start)
    elif len(start) == 2:
        start = (start[0], None, start[1])
    if len(start) != 3:
        raise ValueError(
            "start must be an Assignment, col4row, v, a pair (col4row, v) or a triple (col4row, u, v), "
            f"got {len(start)} parts"
        )
    # Kept until the launch: a resolved view is memory of its own.
    return tuple(None if part is None else kind.plain(part) for part in start)


def _start_addresses(start, kind, cost, row_shape, column_shape):
    """Addresses of the matching and the prices to start from, by their names in the engine; 0 for none."""
    addresses = {}
    names = ("start col4row", "start u", "start v")
    kinds = (("int64", row_shape), ("float64", row_shape), ("float64", column_shape))
    for name, value, (dtype, shape) in zip(names, start, kinds, strict=True):
        key = name.replace(" ", "_")
        if value is None:
            addresses[key] = 0
            continue
        address, found, got, strides = kind.describe(value)
        packed = tuple(int(np.prod(got[k + 1 :])) for k in range(len(got)))
        if (found, got, kind.device(value)) != (dtype, shape, kind.device(cost)) or tuple(strides) != packed:
            raise ValueError(
                f"{name} must be a contiguous {dtype} array of shape {shape} on {kind.device(cost)}, "
                f"got {found} of shape {got} and strides {tuple(strides)} on {kind.device(value)}"
            )
        addresses[key] = address
    return addresses


def check_status(status) -> None:
    """Wait for the device and raise ValueError for the first instance that was not solved."""
    codes = np.atleast_1d(np.asarray(status.tolist()))
    for k in np.flatnonzero((codes != STATUS.index("optimal")) & (codes != STATUS.index("within_tolerance"))):
        where = f"[{k}]" if codes.size > 1 else ""
        if codes[k] == STATUS.index("infeasible"):
            raise ValueError(
                f"cost{where} matrix is infeasible: no complete matching avoids the forbidden pairs"
            )
        if codes[k] == STATUS.index("out of range"):
            raise RuntimeError(
                f"cost{where}: path lengths left the range of 64-bit labels; solve it on the CPU"
            )
        if codes[k] == STATUS.index("inexact_integers"):
            raise ValueError(
                f"cost{where} holds integers too large to be summed exactly: min(n, m) * max|cost| must be "
                "below 2**53; subtract a constant, or pass float64 to accept rounding"
            )
        raise ValueError(
            f"cost{where} contains invalid numeric entries: "
            "every entry must be a number, or +inf where a pair is forbidden (-inf when maximising)"
        )
