"""The couplings of the field: each against an independent implementation, or the obvious NumPy version."""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment as scipy_assignment
from scipy.stats import chi2, kstest

from loomfast.coupling import (
    Conditional,
    ConditionalLoom,
    FixedSource,
    Hierarchical,
    Independent,
    InjectedLoom,
    Loom,
    MinibatchOT,
    Mixed,
    Nearest,
    Paired,
    Partial,
    RefreshedLoom,
    Semidiscrete,
    Sinkhorn,
    Stable,
    Unbalanced,
    sinkhorn,
    stable_matching,
    write_pairs,
)
from loomfast.coupling.cache import is_permutation
from loomfast.coupling.conditional import condition_cost, weight_for_ratio
from loomfast.coupling.nearest import chi_squared
from loomfast.coupling.paired import read_pairs
from loomfast.coupling.plans import draw_columns, draw_pairs
from loomfast.noise import NoiseDomain, noise_from_ids

N, SHAPE = 60, (20,)
ot = pytest.importorskip("ot", reason="POT is not installed: pip install 'loomfast[ot]'")


@pytest.fixture(scope="module")
def data():
    return np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)


def squared(x, z):
    return ((x[:, None].astype(np.float64) - z[None].astype(np.float64)) ** 2).sum(-1)


LABELS = np.arange(N) % 3
MAKERS = {
    "minibatch-ot": lambda: MinibatchOT(N, SHAPE, seed=1),
    "with replacement": lambda: MinibatchOT(N, SHAPE, seed=1, replace=True),
    "sinkhorn": lambda: Sinkhorn(N, SHAPE, seed=1),
    "sinkhorn, with replacement": lambda: Sinkhorn(N, SHAPE, seed=1, replace=True),
    "stable": lambda: Stable(N, SHAPE, seed=1),
    "partial": lambda: Partial(N, SHAPE, seed=1),
    "unbalanced": lambda: Unbalanced(N, SHAPE, seed=1),
    "hierarchical": lambda: Hierarchical(N, SHAPE, seed=1),
    "nearest": lambda: Nearest(N, SHAPE, seed=1),
    "conditional": lambda: Conditional(N, SHAPE, seed=1),
    "loom-conditional": lambda: ConditionalLoom(N, SHAPE, seed=1, num_caches=2),
    "mixed": lambda: Mixed(Loom(N, SHAPE, seed=1), Independent(N, SHAPE, seed=1)),
    "mixed, with replacement": lambda: Mixed(Nearest(N, SHAPE), MinibatchOT(N, SHAPE, replace=True)),
    "paired": lambda: Paired(N, SHAPE, np.arange(N), seed=1),
    "fixed-source": lambda: FixedSource(N, SHAPE, seed=1),
    "loom-refresh": lambda: RefreshedLoom(N, SHAPE, seed=1, refresh_epochs=1),
    "loom-inject": lambda: InjectedLoom(N, SHAPE, seed=1, injection=0.3),
}
every = pytest.mark.parametrize("name", MAKERS)


def steps(coupler, data, numbers, size=20):
    """The Pairs of these steps, of batches that are a function of the step."""
    for step in numbers:
        index = np.random.default_rng(step).permutation(N)[:size]
        more = {"labels": LABELS[index]} if coupler.needs_labels else {}
        yield index, coupler.couple(data[index], index, step=step, **more)


@every
def test_it_resumes_bit_for_bit_and_recalls(name, data, tmp_path):
    straight, one, two = (MAKERS[name]() for _ in range(3))
    wanted = [pair for _, pair in steps(straight, data, range(8))]
    index, last = list(steps(one, data, range(4)))[-1]
    one.save(tmp_path / "state.safetensors")
    two.load(tmp_path / "state.safetensors")
    more = {"labels": LABELS[index]} if two.needs_labels else {}
    again = two.recall(data[index], index, step=3, **more)
    for name in ("noise", "ids", "rows"):
        np.testing.assert_array_equal(getattr(again, name), getattr(last, name))
    for (_, pair), expected in zip(steps(two, data, range(4, 8)), wanted[4:], strict=True):
        np.testing.assert_array_equal(pair.noise, expected.noise)
        np.testing.assert_array_equal(pair.ids, expected.ids)
    for key, value in straight.state_dict().items():
        assert np.array_equal(two.state_dict()[key], value), key


