"""Reflow: pairs of noise ids and samples, made in pieces and by several processes; training on them."""

import dataclasses
import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from untrained import POINTS, images, untrained_run

from loomfast.cli import main
from loomfast.config import CouplingConfig
from loomfast.data import load_dataset
from loomfast.files import read_json, read_tensors
from loomfast.noise import NoiseDomain, noise_from_ids
from loomfast.runs.directory import load_config, load_model
from loomfast.runs.pairs import PairsRequest, make_pairs
from loomfast.sampling.generate import generate
from loomfast.training.state import TrainingState

TINY = images(num_classes=10)


def contents(folder):
    found = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    if "pairs.safetensors" in found:  # which has its metadata in any order
        tensors, metadata = read_tensors(folder / "pairs.safetensors")
        found["pairs.safetensors"] = (tensors["pairs"].tobytes(), metadata)
    return found


def test_pairs_are_the_noise_and_what_the_run_makes_of_it(tmp_path):
    run = untrained_run(tmp_path / "run", TINY, data="digits")
    made = make_pairs(PairsRequest(str(run), str(tmp_path / "pairs"), num=70, nfe=2, seed=3, device="cpu"))
    assert made == 70
    assert set(contents(tmp_path / "pairs")) == {
        "pairs.json",
        "images.npy",
        "labels.npy",
        "pairs.safetensors",
    }
    stored, about = read_tensors(tmp_path / "pairs" / "pairs.safetensors")
    np.testing.assert_array_equal(stored["pairs"], np.arange(70))
    assert (about["seed"], about["domain"]) == ("3", str(int(NoiseDomain.PAIRS)))
    _, model = load_model(run)
    options = {"seed": 3, "nfe": 2, "y": torch.arange(70) % 10}
    samples = generate(model, 70, (1, 8, 8), domain=NoiseDomain.PAIRS, **options)
    found = np.load(tmp_path / "pairs" / "images.npy")
    np.testing.assert_array_equal(found, samples.numpy())
    assert not np.array_equal(found, generate(model, 70, (1, 8, 8), **options))  # other noise than samples'

    dataset, digits = load_dataset(str(tmp_path / "pairs")), load_dataset("digits")
    assert dataset.name == "digits"
    np.testing.assert_array_equal(dataset.train, found)
    np.testing.assert_array_equal(dataset.heldout, digits.heldout)
    np.testing.assert_array_equal(dataset.train_labels, np.arange(70) % 10)
    streamed = load_dataset(str(tmp_path / "pairs"), stream=True)
    np.testing.assert_array_equal(streamed.train[np.array([5, 69])], found[[5, 69]])
    assert streamed.fingerprint == dataset.fingerprint == about["dataset_fingerprint"]


def stopping_after(num):
    """Progress that ends the work like Ctrl-C does, once so many are made."""

    @contextmanager
    def progress(total, title):
        def update(done):
            if done >= num:
                raise KeyboardInterrupt

        yield update

    return progress


def test_pairs_that_were_interrupted_are_made_to_the_end(tmp_path):
    run = untrained_run(tmp_path / "run", POINTS, data="moons")
    request = PairsRequest(str(run), str(tmp_path / "straight"), num=200, nfe=2, device="cpu")
    make_pairs(request)
    parts = dataclasses.replace(request, out=str(tmp_path / "parts"))
    with pytest.raises(KeyboardInterrupt):
        make_pairs(parts, progress=stopping_after(64))
    with pytest.raises(ValueError, match="not all made yet"):
        load_dataset(parts.out)
    marks = tmp_path / "parts" / "made"
    assert list(marks.read_bytes()) == [1, 1, 0, 0, 0, 0, 0]
    with open(tmp_path / "parts" / "images.npy.partial", "r+b") as file:  # what is not marked is made again
        file.seek(-8 * 100, os.SEEK_END)
        file.write(b"\xff" * 80)
    with pytest.raises(KeyboardInterrupt):
        make_pairs(parts, progress=stopping_after(32))
    assert sum(marks.read_bytes()) == 3
    make_pairs(parts)
    assert contents(tmp_path / "parts") == contents(tmp_path / "straight")
    (tmp_path / "parts" / "pairs.safetensors").unlink()  # as if killed while it finished
    make_pairs(parts)
    assert contents(tmp_path / "parts") == contents(tmp_path / "straight")


