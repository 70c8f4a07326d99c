"""The assignment of torch tensors: operators for torch.compile, transforms and CUDA graphs; the gradient.

``loomfast::solve_assignment``, ``loomfast::solve_from_prices`` and ``loomfast::linear_sum_assignment`` are
opaque to ``torch.compile``, so that code which solves compiles as one graph. No gradient flows through them:
the total gets one from a function of its own, whose backward is the matching.
"""

from dataclasses import fields, replace

import torch
from torch.autograd import forward_ad

from loomfast._arrays import is_tensor
from loomfast._engine import linear_sum_assignment
from loomfast._torch import transformed, watched
from loomfast.assignment import cuda
from loomfast.assignment.api import _linear_sum_assignment_of_any, check_two_axes, solve
from loomfast.assignment.result import STATUS, Assignment, array_table
from loomfast.assignment.start import parse_start

_OUTPUTS = (*array_table(0, 0), "status")
Outputs = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]
Optional = torch.Tensor | None
_STARTS = ("start_col4row", "start_u", "start_v")
_OF_SIDES = ("unmatched_rows", "unmatched_columns", "size_rows", "size_columns")
# The arguments of `solve_assignment` after the cost, in order.
_MORE = (
    *("maximize", "cost_limit", *_OF_SIDES, *_STARTS),
    *("tolerance", "row_repeats", "backend", "threads"),
)


# ---- what callers reach -----------------------------------------------------------------------------------


def takes(cost):
    """Whether `solve_tensor` is for this cost: an operator must see it, or its total has a gradient."""
    return watched() or _differentiated(cost)


def _differentiated(cost):
    """Whether autograd follows a cost, backward or forward."""
    if cost.requires_grad and torch.is_grad_enabled():
        return True
    if forward_ad._current_level < 0:
        return False
    return torch.compiler.is_compiling() or forward_ad.unpack_dual(cost).tangent is not None


def solve_tensor(cost, *, row_repeats, **options):
    """`loomfast.solve` for a torch cost that `takes`, with its other arguments.

    Where an operator must see it, every field is a tensor, as from the kernels on a GPU, and ``stats`` empty.
    """
    solved = _by_operator if watched() else solve
    found = solved(cost.detach(), row_repeats=row_repeats, **options)
    if not cost.is_floating_point() or not (transformed() or _differentiated(cost)):
        return found
    total = torch.as_tensor(found.total, dtype=torch.float64, device=cost.device)
    followed = _by_entries if torch.compiler.is_compiling() else _Total.apply
    return replace(found, total=followed(cost, total, found.col4row, row_repeats))


def pairs_of_tensor(cost_matrix, maximize=False):
    """`loomfast.linear_sum_assignment` for a torch cost that an operator must see."""
    if not is_tensor(cost_matrix):
        raise TypeError(
            f"inside torch.compile cost_matrix must be a tensor, got {type(cost_matrix).__name__}"
        )
    return torch.ops.loomfast.linear_sum_assignment(cost_matrix.detach(), bool(maximize))


def tell_tracer():
    """Make torch.compile, which follows no function of the engine, see `pairs_of_tensor` in its place."""
    torch.compiler.substitute_in_graph(linear_sum_assignment)(pairs_of_tensor)


def _by_operator(cost, *, start, cost_limit, unmatched_cost, sizes, **options):
    if cost.dim() not in (2, 3):
        raise ValueError(
            f"cost must be a matrix (n, m) or a batch (b, n, m), got {cost.dim()} dimensions "
            f"with shape {tuple(cost.shape)}"
        )
    if cost_limit is None and isinstance(unmatched_cost, int | float):
        cost_limit, unmatched_cost = 2 * unmatched_cost, None
    parts = {
        **_pair(unmatched_cost, "unmatched", "unmatched_cost"),
        **_pair(sizes, "size", "sizes"),
        **dict(zip(_STARTS, parse_start(start), strict=True)),
    }
    parts = {name: _as_tensor(part) for name, part in parts.items()}
    options |= {"maximize": bool(options["maximize"]), "tolerance": float(options["tolerance"])}
    limit = None if cost_limit is None else float(cost_limit)
    outputs = torch.ops.loomfast.solve_assignment(cost, cost_limit=limit, **parts, **options)
    return Assignment(*outputs, stats={})


def _as_tensor(value):
    if value is None or isinstance(value, torch.Tensor):
        return value if value is None else value.detach()
    return torch.as_tensor(value, dtype=torch.float64 if isinstance(value, float) else None)


