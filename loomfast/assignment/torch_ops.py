"""The assignment as a torch operator, ``loomfast::solve_assignment``, for torch.compile and CUDA graphs."""

import torch

from loomfast.assignment import cuda
from loomfast.assignment.api import solve
from loomfast.assignment.result import STATUS, array_table

__all__ = ["solve_assignment", "solve_from_prices"]

_OUTPUTS = (*array_table(0, 0), "status")
Outputs = tuple[
    torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor
]


@torch.library.custom_op("loomfast::solve_assignment", mutates_args=(), device_types="cpu")
def solve_assignment(cost: torch.Tensor, maximize: bool = False) -> Outputs:
    """Solve (n, m) or (b, n, m) costs exactly; see `loomfast.solve`.

    Returns ``(col4row, row4col, u, v, total, gap, status)``: int64 matchings, float64 prices, totals and
    gaps, and an int32 status per instance, 0 where it was solved. On a GPU nothing is synchronised and a
    problem that cannot be solved is reported by its status alone; on the CPU it raises ValueError.
    """
    result = solve(cost, maximize=maximize, backend="cpu")
    lead = cost.shape[:-2]
    real = {"dtype": torch.float64, "device": "cpu"}
    total, gap = (torch.as_tensor(x, **real).reshape(lead) for x in (result.total, result.gap))
    status = torch.zeros(lead, dtype=torch.int32, device="cpu")
    return result.col4row, result.row4col, result.u, result.v, total, gap, status


@solve_assignment.register_kernel("cuda")
def _(cost, maximize=False):
    result = cuda.solve(cost.detach(), maximize=maximize)
    return tuple(getattr(result, name) for name in _OUTPUTS)


@solve_assignment.register_fake
def _(cost, maximize=False):
    *lead, n, m = cost.shape
    table = array_table(n, m) | {"status": ((), "int32")}
    return tuple(
        torch.empty((*lead, *shape), dtype=getattr(torch, dtype), device=cost.device)
        for shape, dtype in table.values()
    )


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
