"""Couplings: the invariants of LOOM-CFM, and the state they keep.

Batches are solved on float32 costs (24 bits, 6e-8): an optimum of float64 costs is met to 1e-6.
"""

import itertools

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment as scipy_assignment

import loomfast
from loomfast.coupling import loom as loom_module
from loomfast.coupling.cache import cycle_labels, improving_cycles, is_permutation
from loomfast.noise import NoiseDomain, noise_from_ids


def squared(x, z):
    return ((x[:, None, :].astype(np.float64) - z[None].astype(np.float64)) ** 2).sum(-1)


def noise_of(coupler, ids):
    return noise_from_ids(np.asarray(ids, np.int64).reshape(-1), coupler.shape, seed=coupler.seed)


def total_cost(coupler, data):
    """The cost of the whole coupling, over all caches (float64, directly)."""
    z = noise_of(coupler, coupler.ids).reshape(*coupler.ids.shape, *coupler.shape).astype(np.float64)
    return ((data[:, None].astype(np.float64) - z) ** 2).sum()


def batches(rng, num_items, size, count):
    for _ in range(count):
        yield rng.permutation(num_items)[:size]


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_loom_keeps_a_permutation_and_never_gets_worse(data, metric):
    coupler = loomfast.Loom(60, (20,), num_caches=3, seed=5, metric=metric)
    rng = np.random.default_rng(1)
    for index in batches(rng, 60, 16, 40):
        pair = coupler.couple(data[index], index)
        assert is_permutation(coupler.ids)
        assert pair.cost_after <= pair.cost_before
        assert (pair.swaps == 0) == (pair.cost_after == pair.cost_before)
        np.testing.assert_array_equal(pair.noise, noise_of(coupler, pair.ids))
        held = coupler.ids[index]
        assert (held == pair.ids[:, None]).any(axis=1).all()
    assert coupler.step == 40


def test_total_cost_never_increases(data):
    coupler = loomfast.Loom(60, (20,), num_caches=2)
    rng = np.random.default_rng(2)
    costs = [total_cost(coupler, data)]
    for index in batches(rng, 60, 12, 60):
        coupler.couple(data[index], index)
        costs.append(total_cost(coupler, data))
    assert all(b <= a * (1 + 1e-14) for a, b in itertools.pairwise(costs))
    assert costs[-1] < 0.95 * costs[0]


def test_batch_cost_is_the_optimum_of_the_batch(data):
    coupler = loomfast.Loom(60, (20,), num_caches=1)
    index = np.arange(0, 60, 3)
    cost = squared(data[index], noise_of(coupler, coupler.ids[index]))
    pair = coupler.couple(data[index], index)
    rows, columns = scipy_assignment(cost)
    assert pair.cost_after == pytest.approx(cost[rows, columns].mean(), rel=1e-6)
    assert pair.cost_before == pytest.approx(np.diag(cost).mean(), rel=1e-6)


def test_one_cache_and_batch_of_everything_is_the_global_optimum(data):
    coupler = loomfast.Loom(60, (20,), num_caches=1)
    cost = squared(data, noise_of(coupler, np.arange(60)))
    coupler.couple(data, np.arange(60))
    rows, columns = scipy_assignment(cost)
    assert total_cost(coupler, data) == pytest.approx(cost[rows, columns].sum(), rel=1e-6)
    np.testing.assert_array_equal(coupler.ids[:, 0], columns)


def test_nothing_changes_at_convergence(data):
    coupler = loomfast.Loom(60, (20,), num_caches=1)
    coupler.couple(data, np.arange(60))
    settled = coupler.ids.copy()
    for index in batches(np.random.default_rng(3), 60, 25, 30):
        assert coupler.couple(data[index], index).swaps == 0
    np.testing.assert_array_equal(coupler.ids, settled)


def test_equal_costs_do_not_churn():
    data = np.ones((20, 6), np.float32)  # one image twenty times: every assignment costs the same
    coupler = loomfast.Loom(20, (6,), num_caches=1)
    for index in batches(np.random.default_rng(4), 20, 10, 10):
        assert coupler.couple(data[index], index).swaps == 0


