"""A run does not go on with other data than it began with, whatever couples them."""

import dataclasses

import numpy as np
import pytest
import torch

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Independent, Loom, MinibatchOT
from loomfast.coupling.whole_dataset import solve_globally
from loomfast.data import load_dataset
from loomfast.models import MLPConfig, UNetConfig
from loomfast.training.loop import train

POINTS = np.random.default_rng(0).standard_normal((40, 2)).astype(np.float32)
TOY = TrainConfig(model=MLPConfig(width=8), steps=2, batch_size=12, threads=1)


@pytest.fixture(autouse=True)
def _keep_thread_count():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("method", ["loom", "independent", "minibatch-ot", "semidiscrete"])
def test_a_run_does_not_go_on_with_changed_data(method, tmp_path):
    path, init = tmp_path / "points.npy", ""
    np.save(path, POINTS)
    if method == "semidiscrete":
        dataset, init = load_dataset(path), str(tmp_path / "init.safetensors")
        coupler = Loom(len(dataset.train), (2,), num_caches=1, dataset_fingerprint=dataset.fingerprint)
        solve_globally(coupler, dataset.train)
        coupler.save(init)
    config = dataclasses.replace(TOY, data=str(path), coupling=CouplingConfig(method=method, init=init))
    train(config, tmp_path / "run")
    before = {p: p.read_bytes() for p in (tmp_path / "run").iterdir()}
    changed = POINTS.copy()
    changed[3, 1] += 1e-6
    np.save(path, changed)
    with pytest.raises(ValueError, match=r"state\.safetensors cannot be gone on from: .* dataset_fing"):
        train(dataclasses.replace(config, steps=4), tmp_path / "run")
    assert {p: p.read_bytes() for p in (tmp_path / "run").iterdir()} == before
    np.save(path, POINTS)
    assert train(dataclasses.replace(config, steps=4), tmp_path / "run") == 4


def test_a_run_does_not_go_on_with_changed_labels(tmp_path):
    images, labels = np.random.default_rng(0).standard_normal((40, 1, 4, 4)), np.arange(40) % 3
    path = tmp_path / "images.npz"
    np.savez(path, images=images, labels=labels)
    network = UNetConfig(4, 1, 8, 1, (1,), (), num_groups=4, num_head_channels=8, num_classes=3)
    config = dataclasses.replace(TOY, model=network, data=str(path))
    train(config, tmp_path / "run")
    np.savez(path, images=images, labels=np.roll(labels, 1))
    with pytest.raises(ValueError, match="belongs to other labels than those of"):
        train(dataclasses.replace(config, steps=4), tmp_path / "run")


@pytest.mark.parametrize("kind", [Independent, MinibatchOT])
def test_a_fresh_coupling_refuses_the_state_of_other_data(kind):
    state = kind(9, (2,), dataset_fingerprint="one").state_dict()
    kind(9, (2,), dataset_fingerprint="one").load_state_dict(state)
    with pytest.raises(ValueError, match="its dataset_fingerprint is 'one', here 'two'"):
        kind(9, (2,), dataset_fingerprint="two").load_state_dict(state)
