"""Couplings by a plan of the batch: against POT, scipy, or the obvious NumPy version."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipy_assignment
from scipy.stats import chi2

from loomfast.coupling import (
    Hierarchical,
    Independent,
    MinibatchOT,
    Partial,
    Sinkhorn,
    Stable,
    Unbalanced,
    sinkhorn,
    stable_matching,
)
from loomfast.coupling.plans import draw_columns, draw_pairs

N, SHAPE = 60, (20,)
ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'loomfast[ot]'")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)


def squared(x, z):
    return ((x[:, None].astype(np.float64) - z[None].astype(np.float64)) ** 2).sum(-1)


def test_pairs_drawn_from_a_plan_have_its_law():
    plan = np.random.default_rng(1).random((5, 7)) ** 3
    plan[1, 2:] = 0
    count = np.zeros_like(plan)
    i, j = draw_pairs(plan, 20000, seed=0, step=0)
    np.add.at(count, (i, j), 1)
    expected = 20000 * plan / plan.sum()
    held = expected > 0
    assert not count[~held].any()
    assert ((count - expected)[held] ** 2 / expected[held]).sum() < chi2.ppf(1 - 1e-6, held.sum() - 1)
    rows = np.arange(4000)
    columns = draw_columns(np.repeat(plan[:1], 4000, axis=0), rows, seed=0, step=0)
    expected = 4000 * plan[0] / plan[0].sum()
    assert ((np.bincount(columns, minlength=7) - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-6, 6)


def test_minibatch_ot_with_replacement_draws_from_the_optimal_plan(data):
    index = np.arange(40)
    drawn = MinibatchOT(N, SHAPE, seed=3, replace=True).couple(data[index], index)
    exact = MinibatchOT(N, SHAPE, seed=3).couple(data[index], index)
    np.testing.assert_array_equal(drawn.ids, exact.ids[drawn.rows])
    assert len(np.unique(drawn.rows)) < 40
    assert drawn.rows.min() >= 0
    fields = MinibatchOT(N, SHAPE, seed=3, replace=True).couple(data[index], index, fields=(index,)).fields
    np.testing.assert_array_equal(fields[0], drawn.rows)


@pytest.mark.parametrize("epsilon", [0.01, 0.05, 0.3, 5.0])
@pytest.mark.parametrize("shape", [(40, 40), (30, 50)])
def test_sinkhorn_is_the_entropic_plan(shape, epsilon):
    """Its marginals and its form are right, which no other plan's are; and POT says the same where it can."""
    rng = np.random.default_rng(2)
    cost = squared(rng.normal(size=(shape[0], 3)), rng.normal(size=(shape[1], 3)))
    # At ε = .01 neighbouring plans are so alike that conjugate gradients lose digits.
    tolerance = 1e-7 if epsilon == 0.01 else 1e-9
    found = sinkhorn(cost, epsilon, tolerance=tolerance)
    sides = [np.full(n, 1 / n) for n in shape]
    error = sum(np.abs(found.plan.sum(1 - k) - side).sum() for k, side in enumerate(sides))
    assert error <= 1.001 * tolerance
    again = np.exp((found.f[:, None] + found.g - cost) / epsilon)
    np.testing.assert_allclose(again, found.plan, rtol=1e-6, atol=1e-300)
    if epsilon > 0.1:  # POT takes tens of thousands of iterations below
        plan = ot.bregman.sinkhorn_log(*sides, cost, epsilon, numItermax=10_000, stopThr=1e-9)
        assert np.abs(found.plan - plan).sum() < 1e-6


@pytest.mark.parametrize("epsilon", [1e-30, 1e-9, 1e-4, 1e6, 1e200])
def test_sinkhorn_takes_any_epsilon(epsilon):
    rng = np.random.default_rng(3)
    cost = squared(rng.normal(size=(30, 3)), rng.normal(size=(30, 3)))
    found = sinkhorn(cost, epsilon, tolerance=1e-6)
    assert np.isfinite(found.plan).all()
    error = np.abs(found.plan.sum(0) - 1 / 30).sum() + np.abs(found.plan.sum(1) - 1 / 30).sum()
    assert found.error == pytest.approx(error, abs=1e-12)
    if epsilon > 1e5:
        np.testing.assert_allclose(found.plan, 1 / 900, rtol=1e-3)
    if epsilon < 1e-8:
        rows, columns = scipy_assignment(cost)
        assert found.plan[rows, columns].sum() == pytest.approx(1, abs=1e-5)


