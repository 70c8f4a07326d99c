"""``loomfast sample``: what it writes, for which flags; one line and nothing written when it cannot."""

import errno
import re

import numpy as np
import pytest
import torch
from PIL import Image
from untrained import POINTS, images, untrained_run

from loomfast.cli import main
from loomfast.plots import as_pixels
from loomfast.runs.directory import load_model
from loomfast.sampling.generate import generate

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Unconditional, 8x8 images."""
    return untrained_run(tmp_path_factory.mktemp("runs") / "images", images())


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Conditional, three classes."""
    return untrained_run(tmp_path_factory.mktemp("runs") / "classes", images(num_classes=3))


def sample(directory, *words):
    """Run the command; returns its exit code."""
    return main(["sample", str(directory), "--device", "cpu", *map(str, words)])


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_trajectory_as_numbers(run, tmp_path):
    out = tmp_path / "t.npz"
    grid = ["--time-grid", "0,0.25,1", "--solver", "heun"]
    assert sample(run, "--num", 35, *grid, "--trajectory", "--out", out) == 0
    found = np.load(out)
    assert set(found.files) == {"samples", "trajectory", "times"}
    np.testing.assert_array_equal(found["times"], [0, 0.25, 1])
    _, model = load_model(run)
    expected = generate(
        model, 35, SHAPE, seed=0, solver="heun", time_grid=[0, 0.25, 1], trajectory=True
    ).numpy()
    np.testing.assert_array_equal(found["trajectory"], expected)
    np.testing.assert_array_equal(found["samples"], expected[-1])


def test_trajectory_as_a_picture_has_a_row_a_sample_and_a_column_a_time(run, tmp_path):
    words = ["--num", 3, "--solver", "euler", "--nfe", 4, "--time-grid", "cosine", "--trajectory"]
    assert sample(run, *words, "--out", tmp_path / "t.npz") == 0
    assert sample(run, *words, "--out", tmp_path / "t.png") == 0
    states = np.load(tmp_path / "t.npz")["trajectory"]
    sheet = pixels(tmp_path / "t.png")[::4, ::4]
    assert sheet.shape == (3 * 9 - 1, 5 * 9 - 1, 3)
    for k in range(3):
        for i, images_then in enumerate(states):
            cell = sheet[9 * k : 9 * k + 8, 9 * i : 9 * i + 8]
            np.testing.assert_array_equal(cell, as_pixels(images_then)[k])


def test_an_adaptive_solver_reports_at_eleven_times_and_ends_where_it_would(run, tmp_path, capsys):
    words = ["--num", 5, "--solver", "bosh3"]
    assert sample(run, *words, "--trajectory", "--out", tmp_path / "t.npz") == 0
    assert sample(run, *words, "--out", tmp_path / "s.npz") == 0
    path, ends = np.load(tmp_path / "t.npz"), np.load(tmp_path / "s.npz")["samples"]
    np.testing.assert_allclose(path["times"], np.arange(11) / 10)
    assert path["trajectory"].shape == (11, 5, *SHAPE)
    np.testing.assert_array_equal(path["samples"], ends)
    first, second = re.findall(r"bosh3, ([\d.]+) function", capsys.readouterr().out)
    assert first == second


def test_points_have_pictures_of_their_paths(tmp_path):
    run = untrained_run(tmp_path / "points", POINTS, data="moons")
    assert sample(run, "--num", 50, "--trajectory", "--out", tmp_path / "paths.png") == 0
    assert sample(run, "--num", 50, "--out", tmp_path / "ends.png") == 0
    paths, ends = pixels(tmp_path / "paths.png"), pixels(tmp_path / "ends.png")
    assert paths.shape == ends.shape
    assert (paths != ends).any()


def test_a_folder_has_a_picture_a_sample_with_its_number(run, tmp_path, capsys):
    words = ["--num", 40, "--start", 25, "--nfe", 2]
    assert sample(run, *words, "--out", f"{tmp_path}/pictures/") == 0
    assert f"{tmp_path}/pictures/" in capsys.readouterr().out
    assert sample(run, *words, "--out", tmp_path / "s.npz") == 0
    expected = as_pixels(np.load(tmp_path / "s.npz")["samples"])
    files = sorted((tmp_path / "pictures").iterdir())
    assert [file.name for file in files] == [f"{k:06d}.png" for k in range(25, 65)]
    np.testing.assert_array_equal(np.stack([pixels(file) for file in files]), expected)


