"""Pairwise cost between data and noise: (n, d) and (m, d) to (n, m), never n x m x d.

LOOM-CFM's cost is the squared distance (paper, eq. 7); the authors' code uses the distance itself. Both come
from one matrix product by |x - z|^2 = |x|^2 + |z|^2 - 2 x.z, clamped at zero. The label term is C2OT's (Cheng
and Schwing, 2025).
"""

from loomfast.cost.api import paired_cost, pairwise_cost, pairwise_cost_from_ids, reassigned_cost

__all__ = ["paired_cost", "pairwise_cost", "pairwise_cost_from_ids", "reassigned_cost"]
