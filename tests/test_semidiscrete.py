"""Fresh noise coupled by the prices of a global solve: near the optimum, and every item equally often."""

import numpy as np
import pytest
import torch

from loomfast.config import CouplingConfig
from loomfast.coupling import Ahead, Loom, Semidiscrete, build_coupler
from loomfast.coupling.semidiscrete import read_duals
from loomfast.noise import NoiseDomain, noise_from_ids

N, SHAPE = 100, (24,)


@pytest.fixture(scope="module")
def data():
    # clusters of unequal density: without prices some items would get nearly all the noise
    rng = np.random.default_rng(0)
    return (rng.normal(size=(N, *SHAPE)) * rng.uniform(0.1, 2.0, (N, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def solved(data):
    coupler = Loom(N, SHAPE, num_caches=4, dataset_fingerprint="f")
    return coupler, coupler.solve_globally(data)


def run(coupler, data, blocks, size):
    """Mean cost of a pair over ``blocks`` blocks."""
    costs = []
    for _ in range(blocks):
        index = coupler.choose(size)
        costs.append(coupler.couple(data[index], index).cost_after)
    return np.mean(costs)


def chi_square(counts):
    """χ² of the counts against equal likelihood, over its degrees of freedom: 1 for independent draws."""
    expected = counts.sum() / len(counts)
    return ((counts - expected) ** 2 / expected).sum() / (len(counts) - 1)


def test_a_noise_goes_to_the_item_whose_cell_it_is_in(data, solved):
    coupler = Semidiscrete(data, solved[0].duals, seed=3)
    index = coupler.choose(1, step=7)
    z = noise_from_ids([7 << 32], SHAPE, seed=3, domain=NoiseDomain.FRESH).astype(np.float64)
    cost = -2 * data.astype(np.float64) @ z[0] - solved[0].duals
    assert index == [np.argmin(cost)]
    pair = coupler.couple(data[index], index, step=7)
    np.testing.assert_array_equal(pair.noise, z.astype(np.float32))
    assert pair.ids == [7 << 32]
    assert pair.cost_after == pytest.approx(((data[index] - z) ** 2).sum(), rel=1e-6)


@pytest.mark.parametrize("size", [1, 10, 32, N])
def test_every_item_is_equally_likely_in_blocks_of_any_size(data, solved, size):
    corrected = Semidiscrete(data, solved[0].duals, seed=1)
    cost = run(corrected, data, 4000 // size, size)
    assert corrected.counts.sum() == 4000
    assert chi_square(corrected.counts) < 1.0
    independent, coupled = solved[1].cost_independent, solved[1].cost_after
    assert cost - coupled < 0.2 * (independent - coupled)
    if size < N:
        as_they_are = Semidiscrete(data, solved[0].duals, seed=1, correction=0.0)
        run(as_they_are, data, 4000 // size, size)
        assert chi_square(as_they_are.counts) > 2 * chi_square(corrected.counts)


def test_a_block_holds_an_item_once(data, solved):
    coupler = Semidiscrete(data, solved[0].duals)
    index = coupler.choose(N)
    np.testing.assert_array_equal(np.sort(index), np.arange(N))
    assert len(np.unique(coupler.choose(40))) == 40


def test_state_resumes_and_the_last_block_is_recalled(data, solved):
    straight, one, two = (Semidiscrete(data, solved[0].duals, seed=2) for _ in range(3))
    run(straight, data, 9, 16)
    run(one, data, 4, 16)
    two.load_state_dict(one.state_dict())
    index = two.last_choice()
    pair = two.recall(data[index], index, step=3)
    np.testing.assert_array_equal(
        pair.noise,
        noise_from_ids((3 << 32) + np.arange(16), SHAPE, seed=2, domain=NoiseDomain.FRESH),
    )
    run(two, data, 5, 16)
    for name, value in straight.state_dict().items():
        assert np.array_equal(two.state_dict()[name], value), name
    with pytest.raises(ValueError, match="only the last block"):
        two.recall(data[index], index, step=3)


def test_it_is_computed_ahead_like_the_others(data, solved):
    straight, coupler = (Semidiscrete(torch.from_numpy(data), solved[0].duals) for _ in range(2))

    def batches(coupler):
        def batch_at(step):
            index = coupler.choose(20, step=step)
            return {"x": coupler.data[index], "index": index}

        return batch_at

    with Ahead(coupler, batches(coupler)) as ahead:
        for step in range(5):
            _, pair = ahead.take(step)
            expected = straight.couple(**batches(straight)(step), step=step)
            np.testing.assert_array_equal(pair.noise, expected.noise)
            np.testing.assert_array_equal(coupler.duals, straight.duals)


def test_prices_come_from_the_file_of_a_global_solve(data, solved, tmp_path):
    path = tmp_path / "c.safetensors"
    solved[0].save(path)
    config = CouplingConfig(method="semidiscrete", init=str(path))
    coupler = build_coupler(config, N, SHAPE, seed=5, fingerprint="f", data=data)
    np.testing.assert_array_equal(coupler.duals, solved[0].duals)
    path.rename(tmp_path / "moved")
    assert not build_coupler(config, N, SHAPE, seed=5, fingerprint="f", data=data, fresh=False).duals.any()
    learnt = build_coupler(
        CouplingConfig(method="semidiscrete"), N, SHAPE, seed=5, fingerprint="f", data=data
    )
    assert learnt.duals.any()


def test_files_that_do_not_fit_are_refused(data, solved, tmp_path):
    path = tmp_path / "c.safetensors"
    right = {"num_items": N, "shape": SHAPE, "metric": "sqeuclidean", "dataset_fingerprint": "f"}
    Loom(N, SHAPE, dataset_fingerprint="f").save(path)
    with pytest.raises(ValueError, match="no duals"):
        read_duals(path, **right)
    solved[0].save(path)
    assert read_duals(path, **right).shape == (N,)
    for change in ({"num_items": 99}, {"metric": "euclidean"}, {"dataset_fingerprint": "g"}):
        with pytest.raises(ValueError, match=next(iter(change))):
            read_duals(path, **right | change)
    weighted = Loom(N, SHAPE, label_weight=1.0, dataset_fingerprint="f")
    weighted.solve_globally(data, labels=np.arange(N) % 3)
    weighted.save(path)
    with pytest.raises(ValueError, match="label_weight"):
        read_duals(path, **right)


def test_bad_input(data, solved):
    coupler = Semidiscrete(data, solved[0].duals)
    index = coupler.choose(10)
    with pytest.raises(ValueError, match="must be what choose"):
        coupler.couple(data[index][::-1], index[::-1])
    with pytest.raises(ValueError, match="must be what choose"):
        coupler.couple(data[index], index, step=4)
    with pytest.raises(ValueError, match="num must be in"):
        coupler.choose(N + 1)
    for duals in (solved[0].duals[:-1], np.full(N, np.nan), solved[0].duals.astype(np.float32)):
        with pytest.raises(ValueError, match="duals must be"):
            Semidiscrete(data, duals)
    with pytest.raises(ValueError, match="seed"):
        Semidiscrete(data, solved[0].duals, seed=9).load_state_dict(coupler.state_dict())