@pytest.mark.parametrize("m", [2, 3, 5, 7])
def test_polygon_is_stationary_for_every_smaller_batch(monkeypatch, m):
    """The paper's Figure 8: suboptimal, yet no batch smaller than the dataset can improve it."""
    n, offset = 8, 1e-3
    angle = 2 * np.pi * np.arange(n) / n
    data = np.stack([np.cos(angle), np.sin(angle)], 1).astype(np.float32)
    green = angle + np.pi / n + offset  # the noise points, slightly off the vertices between
    polygon = np.stack([np.cos(green), np.sin(green)], 1).astype(np.float32)
    monkeypatch.setattr(loom_module, "noise_from_ids", lambda ids, *_, **__: polygon[ids])
    coupler = loomfast.Loom(n, (2,), num_caches=1)
    for index in batches(np.random.default_rng(m), n, m, 60):
        assert coupler.couple(data[index], index).swaps == 0
    pair = coupler.couple(data, np.arange(n))
    assert pair.swaps == n  # the whole dataset at once turns the full cycle
    np.testing.assert_array_equal(coupler.ids[:, 0], (np.arange(n) - 1) % n)


def test_caches_are_chosen_by_step_and_item_only(data):
    def ids(index, step):
        return loomfast.Loom(60, (20,), num_caches=8, seed=1).couple(data[index], index, step=step).ids // 8

    first, second = np.arange(30), np.arange(15, 45)
    coupler = loomfast.Loom(60, (20,), num_caches=8, seed=1)
    slots = [coupler._choose_caches(i, 7) for i in (first, second)]
    np.testing.assert_array_equal(slots[0][15:], slots[1][:15])
    counts = np.bincount(coupler._choose_caches(np.arange(8000), 3).astype(int), minlength=8)
    assert counts.min() > 850  # 1000 expected, sigma 30
    assert sorted(ids(first, 7)) == list(first)


def test_torch_and_numpy_give_the_same(data):
    index = np.arange(40)
    one, two = (loomfast.Loom(60, (20,), seed=3) for _ in range(2))
    a = one.couple(data[index], index)
    b = two.couple(torch.from_numpy(data[index]), torch.from_numpy(index))
    assert isinstance(a.noise, np.ndarray)
    assert isinstance(b.noise, torch.Tensor)
    np.testing.assert_array_equal(a.noise, b.noise.numpy())
    np.testing.assert_array_equal(one.ids, two.ids)


@pytest.mark.parametrize("kind", [loomfast.Independent, loomfast.MinibatchOT])
def test_fresh_couplings_draw_new_noise_that_depends_on_step_and_item_only(data, kind):
    index = np.array([3, 9, 27])
    a = kind(60, (20,), seed=2).couple(data[index], index, step=4)
    b = kind(60, (20,), seed=2).couple(data[index[::-1]], index[::-1], step=4)
    c = kind(60, (20,), seed=2).couple(data[index], index, step=5)
    assert set(a.ids) == set(b.ids) == {(4 << 32) + int(i) for i in index}
    assert not set(a.ids) & set(c.ids)
    expected = noise_from_ids(a.ids, (20,), seed=2, domain=NoiseDomain.FRESH)
    np.testing.assert_array_equal(a.noise, expected)


def test_minibatch_ot_is_optimal_in_the_batch_and_independent_is_not(data):
    index = np.arange(40)
    independent = loomfast.Independent(60, (20,)).couple(data[index], index)
    optimal = loomfast.MinibatchOT(60, (20,)).couple(data[index], index)
    cost = squared(data[index], independent.noise)
    rows, columns = scipy_assignment(cost)
    assert optimal.cost_after == pytest.approx(cost[rows, columns].mean(), rel=1e-6)
    assert optimal.cost_before == pytest.approx(independent.cost_after, rel=1e-6)
    np.testing.assert_array_equal(optimal.ids, independent.ids[columns])
    assert independent.swaps == 0


def test_fields_come_back_with_the_items(data):
    index = np.arange(10)
    labels = np.arange(10) % 3
    for kind in (loomfast.Loom, loomfast.Independent, loomfast.MinibatchOT):
        pair = kind(60, (20,)).couple(data[index], index, fields=(labels,))
        np.testing.assert_array_equal(pair.fields[0], labels)


@pytest.mark.parametrize("kind", [loomfast.Loom, loomfast.Independent, loomfast.MinibatchOT])
def test_state_goes_to_disk_and_back(data, kind, tmp_path):
    one, two, straight = (kind(60, (20,), seed=7) for _ in range(3))
    order = list(batches(np.random.default_rng(5), 60, 20, 12))
    for index in order:
        straight.couple(data[index], index)
    for index in order[:6]:
        one.couple(data[index], index)
    one.save(tmp_path / "cache.safetensors")
    two.load(tmp_path / "cache.safetensors")
    for index in order[6:]:
        two.couple(data[index], index)
    for name, value in straight.state_dict().items():
        assert np.array_equal(two.state_dict()[name], value), name


