"""Families of costs that others measure with, made by the recipes that they publish.

``scipy ...``: the five families of scipy's benchmark of `linear_sum_assignment`
(benchmarks/optimize_lap.py), which it runs square, twice as wide and twice as tall. ``LAP1015 ...``: those of
the tests of Algorithm 1015 (S. Guthe and D. Thuerck, ACM Trans. Math. Softw. 47(2), 2021): a known optimum
(sanity), points in the plane, points in opposite squares (disjoint), matrices of rank 4, colours of pixels;
its random one is ``unif``. ``OR-Library``: the files assign100 ... assign800 (J. E. Beasley, J. Oper. Res.
Soc. 41(11), 1990) hold whole numbers uniform in [1, 100]; they are not downloaded but drawn anew.
"""

import numpy as np

SHAPES = (
    {
        f"scipy {kind}": ((100, 100), (400, 400), (400, 800), (800, 400))
        for kind in ("uniform", "logarithmic", "integer", "binary", "spatial")
    }
    | {
        f"LAP1015 {kind}": ((1024, 1024),)
        for kind in ("sanity", "geometric", "disjoint", "low rank", "pixels")
    }
    | {"OR-Library": ((100, 100), (400, 400), (800, 800))}
)


def known_costs(family, n, m, seed=0):
    """(n, m) float32 of a family of `SHAPES`."""
    rng = np.random.default_rng(seed)
    who, _, kind = family.partition(" ")
    if who == "OR-Library":
        found = rng.integers(1, 101, (n, m))
    else:
        found = (_of_scipy if who == "scipy" else _of_lap1015)(kind, n, m, rng)
    return np.ascontiguousarray(found, np.float32)


def _of_scipy(kind, n, m, rng):
    if kind == "uniform":
        return rng.uniform(-20, 20, (n, m))
    if kind == "logarithmic":
        return 10 ** rng.uniform(-20, 20, (n, m))
    if kind == "integer":
        return rng.integers(-1000, 1000, (n, m))
    if kind == "binary":
        return rng.integers(0, 2, (n, m))
    return _squared_distances(rng.uniform(-1, 1, (n, 2)), rng.uniform(-1, 1, (m, 2)))


def _of_lap1015(kind, n, m, rng):
    if kind == "sanity":
        found = rng.random((n, 1)) + rng.random((1, m)) + 0.1
        np.fill_diagonal(found, found.diagonal() - 0.1)
        return found
    if kind == "low rank":
        factors = rng.random((4, max(n, m)))
        return factors[:, :n].T @ factors[:, :m] / 4
    if kind == "pixels":
        return _pixels(n, m, rng)
    rows, columns = rng.random((n, 2)), rng.random((m, 2))
    if kind == "disjoint":  # two squares of the diagonal against the other two
        rows[n // 2 :] += 1
        columns[: m // 2, 0] += 1
        columns[m // 2 :, 1] += 1
    return _squared_distances(rows, columns)


def _pixels(n, m, rng):
    """Squared distances of colours, in [0, 1]^3, of pixels of two photographs."""
    from sklearn.datasets import load_sample_images

    pictures = [picture.reshape(-1, 3) / 255 for picture in load_sample_images().images]
    return _squared_distances(rng.choice(pictures[0], n), rng.choice(pictures[1], m))


def _squared_distances(a, b):
    return ((a[:, None] - b[None]) ** 2).sum(-1)
