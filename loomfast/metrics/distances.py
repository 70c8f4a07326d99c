"""Distances between sets of samples, in float64."""

import math

import numpy as np

from loomfast._arrays import integer
from loomfast.assignment import solve


def _matrix(name, a):
    a = np.asarray(a.detach().cpu() if hasattr(a, "detach") else a, dtype=np.float64)
    if a.ndim < 2 or len(a) == 0:
        raise ValueError(f"{name} must have shape (N, ...) with N at least 1, got {a.shape}")
    if not np.isfinite(a).all():
        raise ValueError(f"{name} must be finite")
    return a.reshape(len(a), -1)


def _pair(name_a, a, name_b, b):
    a, b = _matrix(name_a, a), _matrix(name_b, b)
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"{name_a} and {name_b} must have items of one size, got {a.shape[1]} and {b.shape[1]}"
        )
    return a, b


def transport_cost(x, z):
    """Return the mean of ‖x_i − z_i‖² over pairs (LOOM-CFM, eq. 7), for (N, ...) twice, as a float."""
    x, z = _pair("x", x, "z", z)
    if len(x) != len(z):
        raise ValueError(f"x and z must hold as many items, got {len(x)} and {len(z)}")
    return float(np.square(x - z).sum(axis=1).mean())


class FrechetReference:
    """A set of features (M, D) that others are compared with: what its covariance needs is computed once."""

    def __init__(self, features):
        self._features = _matrix("features_b", features)
        if len(self._features) < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {len(self._features)}")
        self._mean, covariance = _moments(self._features)
        values, vectors = np.linalg.eigh(covariance)
        self._root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
        self._trace = np.trace(covariance)

    def distance(self, features):
        """Return the distance of features (N, D) to these, as `frechet_distance`."""
        features, _ = _pair("features_a", features, "features_b", self._features)
        if len(features) < 2:
            raise ValueError(f"a covariance needs at least 2 samples, got {len(features)}")
        mean, covariance = _moments(features)
        cross = np.linalg.eigvalsh(self._root @ covariance @ self._root)
        difference = mean - self._mean
        traces = np.trace(covariance) + self._trace - 2 * np.sqrt(cross.clip(min=0)).sum()
        return float(max(difference @ difference + traces, 0.0))

    def at_infinity(self, features, *, sizes=8, seed=0):
        """Return the distance extrapolated to infinitely many samples, as `frechet_at_infinity`."""
        sizes = integer(sizes, "sizes", 2)
        if len(features) < 16:
            raise ValueError(f"an extrapolation needs at least 16 samples, got {len(features)}")
        rng = np.random.default_rng(seed)
        counts = np.linspace(math.ceil(len(features) / 2), len(features), sizes).astype(int)
        found = [self.distance(features[rng.permutation(len(features))[:n]]) for n in counts]
        _, at_zero = np.polyfit(1 / counts, found, 1)
        return float(at_zero)


def _moments(features):
    return features.mean(axis=0), np.atleast_2d(np.cov(features, rowvar=False))


def frechet_distance(features_a, features_b):
    """Squared Fréchet distance of two sets of features, (N, D) and (M, D), as Gaussians (Heusel et al. 2017).

    ‖μ_a − μ_b‖² + tr(A + B − 2 (B½ A B½)½), all in float64. Both roots are of symmetric matrices, by their
    eigenvalues, so singular covariances (fewer samples than features) are no special case. Covariances have
    N − 1 in the denominator. Returns a float. Raises ValueError for fewer than 2 samples, sizes that
    differ, or values that are not finite.
    """
    return FrechetReference(features_b).distance(features_a)


def exact_w2(a, b):
    """Return the 2-Wasserstein distance of two sets of equally many samples, (N, ...) each, as a float.

    It is exact: the samples are matched by `loomfast.solve`. Raises ValueError for other numbers or sizes.
    """
    a, b = _pair("a", a, "b", b)
    if len(a) != len(b):
        raise ValueError(f"a and b must hold as many samples, got {len(a)} and {len(b)}")
    col4row = solve(_squared_distances(a, b)).col4row
    return float(np.sqrt(np.square(a - b[col4row]).sum(axis=1).mean()))


def _squared_distances(a, b):
    """Return all squared distances of (n, d) and (m, d): (n, m) float64, and little memory beside."""
    if a.shape[1] <= 16:  # direct differences: the expansion below cancels where points are close
        found = np.zeros((len(a), len(b)))
        for p, q in zip(a.T, b.T, strict=True):
            difference = np.subtract.outer(p, q)
            found += np.square(difference, out=difference)
        return found
    found = a @ b.T
    found *= -2
    found += (a * a).sum(axis=1)[:, None]
    found += (b * b).sum(axis=1)
    return found
