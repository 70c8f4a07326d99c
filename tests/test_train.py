"""The trainer: resuming, bit for bit, whatever happened; and what it refuses."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from loomfast.config import (
    DATA_WANTED,
    PRESETS,
    CouplingConfig,
    TrainConfig,
    config_from_dict,
    config_to_dict,
)
from loomfast.coupling.cache import is_permutation
from loomfast.data import load_dataset
from loomfast.files import read_json, read_tensors
from loomfast.models import MLPConfig, UNetConfig, item_shape
from loomfast.runs.directory import load_model, read_log
from loomfast.runs.pictures import picture_run
from loomfast.training.batches import data_order
from loomfast.training.loop import train
from loomfast.training.state import TrainingState

TINY_UNET = UNetConfig(
    image_size=8, in_channels=1, model_channels=16, num_res_blocks=1, channel_mult=(1, 2), num_groups=8,
    attention_downsample=(2,), num_head_channels=16, dropout=0.1,
)  # fmt: skip
TINY = TrainConfig(
    model=TINY_UNET, data="digits", steps=12, batch_size=64, checkpoint_every=5, warmup_steps=4, threads=1,
    coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
TOY = dataclasses.replace(TINY, model=MLPConfig(dim=2, width=32), data="moons", steps=40)


@pytest.fixture(autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def same_files(one, two):
    for name in ("state.safetensors", "model.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_run_that_stopped_and_went_on_is_the_run_that_did_not(tmp_path):
    train(TINY, tmp_path / "straight")
    train(dataclasses.replace(TINY, steps=7), tmp_path / "parts")
    train(TINY, tmp_path / "parts")
    same_files(tmp_path / "straight", tmp_path / "parts")
    logs = [read_log(tmp_path / run / "log.jsonl") for run in ("straight", "parts")]
    assert [e["step"] for e in logs[1]] == list(range(12))
    for a, b in zip(*logs, strict=True):
        assert {**a, "coupling_seconds": 0} == {**b, "coupling_seconds": 0}


def command(out, *more):
    return [
        sys.executable, "-m", "loomfast", "train", "digits", "--steps", "30", "--checkpoint-every", "4",
        "--threads", "1", "--model.model-channels", "16", "--model.num-groups", "8", "--model.dropout", "0.1",
        "--flips", "--model.num-classes", "10", "--label-dropout", "0.2", "--accumulate", "2",
        "--coupling.ot-batch", "3", "--coupling.prefetch", "on", "--batch-size", "32",
        "--out", str(out), *more,
    ]  # fmt: skip


def start_and_wait_for_steps(out, steps):
    process = subprocess.Popen(command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ended = None
    while ended is None:
        ended = process.poll()  # before the log is read: the last steps may come while nobody looks
        if (out / "log.jsonl").exists() and (out / "log.jsonl").read_bytes().count(b"\n") >= steps:
            return process
        time.sleep(0.01)
    raise AssertionError(f"no step {steps}, exit code {ended}")


def kill_at_work(out, steps):
    """Kill the run some time after step ``steps``. Where it is at its end before that, it begins anew."""
    wait = 0.02 * steps
    while True:
        process = start_and_wait_for_steps(out, steps)
        time.sleep(wait)
        process.kill()
        if process.wait() == -signal.SIGKILL:
            return
        assert process.returncode == 0
        shutil.rmtree(out)
        wait /= 2


def test_kill_9_at_any_moment_then_the_same_command(tmp_path):
    subprocess.run(command(tmp_path / "straight"), check=True, capture_output=True)
    for steps in (5, 17):
        kill_at_work(tmp_path / "killed", steps)
        state = tmp_path / "killed" / "state.safetensors"
        if state.exists():
            assert is_permutation(read_tensors(state)[0]["coupling.ids"])
    subprocess.run(command(tmp_path / "killed"), check=True, capture_output=True)
    same_files(tmp_path / "straight", tmp_path / "killed")


def test_sigterm_saves_and_exits_0(tmp_path):
    process = start_and_wait_for_steps(tmp_path / "run", 6)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    done = int(read_tensors(tmp_path / "run" / "state.safetensors")[0]["step"][0])
    assert 6 <= done == len(read_log(tmp_path / "run" / "log.jsonl"))


def test_the_run_directory(tmp_path):
    assert train(TOY, tmp_path / "run") == 40
    pictures = picture_run(TOY, tmp_path / "run")
    files = {str(p.relative_to(tmp_path / "run")) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert files == {
        "config.json", "state.safetensors", "model.safetensors", "log.jsonl", "coupling.png",
        os.path.join("samples", "step-0000040.png"),
    }  # fmt: skip
    assert all(p.stat().st_size > 1000 for p in pictures)
    config, model = load_model(tmp_path / "run")
    assert config == TOY
    assert not model.training
    entry = read_log(tmp_path / "run" / "log.jsonl")[-1]
    assert {"step", "loss", "swaps", "cost_before", "cost_after", "gap"} <= set(entry)


def test_the_coupling_in_the_log_improves(tmp_path):
    train(dataclasses.replace(TOY, coupling=CouplingConfig(num_caches=1), steps=320), tmp_path / "run")
    log = read_log(tmp_path / "run" / "log.jsonl")
    swaps = [np.mean([e["swaps"] for e in log[i : i + 20]]) for i in (0, 300)]
    cost = [np.mean([e["cost_after"] for e in log[i : i + 20]]) for i in (0, 300)]
    assert swaps[1] < 0.8 * swaps[0]
    assert cost[1] < cost[0]
    assert all(e["cost_after"] <= e["cost_before"] for e in log)


def test_another_configuration_in_the_same_directory_is_refused(tmp_path):
    train(dataclasses.replace(TOY, steps=2), tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    with pytest.raises(ValueError, match=r"learning_rate is 0\.001, this one's 0\.5"):
        train(dataclasses.replace(TOY, learning_rate=0.5), tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(ValueError, match="is not empty"):
        train(TOY, tmp_path / "other")
    assert [p.name for p in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def test_fewer_steps_than_a_run_has_are_refused(tmp_path):
    train(dataclasses.replace(TOY, steps=3), tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match="at step 3 already"):
        train(dataclasses.replace(TOY, steps=2), tmp_path / "run")
    assert {p: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0), ("batch_size", 0), ("checkpoint_every", 0), ("seed", -1), ("learning_rate", -1.0),
        ("learning_rate", float("nan")), ("grad_clip", float("inf")), ("ema_decay", 1.0), ("threads", -1),
    ],
)  # fmt: skip
def test_values_that_make_no_sense(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        dataclasses.replace(TOY, **{name: value})


def test_a_damaged_checkpoint_is_named(tmp_path):
    train(dataclasses.replace(TOY, steps=2), tmp_path / "run")
    state = tmp_path / "run" / "state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"state\.safetensors is not a whole"):
        train(TOY, tmp_path / "run")


def test_a_batch_larger_than_the_data(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be at most"):
        train(dataclasses.replace(TINY, batch_size=5000), tmp_path / "run")


def test_data_that_do_not_fit_the_model(tmp_path):
    with pytest.raises(ValueError, match=r"model takes items of shape \(1, 8, 8\), those of moons"):
        train(dataclasses.replace(TINY, data="moons"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_do_not_fit(tmp_path):
    train(dataclasses.replace(TOY, steps=1), tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = read_json(path)
    values["model"]["width"] = 16
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="does not fit"):
        load_model(tmp_path / "run")
    values["model"]["wings"] = 2
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="wings"):
        load_model(tmp_path / "run")


def test_every_epoch_sees_every_item_once_in_another_order():
    orders = [data_order(100, 3, epoch) for epoch in range(3)]
    for order in orders:
        assert sorted(order) == list(range(100))
    assert len({tuple(order) for order in orders}) == 3
    np.testing.assert_array_equal(orders[1], data_order(100, 3, 1))


def test_batches_of_an_epoch_are_disjoint():
    run = TrainingState(TINY, load_dataset("digits"))
    per_epoch = len(run.batches.data) // 64
    seen = []
    for group in range(per_epoch):
        seen.extend(run.batches.items(group))
    run.close()
    assert len(set(seen)) == len(seen) == per_epoch * 64


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_survive_json(preset):
    config = PRESETS[preset][1]
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    if config.data not in DATA_WANTED:
        assert item_shape(config.model) == load_dataset(config.data).train.shape[1:]
