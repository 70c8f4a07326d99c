"""Files that are whole or not there: safetensors and JSON, written aside, flushed, then renamed."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from loomfast._arrays import to_numpy
from loomfast.extras import need


@contextmanager
def atomic(path):
    """A temporary path beside ``path``; what was written to it takes the name ``path`` on a clean exit.

    On any exception the temporary file is removed and ``path`` is what it was before. The data are on the
    disk before the name points to them, so a power cut leaves the old file or the new one.
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        _flush(aside)
        os.chmod(aside, 0o666 & ~_umask())  # some writers make private files
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        _name(error, path, aside)
        raise
    _flush(path.parent)


@contextmanager
def atomic_directory(path):
    """A temporary directory beside ``path``, which takes the name ``path`` on a clean exit.

    It is for files, not for directories in it. On any exception it is removed and nothing is at ``path``
    that was not there before. Raises FileExistsError where ``path`` is anything but an empty directory.
    """
    path = Path(os.path.abspath(path))
    check_new_directory(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        yield aside
        for entry in (*aside.iterdir(), aside):
            _flush(entry)
        os.rename(aside, path)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        _name(error, path, aside)
        raise
    _flush(path.parent)


def check_new_directory(path):
    """FileExistsError unless nothing or an empty directory is at ``path``; FileNotFoundError if it could not
    be made there."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, not a directory")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: choose another directory")
    parent = Path(os.path.abspath(path)).parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise FileNotFoundError(f"cannot write {str(path)!r}: name a directory in one that can be written")


def _name(error, path, aside):
    """Have an error of the system, such as a full disk, name the file that was asked for."""
    if not isinstance(error, OSError) or not str(error.filename or aside).startswith(str(aside)):
        return
    if error.errno is None:  # a message alone, which a filename would hide
        error.args = (f"{error}: {str(path)!r}",)
    else:
        error.filename = str(path)


def _flush(path):
    """Have a file's data, or a directory's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask():
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_json(path, value):
    """Write ``value`` as indented JSON, atomically."""
    with atomic(path) as aside:
        aside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def read_json(path):
    """The value in a JSON file; ValueError naming the file if it is not JSON."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except json.JSONDecodeError as broken:
        raise ValueError(f"{path} is not valid JSON: {broken}") from None


def write_tensors(path, tensors, metadata=None):
    """Write named arrays (NumPy or torch) and string metadata as one safetensors file, atomically.

    Raises OSError if it cannot be written, on a full disk say; what was there before then still is.
    """
    need("safetensors", "train")
    arrays = {name: _as_array(value) for name, value in tensors.items()}
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic(path) as aside:
        try:
            save_file(arrays, aside, metadata=metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write {str(path)!r}: {error}") from None


def read_tensors(path, names=None):
    """All arrays of a safetensors file (NumPy), or those of ``names``, and its metadata.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole safetensors file.
    """
    need("safetensors", "train")
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            names = file.keys() if names is None else names
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except SafetensorError as broken:
        raise ValueError(f"{path} is not a whole safetensors file: {broken}") from None


def _as_array(value):
    return np.asarray(to_numpy(value), order="C")