def test_a_folder_of_trajectories_has_a_strip_a_sample(run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert sample(run, "--num", 2, "--nfe", 4, "--trajectory", "--out", tmp_path / "empty") == 0
    assert pixels(tmp_path / "empty" / "000001.png").shape == (8, 3 * 9 - 1, 3)


def test_labels_are_taken_in_turn_by_the_number_of_the_sample(classes, tmp_path):
    _, model = load_model(classes)
    for name, words, labels in (
        ("default", ["--num", 7], [0, 1, 2, 0, 1, 2, 0]),
        ("later", ["--num", 4, "--start", 3, "--labels", "2,0"], [0, 2, 0, 2]),
        ("one", ["--num", 3, "--label", 1], [1, 1, 1]),
    ):
        out = tmp_path / f"{name}.npz"
        assert sample(classes, *words, "--nfe", 2, "--out", out) == 0
        found = np.load(out)
        np.testing.assert_array_equal(found["labels"], labels)
        start = 3 if name == "later" else 0
        expected = generate(model, len(labels), SHAPE, seed=0, nfe=2, start=start, y=torch.tensor(labels))
        np.testing.assert_array_equal(found["samples"], expected.numpy())


def test_compile_compiles_the_network_whole(run, tmp_path, monkeypatch):
    compiled = []

    def record(model, **options):
        compiled.append(options)
        return model

    monkeypatch.setattr(torch, "compile", record)
    assert sample(run, "--num", 2, "--compile", "--out", tmp_path / "s.npz") == 0
    assert compiled == [{"fullgraph": True, "dynamic": False}]


def test_the_default_is_a_picture_in_the_run_directory(tmp_path):
    run = untrained_run(tmp_path / "run", images())
    assert sample(run, "--num", 4, "--seed", 3, "--trajectory") == 0
    assert [file.name for file in (run / "samples").iterdir()] == ["seed3-midpoint-nfe8-trajectory.png"]


BAD = [
    (["RUN", "--num", "0"], "at least 1"),
    (["RUN", "--time-grid", "0,0.5"], "must go from 0, the noise, to 1, the data; it goes from 0 to 0.5"),
    (["RUN", "--time-grid", "0,0.7,0.5,1"], "strictly monotone"),
    (["RUN", "--time-grid", "0,x,1"], "must be times such as"),
    (["RUN", "--time-grid", "cubic"], "one of uniform, quadratic, cosine, got 'cubic'"),
    (["RUN", "--time-grid", "0,1", "--nfe", "4"], "leave one out"),
    (["RUN", "--time-grid", "cosine", "--solver", "dopri5"], "dopri5 chooses its own steps"),
    (["RUN", "--label", "1"], "trained without labels"),
    (["CLASSES", "--labels", "0,3"], "labels must be below 3, this network's classes; got 3"),
    (["CLASSES", "--labels", "0,-1"], "at least 0"),
    (["CLASSES", "--label", "1", "--labels", "0"], "not allowed with"),
    (["RUN", "--out", "absent/deeper/"], "cannot write 'absent/deeper': name a directory"),
    (["RUN", "--out", "absent/s.png"], "cannot write 'absent/s.png': name a file"),
    (["RUN", "--out", "full"], "full is not empty"),
    (["RUN", "--out", "full/file.txt/"], "file.txt is a file"),
    (["RUN", "--out", "name"], r"end in \.png or \.npz, or in / for a folder"),
    (["LATENTS", "--out", "s.png"], "no pictures: name an --out that ends in .npz, or decode them"),
    (["LATENTS"], "no pictures"),
    (["POINTS", "--out", "pictures/"], r"samples of shape \(2,\) are no pictures"),
    (["POINTS", "--codec", "full"], "--codec decodes latents"),
    (["RUN", "--device", "gpu"], "auto, cpu, cuda or cuda:N, got 'gpu'"),
    (["RUN", "--device", "cuda:x"], "got 'cuda:x'"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_what_cannot_be_is_one_line_and_writes_nothing(words, message, tmp_path, monkeypatch, capsys):
    for name, model in (
        ("RUN", images()),
        ("CLASSES", images(num_classes=3)),
        ("LATENTS", images(4)),
        ("POINTS", POINTS),
    ):
        if words[0] == name:
            untrained_run(tmp_path / name, model)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    try:
        code = main(["sample", *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_a_gpu_that_is_not_there(run, device, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["sample", str(run), "--device", device, "--out", str(tmp_path / "s.png")]) == 2
    assert f"device is {device!r}, but torch sees no GPU here" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["s.npz", "s.png", "pictures/"])
def test_a_full_disk_is_one_line_and_leaves_nothing(out, run, tmp_path, monkeypatch, capsys):
    written = []

    def full(self, file, *_, **__):
        written.append(file)
        if len(written) == 3 or not out.endswith("/"):
            raise OSError(errno.ENOSPC, "No space left on device")

    def full_arrays(file, **_):
        file.write(b"half of an archive")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(np, "savez", full_arrays)
    assert sample(run, "--num", 5, "--nfe", 1, "--out", f"{tmp_path}/{out}") == 2
    errors = capsys.readouterr().err.splitlines()
    (line,) = [line for line in errors if "error" in line]
    assert "No space left on device" in line
    assert str(tmp_path / out) in line
    assert list(tmp_path.iterdir()) == []
    assert len(written) == {"s.npz": 0, "s.png": 1, "pictures/": 3}[out]


def test_guidance_is_for_networks_that_have_seen_no_label(run, classes, tmp_path, capsys):
    guided = untrained_run(tmp_path / "guided", images(num_classes=3), label_dropout=0.1)
    out = tmp_path / "samples.npz"
    assert sample(guided, "--num", 4, "--nfe", 2, "--guidance", 1.5, "--out", out) == 0
    assert np.load(out)["samples"].shape[0] == 4
    for wrong, message in ((run, "without labels"), (classes, "train with --label-dropout")):
        assert sample(wrong, "--num", 4, "--guidance", 1.5, "--out", out) == 2
        assert message in capsys.readouterr().err
