"""Nearest of k, and couplings with conditions: against the obvious NumPy version."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipy_assignment
from scipy.stats import chi2, kstest

from loomfast.coupling import (
    Conditional,
    ConditionalLoom,
    Independent,
    Nearest,
)
from loomfast.coupling.cache import is_permutation
from loomfast.coupling.conditional import condition_cost, weight_for_ratio
from loomfast.coupling.nearest import chi_squared
from loomfast.noise import NoiseDomain, noise_from_ids

N, SHAPE = 60, (20,)


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)


def squared(x, z):
    return ((x[:, None].astype(np.float64) - z[None].astype(np.float64)) ** 2).sum(-1)


LABELS = np.arange(N) % 3


def test_nearest_of_one_is_independent(data):
    index = np.arange(N)
    one, two = Nearest(N, SHAPE, candidates=1).couple(data, index), Independent(N, SHAPE).couple(data, index)
    np.testing.assert_array_equal(one.noise, two.noise)


@pytest.mark.parametrize("d", [1, 2, 3, 17, 300])
@pytest.mark.parametrize("length", [0.0, 3.0])
def test_nearest_has_the_law_of_the_nearest_of_k(d, length):
    """Against k noises drawn in full: the distances, and the noise in the item's direction and across it."""
    k, num = 4, 4000
    x = np.zeros((num, d), np.float32)
    x[:, 0] = length
    z = Nearest(num, (d,), seed=7, candidates=k).couple(x, np.arange(num)).noise.astype(np.float64)
    rng = np.random.default_rng(8)
    draws = rng.normal(size=(num, k, d))
    best = ((draws - x[:, None]) ** 2).sum(-1).argmin(1)
    w = draws[np.arange(num), best]
    views = (lambda z: ((z - x) ** 2).sum(1), lambda z: z[:, 0], lambda z: z[:, -1])
    for view in views:
        assert kstest(view(z), view(w)).pvalue > 1e-4
    across = z[:, 1:] / np.maximum(np.linalg.norm(z[:, 1:], axis=1, keepdims=True), 1e-12)
    assert np.abs(across.mean(0)).max(initial=0) < 5 / np.sqrt(num)


def test_nearest_is_nearer_than_independent_and_blends_what_its_pair_says(data):
    index = np.arange(N)
    pair = Nearest(N, SHAPE, seed=9, candidates=8).couple(data, index)
    assert pair.cost_after < 0.95 * Independent(N, SHAPE, seed=9).couple(data, index).cost_after
    noise = noise_from_ids(pair.ids, SHAPE, seed=9, domain=NoiseDomain.FRESH)
    a, b = (part[:, None] for part in pair.blend)
    np.testing.assert_array_equal(pair.noise, a * noise + b * data)


