"""Fields, which have the height and width of an image: read, mirrored, streamed with their items, and told.

And files of conditions for data that have none of their own.
"""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.data import load_dataset
from loomfast.data.streamed import Streamed
from loomfast.files import read_tensors
from loomfast.models import UNetConfig, build
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'loomfast[data]'")

NUM = 40
NETWORK = UNetConfig(8, 1, 8, 1, (1,), (), num_groups=4, num_head_channels=8, field_channels=2)
TOLD = {
    "classes": np.arange(NUM) % 3,
    "vectors": np.random.default_rng(1).normal(size=(NUM, 3)).astype(np.float32),
    "fields": np.random.default_rng(2).normal(size=(NUM, 2, 8, 8)).astype(np.float32),
    "pictures": np.random.default_rng(3).integers(0, 256, (NUM, 8, 8, 3), dtype=np.uint8),
}
SHAPES = {"classes": (), "vectors": (3,), "fields": (2, 8, 8), "pictures": (3, 8, 8)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Images as an array, as two folders and as one, and files of what goes with them."""
    folder = tmp_path_factory.mktemp("fields")
    images = np.random.default_rng(0).integers(0, 256, (NUM, 8, 8), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    for i, image in enumerate(images):
        for path in (
            folder / "all" / f"{i:02}.png",
            folder / "parts" / ("val" if i >= 30 else "train") / f"{i:02}.png",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
    for name, told in TOLD.items():
        np.save(folder / f"{name}.npy", told)
        with h5py.File(folder / f"{name}.h5", "w") as file:
            file["images"], file["labels"] = images, told
    return folder


def as_told(name):
    """What a dataset has of a file."""
    told = TOLD[name]
    return (
        told if name != "pictures" else told.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(127.5) - 1
    )


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("data", ["images.npy", "all", "parts", "h5"])
def test_conditions_go_with_their_items(folder, data, stream, name):
    if data == "h5":
        dataset = load_dataset(folder / f"{name}.h5", stream=stream)
    else:
        dataset = load_dataset(folder / data, stream=stream, conditions=folder / f"{name}.npy")
    held = np.arange(NUM) >= 30 if data == "parts" else np.arange(NUM) % 10 == 9
    assert isinstance(dataset.train_labels, Streamed) == (stream and len(SHAPES[name]) == 3)
    assert dataset.train_labels.shape == ((~held).sum(), *SHAPES[name])
    rows = np.array([4, 0, 4, 11])
    np.testing.assert_array_equal(dataset.train_labels[rows], as_told(name)[~held][rows])
    np.testing.assert_array_equal(dataset.heldout_labels, as_told(name)[held])
    few = load_dataset(folder / "images.npy", stream=stream, conditions=folder / f"{name}.npy", num_items=13)
    first = {image.tobytes(): row for row, image in enumerate(load_dataset(folder / "images.npy").train)}
    chosen = [first[image.tobytes()] for image in few.train[np.arange(13)]]
    every_tenth = as_told(name)[np.arange(NUM) % 10 != 9]
    np.testing.assert_array_equal(few.train_labels[np.arange(13)], every_tenth[chosen])


def test_conditions_of_built_in_data_and_files_that_do_not_fit(folder, tmp_path):
    digits = load_dataset("digits")
    count = len(digits.train) + len(digits.heldout)
    np.save(tmp_path / "c.npy", np.arange(2.0 * count).reshape(count, 2))
    told = load_dataset("digits", conditions=tmp_path / "c.npy")
    assert (told.train_labels[0, 0], told.heldout_labels[-1, 1]) == (0, 2 * count - 1)
    wrong = {
        "must be one array with a row for each of 40": np.zeros((39, 2)),
        "labels hold values that are not finite": np.full((NUM, 2), np.nan),
        "labels must be from 0 on": np.arange(NUM) - 1,
        r"labels must be 40 integers from 0, or as many rows of floating-point": np.zeros((NUM, 2), int),
        "fields": np.zeros((NUM, 2, 8)),
    }
    for message, array in wrong.items():
        np.save(tmp_path / "w.npy", array)
        with pytest.raises(ValueError, match=message):
            load_dataset(folder / "images.npy", conditions=tmp_path / "w.npy")
    np.savez(tmp_path / "w.npz", a=1)
    with pytest.raises(ValueError, match="got several arrays"):
        load_dataset(folder / "images.npy", conditions=tmp_path / "w.npz")
    with pytest.raises(FileNotFoundError):
        load_dataset(folder / "images.npy", conditions=tmp_path / "none.npy")


def test_a_field_is_as_more_channels_of_the_input_and_of_nan_none():
    torch.manual_seed(0)
    model = build(NETWORK).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    wide = build(dataclasses.replace(NETWORK, in_channels=3, field_channels=None)).eval()
    own = {name: p for name, p in model.state_dict().items() if not name.startswith("field_in")}
    first, field = (model.state_dict()[f"{name}.weight"] for name in ("input_blocks.0.0", "field_in"))
    own["input_blocks.0.0.weight"] = torch.cat([first, field], dim=1)
    own["input_blocks.0.0.bias"] = own["input_blocks.0.0.bias"] + model.field_in.bias
    for name in ("out.2.weight", "out.2.bias"):
        own[name] = torch.cat([own[name], *[torch.zeros_like(own[name])] * 2])
    wide.load_state_dict(own)
    x, t, y = torch.randn(4, 1, 8, 8), torch.rand(4), torch.randn(4, 2, 8, 8)
    told = model(x, t, y)
    torch.testing.assert_close(told, wide(torch.cat([x, y], dim=1), t)[:, :1], rtol=1e-4, atol=1e-5)
    none = torch.full_like(y, torch.nan)
    mixed = model(x, t, torch.cat([y[:2], none[2:]]))
    torch.testing.assert_close(mixed[:2], told[:2], rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        for p in model.field_in.parameters():
            p.zero_()
    torch.testing.assert_close(mixed[2:], model(x, t, y)[2:], rtol=1e-4, atol=1e-5)
    for wrong in (torch.zeros(4, 2), torch.zeros(4, 1, 8, 8), torch.zeros(4, 2, 8, 8, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"y must have shape \(4, 2, 8, 8\), floating point"):
            model(x, t, wrong)
    with pytest.raises(ValueError, match=r"this network takes fields \(2, 8, 8\), got y=None"):
        model(x, t)
    with pytest.raises(ValueError, match="condition_dim or field_channels, not both"):
        dataclasses.replace(NETWORK, condition_dim=3)


def config(folder, **fields):
    fields = {"conditions": str(folder / "fields.npy"), "flips": True, **fields}
    return TrainConfig(
        model=NETWORK,
        data=str(folder / "images.npy"),
        coupling=CouplingConfig(num_caches=1),
        label_dropout=0.2,
        steps=3,
        batch_size=16,
        threads=1,
        device="cpu",
        **fields,
    )


@pytest.mark.parametrize("method", ["loom", "conditional", "loom-conditional"])
def test_streamed_fields_are_mirrored_with_their_items_and_train_the_same(folder, method):
    runs = []
    for stream in (False, True):
        run = config(folder, stream=stream)
        run = dataclasses.replace(run, coupling=CouplingConfig(num_caches=1, method=method))
        dataset = load_dataset(run.data, image_size=8, conditions=run.conditions, stream=stream)
        state = TrainingState(run, dataset)
        batch = state.batches.batch_at(0)
        index = batch["index"]
        assert (index >= 36).any()
        assert (index < 36).any()
        for item, field in zip(index, batch["labels"], strict=True):
            expected = TOLD["fields"][np.arange(NUM) % 10 != 9][item % 36]
            np.testing.assert_array_equal(field, expected[..., ::-1] if item >= 36 else expected)
        losses = [training_step(state)["loss"] for _ in range(3)]
        state.close()
        runs.append((losses, state.label_digest.tobytes(), read_weights(state)))
    assert runs[0][:2] == runs[1][:2]
    for one, two in zip(runs[0][2], runs[1][2], strict=True):
        assert torch.equal(one, two)


def read_weights(state):
    return [p.detach() for p in state.model.parameters()]


def test_a_run_with_fields_from_the_command_line(folder, tmp_path, capsys):
    run, straight = str(tmp_path / "run"), str(tmp_path / "straight")
    words = [
        "train",
        "digits",
        "--data",
        str(folder / "images.npy"),
        "--conditions",
        str(folder / "fields.npy"),
    ]
    words += [
        "--model.field-channels",
        "2",
        "--model.model-channels",
        "16",
        "--model.num-head-channels",
        "16",
    ]
    words += ["--label-dropout", "0.2", "--batch-size", "16", "--device", "cpu", "--threads", "1", "--flips"]
    for out, steps in ((straight, "4"), (run, "2"), (run, "4")):
        assert main([*words, "--out", out, "--steps", steps]) == 0
    one, two = (read_tensors(f"{out}/state.safetensors")[0] for out in (straight, run))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    out = str(tmp_path / "s.npz")
    sample = ["sample", run, "--num", "6", "--nfe", "2", "--out", out]
    assert main([*sample, "--guidance", "2"]) == 0
    held = TOLD["fields"][9::10]
    np.testing.assert_array_equal(np.load(out)["labels"], held[np.arange(6) % 4])
    assert main([*sample, "--conditions", str(folder / "fields.npy")]) == 0
    np.testing.assert_array_equal(np.load(out)["labels"], TOLD["fields"][:6])
    assert main(["evaluate", run, "--num", "32", "--nfe", "1"]) == 0
    assert main(["export", run, "--out", str(tmp_path / "export")]) == 0
    assert "| conditions | fields of shape (2, 8, 8) |" in (tmp_path / "export" / "README.md").read_text()
    pairs = tmp_path / "pairs"
    again = ["reflow", run, "--num", "40", "--nfe", "1", "--pairs", str(pairs), "--steps", "2"]
    assert main([*again, "--out", str(tmp_path / "reflow")]) == 0
    told = np.load(pairs / "labels.npy")
    np.testing.assert_array_equal(told, TOLD["fields"][np.arange(NUM) % 10 != 9][np.arange(40) % 36])
    capsys.readouterr()
    for line, message in (
        (
            [*sample, "--conditions", str(folder / "vectors.npy")],
            "conditions of shape (M, 2, 8, 8), got (40, 3)",
        ),
        ([*words, "--out", str(tmp_path / "x"), "--conditions", ""], "model.field_channels is 2, but"),
        (
            [*words, "--out", str(tmp_path / "x"), "--conditions", str(folder / "vectors.npy")],
            "has conditions of 3 numbers: give model.condition_dim 3 instead",
        ),
        (
            [*words, "--out", str(tmp_path / "x"), "--conditions", str(folder / "pictures.npy")],
            "has fields of shape (3, 8, 8): give model.field_channels 3 instead",
        ),
        ([*words, "--out", run, "--conditions", str(folder / "classes.npy")], "its conditions is"),
    ):
        assert main(line) == 2, message
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_fields_of_another_size_than_the_images(folder, tmp_path):
    np.save(tmp_path / "small.npy", np.zeros((NUM, 2, 4, 4), np.float32))
    run = config(folder)
    dataset = load_dataset(run.data, conditions=tmp_path / "small.npy")
    with pytest.raises(ValueError, match="they must have the height and width of the items"):
        TrainingState(run, dataset)
