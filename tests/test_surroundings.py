"""What surrounds a program changes nothing: torch's defaults, streams that are closed or broken, signals."""

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from loomfast import console
from loomfast.models import MLP, MLPConfig
from loomfast.sampling.generate import generate
from loomfast.sampling.ode import integrate
from loomfast.training.loop import stop_on_signals

HERE = Path(__file__).parent


def test_nothing_depends_on_torchs_defaults(tmp_path):
    runs = []
    for defaults in (("float32", "cpu"), ("float64", "meta")):
        words = [sys.executable, "-W", "error", str(HERE / "defaults_run.py"), *defaults]
        folder = tmp_path / defaults[0]
        runs.append(subprocess.Popen([*words, str(folder)], stdout=subprocess.PIPE, text=True))
    plain, other = (run.communicate()[0].splitlines() for run in runs)
    assert [run.returncode for run in runs] == [0, 0]
    assert len(plain) == 24
    assert plain == other


@contextlib.contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def test_a_network_is_called_under_its_owners_defaults_and_in_its_dtype():
    seen = []

    def velocity(x, t):
        seen.append(torch.get_default_dtype())
        return -x

    with default_dtype(torch.float64):
        integrate(velocity, torch.ones(2, 2), solver="dopri5")
        model = MLP(MLPConfig(width=8))
        samples = generate(model, 3, (2,), seed=0, nfe=2)
    assert set(seen) == {torch.float64}
    assert samples.dtype is torch.float32
    for dtype in (torch.bfloat16, torch.float16):
        rounded = generate(model.to(dtype), 3, (2,), seed=0, nfe=2)
        assert rounded.dtype is torch.float32
        torch.testing.assert_close(rounded, samples, atol=0.05, rtol=0)  # 8 bits, in values around 1


def shell(line, folder, stdout=subprocess.PIPE):
    """The exit code, stdout and stderr of a line of the shell, in which $L is the command."""
    command = {"L": f"exec {sys.executable} -W error -m loomfast", "PYTHONPATH": str(HERE.parent)}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | command,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    np.save(folder / "cost.npy", np.eye(3))
    return folder


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("$L solve cost.npy --out a.npz 2>&-", 0, ""),
        ("$L solve cost.npy --out a.npz >&-", 0, ""),
        ("$L solve cost.npy --out a.npz 0<&- >&- 2>&-", 0, ""),
        ("$L solve absent.npy 2>&-", 2, ""),
        ("$L solve cost.npy >/dev/full", 2, "No space left on device"),
        ("$L --help >/dev/full", 2, "No space left on device"),
        ("export PYTHONUNBUFFERED=1; $L --help >/dev/full", 2, "No space left on device"),
    ],
)
def test_streams_that_are_closed_or_full(line, code, message, folder):
    found, _, errors = shell(line, folder)
    assert found == code, errors
    assert message in errors
    assert len(errors.splitlines()) == (1 if message else 0)
    if "--out" in line:
        assert np.load(folder / "a.npz")["total"] == 0


@pytest.mark.parametrize(
    "line",
    [
        "$L solve cost.npy",
        "$L solve absent.npy 2>&1",
        "$L --help",
        "$L fly 2>&1",
        "export PYTHONUNBUFFERED=1; $L solve --help",
    ],
)
def test_a_pipe_nobody_reads_ends_a_command_as_sigpipe_would(line, folder):
    reader, writer = os.pipe()
    os.close(reader)
    try:
        code, _, errors = shell(line, folder, stdout=writer)
    finally:
        os.close(writer)
    assert (code, errors) == (128 + signal.SIGPIPE, "")


def test_signals_that_were_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with stop_on_signals() as stopping:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.01)
            assert not stopping()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, before)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("name", ["[bold]x[/]", "[/]", "[link=a]b", ":smile:", "a\\[b"])
def test_names_with_markup_print_as_they_are(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with console.progress(2, f"train {name}") as update:
        update(2, f"note {name}")
    assert f"train {name}" in terminal.getvalue()
    assert f"note {name}" in terminal.getvalue()
