"""The linear assignment problem in all its forms, solved exactly and certified: `solve` and others."""

from loomfast.assignment.api import (
    _linear_sum_assignment_of_any,  # noqa: F401  (the extension calls it for what it does not read itself)
    linear_sum_assignment,
    solve,
)
from loomfast.assignment.bottleneck import BottleneckAssignment, solve_bottleneck
from loomfast.assignment.infeasible import InfeasibleError
from loomfast.assignment.k_best import solve_k_best
from loomfast.assignment.points import solve_points
from loomfast.assignment.result import COUNTERS, PHASES, STATUS, Assignment
from loomfast.assignment.sparse import min_weight_full_bipartite_matching, solve_sparse

__all__ = [
    "COUNTERS",
    "PHASES",
    "STATUS",
    "Assignment",
    "BottleneckAssignment",
    "InfeasibleError",
    "linear_sum_assignment",
    "min_weight_full_bipartite_matching",
    "solve",
    "solve_bottleneck",
    "solve_k_best",
    "solve_points",
    "solve_sparse",
]
