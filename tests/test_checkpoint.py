"""Files are whole or not there."""

import errno
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from loomfast.files import (
    atomic,
    atomic_directory,
    holds_nothing,
    read_json,
    read_tensors,
    remove_leftovers,
    write_json,
    write_tensors,
)


def test_tensors_of_both_kinds_go_to_disk_and_back(tmp_path):
    path = tmp_path / "t.safetensors"
    tensors = {
        "a": np.arange(6, dtype=np.int32).reshape(2, 3).T,
        "b": torch.ones(2, 2, requires_grad=True),
        "scalar": torch.tensor(3.0),
    }
    write_tensors(path, tensors, {"note": "x"})
    found, metadata = read_tensors(path)
    np.testing.assert_array_equal(found["a"], tensors["a"])
    np.testing.assert_array_equal(found["b"], np.ones((2, 2)))
    assert found["scalar"].shape == ()
    assert metadata == {"note": "x"}


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})

    def fail_half_way():
        with atomic(path) as aside:
            aside.write_text("half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail_half_way()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_what_a_kill_left_is_nothing_and_goes(tmp_path):
    program = """
import os, signal, sys
from loomfast.files import atomic
with atomic(sys.argv[1]) as aside:
    aside.write_text("{")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    ran = subprocess.run([sys.executable, "-c", program, tmp_path / "config.json"], timeout=60)
    assert ran.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    assert holds_nothing(tmp_path)
    (tmp_path / ".notes.tmp").write_text("somebody's")
    assert not holds_nothing(tmp_path)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".notes.tmp"]


def test_a_directory_is_whole_or_not_there(tmp_path):
    path = tmp_path / "made"

    def fill(error=None):
        with atomic_directory(path) as aside:
            (aside / "a").write_text("1")
            assert not path.exists() or not any(path.iterdir())
            if error is not None:
                raise error

    with pytest.raises(RuntimeError, match="stopped"):
        fill(RuntimeError("stopped"))
    assert list(tmp_path.iterdir()) == []
    path.mkdir()
    fill()
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["made", "made/a"]
    with pytest.raises(FileExistsError, match="made is not empty"):
        fill()


@pytest.mark.parametrize("writer", [atomic, atomic_directory])
def test_an_error_of_the_system_names_what_was_asked_for(writer, tmp_path):
    def fail(error):
        with writer(tmp_path / "asked"):
            raise error

    with pytest.raises(OSError, match=r"No space left on device: '.*/asked'$") as full:
        fail(OSError(errno.ENOSPC, "No space left on device"))
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=r"^broken encoder: '.*/asked'$"):
        fail(OSError("broken encoder"))
    with pytest.raises(OSError, match=r"'other'$"):
        fail(FileNotFoundError(errno.ENOENT, "No such file", "other"))


def test_damaged_files_are_named(tmp_path):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x00" * 40)
    with pytest.raises(ValueError, match=r"broken\.safetensors is not a whole safetensors file"):
        read_tensors(broken)
    with pytest.raises(FileNotFoundError, match="absent"):
        read_tensors(tmp_path / "absent")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.json is not valid JSON"):
        read_json(tmp_path / "broken.json")


def test_tensors_that_the_disk_does_not_take_leave_the_old_file(tmp_path):
    """A limit on the size of files stands for the full disk: the very write of the tensors fails."""
    path = tmp_path / "t.safetensors"
    write_tensors(path, {"a": np.arange(3)})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot write .*t\.safetensors"):
            write_tensors(path, {"a": np.zeros(1_000_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    np.testing.assert_array_equal(read_tensors(path)[0]["a"], np.arange(3))
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
