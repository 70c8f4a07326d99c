"""What is measured of a model and of a coupling."""

from loomfast.metrics.digits import digits_features, digits_logits
from loomfast.metrics.distances import FrechetReference, exact_w2, frechet_distance, transport_cost
from loomfast.metrics.intervals import Interval, bootstrap_interval, frechet_at_infinity
from loomfast.metrics.neighbours import neighbour_scores
from loomfast.metrics.paths import (
    curvature,
    normalised_path_energy,
    path_energy,
    path_measures,
    straightness,
)

__all__ = [
    "curvature",
    "straightness",
    "path_measures",
    "path_energy",
    "normalised_path_energy",
    "transport_cost",
    "frechet_distance",
    "frechet_at_infinity",
    "FrechetReference",
    "exact_w2",
    "neighbour_scores",
    "bootstrap_interval",
    "Interval",
    "digits_features",
    "digits_logits",
]
