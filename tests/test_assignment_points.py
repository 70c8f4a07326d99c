"""Points in few dimensions: equal to `solve` on their matrix of costs, with the certificate of every pair."""

import numpy as np
import pytest
import torch
from checks import check_assignment
from hypothesis import given, settings
from hypothesis import strategies as st

import loomfast

METRICS = ("sqeuclidean", "euclidean", "dot")


def costs(x, z, metric):
    """The obvious version, coordinate by coordinate as the engine adds them up."""
    total = np.zeros((len(x), len(z)))
    for k in range(x.shape[1]):
        a, b = x[:, k, None].astype(float), z[None, :, k].astype(float)
        total += a * b if metric == "dot" else (a - b) ** 2
    return {"sqeuclidean": total, "euclidean": np.sqrt(abs(total)), "dot": -total}[metric]


def check(x, z, metric="sqeuclidean"):
    found, cost = loomfast.solve_points(x, z, metric=metric), costs(x, z, metric)
    check_assignment(cost, found)
    expected = loomfast.solve(cost)
    assert abs(found.total - expected.total) <= found.gap + expected.gap + 1e-13 * abs(cost).sum()
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 2, 3, 5, 16])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (7, 7), (60, 60), (50, 63), (63, 50), (20, 300), (300, 300)]
)
def test_is_the_optimum_of_the_matrix(metric, d, shape):
    rng = np.random.default_rng(d)
    check(rng.standard_normal((shape[0], d)), rng.random((shape[1], d)), metric)


POINTS = {
    "a grid": lambda rng, n: rng.integers(0, 4, (n, 2)),
    "all equal": lambda rng, n: np.full((n, 2), 0.1),
    "two places": lambda rng, n: rng.integers(0, 2, (n, 1)) * np.array([[1.0, 3.0]]),
    "a line": lambda rng, n: rng.random((n, 1)) * np.array([[1.0, 2.0]]),
    "clusters": lambda rng, n: 10.0 ** rng.integers(-6, 6, (n, 1)) * rng.standard_normal((n, 2)),
    "huge": lambda rng, n: 1e30 * rng.standard_normal((n, 2)),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal((n, 2)),
    "far from zero": lambda rng, n: 1e8 + rng.standard_normal((n, 2)),
    "float16": lambda rng, n: rng.standard_normal((n, 2)).astype(np.float16),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(120, 120), (80, 120)])
@pytest.mark.parametrize("family", POINTS)
def test_points_of_every_kind(metric, shape, family):
    rng = np.random.default_rng(1)
    check(*(POINTS[family](rng, n) for n in shape), metric)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from(METRICS)
)
def test_small_ones_with_ties(seed, n, m, d, metric):
    rng = np.random.default_rng(seed)
    check(rng.integers(-2, 3, (n, d)), rng.integers(-2, 3, (m, d)), metric)


def test_a_sample_of_a_sample_comes_first_and_the_certificate_is_that_of_all_pairs():
    rng = np.random.default_rng(2)
    x, z = rng.random((9000, 2)), rng.random((9500, 2))
    found = loomfast.solve_points(x, z)
    assert found.status == "optimal"
    assert found.gap <= 1e-12 * found.total
    assert (found.v <= 0).all()
    assert (found.v[found.row4col < 0] == 0).all()
    for some in np.array_split(np.arange(len(x)), 30):
        assert (found.u[some, None] + found.v <= costs(x[some], z, "sqeuclidean")).all()
    matched = ((x - z[found.col4row]) ** 2).sum()
    assert matched == pytest.approx(found.total, rel=1e-12)
    assert found.u.sum() + found.v.sum() == pytest.approx(found.total, rel=1e-10)


def test_kinds_of_arrays():
    rng = np.random.default_rng(3)
    x, z = rng.random((40, 3), np.float32), rng.random((40, 3), np.float32)
    known = loomfast.solve_points(x, z)
    for kind in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, 0)[::2]):
        assert (loomfast.solve_points(kind, z).col4row == known.col4row).all()
    tensors = loomfast.solve_points(torch.from_numpy(x), torch.from_numpy(z))
    assert isinstance(tensors.u, torch.Tensor)
    assert torch.equal(tensors.col4row, torch.from_numpy(known.col4row))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    found = loomfast.solve_points(np.zeros((shape[0], 2)), np.zeros((shape[1], 2)))
    assert (found.total, found.gap, found.status) == (0, 0, "optimal")
    assert (found.col4row == -1).all()
    assert (found.row4col == -1).all()


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.ones(3), {}, ValueError, r"x must be points \(n, d\), got 1 dimensions"),
        (np.ones((3, 0)), {}, ValueError, r"x must have 1 to 16 dimensions, got shape \(3, 0\)"),
        (
            np.ones((3, 17)),
            {},
            ValueError,
            r"1 to 16 dimensions, .* loomfast\.solve\(loomfast\.pairwise_cost",
        ),
        (np.ones((3, 3)), {}, ValueError, r"x and z must have as many dimensions as each other"),
        ([[0.0, np.nan]], {}, ValueError, r"x must hold finite numbers .* in row 0"),
        ([[0.0, 1.0], [np.inf, 0.0]], {}, ValueError, r"in row 1"),
        (np.ones((3, 2), complex), {}, TypeError, r"x must hold real numbers"),
        (np.ones((3, 2)), {"metric": "l1"}, ValueError, r"metric must be one of sqeuclidean, .*, got 'l1'"),
    ],
)
def test_bad_input(x, options, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve_points(x, np.ones((3, 2)), **options)