@every
def test_another_process_makes_the_same_noise(name, data):
    """What is sent is a Prepared without its noise: see `SharedCoupler`."""
    one, two = MAKERS[name](), MAKERS[name]()
    for step in range(3):
        index = np.random.default_rng(step).permutation(N)[:20]
        more = {"labels": LABELS[index]} if one.needs_labels else {}
        prepared = one.prepare(data[index], index, step=step, **more)
        np.testing.assert_array_equal(two.noise_of(prepared, data[index]), prepared.pair.noise)
        for coupler in (one, two):
            coupler.commit(prepared)


@every
def test_torch_and_numpy_give_the_same(name, data):
    one, two = MAKERS[name](), MAKERS[name]()
    for (_, a), (_, b) in zip(
        steps(one, data, range(3)), steps(two, torch.from_numpy(data), range(3)), strict=True
    ):
        assert isinstance(b.noise, torch.Tensor)
        np.testing.assert_allclose(a.noise, b.noise.numpy(), rtol=0, atol=2e-6)  # sums of another order
        np.testing.assert_array_equal(a.ids, b.ids)


@every
@pytest.mark.parametrize("size", [0, 1])
def test_batches_of_one_item_and_of_none(name, data, size):
    coupler = MAKERS[name]()
    if name == "hierarchical" and size:
        coupler = Hierarchical(N, SHAPE, groups=1)
    index = np.arange(size)
    more = {"labels": LABELS[:size]} if coupler.needs_labels else {}
    pair = coupler.couple(data[:size], index, **more)
    assert pair.noise.shape == (size, *SHAPE)
    assert len(pair.ids) == size


@every
def test_bad_data_are_named_and_change_nothing(name, data):
    coupler = MAKERS[name]()
    bad = data[:20].copy()
    bad[3, 1] = np.nan
    before = coupler.state_dict()
    more = {"labels": LABELS[:20]} if coupler.needs_labels else {}
    if name not in ("fixed-source",):  # these look at no cost: the loss will say so
        with pytest.raises(ValueError, match=r"NaN or infinity"):
            coupler.couple(bad, np.arange(20), **more)
    with pytest.raises(ValueError, match="item 1 more than once"):
        coupler.couple(data[[0, 1, 1]], np.array([0, 1, 1]), **more)
    for key, value in before.items():
        assert np.array_equal(coupler.state_dict()[key], value), key


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


def test_mixed_takes_each_item_from_one_of_both(data):
    index = np.arange(N)
    mixed = Mixed(Loom(N, SHAPE, seed=1), Independent(N, SHAPE, seed=1), share=0.7)
    first, second = Loom(N, SHAPE, seed=1), Independent(N, SHAPE, seed=1)
    shares = []
    for step in range(40):
        pair = mixed.couple(data, index, step=step)
        a, b = (part.couple(data, index, step=step) for part in (first, second))
        of_first = (pair.noise == a.noise).all(axis=1)
        np.testing.assert_array_equal(pair.noise, np.where(of_first[:, None], a.noise, b.noise))
        np.testing.assert_array_equal(pair.ids, np.where(of_first, a.ids, b.ids))
        shares.append(of_first.mean())
    assert np.mean(shares) == pytest.approx(0.7, abs=5 * np.sqrt(0.21 / (40 * N)))
    np.testing.assert_array_equal(mixed.first.ids, first.ids)