def test_a_state_goes_through_a_checkpoint_of_torch(data, tmp_path):
    one, two = loomfast.Loom(60, (20,), seed=7), loomfast.Loom(60, (20,), seed=7)
    one.couple(data[:20], np.arange(20))
    state = one.state_dict()
    tensors = {name: torch.from_numpy(value) for name, value in state.items() if name != "metadata"}
    torch.save({**tensors, "metadata": state["metadata"]}, tmp_path / "last.ckpt")
    two.load_state_dict(torch.load(tmp_path / "last.ckpt", weights_only=True))
    for name, value in state.items():
        assert np.array_equal(two.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 8}, "seed"),
        ({"num_caches": 2}, "num_caches"),
        ({"metric": "euclidean"}, "metric"),
        ({"dataset_fingerprint": "other"}, "dataset_fingerprint"),
    ],
)
def test_a_state_of_another_coupling_is_refused(change, word):
    state = loomfast.Loom(60, (20,), **change).state_dict()
    coupler = loomfast.Loom(60, (20,))
    with pytest.raises(ValueError, match=word):
        coupler.load_state_dict(state)


def test_a_damaged_state_is_refused_and_changes_nothing():
    coupler = loomfast.Loom(60, (20,))
    state = coupler.state_dict()
    state["ids"][0, 0] = state["ids"][1, 1]
    with pytest.raises(ValueError, match="not a permutation"):
        coupler.load_state_dict(state)
    state = coupler.state_dict()
    state["metadata"]["noise_format"] = 2
    with pytest.raises(ValueError, match="noise_format"):
        coupler.load_state_dict(state)
    assert is_permutation(coupler.ids)


def test_bad_batches_raise_and_leave_the_cache_alone(data):
    coupler = loomfast.Loom(60, (20,), num_caches=2)
    coupler.couple(data[:20], np.arange(20))
    before = coupler.state_dict()
    bad = data[:5].copy()
    bad[3, 1] = np.nan
    cases = [
        (data[:3], [0, 1, 1], ValueError, "item 1 more than once"),
        (data[:3], [0, 1, 60], ValueError, r"index\[2\] = 60"),
        (data[:3], [0, -1, 2], ValueError, r"index\[1\] = -1"),
        (data[:3], [0, 1], ValueError, "x must have shape"),
        (data[:3, :19], [0, 1, 2], ValueError, "x must have shape"),
        (data[:3], [0.0, 1.0, 2.0], ValueError, "vector of integers"),
        (data[:3].astype(np.int64), [0, 1, 2], TypeError, "floating-point"),
        (bad, [0, 1, 2, 3, 4], ValueError, r"x\[3\] contains NaN"),
    ]
    for x, index, error, message in cases:
        with pytest.raises(error, match=message):
            coupler.couple(x, np.array(index))
    for name, value in before.items():
        assert np.array_equal(coupler.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, (3,)), "num_items must be in"),
        ((10, (-1,)), "each size in shape must be in"),
        ((10.5, (3,)), "num_items must be an integer"),
        ((2**30, (3,)), "below 2"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        loomfast.Loom(*arguments)


def test_an_empty_batch_is_fine():
    pair = loomfast.Loom(10, (3,)).couple(np.empty((0, 3), np.float32), np.empty(0, np.int64))
    assert pair.noise.shape == (0, 3)
    assert pair.swaps == 0


def test_cycles_are_labelled_by_their_smallest_member():
    order = np.array([1, 2, 0, 3, 5, 4])
    np.testing.assert_array_equal(cycle_labels(order), [0, 0, 0, 3, 4, 4])
    rng = np.random.default_rng(6)
    order = rng.permutation(257)
    labels = cycle_labels(order)
    np.testing.assert_array_equal(labels, labels[order])
    assert len(np.unique(labels)) == sum(1 for i in range(257) if labels[i] == i)


def test_only_improving_cycles_are_taken():
    order = np.array([1, 0, 3, 2, 5, 4])
    before = np.array([2.0, 2.0, 1.0, 1.0, 1.0, 1.0])
    after = np.array([1.0, 2.5, 1.0, 1.0, 0.5, 2.0])  # better, equal, worse
    np.testing.assert_array_equal(improving_cycles(order, before, after, 1e-12), [1, 0, 2, 3, 4, 5])
    change = np.array([1, -1, 0, -1, 1, 0])  # none in all, one fewer, one more
    found = improving_cycles(order, before, after, 1e-12, weight=1e18, change=change)
    np.testing.assert_array_equal(found, [1, 0, 3, 2, 4, 5])


def test_is_permutation():
    assert is_permutation(np.array([[2, 0], [1, 3]]))
    for bad in ([0, 0], [1, 2], [-1, 0]):
        assert not is_permutation(np.array(bad))
