"""The assignment as a torch operator, ``loomfast::solve_assignment``, for torch.compile and CUDA graphs."""

import torch

from loomfast.assignment import cuda as assignment_cuda

__all__ = ["solve_assignment"]

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
    from loomfast.assignment import solve

    result = solve(cost, maximize=maximize, backend="cpu")
    lead = cost.shape[:-2]
    real = {"dtype": torch.float64, "device": "cpu"}
    total, gap = (torch.as_tensor(x, **real).reshape(lead) for x in (result.total, result.gap))
    status = torch.zeros(lead, dtype=torch.int32, device="cpu")
    return result.col4row, result.row4col, result.u, result.v, total, gap, status


@solve_assignment.register_kernel("cuda")
def _(cost, maximize=False):
    result = assignment_cuda.solve(cost.detach(), maximize=maximize)
    return result.col4row, result.row4col, result.u, result.v, result.total, result.gap, result.status


@solve_assignment.register_fake
def _(cost, maximize=False):
    *lead, n, m = cost.shape
    whole = {"dtype": torch.int64, "device": cost.device}
    real = {"dtype": torch.float64, "device": cost.device}
    matchings = torch.empty((*lead, n), **whole), torch.empty((*lead, m), **whole)
    prices = torch.empty((*lead, n), **real), torch.empty((*lead, m), **real)
    status = torch.empty(lead, dtype=torch.int32, device=cost.device)
    return *matchings, *prices, torch.empty(lead, **real), torch.empty(lead, **real), status
