"""The linear assignment problem, solved exactly and certified: `linear_sum_assignment` and `solve`."""

from loomfast.assignment.api import (
    _linear_sum_assignment_of_any,  # noqa: F401  (the extension calls it for what it does not read itself)
    linear_sum_assignment,
    solve,
)
from loomfast.assignment.result import COUNTERS, STATUS, Assignment

__all__ = ["COUNTERS", "STATUS", "Assignment", "linear_sum_assignment", "solve"]
