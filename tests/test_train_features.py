"""What a step can be made of: labels, flips, parts, precisions, compiled networks, OT batches, work ahead."""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from untrained import images, untrained_run

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Loom, solve_globally
from loomfast.coupling.cache import is_permutation
from loomfast.data import load_dataset, make_dataset
from loomfast.files import read_tensors
from loomfast.flow import drop_labels
from loomfast.models import MLPConfig, UNetConfig
from loomfast.runs.directory import read_log
from loomfast.runs.pictures import picture_run
from loomfast.training.batches import works_ahead
from loomfast.training.loop import train
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

UNET = UNetConfig(
    image_size=8, in_channels=1, model_channels=16, num_res_blocks=1, channel_mult=(1, 2), num_groups=8,
    attention_downsample=(), num_head_channels=16,
)  # fmt: skip
DIGITS = TrainConfig(
    model=UNET, data="digits", steps=5, batch_size=32, num_items=256, warmup_steps=2, threads=1,
    coupling=CouplingConfig(num_caches=2),
)  # fmt: skip
TOY = dataclasses.replace(DIGITS, model=MLPConfig(dim=2, width=32), data="moons", steps=12)


@pytest.fixture(autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def changed(config, **changes):
    """A configuration with other values; ``coupling`` and ``model`` are given as the changes to them."""
    for part in ("coupling", "model"):
        if part in changes:
            changes[part] = dataclasses.replace(getattr(config, part), **changes[part])
    return dataclasses.replace(config, **changes)


def losses(out):
    return [entry["loss"] for entry in read_log(out / "log.jsonl")]


def state(out):
    return (out / "state.safetensors").read_bytes()


def weights(out):
    return {k: v for k, v in read_tensors(out / "state.safetensors")[0].items() if k.startswith("model.")}


def same_in_parts(config, tmp_path, stops):
    """The run that stopped at these steps ends as the one that did not; returns its directory."""
    train(config, tmp_path / "straight")
    for steps in (*stops, config.steps):
        train(dataclasses.replace(config, steps=steps), tmp_path / "parts")
    assert state(tmp_path / "straight") == state(tmp_path / "parts")
    logs = [read_log(tmp_path / name / "log.jsonl") for name in ("straight", "parts")]
    for a, b in zip(*logs, strict=True):
        assert {**a, "coupling_seconds": 0} == {**b, "coupling_seconds": 0}
    return tmp_path / "straight"


def prepared_coupling(tmp_path):
    """A file for method semidiscrete, on the toy's data."""
    data = load_dataset("moons", num_items=256)
    coupler = Loom(256, (2,), num_caches=1, dataset_fingerprint=data.fingerprint)
    solve_globally(coupler, data.train)
    coupler.save(tmp_path / "duals.safetensors")
    return str(tmp_path / "duals.safetensors")


@pytest.mark.parametrize("method", ["loom", "minibatch-ot", "independent", "semidiscrete"])
def test_an_ot_batch_feeds_steps_and_a_run_resumes_in_the_middle_of_it(method, tmp_path):
    init = prepared_coupling(tmp_path) if method == "semidiscrete" else ""
    config = changed(TOY, steps=14, coupling={"method": method, "ot_batch": 3, "init": init})
    out = same_in_parts(config, tmp_path, stops=(4, 6, 11))
    swaps = np.array([entry["swaps"] for entry in read_log(out / "log.jsonl")])
    assert not swaps[np.arange(14) % 3 > 0].any()
    if method in ("loom", "minibatch-ot"):
        assert (swaps[::3] > 32).all(), "more items than a training batch has are coupled at once"


def test_an_ot_batch_is_coupled_as_one(tmp_path):
    config = changed(TOY, steps=4, coupling={"ot_batch": 4, "num_caches": 1})
    train(config, tmp_path / "run")
    run = TrainingState(config, load_dataset("moons", num_items=256))
    run.close()
    batch = run.batches.batch_at(0)
    expected = Loom(
        256, (2,), num_caches=1, dataset_fingerprint=load_dataset("moons", num_items=256).fingerprint
    )
    expected.couple(batch["x"], batch["index"], step=0)
    found = read_tensors(tmp_path / "run" / "state.safetensors")[0]["coupling.ids"]
    np.testing.assert_array_equal(found, expected.ids)


def test_working_ahead_changes_nothing(tmp_path):
    for prefetch in ("on", "off"):
        train(changed(TOY, coupling={"prefetch": prefetch}), tmp_path / prefetch)
    assert state(tmp_path / "on") == state(tmp_path / "off")
    train(changed(TOY, steps=20, coupling={"prefetch": "on"}), tmp_path / "off")  # it may change in a run
    assert works_ahead("auto", torch.device("cuda"))
    assert not works_ahead("off", torch.device("cuda"))


def test_flips_are_items_of_their_own(tmp_path):
    config = changed(DIGITS, flips=True, coupling={"ot_batch": 2})
    run = TrainingState(config, load_dataset("digits", num_items=256))
    run.close()
    items = run.batches.items(0)
    batch = run.batches.batch_at(0)
    mirrored = items >= 256
    assert 8 < mirrored.sum() < 56
    plain = run.batches.data[torch.from_numpy(items % 256)]
    assert torch.equal(batch["x"][~mirrored], plain[~mirrored])
    assert torch.equal(batch["x"][mirrored], plain[mirrored].flip(-1))
    again = {tuple(run.batches.items(group) >= 256) for group in (0, 4, 8, 12)}
    assert len(again) == 4, "an item is not always flipped"
    out = same_in_parts(config, tmp_path, stops=(3,))
    ids = read_tensors(out / "state.safetensors")[0]["coupling.ids"]
    assert ids.shape == (512, 2)
    assert is_permutation(ids)


@pytest.mark.parametrize("flips", [False, True])
def test_labels_reach_the_network_and_the_coupling(flips, tmp_path):
    config = changed(
        DIGITS, flips=flips, label_dropout=0.25, model={"num_classes": 10}, coupling={"label_weight": 1e6}
    )
    out = same_in_parts(config, tmp_path, stops=(2,))
    tensors, _ = read_tensors(out / "state.safetensors")
    labels = load_dataset("digits", num_items=256).train_labels
    of_items = np.concatenate([labels, labels])[: 512 if flips else 256]
    of_noises = of_items[tensors["coupling.ids"] // 2]
    assert (of_noises == of_items[:, None]).all(), "so large a weight keeps noises in their class"
    assert not (tensors["coupling.ids"] == np.arange(tensors["coupling.ids"].size).reshape(-1, 2)).all()
    assert np.abs(tensors["optimizer.label_emb.weight.exp_avg"]).max() > 0
    assert picture_run(config, out)[0].stat().st_size > 1000


def test_dropped_labels_are_minus_one_in_the_network(tmp_path):
    config = changed(DIGITS, label_dropout=0.5, model={"num_classes": 10})
    run = TrainingState(config, load_dataset("digits", num_items=256))
    seen = []
    run.model.register_forward_pre_hook(lambda module, arguments: seen.append(arguments))
    training_step(run)
    run.close()
    index = run.batches.items(0)
    labels = torch.from_numpy(run.batches.labels[index])
    assert torch.equal(seen[0][2], drop_labels(labels, index, seed=0, step=0, probability=0.5))
    assert 4 < (seen[0][2] == -1).sum() < 28


def test_parts_add_up_to_the_whole_batch(tmp_path):
    train(DIGITS, tmp_path / "whole")
    train(changed(DIGITS, accumulate=4), tmp_path / "parts")
    # The same sums in another order: float32 rounding, which Adam's first steps can enlarge.
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "whole"), rtol=1e-4)
    coupled = [read_tensors(tmp_path / name / "state.safetensors")[0] for name in ("whole", "parts")]
    np.testing.assert_array_equal(coupled[0]["coupling.ids"], coupled[1]["coupling.ids"])


