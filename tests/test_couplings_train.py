"""Every coupling trains, resumes bit for bit, and gives one process and two the same pairs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import couplings_run
import numpy as np
import pytest

from loomfast.cli import main
from loomfast.coupling import COUPLINGS
from loomfast.files import read_tensors
from loomfast.runs import pictures
from loomfast.runs.directory import read_log

pytest.importorskip("ot", reason="POT is not installed: pip install 'loomfast[ot]'")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which one process has trained with each coupling, and two have as one."""
    folder = tmp_path_factory.mktemp("couplings")
    couplings_run.write_data(folder)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    process = subprocess.Popen(
        [*command, str(Path(__file__).with_name("couplings_run.py")), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    for name, settings in couplings_run.runs(folder).items():
        log = couplings_run.run(settings, folder / f"one-{name}")
        (folder / f"one-{name}.json").write_text(json.dumps([list(part) for part in zip(*log, strict=True)]))
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return folder


@pytest.mark.parametrize("method", [*COUPLINGS, "conditions", "score"])
def test_a_run_that_is_gone_on_with_is_the_run_that_was_not_stopped(folder, method, tmp_path):
    config = couplings_run.runs(folder)[method]
    couplings_run.run(config, tmp_path, upto=3)  # within an OT batch
    couplings_run.run(config, tmp_path)
    for name in ("state.safetensors", "model.safetensors"):
        assert (tmp_path / name).read_bytes() == (folder / f"one-{method}" / name).read_bytes()


@pytest.mark.parametrize("method", [*COUPLINGS, "conditions", "score"])
def test_one_process_and_two_have_the_same_pairs(folder, method):
    """A loss is of the pairs, and of nothing else that differs; 1e-5: it is summed in another order."""
    one, two = (json.loads((folder / f"{count}-{method}.json").read_text()) for count in ("one", "two"))
    assert len(one[0]) == couplings_run.STEPS
    np.testing.assert_allclose(two, one, rtol=1e-5)
    states = [read_tensors(folder / f"{count}-{method}" / "state.safetensors")[0] for count in ("one", "two")]
    for name, value in states[0].items():
        if name.startswith("coupling."):
            np.testing.assert_allclose(states[1][name], value, rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refused", "ValueError: groups must divide the batch of 12 items, got groups=8"),
        (
            "unlike",
            "ValueError: all processes must be started alike, but batch_size is 16 in process 0 and 8",
        ),
        ("others", "OSError: process 1: this state belongs to another coupling: its dataset_fingerprint"),
        ("told", "ValueError: all processes must be started alike, but the labels' fingerprint is"),
        ("few", "OSError: process 1: conditions="),
    ],
)
def test_what_one_process_refuses_all_do(folder, name, message):
    assert (folder / f"{name}-0.txt").read_text().startswith(message)
    assert (folder / f"{name}-1.txt").read_text().startswith("FailedElsewhere")
    assert not (folder / name).exists()


@pytest.mark.parametrize("method", COUPLINGS)
def test_digits_train_by_name(method, tmp_path, monkeypatch):
    monkeypatch.setattr(
        pictures, "picture_run", lambda *_: []
    )  # what takes most of the time is tested elsewhere
    words = ["train", "digits", "--coupling.method", method, "--out", str(tmp_path / "run")]
    words += ["--steps", "1", "--num-items", "32", "--batch-size", "16", "--device", "cpu"]
    words += ["--model.model-channels", "16", "--model.num-head-channels", "16"]
    if method == "paired":
        np.save(tmp_path / "ends.npy", np.zeros((32, 1, 8, 8), np.float32))
        words += ["--coupling.pairs", str(tmp_path / "ends.npy")]
    assert main(words) == 0
    assert len(read_log(tmp_path / "run" / "log.jsonl")) == 1


def test_help_lists_every_coupling_with_its_paper(capsys):
    assert main(["train", "digits", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, kind in COUPLINGS.items():
        assert f"{name}: {kind.summary}" in text


def test_what_does_not_fit_a_coupling_is_said_in_one_line(tmp_path, capsys):
    np.save(tmp_path / "ends.npy", np.zeros((32, 2), np.float32))
    common = ["train", "digits", "--num-items", "32", "--batch-size", "16", "--out", str(tmp_path / "run")]
    cases = {
        "coupling.method is conditional, but moons has no labels": [
            *("train", "moons", "--coupling.method", "conditional", "--out", str(tmp_path / "run"))
        ],
        "needs coupling.pairs": [*common, "--coupling.method", "paired"],
        "pairs must have shape": [
            *(*common, "--coupling.method", "paired", "--coupling.pairs", str(tmp_path / "ends.npy"))
        ],
        "source must hold items of shape": [
            *(*common, "--coupling.method", "stable", "--coupling.source", str(tmp_path / "ends.npy"))
        ],
        "coupling.source is for methods": [*common, "--coupling.source", str(tmp_path / "ends.npy")],
        "groups must divide the batch of 16": [
            *(*common, "--coupling.method", "hierarchical", "--coupling.groups", "3")
        ],
    }
    for message, words in cases.items():
        assert main(words) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1


def test_a_flow_between_two_datasets_trains_samples_and_is_measured(tmp_path, capsys):
    np.save(tmp_path / "ends.npy", np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32) + 4)
    run = str(tmp_path / "run")
    words = ["train", "moons", "--num-items", "64", "--batch-size", "32", "--steps", "2", "--device", "cpu"]
    words += ["--coupling.method", "minibatch-ot", "--coupling.source", str(tmp_path / "ends.npy")]
    assert main([*words, "--path", "bridge", "--sigma", "0.1", "--out", run]) == 0
    for more in ([], ["--source", str(tmp_path / "ends.npy")]):
        out = str(tmp_path / "samples.npz")
        assert main(["sample", run, "--num", "60", "--nfe", "1", "--trajectory", "--out", out, *more]) == 0
        begin = np.load(out)["trajectory"][0]
        np.testing.assert_array_equal(begin, np.load(tmp_path / "ends.npy")[np.arange(60) % 50])
    assert main(["evaluate", run, "--num", "32", "--nfe", "1"]) == 0
    assert "curvature" in capsys.readouterr().out
