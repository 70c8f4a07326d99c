"""Files that are whole or not there: safetensors and JSON, written aside, flushed, then renamed."""

import json
import os
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
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(aside, 0o666 & ~_umask())  # some writers make private files
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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

    Raises OSError where it cannot be written, on a full disk say; the file is then what it was.
    """
    need("safetensors", "train")
    arrays = {name: _as_array(value) for name, value in tensors.items()}
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic(path) as aside:
        try:
            save_file(arrays, aside, metadata=metadata)
        except SafetensorError as failed:  # which is what safetensors makes of the system's errors
            raise OSError(f"cannot write {path}, which is left as it was: {failed}") from None


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
