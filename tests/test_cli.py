"""The command: what a user types, what it prints, and one line with exit code 2 when it cannot."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from untrained import images, untrained_run

import loomfast
from loomfast.cli import main
from loomfast.console import progress, table


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of a small network, trained once."""
    out = tmp_path_factory.mktemp("runs") / "digits"
    small = ["--model.model-channels", "16", "--model.num-groups", "8"]
    assert main(["train", "digits", *small, "--steps", "30", "--threads", "1", "--out", str(out)]) == 0
    return out


def test_train_leaves_pictures(run):
    assert (run / "coupling.png").is_file()
    assert (run / "samples" / "step-0000030.png").is_file()


def test_the_preset_as_it_is(tmp_path):
    assert main(["train", "digits", "--steps", "3", "--threads", "1", "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "samples" / "step-0000003.png").is_file()


def test_sample(run, tmp_path, capsys):
    out = tmp_path / "s.png"
    words = ["sample", run, "--num", 16, "--solver", "midpoint", "--nfe", 4, "--out", out]
    assert main([str(w) for w in words]) == 0
    with Image.open(out) as picture:
        assert picture.size == (35 * 4, 35 * 4)
    assert str(out) in capsys.readouterr().out


def test_sample_numbers_are_the_same_whatever_else_is_asked(run, tmp_path):
    for name, words in (("a", ["--num", "5"]), ("b", ["--num", "3", "--start", "2", "--batch-size", "2"])):
        assert main(["sample", str(run), *words, "--nfe", "2", "--out", str(tmp_path / f"{name}.npz")]) == 0
    a, b = (np.load(tmp_path / f"{name}.npz")["samples"] for name in "ab")
    np.testing.assert_array_equal(a[2:5], b)


def test_evaluate(run, tmp_path, capsys):
    out = tmp_path / "m.json"
    assert main(["evaluate", str(run), "--nfe", "4,8", "--num", "64", "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    assert [(e["nfe"], e["solver"]) for e in result["samples"]] == [(4, "midpoint"), (8, "midpoint")]
    assert all(np.isfinite(e["frechet"]) for e in result["samples"])
    assert result["curvature"] > 0
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[-1]) == result
    printed = capsys.readouterr().out
    assert "curvature" in printed
    assert "held-out" in printed


def test_adaptive_solvers_count_their_evaluations(run, tmp_path, capsys):
    words = ["--num", "32", "--solver", "dopri5"]
    out = tmp_path / "m.json"
    assert main(["sample", str(run), *words, "--out", str(tmp_path / "s.png")]) == 0
    assert re.search(r"dopri5, [\d.]+ function evaluations", capsys.readouterr().out)
    assert main(["evaluate", str(run), *words, "--json", str(out)]) == 0
    (entry,) = json.loads(out.read_text())["samples"]
    assert entry["solver"] == "dopri5"
    assert entry["nfe"] >= 8


def test_solve(tmp_path, capsys):
    cost = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    np.save(tmp_path / "cost.npy", cost)
    out = tmp_path / "assignment.npz"
    assert main(["solve", str(tmp_path / "cost.npy"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    found = np.load(out)
    assert set(found.files) == {"col4row", "row4col", "u", "v", "total", "gap"}
    assert f"{float(found['total'])!r}" in printed
    assert re.search(r"certified gap \S+", printed)
    assert re.search(r"30 x 40 float32 solved in [\d.]+ ms", printed)
    reduced = cost.astype(np.float64) - found["u"][:, None] - found["v"]
    assert reduced.min() >= -1e-12
    assert found["gap"] <= 1e-12


def test_solve_with_a_limit(tmp_path, capsys):
    np.save(tmp_path / "cost.npy", np.array([[[1.0, 9], [9, 9]], [[1, 9], [9, 2]]]))
    out = tmp_path / "assignment.npz"
    assert main(["solve", str(tmp_path / "cost.npy"), "--cost-limit", "4", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in printed[:2]] == ["5.0", "3.0"]
    assert [line.split("  ")[-1] for line in printed[:2]] == ["1 pairs", "2 pairs"]
    assert np.load(out)["col4row"].tolist() == [[0, -1], [0, 1]]


def test_solve_says_where_the_time_went(tmp_path, capsys):
    rng = np.random.default_rng(0)
    for shape, phases in (((2, 5, 5), 0), ((80, 90), 1)):
        np.save(tmp_path / "cost.npy", rng.random(shape))
        assert main(["solve", str(tmp_path / "cost.npy"), "--stats"]) == 0
        printed = capsys.readouterr().out
        assert len(re.findall(r"^[a-z ]+: bids \d+, .*augmentations \d+", printed, re.M)) == len(shape) - 1
        assert len(re.findall(r"; ms: read [\d.]+, reduce .*, rest [\d.]+$", printed, re.M)) == phases


def test_solve_a_batch_and_maximize(tmp_path, capsys):
    np.savez(tmp_path / "batch.npz", cost=np.random.default_rng(1).random((3, 8, 8)))
    assert main(["solve", str(tmp_path / "batch.npz"), "--maximize", "--threads", "2"]) == 0
    assert capsys.readouterr().out.count("total") == 3


def test_solve_points(tmp_path, capsys):
    rng = np.random.default_rng(2)
    x, z, out = rng.random((30, 2)), rng.random((40, 2)), tmp_path / "assignment.npz"
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "z.npy", z)
    words = ["solve", "--points", str(tmp_path / "x.npy"), str(tmp_path / "z.npy"), "--metric", "euclidean"]
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"30 to 40 points in 2-D solved in [\d.]+ ms", printed)
    cost = np.linalg.norm(x[:, None] - z, axis=-1)
    assert np.load(out)["total"] == pytest.approx(loomfast.solve(cost).total, rel=1e-12)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["assignment.npz", "x.npy", "z.npy"]
    assert main([*words, "--tolerance", "0.5", "--stats"]) == 0
    assert "points: bids" in capsys.readouterr().out


def test_doctor_tells_what_is_here(capsys):
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for word in ("engine", "instructions", "CUDA kernels", "numpy", "torch", "GPU"):
        assert word in printed


@pytest.mark.parametrize("command", ["train", "sample", "evaluate", "export", "solve", "doctor"])
def test_help_is_there(command, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as stop:
        code = stop.code
    assert code == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5


def test_help_of_a_preset_names_every_field(capsys):
    assert main(["train", "digits", "--help"]) == 0
    printed = capsys.readouterr().out
    for flag in (
        "--steps",
        "--out",
        "--dry-run",
        "--coupling.num-caches",
        "--model.model-channels",
        "--seed",
    ):
        assert flag in printed


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "digits", "--dry-run", "--coupling.method", "independent", "--seed", "3"]) == 0
    printed = capsys.readouterr().out
    assert "parameters:" in printed
    assert "digits-independent-seed3" in printed
    assert list(tmp_path.iterdir()) == []


BAD = [
    (["solve", "absent.npy"], "absent.npy"),
    (["solve", "vector.npy"], "2-D|matrix"),
    (["solve", "nan.npy"], "invalid numeric entries"),
    (["solve", "words.npy"], "Cannot cast"),
    (["solve", "objects.npy"], "must be a .npy array or an .npz archive of numbers"),
    (["solve", "nan.npy", "--out", "absent/a.npz"], "cannot write 'absent/a.npz'"),
    (["evaluate", "RUN", "--json", "absent/m.json"], "cannot write"),
    (["solve", "two.npz"], "must hold one array"),
    (["solve"], "FILE"),
    (["solve", "nan.npy", "--points", "nan.npy", "nan.npy"], "name a FILE with a cost matrix, or --points"),
    (["solve", "--points", "nan.npy", "absent.npy"], "absent.npy"),
    (["solve", "--points", "vector.npy", "vector.npy"], r"x must be points \(n, d\)"),
    (["solve", "--points", "nan.npy", "nan.npy"], "x must hold finite numbers"),
    (["solve", "--points", "nan.npy", "nan.npy", "--maximize"], "--maximize and --cost-limit are for a cost"),
    (["solve", "nan.npy", "--metric", "dot"], "--metric goes with --points"),
    (["solve", "nan.npy", "--tolerance", "-1"], "tolerance must be a finite number >= 0, got -1"),
    (["solve", "vector.npy", "--cost-limit", "nan"], "2-D|matrix"),
    (["solve", "nan.npy", "--cost-limit", "nan"], "cost_limit must be a number above -inf, got nan"),
    (["solve", "nan.npy", "--cost-limit", "much"], "--cost-limit: invalid float value: 'much'"),
    (["sample", "absent"], "not a run directory"),
    (["sample", "RUN", "--nfe", "0"], "at least 1"),
    (["sample", "RUN", "--nfe", "3", "--solver", "midpoint"], "multiple of 2"),
    (["sample", "RUN", "--solver", "magic"], "magic"),
    (["sample", "RUN", "--solver", "dopri5", "--nfe", "8"], "leave nfe out"),
    (["sample", "RUN", "--out", "s.gif"], r"\.png or \.npz"),
    (["sample", "RUN", "--num", "x"], "integer"),
    (["evaluate", "RUN", "--nfe", "4,-8"], "at least 1"),
    (["evaluate", "RUN", "--nfe", "4,3", "--solver", "midpoint"], "multiple of 2"),
    (["evaluate", "RUN", "--num", "1"], "at least 2"),
    (["train", "digits", "--steps", "many"], "steps"),
    (["train", "digits", "--batch-size", "0", "--out", "new"], "batch_size must be"),
    (["train", "digits", "--model.channel-mult", "0", "--out", "new"], "channel_mult must"),
    (["train", "digits", "--data", "nowhere", "--out", "new"], "nowhere"),
    (["train", "digitz"], "digitz"),
    (["train"], "digits"),
    (["train", "digits", "--setps", "3"], "setps"),
    (["train", "digits", "--batch-size", "100000", "--out", "new"], "batch_size"),
    (["train", "digits", "--steps", "2", "--out", "vector.npy"], "vector.npy"),
    (["fly"], "fly"),
    ([], "COMMAND"),
]


@pytest.mark.parametrize(("words", "message"), BAD, ids=[" ".join(words) for words, _ in BAD])
def test_user_errors_are_one_line_and_exit_code_2(words, message, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("vector.npy", np.zeros(3))
    np.save("nan.npy", np.array([[1.0, np.nan], [0, 1]]))
    np.save("words.npy", np.array([["a", "b"]]))
    np.save("objects.npy", np.array([[object()]]), allow_pickle=True)
    np.savez("two.npz", a=np.eye(2), b=np.eye(2))
    before = sorted(p.name for p in tmp_path.iterdir())
    try:
        code = main([str(run) if w == "RUN" else w for w in words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    errors = capsys.readouterr().err.strip()
    assert len(errors.splitlines()) == 1, errors
    assert re.search(message, errors), errors
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_module_and_the_version():
    done = subprocess.run(
        [sys.executable, "-m", "loomfast", "--version"], capture_output=True, text=True, check=True
    )
    assert re.fullmatch(r"loomfast \d+\.\d+\.\d+", done.stdout.strip())


def test_progress_in_a_pipe_is_ten_plain_lines(capsys):
    with progress(1000, "work") as update:
        for done in range(1, 1001):
            update(done, "note")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("work: 1000/1000")


def test_table():
    assert table(["a", "long"], [["x", 1], ["yy", 12.5]]) == "a   long\n--  ----\nx      1\nyy  12.5"


def test_a_network_with_classes_is_measured_over_all_of_them(tmp_path, monkeypatch, capsys):
    from loomfast.models import UNet

    run = untrained_run(tmp_path / "run", images(num_classes=10), data="digits")
    asked, forward = [], UNet.forward

    def watched(self, x, t, y=None):
        asked.append(y)
        return forward(self, x, t, y)

    monkeypatch.setattr(UNet, "forward", watched)
    assert main(["evaluate", str(run), "--num", "40", "--nfe", "1"]) == 0
    assert "curvature" in capsys.readouterr().out
    assert asked[0].tolist() == [k % 10 for k in range(32)]
    assert len(asked[-1]) == 1000
    assert set(asked[-1].tolist()) == set(range(10))
