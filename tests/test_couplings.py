"""What all couplings keep: resume, other processes, kinds of arrays; and those that need no plan."""

import numpy as np
import pytest
import torch

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
    write_pairs,
)
from loomfast.coupling.cache import is_permutation
from loomfast.coupling.paired import read_pairs
from loomfast.noise import NoiseDomain, noise_from_ids

N, SHAPE = 60, (20,)
pytest.importorskip("ot", reason="POT is not installed: pip install 'loomfast[ot]'")


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


def test_data_of_bfloat16_are_paired_as_the_numbers_they_are(data):
    x = torch.from_numpy(data).bfloat16()
    for name in ("minibatch-ot", "with replacement", "loom-inject"):
        one, two = MAKERS[name](), MAKERS[name]()
        for (_, a), (_, b) in zip(steps(one, x, range(3)), steps(two, x.float(), range(3)), strict=True):
            assert torch.equal(a.noise, b.noise)
            assert a.cost_after == b.cost_after


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
