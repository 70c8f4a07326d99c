"""Files that are whole or not there: safetensors and JSON, written aside, flushed, then renamed."""

import errno
import json
import math
import os
import re
import shutil
import stat
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from loomfast._arrays import to_numpy
from loomfast.extras import need

# Types of safetensors that NumPy has, too.
STORED = ("F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
_LEFT = re.compile(r"\..+\.\d+\.tmp")  # names of what is written aside


@contextmanager
def atomic(path):
    """A temporary path; what was written to it takes the place of ``path`` on a clean exit.

    On any exception the temporary file is removed and ``path`` is what it was before. The data are on the
    disk before the name points to them, so a power cut leaves the old file or the new one. A symbolic link
    stays, and the file it names is replaced; a file keeps its mode and its owner. What is no regular file, a
    pipe or a device, stays what it is and is written to at the end.
    """
    path = Path(path)
    if _is_stream(path):
        with TemporaryDirectory() as folder:
            aside = Path(folder, "aside")
            try:
                yield aside
                _pour(aside, path)
            except BaseException as error:
                _name(error, path, aside)
                raise
        return
    target = Path(os.path.realpath(path))
    if target.is_symlink():  # they go in a circle
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    before = target.stat() if target.exists() else None
    aside = target.with_name(f".{target.name}.{os.getpid()}.tmp")  # as in _LEFT
    try:
        mode = _create(aside, before)
        yield aside
        _replace(aside, target, before, mode)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        _name(error, path, aside)
        raise
    _flush(target.parent)


def _is_stream(path):
    """Return whether something is there that is neither a file nor a directory."""
    return path.exists() and not (path.is_file() or path.is_dir())


def _create(aside, before):
    """Make the temporary file, as private as the one it replaces; return the mode it is to end with."""
    aside.unlink(missing_ok=True)  # of a killed process that had this number
    wanted = 0o666 if before is None else stat.S_IMODE(before.st_mode)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, wanted & 0o666 | 0o600)
    try:
        return wanted if before is not None else stat.S_IMODE(os.fstat(descriptor).st_mode)
    finally:
        os.close(descriptor)


