"""Reads .npy and .npz files: nothing is unpickled, and nothing is allocated that the file does not hold."""

import io
import math
import os
import stat
import zipfile

import numpy as np

from loomfast.files import readable

COMPLAINT = "is no NumPy file that can be used without unpickling"


def read_arrays(path, complaint=COMPLAINT):
    """What is in the file, told by its content: the array of a .npy file, or `Archive` of a .npz file.

    complaint: the words after the path where it is neither, or damaged.

    Raises ValueError in these cases, and OSError if it cannot be opened.
    """
    with readable(path, complaint):
        content = _read_whole(path)
        if content[:4] == b"PK\x03\x04" or content[:4] == b"PK\x05\x06":
            return Archive(path, zipfile.ZipFile(io.BytesIO(content)), complaint)
        return array_of(content)


class Archive:
    """The arrays of a .npz file by name: ``archive[name]`` reads one, or raises ValueError."""

    def __init__(self, path, archive, complaint):
        self._path, self._archive, self._complaint = path, archive, complaint
        self._members = {name.removesuffix(".npy"): name for name in archive.namelist()}

    def __iter__(self):
        return iter(self._members)

    def __getitem__(self, name):
        with readable(self._path, self._complaint):
            # The bytes are unpacked as they come: a size that is only claimed takes no memory.
            return array_of(bytearray(self._archive.read(self._members[name])))


def array_of(content):
    """Return the array in the bytes of a .npy file, as a view; ValueError if they are not exactly one."""
    header = io.BytesIO(content[:_HEADER])
    version = np.lib.format.read_magic(header)
    if version not in _HEADERS:
        raise ValueError(f"its format {version} is not known")
    shape, by_columns, dtype = _HEADERS[version](header)
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"it holds {dtype}, not numbers")
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"its shape {shape} is none")
    start, wanted = header.tell(), math.prod(shape) * dtype.itemsize
    if len(content) - start != wanted or dtype.itemsize == 0:
        raise ValueError(
            f"its header asks for {wanted} bytes, {dtype} of shape {shape}; it has {len(content) - start}"
        )
    order = "F" if by_columns else "C"
    return np.frombuffer(content, dtype, math.prod(shape), start).reshape(shape, order=order)


def _read_whole(path):
    """Return the bytes of a file or a pipe as a bytearray."""
    with open(path, "rb") as file:
        about = os.fstat(file.fileno())
        if stat.S_ISCHR(about.st_mode) or stat.S_ISBLK(about.st_mode):
            raise ValueError("it is a device")
        if not about.st_size:
            return bytearray(file.read())
        content = bytearray(about.st_size)
        del content[file.readinto(content) :]
        return content


_HEADER = 1 << 17  # bytes that the longest header NumPy accepts fits into
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