def test_mixed_by_a_schedule():
    parts = Loom(N, SHAPE), Independent(N, SHAPE)
    mixed = Mixed(*parts, share=1.0, share_end=0.2, share_steps=10)
    assert [mixed.share_at(step) for step in (0, 5, 10, 99)] == pytest.approx([1, 0.6, 0.2, 0.2])
    with pytest.raises(ValueError, match="one seed"):
        Mixed(Loom(N, SHAPE, seed=1), Independent(N, SHAPE, seed=2))
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\]"):
        Mixed(*parts, share=1.5)
    with pytest.raises(ValueError, match="chooses its items"):
        Mixed(Semidiscrete(np.zeros((N, *SHAPE), np.float32), np.zeros(N)), parts[1])


def test_paired_gives_what_it_was_given(data, tmp_path):
    ends = np.random.default_rng(14).normal(size=(N, *SHAPE)).astype(np.float32)
    index = np.array([5, 3, 50])
    np.save(tmp_path / "ends.npy", ends)
    write_pairs(tmp_path / "ends.safetensors", ends, dataset_fingerprint="f")
    for pairs in (ends, torch.from_numpy(ends), lambda rows: ends[rows]):
        pair = Paired(N, SHAPE, pairs, name="mine").couple(data[index], index)
        np.testing.assert_array_equal(pair.noise, ends[index])
    for name in ("ends.npy", "ends.safetensors"):
        pairs, options = read_pairs(tmp_path / name, "f")
        pair = Paired(N, SHAPE, pairs, **options).couple(data[index], index)
        np.testing.assert_array_equal(pair.noise, ends[index])
    write_pairs(tmp_path / "ids.safetensors", np.arange(N) + 7, seed=3)
    pairs, options = read_pairs(tmp_path / "ids.safetensors")
    pair = Paired(N, SHAPE, pairs, **options).couple(data[index], index)
    wanted = noise_from_ids(index + 7, SHAPE, seed=3, domain=NoiseDomain.SAMPLING)
    np.testing.assert_array_equal(pair.noise, wanted)


def test_pairs_of_other_data_are_refused(data, tmp_path):
    write_pairs(tmp_path / "p.safetensors", np.arange(N), dataset_fingerprint="other")
    with pytest.raises(ValueError, match="another dataset"):
        read_pairs(tmp_path / "p.safetensors", "f")
    with pytest.raises(ValueError, match="pairs must have shape"):
        Paired(N, SHAPE, np.arange(N + 1))
    with pytest.raises(ValueError, match="ends of shape"):
        Paired(N, SHAPE, lambda rows: np.zeros((len(rows), 3), np.float32), name="m").couple(
            data[:2], np.arange(2)
        )
    one, two = Paired(N, SHAPE, np.arange(N)), Paired(N, SHAPE, np.arange(N) + 1)
    with pytest.raises(ValueError, match="pairs"):
        two.load_state_dict(one.state_dict())


def test_a_fixed_source_is_the_same_in_every_step(data):
    index = np.arange(9)
    coupler = FixedSource(N, SHAPE, seed=2)
    one, two = (coupler.couple(data[index], index, step=step).noise for step in (0, 99))
    np.testing.assert_array_equal(one, two)


def test_noise_is_refreshed_every_few_epochs(data):
    coupler, index = RefreshedLoom(N, SHAPE, num_caches=1, refresh_epochs=2), np.arange(N)
    ids = [coupler.couple(data, index).ids for _ in range(5)]
    assert [int(i[0] >> 32) for i in ids] == [0, 0, 1, 1, 2]
    for i in ids:
        assert is_permutation((i & 0xFFFFFFFF).astype(np.int64))
    pair = coupler.couple(data, index)
    np.testing.assert_array_equal(pair.noise, noise_from_ids(pair.ids, SHAPE, seed=0))