def _replace(aside, target, before, mode):
    """Give the temporary file its owner, its mode (some writers make private files) and its name."""
    try:
        made = aside.stat()
        if before is not None and (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
            os.chown(aside, before.st_uid, before.st_gid)
    except PermissionError:  # a file of somebody else stays theirs, if we may write it at all
        _pour(aside, target)
        aside.unlink()
        return
    os.chmod(aside, mode)
    _flush(aside)
    os.replace(aside, target)


def _pour(aside, path):
    """Write the content of the temporary file into what is at ``path``."""
    with open(aside, "rb") as source, open(path, "wb") as sink:
        shutil.copyfileobj(source, sink)


@contextmanager
def atomic_directory(path):
    """A temporary directory beside ``path``, which takes the name ``path`` on a clean exit.

    It is for files, not for directories in it. On any exception it is removed and nothing is at ``path``
    that was not there before. Raises FileExistsError where ``path`` is anything but an empty directory.
    """
    path = Path(os.path.realpath(path))
    check_new_directory(path)
    mode = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    aside.mkdir()
    try:
        yield aside
        for entry in (*aside.iterdir(), aside):
            _flush(entry)
        if mode is not None:
            os.chmod(aside, mode)
        os.rename(aside, path)
    except BaseException as error:
        shutil.rmtree(aside, ignore_errors=True)
        _name(error, path, aside)
        raise
    _flush(path.parent)


def remove_leftovers(folder):
    """Remove from a folder what `atomic` was writing there when its process was killed.

    For a folder that one process writes; what it is writing itself would go, too.
    """
    for path in Path(folder).iterdir():
        if _LEFT.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def holds_nothing(folder):
    """Return whether a folder is empty, but for what `remove_leftovers` removes."""
    return all(_LEFT.fullmatch(path.name) for path in Path(folder).iterdir())


def check_new_directory(path):
    """Raise FileExistsError unless nothing or an empty directory is at ``path``.

    Raises FileNotFoundError if a directory could not be made there.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"{path} is a file, not a directory")
    if path.is_dir() and any(path.iterdir()):
        raise FileExistsError(f"{path} is not empty: choose another directory")
    parent = Path(os.path.abspath(path)).parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise FileNotFoundError(f"cannot write {str(path)!r}: name a directory in one that can be written")


def writable(text):
    """Return the Path of a file; raises ValueError if it cannot be written."""
    path = Path(text)
    folder = Path(os.path.realpath(path)).parent
    # A pipe or a device is written to as it is, a file is replaced.
    taken = path if path.exists() and not path.is_file() else folder
    if path.is_dir() or not taken.exists() or not os.access(taken, os.W_OK):
        raise ValueError(f"cannot write {text!r}: name a file in a folder that can be written")
    return path


def _name(error, path, aside):
    """Have an error of the system, such as a full disk, name the file that was asked for."""
    if not isinstance(error, OSError) or not str(error.filename or aside).startswith(str(aside)):
        return
    if error.errno is None:  # a message alone, which a filename would hide
        error.args = (f"{error}: {str(path)!r}",)
    else:
        error.filename = str(path)


def _flush(path):
    """Force a file's data, or a directory's names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def readable(path, complaint):
    """Within, whatever a parser raises at the content of ``path`` becomes a ValueError of one line.

    complaint: the words that follow the path, such as "is not valid JSON". What the system says of a file by
    name, that it is missing or may not be read, is raised as it is.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = "it does not fit into memory" if isinstance(error, MemoryError) else str(error)
        reason = " ".join(reason.split()) or type(error).__name__
        raise ValueError(f"{path} {complaint}: {reason}") from None


def json_text(value, **options):
    """Return ``value`` as JSON. NaN and infinity, which JSON has no words for, become null."""
    return json.dumps(_without_nan(value), allow_nan=False, **options)


def _without_nan(value):
    if isinstance(value, dict):
        return {name: _without_nan(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path, value):
    """Write ``value`` as indented JSON, atomically; see `json_text`."""
    with atomic(path) as aside:
        aside.write_text(json_text(value, indent=2) + "\n", encoding="utf-8")


def read_json(path):
    """Return the object (dict) in a JSON file; raises ValueError naming the file if it is anything else."""
    with readable(path, "is not valid JSON"):
        return json_object(Path(path).read_text(encoding="utf-8"))


def json_object(text):
    """Return the object (dict) that a JSON text says; raises ValueError if it is anything else."""
    value = json.loads(text)
    if not isinstance(value, dict):
        raise ValueError(f"an object in braces is needed, it holds {type(value).__name__}")
    return value


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

    bfloat16 becomes float32, which holds it exactly.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a whole safetensors file, or holds numbers that NumPy has no name for.
    """
    need("safetensors", "train")
    from safetensors import safe_open

    if not Path(path).is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with readable(path, "is not a whole safetensors file"), safe_open(path, framework="numpy") as file:
        names = file.keys() if names is None else names
        return {name: _tensor(path, file, name) for name in names}, file.metadata() or {}


def _tensor(path, file, name):
    kind = file.get_slice(name).get_dtype()
    if kind == "BF16":
        return _widened(path, name)
    if kind not in STORED:
        raise ValueError(f"{name} is of type {kind}; {', '.join(STORED)} and BF16 can be read")
    return file.get_tensor(name)


def _widened(path, name):
    """Return a bfloat16 tensor as float32: its bits are the upper half."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[name]
        begin, end = entry["data_offsets"]
        file.seek(8 + length + begin)
        bits = np.frombuffer(file.read(end - begin), np.dtype("<u2"))
    return (bits.astype(np.uint32) << 16).view(np.float32).reshape(entry["shape"])


def _as_array(value):
    if str(getattr(value, "dtype", "")) == "torch.bfloat16":
        value = value.float()
    return np.asarray(to_numpy(value), order="C")
