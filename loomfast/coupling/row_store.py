"""Rows of a large matrix on disk as they are finished: a killed process does not compute them again."""

import operator
import os
import shutil
import threading
import warnings
from pathlib import Path

from loomfast.files import read_json, write_json


class RowStore:
    """A row-major matrix, written aside in a thread of its own while its later rows are computed.

    A row counts as written only after its bytes have reached the disk. Where the disk is too small or fails,
    a warning says so and the work goes on without: an interruption then begins the matrix again.

    Args:
        folder: where the two files go; made if it is not there.
        matrix: (n, m) C-contiguous array that the caller fills from its first row on.
        key: a string that names the content; rows written under another key are not used.
    """

    def __init__(self, folder, matrix, key):
        self._data, self._journal = Path(folder) / "rows.bin", Path(folder) / "rows.json"
        self._matrix, self._key = matrix, key
        self._row_bytes = matrix.nbytes // max(1, len(matrix))
        self._finished = self._written = 0
        self._wake = threading.Condition()
        self._stop = False
        self._thread = None

    def restore(self):
        """Read the rows that an earlier process wrote into the matrix, and return how many they are."""
        try:
            journal = read_json(self._journal)
            rows = operator.index(journal["rows"]) if journal["key"] == self._key else 0
            with open(self._data, "rb") as file:
                if (
                    rows
                    and file.readinto(memoryview(self._matrix[:rows]).cast("B")) != rows * self._row_bytes
                ):
                    rows = 0
        except (OSError, ValueError, KeyError, TypeError):
            rows = 0
        self._finished = self._written = rows
        return rows

    def finished(self, rows):
        """Say that the first ``rows`` rows are final; they are written in the background."""
        with self._wake:
            self._finished = rows
            self._wake.notify()
        if self._thread is None and not self._stop:
            self._thread = threading.Thread(target=self._write, name="loomfast-store", daemon=True)
            try:
                self._thread.start()
            except RuntimeError as error:  # can't start new thread
                self._thread, self._stop = None, True
                _warn(error)

    def close(self):
        """Stop writing; what is on disk stays there for `restore`."""
        with self._wake:
            self._stop = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    def _write(self):
        try:
            self._data.parent.mkdir(parents=True, exist_ok=True)
            missing = self._matrix.nbytes - self._written * self._row_bytes
            if shutil.disk_usage(self._data.parent).free < missing:
                raise OSError(f"{missing / 1e9:.1f} GB more are needed in {self._data.parent}")
            with open(self._data, "r+b" if self._written else "wb") as file:
                file.seek(self._written * self._row_bytes)
                while rows := self._wait():
                    file.write(memoryview(self._matrix[rows]).cast("B"))
                    file.flush()
                    os.fsync(file.fileno())
                    if hasattr(os, "posix_fadvise"):  # leave the memory to the matrix
                        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                    write_json(self._journal, {"key": self._key, "rows": rows.stop})
                    self._written = rows.stop
        except OSError as error:
            _warn(error)

    def _wait(self):
        """Wait for rows to write, and return their slice, or None to stop.

        A slice is at most 64 MB, so that stopping takes little.
        """
        with self._wake:
            self._wake.wait_for(lambda: self._stop or self._finished > self._written)
            if self._stop:
                return None
            step = max(1, (64 << 20) // max(1, self._row_bytes))
            return slice(self._written, min(self._finished, self._written + step))


def _warn(error):
    warnings.warn(
        f"the costs are not kept on disk, an interruption begins them again: {error}",
        RuntimeWarning,
        stacklevel=3,
    )
