"""The exact coupling of a whole dataset: optimal, monotone, and the same whenever it is killed."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment as scipy_assignment

from loomfast.cli import main
from loomfast.config import PRESETS, CouplingConfig
from loomfast.coupling import Loom, row_store, solve_globally, whole_dataset
from loomfast.coupling.cache import is_permutation
from loomfast.coupling.whole_dataset import block_bytes, blocks_for, keep_own
from loomfast.data import load_dataset
from loomfast.files import read_tensors
from loomfast.noise import noise_from_ids
from loomfast.runs.directory import load_data, read_log
from loomfast.training.state import TrainingState

N, SHAPE = 80, (12,)


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(N, *SHAPE)).astype(np.float32)


def full_costs(coupler, data, labels=None):
    """(N·K, N·K) float64: every cache against every noise."""
    z = noise_from_ids(np.arange(coupler.ids.size), SHAPE, seed=coupler.seed).astype(np.float64)
    costs = ((data[:, None].astype(np.float64) - z) ** 2).sum(-1)
    if coupler.metric == "euclidean":
        costs = np.sqrt(costs)
    if labels is not None:
        costs += coupler.label_weight * (labels[:, None] != np.repeat(labels, coupler.num_caches))
    return np.repeat(costs, coupler.num_caches, axis=0)


def held_cost(coupler, costs):
    return costs[np.arange(coupler.ids.size), coupler.ids.reshape(-1)].mean()


@pytest.mark.parametrize("num_caches", [1, 3])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("weight", [0.0, 2.0])
def test_one_block_is_the_optimum(data, num_caches, metric, weight):
    labels = np.arange(N) % 4
    coupler = Loom(N, SHAPE, num_caches=num_caches, seed=7, metric=metric, label_weight=weight)
    result = solve_globally(coupler, data, labels=labels if weight else None)
    costs = full_costs(coupler, data, labels if weight else None)
    best = costs[scipy_assignment(costs)].mean()
    assert is_permutation(coupler.ids)
    assert result.num_blocks == result.sweeps == 1
    assert result.cost_after == pytest.approx(best, rel=1e-6)
    assert held_cost(coupler, costs) == pytest.approx(result.cost_after, rel=1e-12)
    assert result.cost_independent == result.cost_before == pytest.approx(np.diag(costs).mean(), rel=1e-12)
    assert 0 <= result.gap <= 1e-6 * best
    again = solve_globally(coupler, torch.from_numpy(data), labels=labels if weight else None)
    assert again.swaps == 0
    assert again.cost_before == again.cost_after == pytest.approx(result.cost_after, rel=1e-12)


@pytest.mark.parametrize("weight", [1e9, 1e18])
def test_a_label_weight_that_forbids_leaves_each_label_to_its_optimum(data, weight):
    """Labels change places only among themselves, and there the coupling is what it would be alone."""
    labels = np.arange(N) % 4
    by_batches, at_once = (Loom(N, SHAPE, num_caches=1, seed=7, label_weight=weight) for _ in range(2))
    costs = full_costs(Loom(N, SHAPE, num_caches=1, seed=7), data)
    for _ in range(2):
        by_batches.couple(data, np.arange(N), labels=labels)
    solve_globally(at_once, data, labels=labels)
    for coupler in (by_batches, at_once):
        held = coupler.ids.reshape(-1)
        np.testing.assert_array_equal(labels[held], labels)
        for label in range(4):
            own = np.flatnonzero(labels == label)
            best = costs[np.ix_(own, own)]
            best = best[scipy_assignment(best)].mean()
            assert costs[own, held[own]].mean() == pytest.approx(best, rel=1e-6)


def test_the_prices_prove_the_coupling(data):
    """Item and noise prices are feasible for the costs without norms, and tight on the coupled pairs."""
    coupler = Loom(N, SHAPE, num_caches=2)
    coupler.solve_globally(data)
    z = noise_from_ids(np.arange(2 * N), SHAPE, seed=0).astype(np.float64)
    costs = -2 * data.astype(np.float64) @ z.T
    slack = costs - coupler.duals[:, None] - coupler.prices
    assert slack.min() > -1e-5
    assert np.abs(np.take_along_axis(slack, coupler.ids.astype(np.int64), axis=1)).max() < 1e-5


def test_blocks_are_swept_until_little_is_gained(data):
    whole, parts = Loom(N, SHAPE, num_caches=2), Loom(N, SHAPE, num_caches=2)
    best = whole.solve_globally(data)
    memory = block_bytes(whole_dataset.LEAST_BLOCK, 2)
    seen = []
    result = parts.solve_globally(data, memory=memory, progress=lambda *told: seen.append(told))
    assert result.num_blocks == 2
    assert 1 < result.sweeps <= 50
    assert np.isnan(result.gap)
    assert is_permutation(parts.ids)
    gain, all_gain = (r.cost_independent - r.cost_after for r in (result, best))
    assert 0.97 * all_gain < gain <= all_gain
    costs = full_costs(parts, data)
    assert held_cost(parts, costs) == pytest.approx(result.cost_after, rel=1e-12)
    assert all(done <= total for done, total, _ in seen)
    assert seen[-1][0] == seen[-1][1]
    single = Loom(N, SHAPE, num_caches=2).solve_globally(data, memory=memory, max_sweeps=1)
    assert single.sweeps == 1
    assert single.cost_after > result.cost_after


def test_a_coupling_that_loom_has_improved_only_gets_better(data):
    coupler = Loom(N, SHAPE, num_caches=2)
    for step in range(5):
        index = np.random.default_rng(step).permutation(N)[:32]
        coupler.couple(data[index], index)
    costs = full_costs(coupler, data)
    before = held_cost(coupler, costs)
    result = coupler.solve_globally(data)
    assert result.cost_before == pytest.approx(before, rel=1e-12)
    assert result.cost_after < before < result.cost_independent
    assert result.cost_after == pytest.approx(costs[scipy_assignment(costs)].mean(), rel=1e-6)


def test_items_may_come_from_a_function(data):
    one, two = Loom(N, SHAPE), Loom(N, SHAPE)
    one.solve_globally(data)
    two.solve_globally(lambda items: torch.from_numpy(data[items]))
    np.testing.assert_array_equal(one.ids, two.ids)


def test_noises_stay_in_their_caches_where_their_item_keeps_them():
    rng = np.random.default_rng(1)
    for caches in (1, 2, 5):
        found = rng.permutation(20 * caches)
        found[: 4 * caches] = np.sort(found[: 4 * caches])
        order = keep_own(found, caches)
        np.testing.assert_array_equal(np.sort(order), np.arange(20 * caches))
        same = np.sort(order.reshape(-1, caches)) == np.sort(found.reshape(-1, caches))
        assert same.all()
        own = order // caches == np.arange(20 * caches) // caches
        np.testing.assert_array_equal(order[own], np.flatnonzero(own))


@pytest.mark.parametrize(("items", "caches"), [(1000, 1), (1000, 4), (50_000, 4)])
def test_blocks_are_the_largest_that_fit(items, caches):
    for memory in (block_bytes(items, caches), block_bytes(items, caches) - 1, block_bytes(300, caches)):
        blocks = blocks_for(items, caches, memory)
        assert block_bytes(-(-items // blocks), caches) <= memory
        if blocks > 1:
            assert block_bytes(-(-items // (blocks - 1)), caches) > memory


# ---- interruptions ---------------------------------------------------------------------------------------


class Killed(Exception):
    pass


def kill_after(calls):
    """A progress callback that ends the work at its ``calls``-th call."""
    left = [calls]

    def progress(*_):
        left[0] -= 1
        if left[0] == 0:
            raise Killed

    return progress


def assert_same(one, two):
    for name, value in one.state_dict().items():
        assert np.array_equal(two.state_dict()[name], value), name


@pytest.fixture
def in_small_parts(monkeypatch):
    """Costs in chunks of ten rows, each kept on disk at once."""
    monkeypatch.setattr(whole_dataset, "OPERATIONS_A_CHUNK", 10 * 2 * N * 12)
    monkeypatch.setattr(whole_dataset, "KEEP_AFTER", -1.0)


@pytest.mark.parametrize("memory", [None, block_bytes(whole_dataset.LEAST_BLOCK, 2)])
def test_work_that_is_cut_off_again_and_again_ends_the_same(data, tmp_path, in_small_parts, memory):
    straight = Loom(N, SHAPE, num_caches=2)
    expected = solve_globally(straight, data, memory=memory)
    cut = 0
    for _ in range(500):
        coupler = Loom(N, SHAPE, num_caches=2)
        try:
            found = solve_globally(
                coupler, data, memory=memory, folder=tmp_path / "work", progress=kill_after(15)
            )
            break
        except Killed:
            cut += 1
            assert is_permutation(coupler.ids)
    assert memory is None or cut > 2
    assert_same(straight, coupler)
    for name in ("cost_independent", "cost_before", "cost_after", "sweeps", "swaps", "num_blocks"):
        assert getattr(found, name) == getattr(expected, name), name
    done = Loom(N, SHAPE, num_caches=2)  # what is finished is not done again
    told = []
    solve_globally(
        done, data, memory=memory, folder=tmp_path / "work", progress=lambda *args: told.append(args)
    )
    assert not told
    assert_same(straight, done)


def test_rows_on_disk_are_not_computed_again(data, tmp_path, in_small_parts, monkeypatch):
    straight = Loom(N, SHAPE, num_caches=1)
    solve_globally(straight, data)
    rows = []
    compute = whole_dataset._PairCosts.costs

    def counted(self, items, ids, part, out):
        rows.append((part.start, part.stop))
        if part.start >= 40 and len(rows) < 6:
            raise Killed
        compute(self, items, ids, part, out)

    monkeypatch.setattr(whole_dataset._PairCosts, "costs", counted)
    finished = row_store.RowStore.finished

    def finished_and_written(self, count):
        finished(self, count)
        while self._written < count and self._thread.is_alive():
            time.sleep(0.001)

    monkeypatch.setattr(row_store.RowStore, "finished", finished_and_written)
    with pytest.raises(Killed):
        solve_globally(Loom(N, SHAPE, num_caches=1), data, folder=tmp_path)
    assert rows[-1] == (40, 50)
    coupler = Loom(N, SHAPE, num_caches=1)
    solve_globally(coupler, data, folder=tmp_path)
    assert rows[5:] == [(40, 50), (50, 60), (60, 70), (70, 80)]
    assert_same(straight, coupler)


@pytest.mark.parametrize("fault", ["no room", "no right", "other key", "short file", "no journal"])
def test_a_disk_that_fails_costs_time_and_nothing_else(data, tmp_path, in_small_parts, monkeypatch, fault):
    folder = tmp_path / "work"
    folder.mkdir()
    straight, coupler = Loom(N, SHAPE), Loom(N, SHAPE)
    solve_globally(straight, data)
    warned = pytest.warns(RuntimeWarning, match="not kept on disk")
    if fault == "no room":
        monkeypatch.setattr(row_store.shutil, "disk_usage", lambda _: SimpleNamespace(free=10))
    elif fault == "no right":
        (folder / "rows.bin").mkdir()
    else:
        key = "other" if fault == "other key" else None
        (folder / "rows.bin").write_bytes(b"x" * 100)
        if fault != "no journal":
            block = whole_dataset._GlobalSolve(whole_dataset._PairCosts(coupler, data, None), 1, folder, None)
            key = key or block._block_key(np.arange(N), np.arange(4 * N))
            (folder / "rows.json").write_text(json.dumps({"key": key, "rows": 20}))
    if fault in ("no room", "no right"):
        with warned:
            solve_globally(coupler, data, folder=folder)
    else:
        solve_globally(coupler, data, folder=folder)
    assert_same(straight, coupler)


def couple_command(out, *more):
    return [sys.executable, "-m", "loomfast", "couple", "digits", "--num-items", "600", "--num-caches", "2",
            "--memory", "200k", "--min-gain", "0", "--out", str(out), *more]  # fmt: skip


def written(path):
    """When a file was last replaced; None while it is not there."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None