def _pair(value, name, argument):
    """The parts of ``(rows, columns)``, or of one value for both, as arguments of the operator."""
    if value is None or not isinstance(value, tuple | list):
        value = value, value
    if len(value) != 2:
        raise ValueError(f"{argument} must have two parts, (rows, columns), got {len(value)}")
    return {f"{name}_rows": value[0], f"{name}_columns": value[1]}


# ---- the operators ----------------------------------------------------------------------------------------


@torch.library.custom_op("loomfast::solve_assignment", mutates_args=())
def solve_assignment(
    cost: torch.Tensor,
    maximize: bool = False,
    cost_limit: float | None = None,
    unmatched_rows: Optional = None,
    unmatched_columns: Optional = None,
    size_rows: Optional = None,
    size_columns: Optional = None,
    start_col4row: Optional = None,
    start_u: Optional = None,
    start_v: Optional = None,
    tolerance: float = 0.0,
    row_repeats: int = 1,
    backend: str | None = None,
    threads: int | None = None,
) -> Outputs:
    """Solve (n, m) or (b, n, m) costs exactly; see `loomfast.solve`.

    Returns ``(col4row, row4col, u, v, total, gap, status)``: int64 matchings, float64 prices, totals and
    gaps, and an int32 status per instance, 0 where it was solved. On a GPU nothing is synchronised and a
    problem that cannot be solved is reported by its status alone; on the CPU it raises ValueError.

    ``backend`` None stands for the kernels of the device that the cost is on.
    """
    found = solve(
        cost,
        maximize=maximize,
        cost_limit=cost_limit,
        unmatched_cost=_both(unmatched_rows, unmatched_columns),
        sizes=_both(size_rows, size_columns),
        start=(start_col4row, start_u, start_v),
        tolerance=tolerance,
        row_repeats=row_repeats,
        backend=backend or ("cuda" if cost.is_cuda else "cpu"),
        threads=threads,
    )
    return tuple(_as_output(name, getattr(found, name), cost) for name in _OUTPUTS)


def _both(rows, columns):
    return None if rows is None and columns is None else (rows, columns)


def _as_output(name, value, cost):
    """A field of an `Assignment` as the tensor that the operators return."""
    if isinstance(value, torch.Tensor):
        return value
    lead = cost.shape[:-2]
    if name == "status":
        codes = [STATUS.index(status) for status in (value if len(lead) else (value,))]
        return torch.tensor(codes, dtype=torch.int32, device=cost.device).reshape(lead)
    return torch.as_tensor(value, dtype=torch.float64, device=cost.device).reshape(lead)


@solve_assignment.register_fake
def _(cost, *more):
    *lead, n, m = cost.shape
    row_repeats = dict(zip(_MORE, more, strict=False)).get("row_repeats", 1)
    table = array_table(n * row_repeats, m) | {"status": ((), "int32")}
    return tuple(
        torch.empty((*lead, *shape), dtype=getattr(torch, dtype), device=cost.device)
        for shape, dtype in table.values()
    )


@solve_assignment.register_vmap
def _(info, in_dims, cost, *more):
    dims, more = (dict(zip(_MORE, part, strict=False)) for part in (in_dims[1:], more))
    if any(more.get(name) is not None for name in _OF_SIDES):
        raise ValueError("sizes and unmatched_cost cannot be used inside torch.vmap: solve the batch at once")
    cost = _in_front(cost, in_dims[0], info.batch_size)
    lead = cost.shape[:-2]
    for name in _STARTS:
        part = _in_front(more.get(name), dims.get(name), info.batch_size)
        more[name] = part if part is None else part.flatten(0, len(lead) - 1)
    outputs = torch.ops.loomfast.solve_assignment(cost.flatten(0, len(lead) - 1), **more)
    return tuple(out.unflatten(0, lead) for out in outputs), (0,) * len(outputs)


def _in_front(tensor, dim, size):
    """A tensor that vmap gives with the axis it maps in front, repeated where there is none."""
    if tensor is None:
        return None
    return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)