@pytest.mark.parametrize("d", [1, 2, 5, 16, 17, 64, 1030, 3072])
def test_the_engine_finds_the_nearest_that_numpy_finds(d, instruction_set):
    """The factors are of float32 sums in another order; the noise has the bits that the factors say."""
    x = np.random.default_rng(d).normal(size=(33, d)).astype(np.float32)
    x[4] = 0
    coupler, rows = Nearest(33, (d,), seed=1, candidates=5), np.arange(33)
    ids, noise, blend = coupler.draw(x, rows, 2)
    plain = noise_from_ids(ids, (d,), seed=1, domain=NoiseDomain.FRESH)
    expected = coupler._choose(x, plain, *coupler._others(rows, 2))
    for found, wanted in zip(blend, expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    a, b = (part[:, None] for part in blend)
    np.testing.assert_array_equal(noise, a * plain + b * x)


@pytest.mark.parametrize("degrees", [2, 16, 3071])
def test_chi_squared_has_its_law(degrees):
    rows = np.arange(3000)
    draws = chi_squared(degrees, rows, 3, seed=1, step=2)
    np.testing.assert_array_equal(draws[5:9], chi_squared(degrees, rows[5:9], 3, seed=1, step=2))
    assert kstest(draws.reshape(-1), chi2(degrees).cdf).pvalue > 1e-4


def test_conditional_keeps_noises_within_their_class(data):
    index = np.arange(N)
    pair = Conditional(N, SHAPE, seed=10).couple(data, index, labels=LABELS)
    drawn = Independent(N, SHAPE, seed=10).couple(data, index)
    total = 0.0
    for label in range(3):
        of_it = np.flatnonzero(label == LABELS)
        assert set(pair.ids[of_it]) == set(drawn.ids[of_it])
        cost = squared(data[of_it], drawn.noise[of_it])
        total += cost[scipy_assignment(cost)].sum()
    assert pair.cost_after * N == pytest.approx(total, rel=1e-6)
    heavy = Conditional(N, SHAPE, seed=10, label_weight=1e6).couple(data, index, labels=LABELS)
    np.testing.assert_array_equal(heavy.ids, pair.ids)


@pytest.mark.parametrize("metric", ["cosine", "sqeuclidean"])
def test_conditional_with_continuous_conditions(data, metric):
    index, conditions = np.arange(N), np.random.default_rng(11).normal(size=(N, 4)).astype(np.float32)
    noise = Independent(N, SHAPE, seed=11).couple(data, index).noise
    far = squared(conditions, conditions)
    if metric == "cosine":
        unit = conditions / np.linalg.norm(conditions, axis=1, keepdims=True)
        far = 1 - unit @ unit.T
    np.testing.assert_allclose(condition_cost(conditions, conditions, metric), far, atol=1e-5)
    cost = squared(data, noise) + 7.5 * far
    coupler = Conditional(N, SHAPE, seed=11, label_weight=7.5, condition_metric=metric)
    pair = coupler.couple(data, index, labels=conditions)
    order = pair.ids
    assert cost[index, order].sum() == pytest.approx(cost[scipy_assignment(cost)].sum(), rel=1e-6)


@pytest.mark.parametrize("ratio", [0.03, 0.05, 0.2, 0.9])
def test_the_weight_is_what_bisection_finds(ratio):
    """C2OT's own search: the share of entries that are at most the diagonal's falls with the weight."""
    rng = np.random.default_rng(12)
    cost = squared(rng.normal(size=(50, 3)), rng.normal(size=(50, 3)))
    conditions = rng.normal(size=(50, 2))
    far = squared(conditions, conditions)

    def share(w):
        return (cost + w * far <= np.diagonal(cost)[None]).mean()

    low, high = 0.0, 1e6
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if share(middle) <= ratio else (middle, high)
    found = weight_for_ratio(cost, far, ratio)
    assert share(found) <= ratio
    assert share(found) == share(high)
    assert (found == 0) == (share(0) <= ratio)


def test_conditional_loom_keeps_a_permutation_and_improves(data):
    for labels in (LABELS, np.random.default_rng(13).normal(size=(N, 3)).astype(np.float32)):
        coupler = ConditionalLoom(N, SHAPE, num_caches=2, seed=3)
        costs = []
        for step in range(30):
            index = np.random.default_rng(step).permutation(N)[:30]
            pair = coupler.couple(data[index], index, labels=labels[index])
            assert is_permutation(coupler.ids)
            assert pair.cost_after <= pair.cost_before
            costs.append(pair.cost_after)
        assert np.mean(costs[-5:]) < np.mean(costs[:5])
        with pytest.raises(ValueError, match="had"):
            coupler.couple(data[:3], np.arange(3), labels=np.roll(labels, 1, axis=0)[:3])
    heavy = ConditionalLoom(N, SHAPE, num_caches=1, label_weight=1e6)
    heavy.couple(data, np.arange(N), labels=LABELS)
    np.testing.assert_array_equal(LABELS[heavy.ids[:, 0]], LABELS)


def test_labels_that_are_none_are_refused(data):
    for kind in (Conditional, ConditionalLoom):
        coupler = kind(N, SHAPE)
        for labels in (None, LABELS[:5], -LABELS, LABELS[:, None], np.full((N, 2), np.nan)):
            with pytest.raises(ValueError, match="labels"):
                coupler.couple(data, np.arange(N), labels=labels)
