"""Averages after the fact, against the average of all steps' weights added up as its definition says."""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from untrained import POINTS

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig, config_to_dict
from loomfast.data import load_dataset
from loomfast.files import read_json, write_json, write_tensors
from loomfast.models.power_ema import LENGTHS, power_coefficients, power_exponent
from loomfast.runs.averages import load_average
from loomfast.runs.directory import load_model
from loomfast.runs.export import read_metrics
from loomfast.sampling.generate import generate
from loomfast.training.loop import train
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

CONFIG = TrainConfig(
    model=POINTS, data="moons", steps=160, batch_size=32, num_items=256, snapshot_every=8, learning_rate=0.01,
    threads=1, coupling=CouplingConfig(method="independent", prefetch="off"),
)  # fmt: skip


def test_exponents():
    assert [round(power_exponent(length), 2) for length in LENGTHS] == [16.97, 6.94]  # the paper's
    for gamma in (0.5, 3.0, 40.0):
        length = (gamma + 1) ** 0.5 / (gamma + 2) / (gamma + 3) ** 0.5
        assert power_exponent(length) == pytest.approx(gamma)
    for length in (0, 0.29, -1, float("nan")):
        with pytest.raises(ValueError, match="length of an average must be in"):
            power_exponent(length)


def test_what_was_kept_is_found_again():
    steps, lengths = np.repeat([10, 20, 30], 2), LENGTHS * 3
    shares = power_coefficients(steps, lengths, 30, LENGTHS[1])
    np.testing.assert_allclose(shares, [0, 0, 0, 0, 0, 1], atol=1e-8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory with snapshots, and the weights after each of its steps, one vector a step."""
    out = tmp_path_factory.mktemp("averaged") / "run"
    out.mkdir()
    write_json(out / "config.json", config_to_dict(CONFIG))
    state, weights = TrainingState(CONFIG, load_dataset("moons", num_items=256)), []
    while state.step < CONFIG.steps:
        training_step(state)
        weights.append(vector(state.model))
        if state.step % CONFIG.snapshot_every == 0:
            state.snapshot(out)
    state.save(out)
    state.close()
    return out, np.array(weights)


def vector(model):
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().double().numpy()


@pytest.mark.parametrize(
    ("length", "within"), [(0.05, 0), (0.1, 0), (0.07, 1e-3), (0.03, 0.02), (0.15, 0.02)]
)
def test_an_average_after_the_fact_is_that_of_all_steps(run, length, within):
    out, weights = run
    exponent, last = power_exponent(length), len(weights)
    edges = (np.arange(last + 1) / last) ** (exponent + 1)  # the density's share up to each step
    exact = np.diff(edges) @ weights
    _, model = load_average(out, length)
    moved = np.linalg.norm(exact - weights[-1])
    rounding = 2.0**-23 * np.linalg.norm(exact)  # of averages kept in float32
    assert np.linalg.norm(vector(model) - exact) < within * moved + rounding
    assert rounding < 1e-4 * moved
    assert not model.training


def test_a_run_that_stopped_keeps_the_same_averages(tmp_path):
    config = dataclasses.replace(CONFIG, steps=20, checkpoint_every=6)
    train(config, tmp_path / "straight")
    train(dataclasses.replace(config, steps=9), tmp_path / "parts")
    train(config, tmp_path / "parts")
    for name in ("state", "model", "averages/step-0000008", "averages/step-0000016", "averages/step-0000020"):
        one, two = (tmp_path / run / f"{name}.safetensors" for run in ("straight", "parts"))
        assert one.read_bytes() == two.read_bytes(), name


def test_the_command(run, tmp_path, capsys):
    shutil.copytree(run[0], tmp_path / "run")
    words = ["evaluate", str(tmp_path / "run"), "--num", "64", "--nfe", "1,2"]
    assert main([*words, "--ema", ".02,.05,.1", "--json", str(tmp_path / "found.json")]) == 0
    found = read_json(tmp_path / "found.json")["averages"]
    assert [result["ema"] for result in found] == [0.02, 0.05, 0.1]
    assert len({result["samples"][0]["exact_w2"] for result in found}) == 3
    assert capsys.readouterr().out.split()[:3] == ["ema", "solver", "nfe"]
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == []  # an export has the run's own average
    flags = ["--num", "5", "--nfe", "2", "--device", "cpu"]
    out = tmp_path / "s.npz"
    assert main(["sample", str(tmp_path / "run"), *flags, "--ema", ".05", "--out", str(out)]) == 0
    expected = generate(load_average(run[0], 0.05)[1], 5, (2,), seed=0, nfe=2)
    np.testing.assert_array_equal(np.load(out)["samples"], expected.numpy())
    assert main(["sample", str(tmp_path / "run"), *flags, "--ema", ".05"]) == 0
    assert (tmp_path / "run" / "samples" / "seed0-midpoint-nfe2-ema0.05.png").is_file()
    assert main(words) == 0
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 1


def test_what_is_refused(run, tmp_path, capsys):
    shutil.copytree(run[0], tmp_path / "run")
    assert main(["evaluate", str(tmp_path / "run"), "--ema", "0.3"]) == 2
    assert "length of an average must be in (0, 0.2887), got 0.3" in capsys.readouterr().err
    assert main(["sample", str(tmp_path / "run"), "--ema", "0.3"]) == 2
    assert "length of an average must be in (0, 0.2887), got 0.3" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path / "run"), "--ema", "short"]) == 2
    assert "must be numbers such as .02,.05,.1, got 'short'" in capsys.readouterr().err
    snapshot = sorted((tmp_path / "run" / "averages").iterdir())[2]
    weights = {
        f"{i}.{name}": p.detach() for i in (0, 1) for name, p in load_model(run[0])[1].named_parameters()
    }
    write_tensors(snapshot, {**weights, "step": np.array([24]), "0.out.bias": np.full(2, np.nan, np.float32)})
    assert main(["evaluate", str(tmp_path / "run"), "--ema", "0.1"]) == 2
    assert f"{snapshot} is damaged: its 0.out.bias holds what is no finite number" in capsys.readouterr().err
    shutil.rmtree(tmp_path / "run" / "averages")
    assert main(["evaluate", str(tmp_path / "run"), "--ema", "0.1"]) == 2
    assert "has no snapshots of its averages: train a run with --snapshot-every" in capsys.readouterr().err
