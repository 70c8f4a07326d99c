"""Distances between sets of samples, in float64."""

import numpy as np

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


def frechet_distance(features_a, features_b):
    """Squared Fréchet distance of two sets of features, (N, D) and (M, D), as Gaussians (Heusel et al. 2017).

    ‖μ_a − μ_b‖² + tr(A + B − 2 (A½ B A½)½), all in float64. Both roots are of symmetric matrices, by their
    eigenvalues, so singular covariances (fewer samples than features) are no special case. Covariances have
    N − 1 in the denominator. Returns a float. Raises ValueError for fewer than 2 samples, sizes that
    differ, or values that are not finite.
    """
    a, b = _pair("features_a", features_a, "features_b", features_b)
    if min(len(a), len(b)) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {len(a)} and {len(b)}")
    cov_a, cov_b = (np.atleast_2d(np.cov(c, rowvar=False)) for c in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root_a = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
    difference = a.mean(axis=0) - b.mean(axis=0)
    distance = (
        difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * np.sqrt(cross.clip(min=0)).sum()
    )
    return float(max(distance, 0.0))


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
    if a.shape[1] <= 16:  # direct differences: the expansion below cancels where points are close
        return sum(np.subtract.outer(p, q) ** 2 for p, q in zip(a.T, b.T, strict=True))
    return (a * a).sum(axis=1)[:, None] + (b * b).sum(axis=1) - 2 * (a @ b.T)
