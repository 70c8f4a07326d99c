"""What samples are measured by: Inception by a stand-in, or itself where it is, and every number."""

import pickle
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from untrained import POINTS, images, untrained_run

from loomfast import metrics
from loomfast.cli import main
from loomfast.cli.evaluate import FEATURES as FLAGS
from loomfast.data import load_dataset
from loomfast.files import read_json
from loomfast.metrics.inception import WEIGHTS, inception_features, inception_weights
from loomfast.plots import as_pixels
from loomfast.runs.quality import DETAILS, FEATURES, Reference, choose_features

MODULE = "torch_fidelity.feature_extractor_inceptionv3"


class StandIn(torch.nn.Module):
    """In the place of torch-fidelity's network: the means of the quarters of each channel, and a weight."""

    def __init__(self, name, features_list, feature_extractor_weights_path):
        super().__init__()
        assert (name, features_list) == ("inception-v3-compat", ["2048"])
        self.weight = torch.load(feature_extractor_weights_path, weights_only=True)["weight"]

    def forward(self, x):
        assert x.dtype == torch.uint8
        means = torch.nn.functional.adaptive_avg_pool2d(x.float(), 2)
        return (means.flatten(1) + self.weight,)


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """torch-fidelity's stand-in, and the weights where torch.hub keeps them; returns their path."""
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, MODULE, SimpleNamespace(FeatureExtractorInceptionV3=StandIn))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    path = inception_weights()
    path.parent.mkdir(parents=True)
    torch.save({"weight": torch.tensor(3.0)}, path)
    return path


def test_features_of_the_stand_in(weights):
    pictures = np.random.default_rng(0).integers(256, size=(5, 8, 8, 3), dtype=np.uint8)
    found = inception_features(pictures, batch_size=2)
    quarters = pictures.reshape(5, 2, 4, 2, 4, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(5, 12)
    np.testing.assert_allclose(found, quarters + 3, rtol=1e-6)
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, H, W, 3\), got float64"):
        inception_features(pictures / 255)


