"""Preparing, committing and recalling a step; working ahead; labels in LOOM; couplings by configuration."""

import threading
import time

import numpy as np
import pytest
import torch

import loomfast
from loomfast.config import CouplingConfig
from loomfast.coupling import Ahead, Independent, Loom, MinibatchOT, build_coupler
from loomfast.coupling.cache import is_permutation

SHAPE = (20,)


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32)


def index_of(step):
    return np.random.default_rng(step).permutation(60)[:24]


def assert_same_state(one, two):
    one, two = one.state_dict(), two.state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert np.array_equal(two[name], value), name


def assert_same_pair(one, two):
    np.testing.assert_array_equal(one.noise, two.noise)
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (one.swaps, one.cost_before, one.cost_after) == (two.swaps, two.cost_before, two.cost_after)


KINDS = [Loom, Independent, MinibatchOT]


@pytest.mark.parametrize("kind", KINDS)
def test_prepare_changes_nothing_and_commit_does_what_couple_does(data, kind):
    one, two = kind(60, SHAPE, seed=3), kind(60, SHAPE, seed=3)
    for step in range(6):
        index = index_of(step)
        before = one.state_dict()
        prepared = one.prepare(data[index], index)
        for name, value in before.items():
            assert np.array_equal(one.state_dict()[name], value), name
        assert_same_pair(one.commit(prepared), two.couple(data[index], index))
    assert_same_state(one, two)


def test_a_step_prepared_before_another_moved_its_noises_is_refused(data):
    coupler = Loom(60, SHAPE, num_caches=1)
    everything = np.arange(60)
    late = coupler.prepare(data, everything)
    assert coupler.couple(data, everything).swaps > 0
    settled = coupler.state_dict()
    with pytest.raises(ValueError, match="out of date"):
        coupler.commit(late)
    for name, value in settled.items():
        assert np.array_equal(coupler.state_dict()[name], value), name


@pytest.mark.parametrize("kind", KINDS)
def test_a_committed_step_is_recalled_without_solving(data, kind):
    coupler = kind(60, SHAPE, seed=1)
    for step in range(3):
        index = index_of(step)
        pair = coupler.couple(data[index], index, step=step)
    again = kind(60, SHAPE, seed=1)
    again.load_state_dict(coupler.state_dict())
    recalled = again.recall(data[index], index, step=2)
    np.testing.assert_array_equal(recalled.ids, pair.ids)
    np.testing.assert_array_equal(recalled.noise, pair.noise)
    assert recalled.cost_after == pytest.approx(pair.cost_after, rel=1e-12)
    assert_same_state(again, coupler)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_working_ahead_gives_what_working_in_order_gives(data, kind, enabled):
    def batch_at(step):
        index = index_of(step)
        return {"x": torch.from_numpy(data[index]), "index": index, "fields": (index * 2,)}

    straight, coupler = kind(60, SHAPE, seed=5), kind(60, SHAPE, seed=5)
    with Ahead(coupler, batch_at, enabled=enabled) as ahead:
        for step in range(8):
            batch, pair = ahead.take(step, last=step == 7)
            expected = straight.couple(**batch_at(step), step=step)
            assert_same_pair(pair, expected)
            np.testing.assert_array_equal(pair.fields[0], batch["index"] * 2)
            assert_same_state(coupler, straight)  # nothing of the next step yet
            time.sleep(0.01)
            assert_same_state(coupler, straight)


def test_ahead_works_in_another_thread_leaves_torch_alone_and_may_be_stopped(data):
    threads = set()

    def batch_at(step):
        threads.add(threading.current_thread().name)
        return {"x": torch.from_numpy(data[index_of(step)]), "index": index_of(step)}

    before = torch.get_num_threads()
    coupler = Loom(60, SHAPE)
    ahead = Ahead(coupler, batch_at)
    assert torch.get_num_threads() == before
    ahead.take(0)
    ahead.take(1)
    ahead.take(5)  # not the step it prepared: done here and now
    ahead.close()
    assert any(name.startswith("loomfast-ahead") for name in threads)
    assert torch.get_num_threads() == before
    assert coupler.step == 6
    assert is_permutation(coupler.ids)


def test_an_error_of_the_next_step_is_raised_when_it_is_taken(data):
    def batch_at(step):
        x = data[index_of(step)].copy()
        if step == 1:
            x[3, 0] = np.nan
        return {"x": x, "index": index_of(step)}

    coupler = Loom(60, SHAPE)
    with Ahead(coupler, batch_at) as ahead:
        ahead.take(0)
        held = coupler.state_dict()
        with pytest.raises(ValueError, match=r"x\[3\] contains NaN"):
            ahead.take(1)
    for name, value in held.items():
        assert np.array_equal(coupler.state_dict()[name], value), name


