"""Networks that are told a vector of numbers of every item: trained, resumed, guided, sampled, measured."""

import json

import numpy as np
import pytest
import torch
from untrained import images, untrained_run

from loomfast.cli import main
from loomfast.config import TrainConfig, config_from_dict, config_to_dict
from loomfast.data import load_dataset, make_dataset
from loomfast.files import read_tensors
from loomfast.flow import drop_labels
from loomfast.models import MLPConfig, UNetConfig, build
from loomfast.training.state import TrainingState

NUM = 64
UNET = {"num_groups": 4, "num_head_channels": 8}
NETWORKS = [
    MLPConfig(width=16, depth=2, condition_dim=3),
    UNetConfig(8, 1, 8, 1, (1,), (), condition_dim=3, **UNET),
]


@pytest.fixture
def points(tmp_path):
    """A file of points in the plane, and the conditions that they are at, three numbers each."""
    rng = np.random.default_rng(0)
    conditions = rng.normal(size=(NUM + 10, 3)).astype(np.float32)
    items = conditions[:, :2] + 0.1 * rng.normal(size=(NUM + 10, 2)).astype(np.float32)
    parts = {"train": items[:NUM], "heldout": items[NUM:]}
    np.savez(tmp_path / "p.npz", train_labels=conditions[:NUM], heldout_labels=conditions[NUM:], **parts)
    return tmp_path / "p.npz"


def words(points, out, *more):
    """A short run from the command line on them, checkpointed now and then."""
    common = ["train", "moons", "--data", str(points), "--out", str(out), "--device", "cpu", "--threads", "1"]
    common += ["--batch-size", "16", "--model.width", "16", "--model.condition-dim", "3"]
    return [*common, "--label-dropout", "0.2", *more]