def kill_at_work(out, state, wait):
    """Kill the command ``wait`` seconds after it first wrote its state; whether it was still at work.

    On a busy machine the command may be quicker than this process.
    """
    before = written(state)
    process = subprocess.Popen(couple_command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and written(state) in (None, before):
        time.sleep(0.002)
    time.sleep(wait)
    process.kill()
    return process.wait() == -signal.SIGKILL


def test_killed_at_random_moments_it_ends_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    subprocess.run(couple_command(tmp_path / "straight.safetensors"), check=True, capture_output=True)
    out, wait = tmp_path / "killed.safetensors", np.random.default_rng(int(time.time()))
    state = tmp_path / "killed.safetensors.partial" / "state.safetensors"
    for longest in (0.2, 0.4):
        while not kill_at_work(out, state, wait.uniform(0, longest)):
            out.unlink()
            longest /= 2
        tensors, _ = read_tensors(state)
        assert is_permutation(tensors["ids"])
    subprocess.run(couple_command(out), check=True, capture_output=True)
    expected, got = (read_tensors(tmp_path / name)[0] for name in ("straight.safetensors", out.name))
    assert expected.keys() == got.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(got[name], value)
    assert not state.parent.exists()


# ---- bad input and the command ----------------------------------------------------------------------------


def test_bad_input_leaves_the_coupling_alone(data, tmp_path):
    coupler = Loom(N, SHAPE)
    before = coupler.state_dict()
    bad = data.copy()
    bad[5, 3] = np.nan
    for arguments, options, message in [
        ((data[:-1],), {}, "data must be floating point of shape"),
        ((data.astype(int),), {}, "data must be floating point"),
        ((bad,), {}, "NaN or infinity"),
        ((lambda items: data[items][:, :5],), {}, "x and z must|data must give items|hold items"),
        ((data,), {"memory": 1000}, "memory must hold a block of 64 items"),
    ]:
        with pytest.raises(ValueError, match=message):
            solve_globally(coupler, *arguments, **options)
        for name, value in before.items():
            assert np.array_equal(coupler.state_dict()[name], value), name
    with pytest.raises(ValueError, match="labels are needed"):
        solve_globally(Loom(N, SHAPE, label_weight=1.0), data)
    solve_globally(Loom(N, SHAPE, seed=1), data, folder=tmp_path)
    with pytest.raises(ValueError, match=r"unfinished work of another coupling.*seed is 1, here 0"):
        solve_globally(coupler, data, folder=tmp_path)


def test_the_command_ends_with_one_line(tmp_path, capsys):
    out = tmp_path / "c.safetensors"
    options = ["--num-items", "300", "--num-caches", "2"]
    arguments = ["couple", "digits", *options, "--out", str(out), "--json", str(tmp_path / "c.json")]
    assert main(arguments) == 0
    line = capsys.readouterr().out.splitlines()[-1]
    pattern = r"cost per pair: independent ([\d.]+), coupled ([\d.]+), certified gap ([\de.-]+), [\d.]+ s"
    independent, coupled, gap = map(float, re.fullmatch(pattern, line).groups())
    result = json.loads((tmp_path / "c.json").read_text())
    assert result["cost_after"] == pytest.approx(coupled, rel=1e-5)
    assert coupled < 0.9 * independent
    assert gap < 1e-3
    assert not (tmp_path / "c.safetensors.partial").exists()


def test_the_command_refuses_to_be_one_of_several_processes(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, code in (("0", 2), ("1", 0)):
        monkeypatch.setenv("RANK", rank)
        assert main(["couple", "moons", "--out", str(tmp_path / "c.safetensors")]) == code
    (line,) = capsys.readouterr().err.splitlines()  # the first process's
    assert line.endswith("loomfast couple works in one process, with threads: start it without torchrun")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("method", ["loom", "semidiscrete"])
def test_training_starts_from_the_file_and_resumes(tmp_path, capsys, method):
    out = tmp_path / "c.safetensors"
    assert main(["couple", "moons", "--num-items", "300", "--out", str(out)]) == 0

    def train(directory, steps):
        arguments = ["train", "moons", "--num-items", "300", "--batch-size", "32", "--threads", "1"]
        arguments += ["--coupling.method", method, "--coupling.init", str(out), "--coupling.ot-batch", "2"]
        assert main([*arguments, "--steps", str(steps), "--out", str(tmp_path / directory)]) == 0
        return read_tensors(tmp_path / directory / "state.safetensors")[0]

    straight = train("straight", 7)
    train("parts", 3)  # in the middle of an OT batch
    resumed = train("parts", 7)
    for name, value in straight.items():
        np.testing.assert_array_equal(resumed[name], value, name)
    costs = [entry["cost_after"] for entry in read_log(tmp_path / "straight" / "log.jsonl")]
    pattern = r"independent ([\d.]+), coupled ([\d.]+)"
    independent, coupled = map(float, re.search(pattern, capsys.readouterr().out).groups())
    assert np.mean(costs) < 0.5 * (coupled + independent)


def test_mirror_images_are_items_of_their_own(tmp_path):
    out = tmp_path / "c.safetensors"
    arguments = ["couple", "digits", "--num-items", "100", "--num-caches", "1", "--flips", "--out", str(out)]
    assert main(arguments) == 0
    tensors, _ = read_tensors(out)
    assert tensors["ids"].shape == (200, 1)
    images = load_dataset("digits", num_items=100).train
    images = np.concatenate([images, images[..., ::-1]])
    coupler = Loom(200, images.shape[1:], num_caches=1)
    coupler.solve_globally(images)
    np.testing.assert_array_equal(coupler.ids, tensors["ids"])
    preset = replace(PRESETS["digits"][1], flips=True, num_items=100, batch_size=20)
    config = replace(preset, coupling=CouplingConfig(num_caches=1, init=str(out)))
    run = TrainingState(config, load_data(config))
    np.testing.assert_array_equal(run.batches.coupler.ids, tensors["ids"])
    assert run.batches.take(run.step)[1].cost_after < 0.95 * coupler_cost(images)


def coupler_cost(images):
    """Mean cost of a pair of independent noise: |x|^2 and one for each number."""
    return (images**2).sum() / len(images) + images[0].size


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing-here", "--out", "c.safetensors"], "no data set 'nothing-here'"),
        (["digits", "--out", "c.npz"], "--out must end in .safetensors"),
        (["digits", "--out", "no/such/folder/c.safetensors"], "cannot write"),
        (["digits", "--out", "c.safetensors", "--memory", "much"], "must be a size in bytes"),
        (["digits", "--out", "c.safetensors", "--memory", "1k"], "memory must hold a block"),
        (["digits", "--out", "c.safetensors", "--num-items", "99999"], "at most the 1442"),
        (["moons", "--out", "c.safetensors", "--flips"], "--flips is for images"),
        (["cifar10", "--out", "c.safetensors"], "data/cifar10 does not exist; it is to hold CIFAR-10"),
        (["digits", "--out", "c.safetensors", "--min-gain", "2"], "must be a number in [0, 1)"),
        (["digits"], "--out"),
    ],
)
def test_bad_arguments_are_one_line_and_leave_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    try:
        code = main(["couple", *arguments])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr().err.strip()
    assert code == 2
    assert message in told
    assert "\n" not in told
    shutil.rmtree(tmp_path / "c.safetensors.partial", ignore_errors=True)
    assert not list(tmp_path.iterdir())