def test_a_large_label_weight_keeps_noises_within_their_class(data):
    labels = np.arange(60) % 3
    coupler = Loom(60, SHAPE, num_caches=2, label_weight=1e4)
    free = Loom(60, SHAPE, num_caches=2)
    for step in range(30):
        index = index_of(step)
        coupler.couple(data[index], index, labels=labels[index])
        free.couple(data[index], index)
    holder = coupler.ids // 2
    assert (coupler.ids != loomfast.Loom(60, SHAPE, num_caches=2).ids).mean() > 0.5
    np.testing.assert_array_equal(labels[holder], np.repeat(labels[:, None], 2, 1))
    assert (labels[free.ids // 2] != labels[:, None]).mean() > 0.3


def test_a_small_label_weight_is_weighed_against_the_distance(data):
    """One batch against the optimum of distance plus label term, by the reference."""
    labels, index = np.arange(60) % 4, np.arange(60)
    coupler = Loom(60, SHAPE, num_caches=1, label_weight=3.0)
    z = loomfast.noise_from_ids(np.arange(60), SHAPE, seed=0).astype(np.float64)
    cost = ((data[:, None] - z[None]) ** 2).sum(-1) + 3.0 * (labels[:, None] != labels)
    best = loomfast.solve(cost)
    pair = coupler.couple(data, index, labels=labels)
    assert pair.cost_after == pytest.approx(best.total / 60, rel=1e-6)
    free = Loom(60, SHAPE, num_caches=1).couple(data, index)
    assert 0 < (labels[pair.ids] != labels).sum() < (labels[free.ids] != labels).sum()


def test_labels_are_remembered_and_checked(data, tmp_path):
    labels = np.arange(60) % 3
    coupler = Loom(60, SHAPE, label_weight=1.0)
    coupler.couple(data[:30], np.arange(30), labels=labels[:30])
    assert (coupler.labels[:30] == labels[:30]).all()
    assert (coupler.labels[30:] == -1).all()
    coupler.save(tmp_path / "c.safetensors")
    again = Loom(60, SHAPE, label_weight=1.0)
    again.load(tmp_path / "c.safetensors")
    assert_same_state(again, coupler)
    for bad, message in [
        (None, "labels are needed"),
        (labels[:9], "labels must be 10 integers"),
        (labels[:10] - 5, "labels must be 10 integers"),
        (labels[:10].astype(float), "labels must be 10 integers"),
        (labels[:10] + 1, r"labels\[0\] is 1, but item 0 had label 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            coupler.couple(data[:10], np.arange(10), labels=bad)
    assert_same_state(again, coupler)
    with pytest.raises(ValueError, match="label_weight"):
        Loom(60, SHAPE, label_weight=2.0).load(tmp_path / "c.safetensors")


def test_tolerance_and_bfloat16_stay_near_the_optimum(data):
    index = np.arange(60)
    exact = Loom(60, SHAPE, num_caches=1).couple(data, index)
    gain = exact.cost_before - exact.cost_after
    loose = Loom(60, SHAPE, num_caches=1, tolerance=0.05).couple(data, index)
    rough = Loom(60, SHAPE, num_caches=1, precision="bfloat16").couple(torch.from_numpy(data), index)
    assert loose.cost_after - exact.cost_after <= 0.05 * gain * 1.5
    assert 0 <= rough.cost_after - exact.cost_after <= 0.02 * gain
    with pytest.raises(RuntimeError, match="torch"):
        Loom(60, SHAPE, precision="bfloat16").couple(data, index)


@pytest.mark.parametrize("option", ["label_weight", "tolerance"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), "much"])
def test_bad_options(option, value):
    with pytest.raises(ValueError, match=f"{option} must be a finite number"):
        Loom(10, SHAPE, **{option: value})


@pytest.mark.parametrize(
    ("method", "kind"), [("loom", Loom), ("independent", Independent), ("minibatch-ot", MinibatchOT)]
)
def test_couplers_by_name(method, kind):
    coupler = build_coupler(CouplingConfig(method=method), 60, SHAPE, seed=9, fingerprint="f")
    assert type(coupler) is kind
    assert coupler.seed == 9


def test_a_coupling_begins_from_a_file_and_goes_on_without_it(data, tmp_path):
    coupler = Loom(60, SHAPE, seed=9, dataset_fingerprint="f")
    coupler.couple(data, np.arange(60))
    coupler.save(tmp_path / "c.safetensors")
    config = CouplingConfig(init=str(tmp_path / "c.safetensors"))
    begun = build_coupler(config, 60, SHAPE, seed=9, fingerprint="f")
    np.testing.assert_array_equal(begun.ids, coupler.ids)
    assert begun.step == 0
    with pytest.raises(ValueError, match=r"coupling\.init=.*c\.safetensors.*dataset_fingerprint"):
        build_coupler(config, 60, SHAPE, seed=9, fingerprint="g")
    with pytest.raises(ValueError, match=r"coupling\.init is for methods loom"):
        build_coupler(CouplingConfig(method="independent", init="x"), 60, SHAPE, seed=9, fingerprint="f")
    (tmp_path / "c.safetensors").unlink()
    assert build_coupler(config, 60, SHAPE, seed=9, fingerprint="f", fresh=False).step == 0
    with pytest.raises(FileNotFoundError):
        build_coupler(config, 60, SHAPE, seed=9, fingerprint="f")