@torch.library.custom_op("loomfast::linear_sum_assignment", mutates_args=())
def _linear_sum_assignment(cost: torch.Tensor, maximize: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    return _linear_sum_assignment_of_any(cost, maximize)


@_linear_sum_assignment.register_fake
def _(cost, maximize=False):
    check_two_axes(cost.dim())
    size = torch.sym_min(*cost.shape)
    return tuple(torch.empty((size,), dtype=torch.int64, device=cost.device) for _ in range(2))


@torch.library.custom_op("loomfast::solve_from_prices", mutates_args=(), device_types="cpu")
def solve_from_prices(
    cost: torch.Tensor, v: torch.Tensor, tolerance: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Solve a square cost (n, n), from each row in its own column and column prices ``v`` (n,) float64.

    Returns ``(col4row, v, gap, status)``, as `solve_assignment` does; what cannot be solved is likewise
    reported by its status alone on a GPU, and raises ValueError on the CPU.
    """
    start = torch.arange(len(cost), device="cpu"), v
    result = solve(cost, start=start, tolerance=tolerance, backend="cpu")
    gap = torch.tensor(result.gap, dtype=torch.float64, device="cpu")
    status = torch.tensor(STATUS.index(result.status), dtype=torch.int32, device="cpu")
    return result.col4row, result.v, gap, status


@solve_from_prices.register_kernel("cuda")
def _(cost, v, tolerance):
    start = torch.arange(len(cost), device=cost.device), v
    result = cuda.solve(cost.detach(), start=start, tolerance=tolerance)
    return result.col4row, result.v, result.gap, result.status


@solve_from_prices.register_fake
def _(cost, v, tolerance):
    col4row = torch.empty(cost.shape[:1], dtype=torch.int64, device=cost.device)
    gap = torch.empty((), dtype=torch.float64, device=cost.device)
    return col4row, torch.empty_like(v), gap, torch.empty((), dtype=torch.int32, device=cost.device)


# ---- the gradient of the total ----------------------------------------------------------------------------
# The total is min_X <X, cost> over matchings X: concave and piecewise linear in the cost, with the optimal X
# as a supergradient of it (a subgradient of a maximum), and as its gradient wherever X is unique (J. M.
# Danskin, "The Theory of Max-Min", 1967).


class _Total(torch.autograd.Function):
    """``total`` (...), with the gradient of the costs (..., n, m) at ``col4row`` (..., n * row_repeats)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(cost, total, col4row, row_repeats):
        return total.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        cost, _, col4row, row_repeats = inputs
        ctx.save_for_backward(col4row)
        ctx.save_for_forward(col4row)
        ctx.columns, ctx.row_repeats, ctx.dtype = cost.shape[-1], row_repeats, cost.dtype

    @staticmethod
    def backward(ctx, grad):
        (col4row,) = ctx.saved_tensors
        return _Matching.apply(grad, col4row, ctx.columns, ctx.row_repeats).to(ctx.dtype), None, None, None

    @staticmethod
    def jvp(ctx, cost, *_):
        (col4row,) = ctx.saved_tensors
        return _sum_of_matched(cost, col4row, ctx.row_repeats)


class _Matching(torch.autograd.Function):
    """``grad`` (...) at matched pairs, summed over repeated rows, and 0 elsewhere: (..., n, columns)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, col4row, columns, row_repeats):
        rows = col4row.shape[-1] // row_repeats
        out = grad.new_zeros((*grad.shape, rows * columns))
        if rows * columns == 0:
            return out.unflatten(-1, (rows, columns))
        place = _places(col4row, columns, row_repeats)
        return out.scatter_add(-1, place, grad.unsqueeze(-1) * (col4row >= 0)).unflatten(-1, (rows, columns))

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        raise RuntimeError(
            "the total of an assignment can be differentiated once only: its gradient is the matching, which "
            "is constant but for jumps. Detach the gradient, or leave the total out of what is "
            "differentiated twice"
        )


def _by_entries(cost, total, col4row, row_repeats):
    """The same by the entries matched, which torch.compile follows through its transforms, too."""
    matched = _sum_of_matched(cost, col4row, row_repeats)
    return total + (matched - matched.detach())


def _sum_of_matched(cost, col4row, row_repeats):
    if cost.shape[-2] == 0 or cost.shape[-1] == 0:
        return cost.double().sum((-2, -1))
    entries = cost.double().flatten(-2).gather(-1, _places(col4row, cost.shape[-1], row_repeats))
    return torch.where(col4row >= 0, entries, 0.0).sum(-1)


def _places(col4row, columns, row_repeats):
    """Where the pairs of matched rows are in a flat (n * columns); of the others, their row's first place."""
    row = torch.arange(col4row.shape[-1], device=col4row.device) // row_repeats
    return row * columns + col4row.clamp(min=0)


def _flatten(found):
    return [getattr(found, name) for name in _FIELDS], None


# Functions that torch.vmap maps may return an Assignment: its fields are the leaves of it.
_FIELDS = tuple(field.name for field in fields(Assignment))
torch.utils._pytree.register_pytree_node(
    Assignment, _flatten, lambda parts, _: Assignment(*parts), serialized_type_name="loomfast.Assignment"
)
