"""Bottleneck assignments: brute force, the proof of each, the cheapest of them, bad input."""

import itertools

import numpy as np
import pytest
import torch

import loomfast
from loomfast.assignment.reference import bottleneck as reference_bottleneck

FAMILIES = {
    "uniform": lambda rng, shape: rng.random(shape),
    "ties": lambda rng, shape: rng.integers(0, 3, shape).astype(np.float32),
    "integers": lambda rng, shape: rng.integers(-50, 50, shape),
    "large integers": lambda rng, shape: rng.integers(-(2**45), 2**45, shape),
    "constant": lambda rng, shape: np.full(shape, 0.1),
    "huge": lambda rng, shape: rng.normal(size=shape) * 1e307,
    "line": lambda rng, shape: np.abs(rng.random((shape[0], 1)) - rng.random((1, shape[1]))),
}


def check_bottleneck(cost, result, maximize=False):
    """The matching is complete, its dearest pair is the bottleneck, and the blocking set proves that."""
    cost = np.asarray(cost, np.float64)
    n, m = cost.shape
    signed, least = (-cost, -result.bottleneck) if maximize else (cost, result.bottleneck)
    x = np.asarray(result.col4row)
    rows = np.flatnonzero(x >= 0)
    assert len(rows) == min(n, m) == len(set(x[rows].tolist()))
    assert np.array_equal(np.asarray(result.row4col)[x[rows]], rows)
    assert signed[rows, x[rows]].max() == least
    below = (signed < least) if n <= m else (signed < least).T
    crowded, others = (result.blocking_rows, result.blocking_columns)[:: 1 if n <= m else -1]
    assert len(crowded) > len(others)
    assert not np.delete(below[crowded], others, axis=1).any()


def brute_force(cost):
    """(bottleneck, least total with it) of all complete matchings, infinite where there is none."""
    cost = cost if cost.shape[0] <= cost.shape[1] else cost.T
    n, m = cost.shape
    values = ([cost[i, j] for i, j in enumerate(columns)] for columns in itertools.permutations(range(m), n))
    return min((max(found), sum(found)) for found in values)


@pytest.mark.parametrize("family", FAMILIES)
def test_brute_force(family):
    rng = np.random.default_rng(12)
    for _ in range(60):
        n, m = (int(size) for size in rng.integers(1, 6, 2))
        maximize = bool(rng.integers(2))
        cost = FAMILIES[family](rng, (n, m))
        if cost.dtype.kind == "f":
            cost[rng.random((n, m)) < 0.4 * rng.random()] = -np.inf if maximize else np.inf
        wide = cost.astype(np.float64)
        least, total = brute_force(-wide if maximize else wide)
        if np.isinf(least):
            with pytest.raises(loomfast.InfeasibleError, match="infeasible"):
                loomfast.solve_bottleneck(cost, maximize=maximize)
            continue
        for then_sum in (False, True):
            result = loomfast.solve_bottleneck(cost, then_sum, maximize=maximize)
            check_bottleneck(cost, result, maximize)
            assert result.bottleneck == (-least if maximize else least)
        assert (-result.total if maximize else result.total) == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("shape", [(60, 60), (40, 90), (90, 40), (200, 200)])
@pytest.mark.parametrize("family", FAMILIES)
def test_against_the_reference(family, shape):
    cost = FAMILIES[family](np.random.default_rng(13), shape)
    result = loomfast.solve_bottleneck(cost)
    check_bottleneck(cost, result)
    assert result.bottleneck == reference_bottleneck(cost)
    assert (result.u, result.v, result.gap) == (None, None, 0)


@pytest.mark.parametrize("shape", [(50, 50), (30, 60), (60, 30)])
def test_then_sum_is_the_optimum_of_the_pairs_that_are_left(shape):
    cost = np.random.default_rng(14).random(shape)
    result = loomfast.solve_bottleneck(cost, then_sum=True)
    left = np.where(cost <= result.bottleneck, cost, np.inf)
    known = loomfast.solve(left)
    assert result.total == pytest.approx(known.total, rel=1e-13)
    assert np.all(result.u[:, None] + result.v <= left)
    assert result.gap <= 8 * min(shape) * 2.0**-53 * max(np.abs(result.u).max(), np.abs(result.v).max(), 1)


def test_the_infeasible_are_proven():
    cost = np.full((4, 5), np.inf)
    cost[0] = 1
    cost[1:, 2] = 1
    words = r"3 rows \[1, 2, 3\] can take only 1 column \[2\]"
    with pytest.raises(loomfast.InfeasibleError, match=words) as found:
        loomfast.solve_bottleneck(cost)
    assert found.value.rows.tolist() == [1, 2, 3]
    with pytest.raises(loomfast.InfeasibleError, match=r"3 columns \[1, 2, 3\] can take only 1 row \[2\]"):
        loomfast.solve_bottleneck(-cost.T, maximize=True)


def test_kinds_of_cost():
    cost = np.random.default_rng(15).integers(0, 100, (8, 9))
    known = loomfast.solve_bottleneck(cost, True)
    for kind in (cost.astype(np.int16), cost.astype(np.float32), np.asfortranarray(cost), cost.tolist()):
        result = loomfast.solve_bottleneck(kind, True)
        assert (result.bottleneck, result.total) == (known.bottleneck, known.total)
    for tensor in (torch.from_numpy(cost), torch.from_numpy(cost).to(torch.bfloat16)):
        result = loomfast.solve_bottleneck(tensor, True)
        assert isinstance(result.col4row, torch.Tensor)
        assert (result.bottleneck, result.total) == (known.bottleneck, known.total)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    result = loomfast.solve_bottleneck(np.empty(shape), True)
    assert (result.bottleneck, result.total) == (0, 0)
    assert result.col4row.tolist() == [-1] * shape[0]


@pytest.mark.parametrize(
    ("cost", "then_sum", "error", "message"),
    [
        (np.zeros(3), False, ValueError, r"must be a matrix \(n, m\), got 1 dimensions"),
        (np.eye(2) * 1j, False, TypeError, "Cannot cast"),
        ([[1, np.nan], [1, 2]], False, ValueError, r"invalid numeric entries: entry \(0, 1\)"),
        ([[1, 1], [-np.inf, 2]], False, ValueError, r"invalid numeric entries: entry \(1, 0\)"),
        (np.full((2, 2), 2**60), False, ValueError, r"int64 values beyond 2\*\*53"),
        (np.full((2, 2), 2**52 + 1), True, ValueError, "int64 values too large to be summed exactly"),
    ],
)
def test_bad_input_is_one_clear_error(cost, then_sum, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve_bottleneck(cost, then_sum)