def test_parts_have_dropout_of_their_own(tmp_path):
    config = changed(DIGITS, accumulate=2, model={"dropout": 0.5})
    same_in_parts(config, tmp_path, stops=(3,))
    train(config, tmp_path / "whole")
    run = TrainingState(config, load_dataset("digits", num_items=256))
    masks = []
    dropout = next(m for m in run.model.modules() if isinstance(m, torch.nn.Dropout))
    dropout.register_forward_hook(lambda m, x, out: masks.append(out == 0))
    training_step(run)
    run.close()
    assert not torch.equal(*masks)


def test_bfloat16_keeps_float32_weights_and_follows_the_float32_run(tmp_path):
    train(DIGITS, tmp_path / "float32")
    train(changed(DIGITS, precision="bfloat16"), tmp_path / "bfloat16")
    assert losses(tmp_path / "bfloat16") != losses(tmp_path / "float32")
    # bfloat16 keeps 8 bits: a part in 256 for each product, less for their mean.
    np.testing.assert_allclose(losses(tmp_path / "bfloat16"), losses(tmp_path / "float32"), rtol=1e-2)
    assert {value.dtype for value in weights(tmp_path / "bfloat16").values()} == {np.dtype("float32")}


@pytest.mark.parametrize("compiler", [None, "no-such-compiler"])
@pytest.mark.parametrize("command", ["train", "sample"])
def test_compiling_without_a_compiler_is_one_line(tmp_path, monkeypatch, capsys, command, compiler):
    monkeypatch.setenv("PATH", str(tmp_path))
    default = "clang++" if sys.platform == "darwin" else "g++"
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    else:
        monkeypatch.delenv("CXX", raising=False)
    words = {"train": ["digits"], "sample": [str(untrained_run(tmp_path / "run", images()))]}[command]
    before = sorted(tmp_path.rglob("*"))
    out = str(tmp_path / "out.npz")
    assert main([command, *words, "--compile", "--device", "cpu", "--out", out]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("loomfast: error: compile needs a C++ compiler on the CPU, and ")
    assert line.endswith(
        f"{compiler or default!r} is not on PATH: install it, name another one in the environment variable "
        "CXX, or leave --compile out"
    )
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own compiler
def test_a_compiled_network_trains_alike_under_the_same_names(tmp_path):
    config = changed(TOY, compile=True, steps=6)
    train(changed(TOY, steps=6), tmp_path / "eager")
    train(config, tmp_path / "compiled")
    names = [sorted(read_tensors(tmp_path / n / "state.safetensors")[0]) for n in ("eager", "compiled")]
    assert names[0] == names[1]
    np.testing.assert_allclose(losses(tmp_path / "compiled"), losses(tmp_path / "eager"), rtol=1e-5)


def test_a_number_of_items(tmp_path):
    train(changed(TOY, num_items=64, steps=1), tmp_path / "run")
    ids = read_tensors(tmp_path / "run" / "state.safetensors")[0]["coupling.ids"]
    assert ids.shape == (64, 2)


def unlabelled(count=64, shape=(1, 8, 8), labels=None):
    return make_dataset("mine", np.zeros((count, *shape)), np.zeros((2, *shape)), labels)


REFUSED = [
    ({"model": {"num_classes": 10}}, unlabelled(), "model.num_classes is 10, but mine has no labels"),
    ({"coupling": {"label_weight": 1.0}}, unlabelled(), "label_weight is not 0, but mine has no labels"),
    ({"model": {"num_classes": 3}}, unlabelled(labels=np.arange(64) % 5), "num_classes must be at least 5"),
    (
        {"coupling": {"ot_batch": 3}},
        unlabelled(),
        "times coupling.ot_batch must be at most the 64",
    ),
    ({}, unlabelled(shape=(1, 16, 16)), r"model takes items of shape \(1, 8, 8\), those of mine"),
    ({"model": MLPConfig(), "flips": True}, unlabelled(shape=(2,)), "flips are for images"),
]


@pytest.mark.parametrize(("changes", "data", "message"), REFUSED, ids=[r[2][:40] for r in REFUSED])
def test_data_that_a_configuration_cannot_use(changes, data, message):
    config = dataclasses.replace(DIGITS, **changes) if "flips" in changes else changed(DIGITS, **changes)
    with pytest.raises(ValueError, match=message):
        TrainingState(config, data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 5}, "batch_size must be a multiple of accumulate=5, got 32"),
        ({"accumulate": 0}, "accumulate must be"),
        ({"label_dropout": 1.0}, "label_dropout must be in"),
        ({"label_dropout": 0.1}, "give model.num_classes"),
        ({"num_items": -1}, "num_items must be"),
        ({"sample_every": -1}, "sample_every must be"),
        ({"coupling": {"ot_batch": 0}}, "ot_batch must be at least 1"),
    ],
)
def test_configurations_that_make_no_sense(changes, message):
    with pytest.raises(ValueError, match=message):
        changed(DIGITS, **changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="device is 'cuda', but torch sees no GPU"):
        train(changed(TOY, device="cuda"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
