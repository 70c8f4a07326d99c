"""Items that are read by the batch are those that are read at once, and train the same network."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.data import load_dataset
from loomfast.data.streamed import Streamed
from loomfast.models import MLPConfig
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install 'loomfast[data]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    np.save(folder / "points.npy", rng.normal(size=(70, 2)).astype(np.float64))
    images = rng.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    with h5py.File(folder / "latents.h5", "w") as file:
        file["latents"], file["labels"] = rng.normal(size=(40, 4, 2, 2)), np.arange(40) % 3
        file.attrs["scale_factor"] = 0.5
    with h5py.File(folder / "split.hdf5", "w") as file:
        file["train"], file["heldout"] = images[:40], images[40:]
        file["train_labels"] = np.arange(40) % 2
    for i, image in enumerate(images[:24]):
        (folder / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "pictures" / "ab"[i % 2] / f"{i:02}.png")
    return folder


@pytest.mark.parametrize("name", ["points.npy", "images.npy", "latents.h5", "split.hdf5", "pictures"])
@pytest.mark.parametrize("num_items", [None, 13])
def test_items_are_those_that_are_read_at_once(folder, name, num_items):
    whole = load_dataset(folder / name, num_items=num_items)
    streamed = load_dataset(folder / name, num_items=num_items, stream=True)
    assert isinstance(streamed.train, Streamed)
    assert streamed.train.shape == whole.train.shape
    rows = np.array([5, 0, 5, 12])
    np.testing.assert_array_equal(streamed.train[rows], whole.train[rows])
    np.testing.assert_array_equal(streamed.heldout, whole.heldout)
    for kind in ("train_labels", "heldout_labels"):
        one, two = (getattr(dataset, kind) for dataset in (whole, streamed))
        assert (one is None) == (two is None)
        if one is not None:
            np.testing.assert_array_equal(one, two)
    assert (streamed.fingerprint == whole.fingerprint) == (name != "pictures")  # there, of the files


def test_training_is_the_same(folder):
    config = TrainConfig(
        model=MLPConfig(dim=2, width=8), data=str(folder / "points.npy"), steps=4, batch_size=16,
        threads=1, device="cpu", coupling=CouplingConfig(num_caches=2),
    )  # fmt: skip
    losses = []
    for stream in (False, True):
        state = TrainingState(
            dataclasses.replace(config, stream=stream), load_dataset(config.data, stream=stream)
        )
        losses.append([training_step(state)["loss"] for _ in range(4)])
        state.close()
    assert losses[0] == losses[1]


def test_what_cannot_be_streamed_says_so(folder, tmp_path):
    with pytest.raises(ValueError, match="stream is for data in files"):
        load_dataset("moons", stream=True)
    np.savez(tmp_path / "a.npz", data=np.zeros((20, 2)))
    with pytest.raises(ValueError, match=r"read by the batch are \.npy"):
        load_dataset(tmp_path / "a.npz", stream=True)
    np.save(tmp_path / "bad.npy", np.full((20, 2), np.nan))
    with pytest.raises(ValueError, match="not finite"):
        load_dataset(tmp_path / "bad.npy", stream=True)
    config = TrainConfig(
        model=MLPConfig(dim=2, width=8), data=str(folder / "points.npy"), steps=1, batch_size=8,
        stream=True, device="cpu", coupling=CouplingConfig(method="semidiscrete"),
    )  # fmt: skip
    with pytest.raises(ValueError, match="cannot be streamed"):
        TrainingState(config, load_dataset(config.data, stream=True))
