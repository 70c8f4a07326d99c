"""The linear assignment problem, solved exactly and certified: `linear_sum_assignment` and `solve`."""

from loomfast.assignment.api import (
    Assignment,
    _linear_sum_assignment_of_any,  # noqa: F401  (the extension calls it)
    linear_sum_assignment,
    solve,
)

__all__ = ["Assignment", "linear_sum_assignment", "solve"]