@pytest.mark.parametrize("config", NETWORKS)
def test_a_condition_of_nan_is_none_and_adds_nothing(config):
    torch.manual_seed(0)
    model = build(config).eval()
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.1)
    x = torch.randn(4, *((2,) if isinstance(config, MLPConfig) else (1, 8, 8)))
    t, y = torch.rand(4), torch.randn(4, 3)
    none = torch.full_like(y, torch.nan)
    told, untold = model(x, t, y), model(x, t, none)
    assert (told - untold).abs().amax(dim=tuple(range(1, x.ndim))).min() > 1e-4
    mixed = model(x, t, torch.cat([y[:2], none[2:]]))
    torch.testing.assert_close(mixed, torch.cat([told[:2], untold[2:]]), rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        for p in model.label_emb.parameters():
            p.zero_()
    torch.testing.assert_close(model(x, t, y), untold, rtol=1e-5, atol=1e-6)
    untold.square().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("y", [torch.zeros(4, 2), torch.zeros(3, 3), torch.zeros(4, dtype=torch.int64), None])
def test_conditions_of_another_size_are_refused(y):
    with pytest.raises(ValueError, match=r"y must have shape \(4, 3\)|takes 3 numbers, got y=None"):
        build(NETWORKS[0])(torch.zeros(4, 2), torch.zeros(4), y)


def test_dropped_conditions_are_rows_of_nan_by_the_item():
    y, index = torch.randn(1000, 3), np.arange(1000)
    dropped = drop_labels(y, index, seed=1, step=2, probability=0.3)
    gone = torch.isnan(dropped)
    np.testing.assert_array_equal(gone.any(1), gone.all(1))
    labels = drop_labels(torch.ones(1000, dtype=torch.int64), index, seed=1, step=2, probability=0.3)
    np.testing.assert_array_equal(gone.all(1), labels < 0)
    assert torch.equal(dropped[~gone.all(1)], y[~gone.all(1)])


def test_configurations_keep_it_and_old_ones_do_without_it():
    config = TrainConfig(model=NETWORKS[0])
    values = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(values) == config
    del values["model"]["condition_dim"]
    assert config_from_dict(values).model.condition_dim is None
    for wrong in ({"condition_dim": 0}, {"condition_dim": 3, "num_classes": 2}):
        with pytest.raises(ValueError, match=r"condition_dim must be positive|not both"):
            MLPConfig(**wrong)


@pytest.mark.parametrize(
    ("model", "labels", "message"),
    [
        (MLPConfig(condition_dim=3), None, "condition_dim is 3, but mine has no labels"),
        (MLPConfig(condition_dim=3), np.zeros((NUM, 2), "f4"), "has conditions of 2 numbers"),
        (MLPConfig(condition_dim=3), np.zeros(NUM, int), "has classes: give model.num_classes"),
        (MLPConfig(num_classes=3), np.zeros((NUM, 2), "f4"), "give model.condition_dim 2 instead"),
    ],
)
def test_data_without_the_conditions_that_a_network_takes(model, labels, message):
    data = make_dataset("mine", np.zeros((NUM, 2)), np.zeros((2, 2)), labels)
    with pytest.raises(ValueError, match=message):
        TrainingState(TrainConfig(model=model, batch_size=16), data)


def test_conditions_in_a_file_that_are_none(tmp_path):
    for labels in (np.full((20, 2), np.nan), np.zeros((19, 2)), np.zeros((20, 2), int), np.zeros((20, 0))):
        np.savez(tmp_path / "p.npz", images=np.zeros((20, 2), "f4"), labels=labels)
        with pytest.raises(ValueError, match=r"labels hold values that are not finite|labels must be 20 int"):
            load_dataset(str(tmp_path / "p.npz"))


def test_a_coupling_that_takes_classes_alone_says_which_takes_more(points, tmp_path, capsys):
    more = ["--steps", "1", "--coupling.label-weight", "1"]
    assert main(words(points, tmp_path / "run", *more)) == 2
    assert "are for ConditionalLoom, method loom-conditional" in capsys.readouterr().err
    semidiscrete = ["--steps", "1", "--coupling.method", "semidiscrete", "--coupling.by-class"]
    assert main(words(points, tmp_path / "other", *semidiscrete)) == 2
    assert "labels must be 64 integers of 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("method", ["loom", "loom-conditional", "conditional"])
def test_a_run_with_conditions_goes_on_bit_for_bit_is_sampled_and_measured(points, tmp_path, method, capsys):
    run, straight = tmp_path / "run", tmp_path / "straight"
    assert main(words(points, straight, "--steps", "6", "--coupling.method", method)) == 0
    for steps in ("3", "6"):
        assert main(words(points, run, "--steps", steps, "--coupling.method", method)) == 0
    one, two = (read_tensors(folder / "state.safetensors")[0] for folder in (straight, run))
    assert one.keys() == two.keys()
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert "label_emb.weight" in read_tensors(run / "model.safetensors")[0]
    if method != "loom":
        return
    out = str(tmp_path / "s.npz")
    common = ["sample", str(run), "--num", "12", "--nfe", "2", "--out", out]
    assert main(common) == 0
    held = load_dataset(str(points)).heldout_labels
    np.testing.assert_array_equal(np.load(out)["labels"], held[np.arange(12) % len(held)])
    np.save(tmp_path / "c.npy", np.ones((2, 3)))
    assert main([*common, "--conditions", str(tmp_path / "c.npy"), "--guidance", "2"]) == 0
    np.testing.assert_array_equal(np.load(out)["labels"], np.ones((12, 3)))
    assert main(["evaluate", str(run), "--num", "32", "--nfe", "1"]) == 0
    assert main(["export", str(run), "--out", str(tmp_path / "export")]) == 0
    assert "3 numbers an item" in (tmp_path / "export" / "README.md").read_text()
    np.save(tmp_path / "c.npy", np.ones((2, 4)))
    capsys.readouterr()
    for more, message in (
        (["--conditions", str(tmp_path / "c.npy")], "must hold conditions of shape (M, 3), got (2, 4)"),
        (["--label", "1"], "this network takes conditions, not classes"),
    ):
        assert main([*common, *more]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_networks_without_conditions_refuse_them(tmp_path, capsys):
    np.save(tmp_path / "c.npy", np.ones((2, 3)))
    run = untrained_run(tmp_path / "run", images(num_classes=3))
    assert main(["sample", str(run), "--conditions", str(tmp_path / "c.npy")]) == 2
    assert "trained without conditions: leave --conditions out" in capsys.readouterr().err
