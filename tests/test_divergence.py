"""Numbers that are none: a run stops and keeps its last good checkpoint; solvers say what stops them."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from untrained import POINTS, untrained_run

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.files import json_text, read_json, read_tensors, write_json, write_tensors
from loomfast.models import MLPConfig, build
from loomfast.runs.directory import checkpoint_step
from loomfast.sampling.generate import generate
from loomfast.sampling.ode import ADAPTIVE, integrate
from loomfast.training import step as trainer
from loomfast.training.loop import train

TOY = TrainConfig(
    model=MLPConfig(width=8), data="moons", num_items=64, steps=9, batch_size=32, threads=1, warmup_steps=0,
    checkpoint_every=3, coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
WORDS = [
    "train", "moons", "--num-items", "64", "--batch-size", "32", "--steps", "9", "--checkpoint-every", "3",
    "--warmup-steps", "0", "--model.width", "8", "--threads", "1",
]  # fmt: skip


def strict(line):
    """JSON without the words that Python adds to it."""
    return json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.fixture(autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_with_exit_code_1(value, tmp_path, monkeypatch, capsys):
    train(dataclasses.replace(TOY, steps=6), tmp_path / "good")
    wanted = (tmp_path / "good" / "state.safetensors").read_bytes()
    loss = trainer.flow_matching_loss

    def fails_at_step_7(model, *arguments, **options):
        fails_at_step_7.calls += 1
        return loss(model, *arguments, **options) * (value if fails_at_step_7.calls == 10 else 1)

    fails_at_step_7.calls = 0  # one a step, and one before each of the two checkpoints
    monkeypatch.setattr(trainer, "flow_matching_loss", fails_at_step_7)
    assert main([*WORDS, "--coupling.num-caches", "2", "--out", str(tmp_path / "run")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    for words in (f"the loss is {value} at step 7", "checkpoint after 6 steps is kept", "--learning-rate"):
        assert words in line
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == wanted
    entries = [strict(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in entries] == list(range(8))
    assert entries[7]["loss"] is None
    monkeypatch.undo()
    assert train(TOY, tmp_path / "run") == 9  # the log and the checkpoint can be gone on from


@pytest.mark.parametrize("options", [[], ["--sample-every", "1"], ["--precision", "bfloat16"]])
def test_a_learning_rate_far_too_large(options, tmp_path, capsys):
    words = [*WORDS, "--learning-rate", "1e30", "--grad-clip", "0", "--checkpoint-every", "1", *options]
    assert main([*words, "--out", str(tmp_path / "run")]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert "training diverged: " in line
    assert "it had no checkpoint yet" in line
    assert ("--precision float32" in line) == ("bfloat16" in options)
    assert checkpoint_step(tmp_path / "run") == 0
    for entry in (tmp_path / "run" / "log.jsonl").read_text().splitlines():
        strict(entry)


def test_weights_that_are_no_numbers_are_not_saved(tmp_path, monkeypatch):
    update = trainer.ema_update

    def breaks(ema, *arguments):
        update(ema, *arguments)
        ema["out.bias"][0] = float("nan")

    monkeypatch.setattr(trainer, "ema_update", breaks)
    for every in (0, 1):
        out = tmp_path / f"run{every}"
        with pytest.raises(FloatingPointError, match=r"out\.bias holds NaN or infinity after step"):
            train(dataclasses.replace(TOY, sample_every=every), out)
        assert not (out / "state.safetensors").exists()


def test_what_is_not_finite_is_null_in_json(tmp_path):
    value = {"a": [float("nan"), (float("-inf"), 1.5)], "b": np.float64("inf"), "c": True}
    assert strict(json_text(value)) == {"a": [None, [None, 1.5]], "b": None, "c": True}
    write_json(tmp_path / "a.json", value)
    assert read_json(tmp_path / "a.json")["b"] is None


def test_a_network_that_returns_nan_is_named(tmp_path, capsys):
    for options in ({"nfe": 2}, *({"solver": solver} for solver in ADAPTIVE)):
        with pytest.raises(ValueError, match=r"returned NaN or infinity"):
            generate(lambda x, t: x * float("nan"), 3, (2,), seed=0, **options)
    run = untrained_run(tmp_path / "run", POINTS, data="moons")
    tensors, metadata = read_tensors(run / "model.safetensors")
    tensors["out.bias"] = np.full(2, np.nan, np.float32)
    write_tensors(run / "model.safetensors", tensors, metadata)
    assert main(["sample", str(run), "--num", "3"]) == 2
    assert "its out.bias holds what is no finite number" in capsys.readouterr().err


def late(x, t):
    return torch.where(t[:, None] > 0.5, x * float("inf"), x)


def steep(x, t):
    return torch.where(t[:, None] > 0.5, x.sign() * 1e12 * torch.cos(1e9 * x), x)


BAD_SOLVES = [
    ({"z": torch.ones(2, 2, dtype=torch.float16)}, TypeError, "needs z in float32 or float64, got float16"),
    ({"z": torch.ones(2, 2, dtype=torch.bfloat16)}, TypeError, "needs z in float32 or float64, got bfloat16"),
    ({"z": torch.full((2, 2), torch.nan)}, ValueError, "z must be finite for"),
    (
        {"time_grid": [0, 0.5, 0.5 + 1e-9, 1]},
        ValueError,
        r"time_grid has 0\.5 and 0\.500000001, which",
    ),
    (
        {"time_grid": [1, 0.5, 0.5 - 1e-9, 0]},
        ValueError,
        r"time_grid has 0\.5 and 0\.499999999, which",
    ),
    ({"velocity": late}, ValueError, r"velocity returned NaN or infinity at t = 0\.[5-9]"),
    ({"velocity": steep}, ValueError, r"does not reach rtol=1e-05, .* steps became too small near t = 0\.5"),
    ({"rtol": 1e-30, "atol": 1e-30}, ValueError, "does not reach rtol=1e-30"),
    ({"rtol": 0.0, "atol": 0.0}, ValueError, "rtol and atol must not both be 0"),
    ({"rtol": float("nan")}, ValueError, "rtol must be a finite number of at least 0, got nan"),
    ({"atol": -1.0}, ValueError, "atol must be a finite number"),
]


@pytest.mark.parametrize("solver", ADAPTIVE)
@pytest.mark.parametrize(("options", "kind", "message"), BAD_SOLVES)
def test_adaptive_solvers_name_what_stops_them(solver, options, kind, message, monkeypatch):
    monkeypatch.setattr("loomfast.sampling.ode.MOST_STEPS", 300)
    options = {"z": torch.ones(2, 2), "velocity": lambda x, t: -x} | options
    with pytest.raises(kind, match=message):
        integrate(options.pop("velocity"), options.pop("z"), solver=solver, **options)


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_what_adaptive_solvers_can_do_they_do(solver):
    grid = [0, 0.5, float(np.nextafter(np.float32(0.5), np.float32(1))), 1]
    found = integrate(lambda x, t: -x, torch.ones(2, 2), solver=solver, time_grid=grid, trajectory=True)
    torch.testing.assert_close(found.x, torch.full((2, 2), float(np.exp(-1))), atol=1e-3, rtol=0)
    assert found.trajectory.shape == (4, 2, 2)
    assert integrate(lambda x, t: -x, torch.ones(0, 2), solver=solver).x.shape == (0, 2)
    model = build(MLPConfig(width=8)).to(torch.bfloat16)
    assert generate(model, 3, (2,), seed=0, solver=solver, rtol=0.05, atol=0.05).isfinite().all()
