"""An export is a run to whoever samples from it, and its card says what it is."""

import errno
import json
import re
import shutil

import numpy as np
import pytest
from untrained import POINTS, images, untrained_run

from loomfast.cli import main
from loomfast.runs.directory import load_model
from loomfast.runs.export import export_run
from loomfast.sampling.generate import generate

FILES = ["README.md", "config.json", "model.safetensors"]


def evaluation(steps, frechet):
    samples = [
        {"solver": "euler", "nfe": 1, "frechet": 31.25, "transport_cost": 70.0},
        {"solver": "midpoint", "nfe": 40, "frechet": frechet, "transport_cost": 71.5},
    ]
    conditions = {"data": "/home/someone/digits.npz", "reference": "9 held-out items", "num": 50, "seed": 3}
    return json.dumps(conditions | {"steps": steps, "curvature": 0.02468, "samples": samples}) + "\n"


@pytest.fixture
def run(tmp_path):
    return untrained_run(tmp_path / "run", images(), step=7, data="/home/someone/digits.npz")


def test_an_export_is_taken_as_a_run(run, tmp_path, capsys):
    out = tmp_path / "given"
    assert main(["export", str(run), "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert load_model(out)[0] == load_model(run)[0]
    for directory in (run, out):
        words = ["--device", "cpu", "--num", "3", "--nfe", "2", "--out", f"{tmp_path}/{directory.name}.npz"]
        assert main(["sample", str(directory), *words]) == 0
    first, second = (np.load(tmp_path / f"{name}.npz")["samples"] for name in ("run", "given"))
    np.testing.assert_array_equal(first, second)


def test_the_card_says_what_was_trained(run, tmp_path):
    card = (export_run(run, tmp_path / "given") / "README.md").read_text()
    _, model = load_model(run)
    parameters = sum(p.numel() for p in model.parameters())
    for words in (
        "digits.npz, items of shape (1, 8, 8)",
        "none, unconditional",
        f"UNet, {parameters:,} parameters",
        "loom, 4 noises an item, sqeuclidean cost",
        "7 steps of 128, seed 0",
        "| licence | not stated |",
    ):
        assert words in card
    assert "/home" not in card  # of whoever trained it
    assert "Measured" not in card


def test_a_name_with_markdown_in_it_is_shown_as_it_is(tmp_path):
    run = untrained_run(tmp_path / "run", images(), step=7, data="/home/some*one/a|b_[c]`d.npz")
    card = (export_run(run, tmp_path / "given") / "README.md").read_text()
    assert "\n# a\\|b\\_\\[c\\]\\`d.npz, flow matching" in card
    assert "| data | a\\|b\\_\\[c\\]\\`d.npz, items of shape" in card


def test_numbers_stand_beside_how_they_were_measured(run, tmp_path):
    log = evaluation(5, 1.0) + evaluation(7, 9.9) + evaluation(7, 2.6984) + '{"cut short'
    (run / "metrics.jsonl").write_text(log)
    card = (export_run(run, tmp_path / "given") / "README.md").read_text()
    assert "50 samples against 9 held-out items of digits.npz:" in card
    rows = re.findall(r"^\| (euler|midpoint) .*$", card, re.MULTILINE)
    assert rows == ["euler", "midpoint"]  # of the weights' step, and the last of equal conditions
    assert "| solver | evaluations | seed | frechet | transport cost |" in card
    assert "| euler | 1 | 3 | 31.25 | 70 |" in card
    assert "| midpoint | 40 | 3 | 2.698 | 71.5 |" in card
    assert "Curvature, 1000 paths of 20 Euler steps, seed 3: 0.02468." in card


@pytest.mark.parametrize("model", [POINTS, images(num_classes=3), images(4)], ids=["points", "classes", "4"])
def test_what_the_card_tells_to_run_runs(model, tmp_path, monkeypatch):
    run = untrained_run(tmp_path / "run", model)
    monkeypatch.chdir(export_run(run, tmp_path / "given"))
    card = (tmp_path / "given" / "README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code, names)
    _, network = load_model(run)
    y = None if model.num_classes is None else [k % 3 for k in range(64)]
    expected = generate(network, 64, names["samples"].shape[1:], seed=0, nfe=8, y=y)
    np.testing.assert_array_equal(names["samples"], expected)
    (command,) = re.findall(r"`loomfast (sample .*?)`", card)
    assert main([*command.split(), "--num", "2", "--device", "cpu"]) == 0
    assert (tmp_path / "given" / command.split()[-1]).is_file()


def test_what_cannot_be_exported(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    cases = [
        (["absent", "--out", "new"], "absent is not a run directory"),
        (["run"], "--out"),
        (["run", "--out", "full"], "full is not empty: choose another directory"),
        (["run", "--out", "full/file"], "is a file, not a directory"),
        (["run", "--out", "absent/new"], "cannot write 'absent/new'|cannot write '.*/absent/new'"),
    ]
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for words, message in cases:
        try:
            code = main(["export", *words])
        except SystemExit as stop:
            code = stop.code
        assert code == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert re.search(message, line), line
        assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    def full(source, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    assert main(["export", str(run), "--out", f"{tmp_path}/given"]) == 2
    error = f"loomfast: error: [Errno 28] No space left on device: '{tmp_path}/given'"
    assert capsys.readouterr().err.strip() == error
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
