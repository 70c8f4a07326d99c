"""The k best matchings: brute force, ties, gates, every shape, bad input."""

import itertools

import numpy as np
import pytest
import torch

import loomfast
from loomfast.assignment.reference import k_best as reference_k_best

FAMILIES = {
    "uniform": lambda rng, shape: rng.random(shape),
    "ties": lambda rng, shape: rng.integers(0, 3, shape).astype(np.float32),
    "integers": lambda rng, shape: rng.integers(-50, 50, shape),
    "constant": lambda rng, shape: np.full(shape, 0.1),
    "large": lambda rng, shape: rng.normal(size=shape) * 1e12,
    "sentinels": lambda rng, shape: np.where(rng.random(shape) < 0.3, 1e6, rng.random(shape)),
}


def every_matching(cost):
    """{matching as sorted pairs: total} of all complete matchings without forbidden pairs."""
    cost = np.asarray(cost, np.float64)
    n, m = cost.shape
    short = cost if n <= m else cost.T
    found = {}
    for columns in itertools.permutations(range(max(n, m)), min(n, m)):
        total = sum(short[i, j] for i, j in enumerate(columns))
        if np.isfinite(total):
            pairs = enumerate(columns) if n <= m else ((j, i) for i, j in enumerate(columns))
            found[tuple(sorted(pairs))] = total
    return found


def pairs_of(result):
    rows = np.flatnonzero(np.asarray(result.col4row) >= 0)
    assert np.array_equal(np.asarray(result.row4col)[np.asarray(result.col4row)[rows]], rows)
    return tuple((int(i), int(result.col4row[i])) for i in rows)


def check_ranking(cost, results, k, maximize=False):
    """The k best of all matchings, each once, in order; which of equal ones come first is open."""
    matchings = every_matching(cost)
    totals = sorted(matchings.values(), reverse=maximize)
    assert len(results) == min(k, len(matchings))
    found = [pairs_of(result) for result in results]
    assert len(set(found)) == len(found)
    scale = max(map(abs, totals))
    for result, pairs, total in zip(results, found, totals, strict=False):
        assert result.total == pytest.approx(matchings[pairs], rel=1e-13, abs=1e-13 * scale)
        assert result.total == pytest.approx(total, rel=1e-12, abs=1e-12 * scale)
        assert result.gap >= abs(result.total - results[0].total)
    ours = [result.total for result in results]
    assert ours == sorted(ours, reverse=maximize)
    assert [result.status for result in results] == ["optimal"] + ["ranked"] * (len(results) - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_brute_force(family):
    rng = np.random.default_rng(7)
    for _ in range(40):
        n, m = (int(size) for size in rng.integers(1, 6, 2))
        cost, maximize = FAMILIES[family](rng, (n, m)), bool(rng.integers(2))
        k = int(rng.integers(1, 200))
        check_ranking(cost, loomfast.solve_k_best(cost, k, maximize=maximize), k, maximize)


def test_gates():
    rng = np.random.default_rng(8)
    infeasible = 0
    for _ in range(150):
        n, m = (int(size) for size in rng.integers(1, 6, 2))
        cost = rng.integers(0, 9, (n, m)).astype(np.float64)
        cost[rng.random((n, m)) < 0.5 * rng.random()] = np.inf
        if every_matching(cost):
            check_ranking(cost, loomfast.solve_k_best(cost, 30), 30)
            continue
        infeasible += 1
        with pytest.raises(ValueError, match="infeasible"):
            loomfast.solve_k_best(cost, 30)
    assert infeasible > 5


@pytest.mark.parametrize("shape", [(25, 25), (12, 30), (30, 12)])
@pytest.mark.parametrize("family", ["uniform", "ties", "integers"])
def test_against_the_reference(family, shape):
    cost = FAMILIES[family](np.random.default_rng(9), shape)
    results = loomfast.solve_k_best(cost, 40)
    assert len({pairs_of(result) for result in results}) == 40
    np.testing.assert_allclose([r.total for r in results], reference_k_best(cost, 40), rtol=1e-12)


def test_the_first_is_the_optimum_with_its_certificate():
    cost = np.random.default_rng(10).random((40, 60))
    first, second, *_ = loomfast.solve_k_best(cost, 3)
    known = loomfast.solve(cost)
    assert (first.total, first.gap) == (known.total, known.gap)
    np.testing.assert_array_equal(first.u, known.u)
    assert np.all(second.u[:, None] + second.v <= cost)
    assert second.total > first.total


def test_kinds_of_cost():
    cost = np.random.default_rng(11).integers(0, 100, (8, 9))
    known = [r.total for r in loomfast.solve_k_best(cost, 20)]
    kinds = [cost.astype(np.int16), cost.astype(np.float32), np.asfortranarray(cost), cost.tolist()]
    kinds += [torch.from_numpy(cost), torch.from_numpy(cost).to(torch.bfloat16)]
    for kind in kinds:
        results = loomfast.solve_k_best(kind, 20)
        assert [r.total for r in results] == known
        assert isinstance(results[0].col4row, torch.Tensor) == isinstance(kind, torch.Tensor)
    transposed = [r.total for r in loomfast.solve_k_best(cost.T, 20)]
    assert transposed == known


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    (only,) = loomfast.solve_k_best(np.empty(shape), 5)
    assert only.total == 0
    assert only.col4row.tolist() == [-1] * shape[0]


def test_more_than_there_are():
    assert len(loomfast.solve_k_best(np.zeros((4, 4)), 10**30)) == 24
    assert len(loomfast.solve_k_best(np.zeros((2, 5)), 21)) == 20


@pytest.mark.parametrize(
    ("cost", "k", "error", "message"),
    [
        (np.eye(2), 0, ValueError, "k must be at least 1, got 0"),
        (np.eye(2), -3, ValueError, "k must be at least 1, got -3"),
        (np.eye(2), 2.0, TypeError, "k must be an integer, got 2.0"),
        (np.eye(2), True, TypeError, "k must be an integer, got True"),
        (np.zeros(3), 1, ValueError, r"must be a matrix \(n, m\), got 1 dimensions"),
        (np.zeros((2, 2, 2)), 1, ValueError, r"must be a matrix \(n, m\), got 3 dimensions"),
        (np.eye(2) * 1j, 1, TypeError, "Cannot cast"),
        ([[1, np.nan], [1, 2]], 1, ValueError, r"invalid numeric entries: entry \(0, 1\)"),
        ([[1, 1], [-np.inf, 2]], 1, ValueError, r"invalid numeric entries: entry \(1, 0\)"),
        (np.full((2, 2), 2**60), 1, ValueError, "int64 values too large to be summed exactly"),
    ],
)
def test_bad_input_is_one_clear_error(cost, k, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve_k_best(cost, k)
