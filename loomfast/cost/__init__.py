"""Cost between data and noise, of all pairs or of some: (n, d) and (m, d) to (n, m), never n x m x d."""

from loomfast.cost.api import paired_cost, pairwise_cost, pairwise_cost_from_ids

__all__ = ["paired_cost", "pairwise_cost", "pairwise_cost_from_ids"]