def test_sinkhorn_with_masses_and_without_sense():
    rng = np.random.default_rng(4)
    cost, a, b = rng.random((6, 9)), rng.random(6) + 0.1, rng.random(9) + 0.1
    found = sinkhorn(cost, 0.1, a=a / a.sum(), b=b / b.sum(), tolerance=1e-10)
    np.testing.assert_allclose(found.plan.sum(1), a / a.sum(), atol=1e-10)
    wrongs = ({"epsilon": 0.0}, "epsilon"), ({"a": -a}, "a must be"), ({"a": a, "b": b}, "one sum")
    for wrong, word in wrongs:
        with pytest.raises(ValueError, match=word):
            sinkhorn(cost, **{"epsilon": 0.1, **wrong})
    with pytest.raises(ValueError, match="finite matrix"):
        sinkhorn(np.full((3, 3), np.inf), 0.1)
    with pytest.raises(ValueError, match="epsilon must be positive"):
        Sinkhorn(N, SHAPE, epsilon=0)


def test_sinkhorn_lies_between_optimal_and_independent(data):
    index = np.arange(N)
    exact = MinibatchOT(N, SHAPE, seed=2).couple(data, index)
    costs = [
        Sinkhorn(N, SHAPE, seed=2, epsilon=epsilon).couple(data, index).cost_after
        for epsilon in (1e-5, 0.02, 0.1, 100.0)
    ]
    assert costs == sorted(costs)
    assert costs[0] == pytest.approx(exact.cost_after, rel=1e-3)
    assert costs[-1] > 0.9 * exact.cost_before


def gale_shapley(cost):
    """The algorithm of 1962, word by word."""
    n = len(cost)
    ranked, proposed = [list(np.argsort(row, kind="stable")) for row in cost], [0] * n
    holder, free = [None] * n, list(range(n))
    while free:
        i = free.pop()
        j = ranked[i][proposed[i]]
        proposed[i] += 1
        if holder[j] is None or cost[i, j] < cost[holder[j], j]:
            if holder[j] is not None:
                free.append(holder[j])
            holder[j] = i
        else:
            free.append(i)
    match = np.empty(n, np.int64)
    match[holder] = np.arange(n)
    return match


@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_stable_is_the_matching_of_gale_and_shapley(n):
    cost = np.random.default_rng(n).random((n, n))
    np.testing.assert_array_equal(stable_matching(cost), gale_shapley(cost))


def test_stable_with_equal_costs_has_no_blocking_pair():
    for seed in range(20):
        cost = np.random.default_rng(seed).integers(0, 4, (12, 12))
        match = stable_matching(cost)
        assert sorted(match) == list(range(12))
        own = cost[np.arange(12), match]
        of_column = np.empty(12)
        of_column[match] = own
        assert not ((cost < own[:, None]) & (cost < of_column[None])).any()


def test_stable_costs_more_than_the_optimum_and_less_than_none(data):
    index = np.arange(N)
    stable, exact = (kind(N, SHAPE, seed=4).couple(data, index) for kind in (Stable, MinibatchOT))
    assert exact.cost_after < stable.cost_after < stable.cost_before


def test_partial_and_unbalanced_are_pots_plans(data):
    index = np.arange(40)
    draw = Independent(N, SHAPE, seed=5)
    noise = draw.couple(data[index], index).noise
    cost = squared(data[index], noise)
    cost /= cost.astype(np.float32).mean()
    even = np.full(40, 1 / 40)
    plan = ot.partial.entropic_partial_wasserstein(even, even, cost, reg=0.05, m=0.7)
    pair = Partial(N, SHAPE, seed=5, mass=0.7).couple(data[index], index)
    rows, columns = draw_pairs(plan, 40, seed=5, step=0)
    np.testing.assert_array_equal(pair.rows, rows)
    np.testing.assert_array_equal(pair.noise, noise[columns])
    assert plan.sum() == pytest.approx(0.7, rel=1e-6)
    plan = ot.unbalanced.sinkhorn_knopp_unbalanced(even, even, cost, reg=0.1, reg_m=0.5)
    pair = Unbalanced(N, SHAPE, seed=5, epsilon=0.1, marginal_weight=0.5).couple(data[index], index)
    np.testing.assert_array_equal(pair.rows, draw_pairs(plan, 40, seed=5, step=0)[0])
    for wrong in ({"mass": 0.0}, {"mass": 1.5}, {"epsilon": 0.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Partial(N, SHAPE, **wrong)


@pytest.mark.parametrize("groups", [1, 2, 4, 8])
def test_hierarchical_is_the_best_of_all_ways_to_assign_groups(data, groups):
    index, size = np.arange(24), 24 // groups
    noise = Independent(N, SHAPE, seed=6).couple(data[index], index).noise
    cost = squared(data[index], noise)
    best = np.zeros((groups, groups))
    for a, b in itertools.product(range(groups), repeat=2):
        block = cost[a * size : (a + 1) * size, b * size : (b + 1) * size]
        best[a, b] = block[scipy_assignment(block)].sum()
    pair = Hierarchical(N, SHAPE, seed=6, groups=groups).couple(data[index], index)
    assert pair.cost_after * 24 == pytest.approx(best[scipy_assignment(best)].sum(), rel=1e-6)
    assert len(np.unique(pair.ids)) == 24
    with pytest.raises(ValueError, match="groups must divide the batch of 23 items"):
        Hierarchical(N, SHAPE, groups=2).couple(data[:23], index[:23])
