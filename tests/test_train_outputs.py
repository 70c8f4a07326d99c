"""What a run writes besides checkpoints, what it says beforehand, and what happens when it cannot write."""

import dataclasses
import subprocess
import sys
import types

import numpy as np
import pytest
import torch

from loomfast.cli import main
from loomfast.config import PRESETS, CouplingConfig, TrainConfig
from loomfast.data import load_dataset
from loomfast.files import write_tensors
from loomfast.flow import flow_matching_loss
from loomfast.models import MLPConfig, UNetConfig, build, item_shape
from loomfast.runs.directory import check_directory, read_log
from loomfast.training import memory
from loomfast.training.loop import train
from loomfast.training.memory import count_activations, estimate_memory
from loomfast.training.state import TrainingState

TOY = TrainConfig(
    model=MLPConfig(dim=2, width=32), data="moons", steps=8, batch_size=32, warmup_steps=2, threads=1,
    num_items=256, coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
UNET = UNetConfig(
    image_size=8, in_channels=1, model_channels=32, num_res_blocks=1, channel_mult=(1, 2), num_groups=8,
    attention_downsample=(2,), num_head_channels=32, dropout=0.1, num_classes=3,
)  # fmt: skip

# The paper's Table 4: batch, learning rate, warm-up, iterations, caches, and the parameters it leads to.
TABLE_4 = {
    "cifar10": (128, 2e-4, 5000, 391_000, 4, 35_746_307),
    "imagenet32": (512, 1e-4, 20_000, 500_000, 1, 49_062_787),
    "imagenet64": (96, 1e-4, 20_000, 1_334_000, 1, 186_591_171),
    "ffhq256-latent": (128, 2e-5, 3500, 273_000, 4, 357_923_588),
}


@pytest.fixture(autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("preset", TABLE_4)
def test_presets_of_the_paper(preset, tmp_path, monkeypatch, capsys):
    batch, rate, warmup, steps, caches, parameters = TABLE_4[preset]
    config = PRESETS[preset][1]
    found = config.batch_size, config.learning_rate, config.warmup_steps, config.steps
    assert found == (batch, rate, warmup, steps)
    assert config.coupling == CouplingConfig(method="loom", num_caches=caches)
    assert (config.ema_decay, config.sigma, config.model.dropout) == (0.9999, 1e-7, 0.1)
    assert config.model.num_classes is None
    monkeypatch.chdir(tmp_path)  # where there are no data
    assert main(["train", preset, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert f"parameters: {parameters:,}" in printed
    assert f"memory, weights (estimate): {4 * parameters / 2**20:,.1f} MiB" in printed
    assert "memory, coupling cache (estimate): not known without --num-items" in printed
    assert main(["train", preset]) == 2
    errors = capsys.readouterr().err.strip()
    assert len(errors.splitlines()) == 1
    assert f"{config.data} does not exist; it is to hold" in errors
    assert list(tmp_path.iterdir()) == []


def kept_by(config, batch):
    """Bytes that a real forward pass keeps for the backward pass, parameters left out."""
    model, kept = build(config), {}
    parameters = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    x = torch.randn(batch, *item_shape(config))
    y = None if config.num_classes is None else torch.zeros(batch, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        flow_matching_loss(model, x, torch.randn_like(x), torch.rand(batch), y=y)
    return sum(storage.nbytes() for address, storage in kept.items() if address not in parameters)


@pytest.mark.parametrize("config", [UNET, MLPConfig()], ids=["unet", "mlp"])
def test_activations_are_counted_as_they_are_kept(config):
    assert count_activations(config, 4) == kept_by(config, 4)
    assert count_activations(config, 8) < 2.1 * count_activations(config, 4)


def test_activations_in_other_forms():
    plain = count_activations(UNET, 4)
    lean = dataclasses.replace(UNET, activation_checkpointing=True)
    assert kept_by(lean, 4) < count_activations(lean, 4) < 0.5 * plain
    # Half of nearly everything; the weights' copies in bfloat16 do not grow with the batch.
    assert count_activations(UNET, 512, "bfloat16") < 0.7 * count_activations(UNET, 512)


def test_the_memory_of_a_run():
    config = dataclasses.replace(TOY, flips=True, accumulate=2)
    estimate = estimate_memory(config, num_items=100, processes=4)
    count = sum(p.numel() for p in build(TOY.model).parameters())
    assert estimate["optimizer"] == 2 * estimate["weights"] == 8 * count
    assert estimate["coupling cache"] == 100 * 2 * 2 * (4 + 8)
    assert estimate["activations"] == count_activations(TOY.model, 4)
    assert estimate_memory(TOY)["coupling cache"] is None
    run = TrainingState(TOY, load_dataset("moons", num_items=256))
    run.close()
    state = run.batches.coupler.state_dict()
    assert memory.estimate_memory(TOY, num_items=256)["coupling cache"] == sum(
        state[name].nbytes for name in ("ids", "prices")
    )


def test_pictures_while_training(tmp_path):
    config = dataclasses.replace(TOY, sample_every=3)
    train(config, tmp_path / "run")
    names = {path.name for path in (tmp_path / "run" / "samples").iterdir()}
    assert names == {"step-0000003.png", "step-0000006.png"}
    train(TOY, tmp_path / "without")
    assert (tmp_path / "run" / "state.safetensors").read_bytes() == (
        tmp_path / "without" / "state.safetensors"
    ).read_bytes()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own dependencies
def test_tensorboard_reads_what_was_written(tmp_path):
    config = dataclasses.replace(TOY, log_to="tensorboard", sample_every=4)
    train(dataclasses.replace(config, steps=5), tmp_path / "run")
    train(config, tmp_path / "run")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    log = read_log(tmp_path / "run" / "log.jsonl")
    for name in ("loss", "swaps", "cost_after"):
        found = {event.step: event.value for event in events.Scalars(name)}
        assert found == pytest.approx({entry["step"]: entry[name] for entry in log})
    (picture,) = events.Images("samples")
    assert picture.step == 4


def test_wandb_gets_the_log(tmp_path, monkeypatch):
    """Through a stand-in for the package, which would want an account: the calls are those of its manual."""
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finished")
    )
    fake = types.SimpleNamespace(init=lambda **words: calls.append(words) or run, Image=lambda path: path)
    monkeypatch.setitem(sys.modules, "wandb", fake)
    train(dataclasses.replace(TOY, log_to="wandb", sample_every=3), tmp_path / "run")
    first, *steps, last = calls
    assert first["resume"] == "allow"
    assert first["config"]["steps"] == 8
    assert first["id"].endswith("-run")
    assert last == "finished"
    log = read_log(tmp_path / "run" / "log.jsonl")
    losses = {step: values["loss"] for step, values in steps if "loss" in values}
    assert losses == {entry["step"]: entry["loss"] for entry in log}
    pictures = [(step, values["samples"]) for step, values in steps if "samples" in values]
    assert [step for step, _ in pictures] == [2, 5]  # W&B takes no step twice or back
    numbers = [step for step, _ in steps]
    assert numbers == sorted(numbers)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_log_that_is_not_installed_is_named_with_its_extra(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"pip install 'loomfast\[{name}\]'"):
        train(dataclasses.replace(TOY, log_to=name), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_that_cannot_be_written_whole(tmp_path):
    """The limit on the size of a file makes the very write fail, as a full disk would."""
    config = dataclasses.replace(PRESETS["moons"][1], threads=1, num_items=4096, steps=2)
    train(config, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").glob("*.safetensors")}
    words = ["train", "moons", "--threads", "1", "--num-items", "4096", "--out", str(tmp_path / "run")]
    command = [sys.executable, "-m", "loomfast", *words, "--steps", "4"]
    limited = f"ulimit -f 64; exec {' '.join(command)}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    errors = [line for line in done.stderr.splitlines() if not line.startswith("train run:")]
    assert len(errors) == 1
    assert "cannot write" in errors[0]
    assert "state.safetensors" in errors[0]
    assert {p: p.read_bytes() for p in (tmp_path / "run").glob("*.safetensors")} == before
    assert not list((tmp_path / "run").glob(".*"))
    train(dataclasses.replace(config, steps=4), tmp_path / "run")
    assert [entry["step"] for entry in read_log(tmp_path / "run" / "log.jsonl")] == [0, 1, 2, 3]


def test_directories_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("precious")
    with pytest.raises(NotADirectoryError, match=r"cannot be a run directory: .*/file is a file"):
        train(TOY, tmp_path / "file" / "run")
    monkeypatch.setattr(
        "loomfast.runs.directory.os.access", lambda path, mode: False
    )  # root may write anywhere
    with pytest.raises(PermissionError, match="run cannot be written: no permission in"):
        train(TOY, tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    train(TOY, tmp_path / "one")
    other = dataclasses.replace(TOY, model=MLPConfig(dim=2, width=16))
    train(dataclasses.replace(other, steps=2), tmp_path / "two")
    stolen = (tmp_path / "one" / "state.safetensors").read_bytes()
    (tmp_path / "two" / "state.safetensors").write_bytes(stolen)
    with pytest.raises(ValueError, match="belongs to another network: its model"):
        train(dataclasses.replace(other, steps=9), tmp_path / "two")
    write_tensors(tmp_path / "two" / "state.safetensors", {"step": np.zeros(1, np.int64)})
    with pytest.raises(ValueError, match="belongs to another network"):
        train(dataclasses.replace(other, steps=9), tmp_path / "two")


def test_what_changes_no_weight_may_change(tmp_path):
    train(dataclasses.replace(TOY, steps=2), tmp_path / "run")
    free = dataclasses.replace(TOY, steps=4, checkpoint_every=7, sample_every=9, log_to="wandb")
    check_directory(free, tmp_path / "run")
    with pytest.raises(ValueError, match="its precision is 'float32', this one's 'bfloat16'"):
        check_directory(dataclasses.replace(free, precision="bfloat16"), tmp_path / "run")


def test_items_a_second_and_the_time_left_are_reported(tmp_path, capfd):
    words = ["train", "moons", "--threads", "1", "--num-items", "512", "--out", str(tmp_path / "run")]
    assert main([*words, "--steps", "20"]) == 0
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 10
    assert all("items/s" in line and "s left" in line for line in lines)
    assert main([*words, "--steps", "40"]) == 0
    assert len(capfd.readouterr().err.splitlines()) == 5  # the second half only
