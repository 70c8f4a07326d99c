"""Flow maps of trained runs: what they begin with, resuming bit for bit, commands, and what is refused."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.data import load_dataset
from loomfast.files import read_json, read_tensors
from loomfast.flow_map import KINDS, FlowMapConfig
from loomfast.models import MLPConfig, UNetConfig
from loomfast.runs.directory import load_model, read_log
from loomfast.training.loop import train
from loomfast.training.start import read_start
from loomfast.training.state import TrainingState

NETWORK = UNetConfig(8, 1, 8, 1, (1, 2), (2,), num_groups=4, num_head_channels=8, dropout=0.1)
BASE = TrainConfig(
    model=NETWORK, data="digits", steps=4, batch_size=64, checkpoint_every=2, warmup_steps=2, threads=1,
    coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
POINTS = dataclasses.replace(BASE, model=MLPConfig(dim=2, width=32), data="moons")


@pytest.fixture(scope="module", autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    out = tmp_path_factory.mktemp("base") / "run"
    train(BASE, out)
    return out


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    out = tmp_path_factory.mktemp("points") / "run"
    train(POINTS, out)
    return out


def same_files(one, two):
    for name in ("state.safetensors", "model.safetensors"):
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_a_map_begins_with_the_runs_velocity_and_coupling(base):
    config = dataclasses.replace(BASE, objective="lsd", init=str(base))
    assert config.model.two_times
    state = TrainingState(config, load_dataset("digits"), start=read_start(config, base / "nowhere"))
    stored, _ = read_tensors(base / "state.safetensors")
    np.testing.assert_array_equal(state.batches.coupler.ids, stored["coupling.ids"])
    assert not np.array_equal(stored["coupling.ids"].ravel(), np.arange(stored["coupling.ids"].size))
    assert state.step == state.batches.coupler.step == 0
    _, velocity = load_model(base)
    x, t = torch.randn(4, 1, 8, 8), torch.rand(4)
    with torch.no_grad():
        for network in (state.model.eval(), state.averaged_model()):
            assert torch.equal(network(x, t), velocity(x, t))
            assert torch.equal(network(x, t, end=torch.ones(4)), velocity(x, t))
    state.close()


@pytest.mark.parametrize("change", [{"seed": 1}, {"coupling": CouplingConfig(num_caches=3)}])
def test_another_coupling_begins_anew(points, change):
    config = dataclasses.replace(POINTS, objective="lsd", init=str(points), **change)
    state = TrainingState(config, load_dataset("moons"), start=read_start(config, points / "nowhere"))
    ids = state.batches.coupler.ids
    np.testing.assert_array_equal(np.ravel(ids), np.arange(np.size(ids)))
    state.close()


def test_a_map_that_stopped_and_went_on_without_its_run(base, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(base, run)
    config = dataclasses.replace(
        BASE, objective="lmd", init=str(run), steps=5, flow_map=FlowMapConfig(annealing_steps=10)
    )
    train(config, tmp_path / "straight")
    train(dataclasses.replace(config, steps=3), tmp_path / "parts")
    shutil.rmtree(run)
    train(config, tmp_path / "parts")
    same_files(tmp_path / "straight", tmp_path / "parts")


def test_a_map_killed_before_its_first_checkpoint(points, tmp_path):
    config = dataclasses.replace(POINTS, objective="esd", init=str(points))
    train(config, tmp_path / "straight")
    for lost in (["state.safetensors", "model.safetensors"], ["start.safetensors"]):
        shutil.copytree(tmp_path / "straight", tmp_path / "killed")
        for name in ["state.safetensors", "model.safetensors", *lost]:
            (tmp_path / "killed" / name).unlink(missing_ok=True)
        train(config, tmp_path / "killed")
        same_files(tmp_path / "straight", tmp_path / "killed")
        shutil.rmtree(tmp_path / "killed")


@pytest.mark.parametrize("kind", KINDS)
def test_every_objective_trains_in_parts_of_a_batch(points, tmp_path, kind):
    config = dataclasses.replace(POINTS, objective=kind, init=str(points), precision="bfloat16")
    train(config, tmp_path / "whole")
    train(dataclasses.replace(config, accumulate=4), tmp_path / "parts")
    losses = [
        [entry["loss"] for entry in read_log(tmp_path / name / "log.jsonl")] for name in ("whole", "parts")
    ]
    assert len(losses[0]) == 4
    np.testing.assert_allclose(*losses, rtol=2e-2)  # bfloat16 sums in another order


def test_the_commands(base, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(base, "digits-run")
    assert main(["distill", "digits-run", "--kind", "psd", "--steps", "2"]) == 0
    out = tmp_path / "runs" / "digits-run-psd"
    config, model = load_model(out)
    assert (config.objective, config.steps, config.init, model.config.two_times) == (
        "psd",
        2,
        "digits-run",
        True,
    )
    assert main(["distill", "digits-run", "--kind=psd", "--steps", "3"]) == 0
    assert [entry["step"] for entry in read_log(out / "log.jsonl")] == [0, 1, 2]
    assert main(["evaluate", str(out), "--nfe", "1,2", "--num", "32", "--json", "found.json"]) == 0
    found = read_json(tmp_path / "found.json")["samples"]
    assert [(entry["solver"], entry["nfe"]) for entry in found] == [("map", 1), ("map", 2)]
    assert main(["sample", str(out), "--nfe", "4", "--num", "4"]) == 0
    assert "map, 4 function evaluations" in capsys.readouterr().out
    assert main(["export", str(out), "--out", "exported"]) == 0
    card = (tmp_path / "exported" / "README.md").read_text()
    for words in (
        "# digits, flow map with loom coupling",
        "A flow map X(x, s, t) = x + (t − s) v(x, s, t) from noise, s = 0, to data, t = 1",
        "Trained by progressive self-distillation (Boffi et al., 2025)",
        "seed=0, nfe=1)",
        "`loomfast sample . --nfe 1 --out samples.png`",
        "32 samples against 355 held-out items of digits, by 32 features of a small classifier of digits:",
        "| map | 1 | 0 |",
    ):
        assert words in card
    assert "velocity field" not in card
    assert main(["sample", "exported", "--nfe", "2", "--num", "4", "--out", "s.png"]) == 0
    assert main(["distill", "exported", "--steps", "1", "--out", "again"]) == 0
    train_flags = ["--steps", "1", "--batch-size", "32", "--out", "fresh"]
    assert main(["train", "moons", "--objective", "lsd", "--flow-map.weight", "0.5", *train_flags]) == 0
    assert load_model(tmp_path / "fresh")[1].config.two_times


ERRORS = [
    (["distill"], "distill needs a RUN first"),
    (["distill", "nowhere"], "nowhere is not a run directory"),
    (["distill", "{run}", "--kind", "foo"], "--kind: invalid choice: 'foo'"),
    (["distill", "{run}", "--foo"], "Unrecognized options: --foo"),
    (["distill", "{run}", "--flow-map.velocity-share", "1"], "flow_map.velocity_share must be in"),
    (["distill", "{run}", "--model.width", "64"], "is of another network than this run's model"),
    (["train", "moons", "--objective", "lmd"], "objective lmd distils a trained run: name it as init"),
    (["train", "moons", "--model.two-times"], "model.two_times is for flow maps"),
    (["train", "moons", "--init", "nowhere", "--out", "x"], "nowhere is not a run directory"),
    (["sample", "{run}", "--solver", "map"], "solver map is for flow maps"),
]


@pytest.mark.parametrize(("words", "message"), ERRORS)
def test_what_is_refused(points, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    assert main([word.format(run=points) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not list(tmp_path.rglob("*.safetensors"))


def test_maps_are_not_guided_nor_computed_again():
    with pytest.raises(ValueError, match="activation_checkpointing cannot be had with objective lsd"):
        dataclasses.replace(
            BASE, objective="lsd", model=dataclasses.replace(NETWORK, activation_checkpointing=True)
        )


def test_a_configuration_from_before_maps_is_a_velocitys(points, tmp_path):
    shutil.copytree(points, tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = read_json(path)
    for name in ("objective", "flow_map", "init"):
        del values[name]
    del values["model"]["two_times"]
    path.write_text(json.dumps(values))
    assert load_model(tmp_path / "run")[0] == POINTS
    train(dataclasses.replace(POINTS, steps=5), tmp_path / "run")