def test_weights_that_cannot_be_used(weights, tmp_path):
    pictures = np.zeros((1, 8, 8, 3), np.uint8)
    with pytest.raises(FileNotFoundError, match=f"https://.*{WEIGHTS}"):
        inception_features(pictures, tmp_path / "nowhere.pth")

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    (tmp_path / "trap.pth").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ValueError, match=r"trap.pth holds other things than weights"):
        inception_features(pictures, tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


def test_without_the_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ImportError, match=r"pip install 'loomfast\[fid\]'"):
        inception_features(np.zeros((1, 8, 8, 3), np.uint8), tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    assert choose_features(load_dataset("patches32", num_items=8)).name == "data"


def test_which_features_are_chosen(weights):
    digits, patches = load_dataset("digits"), load_dataset("patches32", num_items=8)
    assert choose_features(digits).name == "digits"
    assert choose_features(patches).name == "inception"
    assert choose_features(digits, "inception").name == "inception"
    assert choose_features(load_dataset("moons", num_items=8)).name == "data"
    weights.unlink()
    assert choose_features(patches).name == "data"
    for dataset, name, message in (
        (patches, "digits", r"of images \(1, 8, 8\), the data have \(3, 32, 32\)"),
        (load_dataset("moons", num_items=8), "inception", "of images of 1 or 3 channels"),
        (digits, "pixels", "features must be one of auto, digits"),
    ):
        with pytest.raises(ValueError, match=message):
            choose_features(dataset, name)
    assert FLAGS == FEATURES


def test_every_number_is_that_of_its_function(weights):
    digits = load_dataset("digits")
    reference = Reference(digits, choose_features(digits, "inception"))
    samples = digits.train[:300] + 0.1
    found = reference.quality(torch.from_numpy(samples))
    made, real = (inception_features(as_pixels(items)) for items in (samples, digits.heldout))
    assert found["frechet"] == metrics.frechet_distance(made, real) == reference.frechet(samples)
    assert found["frechet_at_infinity"] == metrics.frechet_at_infinity(made, real)
    assert {name: found[name] for name in ("precision", "recall", "density", "coverage")} == (
        metrics.neighbour_scores(real, made)
    )
    assert found["exact_w2"] == metrics.exact_w2(samples, digits.heldout[:300])
    assert found["w2_items"] == 300
    assert found["frechet_low"] < found["frechet"] < found["frechet_high"]
    half = (found["frechet_high"] - found["frechet_low"]) / 2
    assert half == pytest.approx(1.96 * found["frechet_standard_error"], rel=0.25)
    assert set(DETAILS) < set(found)
    assert reference.about == {
        "reference": "355 held-out items",
        "reference_items": 355,
        "split": "held-out",
        "features": "2048 features of torch-fidelity's Inception v3",
        "resize": "to 299 x 299 by the network, bilinear as in TensorFlow 1",
        "resamples": 200,
    }
    assert "of 300 samples is too large beside published ones" in reference.notes(300)[0]
    assert reference.notes(10_000) == []


def test_an_interval_is_what_other_noise_would_give():
    """Of 60 sets of samples, about 57 have the mean of all of them in their interval."""
    rng = np.random.default_rng(2)
    reference = metrics.FrechetReference(rng.normal(size=(5000, 4)))
    sets = rng.normal(0.2, 1, size=(60, 200, 4))
    mean = np.mean([reference.distance(one) for one in sets])
    intervals = [metrics.bootstrap_interval(reference.distance, one, resamples=80) for one in sets]
    held = sum(i.low <= mean <= i.high for i in intervals)
    assert held >= 50  # 57 if all were normal, with a standard deviation of 1.7


def test_the_command_says_how_it_measured(weights, tmp_path, capsys):
    run = untrained_run(tmp_path / "run", images(), data="digits")
    words = ["evaluate", str(run), "--num", "32", "--nfe", "1", "--json", str(tmp_path / "found.json")]
    assert main([*words, "--features", "inception", "--weights", str(weights)]) == 0
    said, found = capsys.readouterr(), read_json(tmp_path / "found.json")
    assert "by 2048 features of torch-fidelity's Inception v3" in said.out
    assert f"note: {found['notes'][0]}" in said.err
    entry = found["samples"][0]
    assert (found["resize"], found["seed"], entry["solver"], entry["nfe"]) == (
        "to 299 x 299 by the network, bilinear as in TensorFlow 1", 0, "euler", 1,
    )  # fmt: skip
    assert np.isfinite([entry["frechet"], entry["frechet_at_infinity"]]).all()
    assert main([*words, "--features", "inception", "--weights", "nowhere"]) == 2
    assert "nowhere is not there: the weights of Inception are at https" in capsys.readouterr().err


def test_points_are_measured_as_they_are(tmp_path, capsys):
    run = untrained_run(tmp_path / "run", POINTS, data="moons", num_items=64)
    words = ["evaluate", str(run), "--num", "32", "--nfe", "1,2", "--json", str(tmp_path / "found.json")]
    assert main(words) == 0
    found = read_json(tmp_path / "found.json")
    assert (found["features"], found["split"], found["notes"]) == ("the data themselves", "held-out", [])
    assert found["straightness"] > 0
    assert set(found["samples"][0]) == {
        "solver", "nfe", "precision", "recall", "density", "coverage", "exact_w2", "w2_items",
        "transport_cost",
    }  # fmt: skip
    assert "by the data themselves" in capsys.readouterr().out


def test_inception_itself(tmp_path):
    """With random weights: the architecture, and that images come as the network wants them."""
    module = pytest.importorskip(MODULE)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: None)
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("random", ["2048"])
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    pictures = np.random.default_rng(0).integers(256, size=(3, 32, 32, 3), dtype=np.uint8)
    found = inception_features(pictures, tmp_path / "weights.pth", batch_size=2)
    with torch.no_grad():
        expected = network(torch.from_numpy(pictures.transpose(0, 3, 1, 2).copy()))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)
    assert found.shape == (3, 2048)
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match="holds weights of another network"):
        inception_features(pictures, tmp_path / "weights.pth")