def test_pairs_of_another_request_are_refused(tmp_path):
    run = untrained_run(tmp_path / "run", POINTS, data="moons")
    request = PairsRequest(str(run), str(tmp_path / "pairs"), num=40, nfe=1, device="cpu")
    make_pairs(request)
    before = contents(tmp_path / "pairs")
    with pytest.raises(ValueError, match="their num is 40, here 41"):
        make_pairs(dataclasses.replace(request, num=41))
    untrained_run(tmp_path / "other", dataclasses.replace(POINTS, width=8), data="moons")
    with pytest.raises(ValueError, match="their weights is"):
        make_pairs(dataclasses.replace(request, run=str(tmp_path / "other")))
    with pytest.raises(ValueError, match="is not empty and holds no pairs"):
        make_pairs(dataclasses.replace(request, out=str(run)))
    source = CouplingConfig(method="independent", source="ends.npy")
    untrained_run(tmp_path / "source", POINTS, data="moons", coupling=source)
    with pytest.raises(ValueError, match="begins at data, not at noise"):
        make_pairs(dataclasses.replace(request, run=str(tmp_path / "source"), out=str(tmp_path / "new")))
    assert contents(tmp_path / "pairs") == before


def test_the_command_on_digits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    untrained_run(tmp_path / "tiny", images(), data="digits", batch_size=32)
    words = ["reflow", "tiny", "--num", "96", "--nfe", "2", "--steps", "2"]
    assert main(words) == 0
    config = load_config("runs/tiny-reflow")
    assert (config.coupling.method, config.init, config.objective) == ("paired", "tiny", "velocity")
    state = TrainingState(config, load_dataset(config.data))
    batch, _ = state.batches.take(0)
    state.close()
    index = batch["index"]
    np.testing.assert_array_equal(batch["x"], np.load("runs/tiny-pairs/images.npy")[index])
    np.testing.assert_array_equal(
        batch["noise"], noise_from_ids(index, (1, 8, 8), seed=0, domain=NoiseDomain.PAIRS)
    )
    assert main([*words[:-1], "3"]) == 0
    assert main(["evaluate", "runs/tiny-reflow", "--nfe", "1", "--num", "32", "--json", "found.json"]) == 0
    found = read_json(tmp_path / "found.json")
    assert (found["samples"][0]["solver"], found["samples"][0]["nfe"]) == ("euler", 1)
    assert (found["data"], found["reference"]) == ("digits", "355 held-out items")
    capsys.readouterr()
    for wrong, message in (
        (["reflow"], "name a RUN first"),
        (["reflow", "nowhere"], "nowhere is not a run directory"),
        (["reflow", "tiny", "--num", "0"], "--num: must be at least 1"),
        (["reflow", "tiny", "--num", "97", "--nfe", "2"], "their num is 96, here 97"),
        (["reflow", "tiny", "--foo"], "Unrecognized options: --foo"),
        (["reflow", "tiny", "--pairs-only", "--steps", "2"], "leave --steps 2 out"),
        (["reflow", "tiny", "--solver", "map", "--pairs", "p"], "solver map is for flow maps"),
    ):
        assert main(wrong) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_two_processes_make_the_pairs_of_one_and_train_on_them(tmp_path):
    untrained_run(tmp_path / "run", POINTS, data="moons", batch_size=32)
    words = ["reflow", "run", "--num", "150", "--nfe", "2"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "--", "loomfast", *words, "--steps", "3", "--pairs", "two", "--out", "trained"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    request = PairsRequest(str(tmp_path / "run"), str(tmp_path / "one"), num=150, nfe=2, device="cpu")
    make_pairs(request)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "trained" / "model.safetensors").is_file()
