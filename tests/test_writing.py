"""What is written goes where it was sent: through links, into pipes and devices, with the file's own mode."""

import os
import stat
import threading

import numpy as np
import pytest

from loomfast.cli import main
from loomfast.files import atomic, atomic_directory, read_json, write_json


def test_a_link_stays_and_the_file_behind_it_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    target, link, second = tmp_path / "there" / "a.json", tmp_path / "link.json", tmp_path / "second.json"
    link.symlink_to(target)
    second.symlink_to("link.json")
    for path, value in ((link, 1), (second, 2)):  # the first finds nothing behind it
        write_json(path, {"a": value})
        assert link.is_symlink()
        assert second.is_symlink()
        assert read_json(target) == {"a": value}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a.json", "link.json", "second.json", "there"]


def test_links_in_a_circle_are_an_error(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match=str(tmp_path)):
        write_json(tmp_path / "a", {})


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o444])
def test_a_file_keeps_its_mode(mode, tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {})
    path.chmod(mode)
    with atomic(path) as aside:
        assert stat.S_IMODE(aside.stat().st_mode) & 0o077 & ~mode == 0  # not more public meanwhile
        aside.write_text('{"a": 2}')
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert read_json(path) == {"a": 2}


def test_a_new_file_has_the_mode_of_new_files(tmp_path):
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
        with atomic(tmp_path / "b") as aside:
            aside.unlink()
            aside.touch(mode=0o600)  # as some writers do
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.json", "b")] == [0o640, 0o640]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_file_keeps_its_owner(tmp_path):
    write_json(tmp_path / "a.json", {})
    os.chown(tmp_path / "a.json", 12, 34)
    write_json(tmp_path / "a.json", {"a": 1})
    about = (tmp_path / "a.json").stat()
    assert (about.st_uid, about.st_gid) == (12, 34)


def test_a_file_of_somebody_else_stays_theirs(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    write_json(path, {})
    inode = path.stat().st_ino

    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    about = os.stat_result((*path.stat()[:4], 12, 34, *path.stat()[6:]))
    real = type(path).stat
    monkeypatch.setattr(type(path), "stat", lambda p, **k: about if p == path else real(p, **k))
    monkeypatch.setattr(os, "chown", refuse)
    write_json(path, {"a": 1})
    monkeypatch.undo()
    assert path.stat().st_ino == inode
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_directory_keeps_its_mode_and_its_link(tmp_path):
    (tmp_path / "there").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "there")
    with atomic_directory(tmp_path / "link") as aside:
        (aside / "a").touch()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a").exists()
    assert stat.S_IMODE((tmp_path / "there").stat().st_mode) == 0o700


def test_what_is_written_to_a_pipe_comes_out_of_it(tmp_path):
    np.save(tmp_path / "cost.npy", np.eye(3))
    pipe, received = tmp_path / "out.npz", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: received.append(pipe.read_bytes()))
    reader.start()
    assert main(["solve", str(tmp_path / "cost.npy"), "--out", str(pipe)]) == 0
    reader.join(60)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    (tmp_path / "whole.npz").write_bytes(received[0])
    assert np.load(tmp_path / "whole.npz")["total"] == 0
    assert not list(tmp_path.glob(".*"))


def test_a_pipe_can_be_read_from(tmp_path, capsys):
    np.save(tmp_path / "cost.npy", np.eye(3))
    os.mkfifo(tmp_path / "in.npy")
    content = (tmp_path / "cost.npy").read_bytes()
    writer = threading.Thread(target=lambda: (tmp_path / "in.npy").write_bytes(content))
    writer.start()
    assert main(["solve", str(tmp_path / "in.npy")]) == 0
    writer.join(60)
    assert "total 0.0" in capsys.readouterr().out


def test_devices_stay_devices(tmp_path, capsys):
    np.save(tmp_path / "cost.npy", np.eye(3))
    words = ["solve", str(tmp_path / "cost.npy"), "--out"]
    assert main([*words, "/dev/null"]) == 0
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert main([*words, "/dev/full"]) == 2
    assert "No space left on device: '/dev/full'" in capsys.readouterr().err
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
    assert not [name for name in os.listdir("/dev") if name.endswith(".tmp")]
    assert main(["solve", "/dev/zero"]) == 2
    assert "it is a device" in capsys.readouterr().err


def test_a_link_to_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path, capsys):
    np.save(tmp_path / "cost.npy", np.eye(3))
    (tmp_path / "link.npz").symlink_to(tmp_path / "absent" / "a.npz")
    assert main(["solve", str(tmp_path / "cost.npy"), "--out", str(tmp_path / "link.npz")]) == 2
    assert "cannot write" in capsys.readouterr().err