def test_noise_is_injected_with_its_probability(data):
    coupler, index = InjectedLoom(N, SHAPE, num_caches=1, injection=0.2), np.arange(N)
    for _ in range(50):
        before = coupler.generation.copy()
        pair = coupler.couple(data, index)
        assert set(np.unique(coupler.generation - before)) <= {0, 1}
        np.testing.assert_array_equal(pair.noise, noise_from_ids(pair.ids, SHAPE, seed=0))
        local = pair.ids & 0xFFFFFFFF
        np.testing.assert_array_equal(pair.ids >> 32, coupler.generation[local])
    assert coupler.generation.mean() == pytest.approx(10, abs=5 * np.sqrt(50 * 0.16 / N))
    plain, none = Loom(N, SHAPE, num_caches=1), InjectedLoom(N, SHAPE, num_caches=1, injection=0.0)
    np.testing.assert_array_equal(plain.couple(data, index).noise, none.couple(data, index).noise)


def test_from_one_dataset_to_another(data):
    """Data to data: any coupling with fresh noise takes the items of a source instead."""
    source = np.random.default_rng(15).normal(size=(30, *SHAPE)).astype(np.float32) + 5
    index = np.arange(40)
    for kind in (Independent, MinibatchOT, Sinkhorn, Stable, Hierarchical):
        pair = kind(N, SHAPE, source=source).couple(data[index], index, step=3)
        np.testing.assert_array_equal(pair.noise, source[pair.ids])
        same = kind(N, SHAPE, source=torch.from_numpy(source)).couple(
            torch.from_numpy(data[index]), index, step=3
        )
        np.testing.assert_array_equal(same.ids, pair.ids)
    with pytest.raises(ValueError, match="source must hold items of shape"):
        Independent(N, SHAPE, source=source[:, :3])


def test_semidiscrete_learns_its_prices(data):
    """Near the exact ones in cost, every item as often, without a global solve."""
    scaled = data * np.random.default_rng(16).uniform(0.2, 2, (N, 1)).astype(np.float32)
    learnt = Semidiscrete(scaled, seed=2)
    exact = Loom(N, SHAPE, num_caches=16)
    exact.solve_globally(scaled)
    known = Semidiscrete(scaled, exact.duals, seed=2)
    cost = []
    for coupler in (learnt, known):
        costs = []
        for _ in range(300):
            index = coupler.choose(10)
            costs.append(coupler.couple(scaled[index], index).cost_after)
        cost.append(np.mean(costs))
        expected = 3000 / N
        assert ((coupler.counts - expected) ** 2 / expected).sum() / (N - 1) < 1
    independent = Independent(N, SHAPE).couple(scaled, np.arange(N)).cost_after
    assert cost[0] - cost[1] < 0.1 * (independent - cost[1])
    again = Semidiscrete(scaled, seed=2)
    np.testing.assert_array_equal(again.duals, Semidiscrete(scaled, seed=2).duals)


def test_semidiscrete_gives_every_class_all_of_the_noise(data):
    labels = np.array([0] * 40 + [2] * 19 + [5])  # a class that is missing, and one of one item
    shifted = data + labels[:, None]
    coupler = Semidiscrete(shifted, labels=labels, seed=4)
    noise = {0: [], 2: [], 5: []}
    for _ in range(200):
        index = coupler.choose(30)
        assert len(np.unique(index)) == 30
        pair = coupler.couple(shifted[index], index)
        for label, z in zip(labels[index], pair.noise, strict=True):
            noise[label].append(z.mean() * np.sqrt(SHAPE[0]))
    counts = {label: len(values) for label, values in noise.items()}
    for label, expected in ((0, 4000), (2, 1900), (5, 100)):
        assert counts[label] == pytest.approx(expected, abs=200)
    # Without labels the noise of a class leans towards its mean; with them it is standard normal.
    for values in noise.values():
        assert abs(np.mean(values)) < 5 / np.sqrt(len(values))
    without = Semidiscrete(shifted, seed=4)
    index = without.choose(30)
    pair = without.couple(shifted[index], index)
    assert (labels[index] * pair.noise.mean(axis=1)).mean() > 0
    assert len(coupler.choose(N)) == N
    with pytest.raises(ValueError, match="labels must be 60 integers"):
        Semidiscrete(shifted, labels=labels[:5])
    with pytest.raises(ValueError, match="by_class"):
        coupler.load_state_dict(without.state_dict())
