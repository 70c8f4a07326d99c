"""Items that do not fit in memory: read from .npy, HDF5 or image files by the batch.

A coupling needs an item's index only, so that training holds no more of the data than its batches. Labels and
the held-out items, 10,000 at most, are read at once; fields (N, C, H, W) in the place of labels by the batch.
"""

import hashlib
from pathlib import Path

import numpy as np

from loomfast.data.files import checked_labels, read_conditions_file
from loomfast.data.images import (
    IMAGE_SUFFIXES,
    as_unit_range,
    channels_first,
    class_names,
    image_paths,
    read_image,
    split_folders,
)
from loomfast.extras import need
from loomfast.files import readable

MOST_HELDOUT = 10_000
BLOCK = 1 << 24  # numbers read at a time where all are wanted


class Streamed:
    """Items (N, *shape) float32 that are read when they are asked for: ``items[rows]``, rows (n,) integers.

    Args:
        read: function from rows of the file, (n,) int64 ascending and different, to their items.
        rows: (N,) int64, which rows of the file the items are.
        shape: of one item.
        digest: function that returns the fingerprint of the items; None reads them all for it.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, read, rows, shape, digest=None):
        self._read, self._rows, self._digest = read, rows, digest
        self.shape = (len(rows), *shape)
        self.ndim = len(self.shape)

    def __len__(self):
        return len(self._rows)

    def __getitem__(self, items):
        wanted, back = np.unique(self._rows[items], return_inverse=True)
        found = np.asarray(self._read(wanted), np.float32)
        if found.shape[1:] != self.shape[1:]:
            raise ValueError(f"items must have shape {self.shape[1:]}, got {found.shape[1:]}")
        return found[back]

    def chosen(self, items):
        """Return the items ``items`` (n,) alone, as a Streamed."""
        return Streamed(self._read, self._rows[items], self.shape[1:], self._digest)

    def fingerprint(self):
        """Return what `loomfast.data.fingerprint` does of the items in memory; of images, of their files."""
        digest = hashlib.sha256(f"{self.dtype.str}{self.shape}".encode())
        if self._digest is not None:
            digest.update(self._digest().encode() + self._rows.tobytes())
            return digest.hexdigest()
        step = max(1, BLOCK // max(1, int(np.prod(self.shape[1:]))))
        for first in range(0, len(self), step):
            digest.update(np.ascontiguousarray(self[np.arange(first, min(first + step, len(self)))]).data)
        return digest.hexdigest()


def stream_path(path, image_size=None, conditions=None):
    """Return (train, heldout, train_labels, heldout_labels) of a path, train a `Streamed`, the rest in
    memory.

    The content is what `loomfast.data.files.load_path` takes, but for CIFAR-10's files and .npz archives, and
    so are the ``conditions``: a .npy file, of which fields are mapped and not read.
    Raises ValueError where it does not fit, ImportError where a reader is not installed.
    """
    path = Path(path)
    if path.is_dir():
        return _split(*_folder(path, image_size), conditions)
    readers = {".npy": _numpy, ".h5": _hdf5, ".hdf5": _hdf5}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"{path}: data that are read by the batch are {', '.join(readers)} or a folder of images"
        )
    return _split(*readers[path.suffix.lower()](path), conditions)


def _split(train, heldout, train_labels, heldout_labels, conditions=None):
    """Read the held-out items; where there are none, every tenth is held out."""
    if conditions is not None:
        count = len(train) + (0 if heldout is None else len(heldout))
        told = _conditions(Path(conditions), count)
        train_labels, heldout_labels = chosen(told, np.arange(len(train))), None
        if heldout is not None:
            heldout_labels = chosen(told, np.arange(len(train), count))
    if heldout is None:
        if len(train) < 10:
            raise ValueError(f"to hold out every tenth item it takes at least 10, got {len(train)}")
        held = np.arange(len(train)) % 10 == 9
        heldout = train.chosen(np.flatnonzero(held))
        train = train.chosen(np.flatnonzero(~held))
        if train_labels is not None:
            heldout_labels = chosen(train_labels, np.flatnonzero(held))
            train_labels = chosen(train_labels, np.flatnonzero(~held))
    few = min(len(heldout), MOST_HELDOUT)
    held_labels = None if heldout_labels is None else heldout_labels[np.arange(few)]
    return train, heldout[np.arange(few)], train_labels, held_labels


def chosen(items, rows):
    """Return the items ``rows`` (n,) of an array or a `Streamed`, which stays one; None of None."""
    if items is None:
        return None
    return items.chosen(rows) if isinstance(items, Streamed) else items[rows]


def _conditions(path, count):
    """Return the conditions of ``count`` items in a .npy file: fields as a `Streamed`, all others read."""
    with readable(path, "is no .npy file of conditions"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if isinstance(array, np.ndarray) and array.ndim > 2 and len(array) == count:
        return _of_array(path, "the array", array)
    return read_conditions_file(path, count)


def _of_array(path, name, array, scale=None):
    """Return the `Streamed` of an array (N, ...) that is read by rows: NumPy's mapped, or HDF5's."""
    if array.ndim < 2 or 0 in array.shape:
        raise ValueError(f"{path}: {name} must be (N, ...), at least one item, got shape {array.shape}")
    if array.dtype != np.uint8 and not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path}: {name} must be uint8 or floating point, got {array.dtype}")

    def read(rows):
        values = np.asarray(array[rows])
        if values.dtype == np.uint8:
            return as_unit_range(channels_first(values))
        values = values.astype(np.float32) * np.float32(1.0 if scale is None else scale)
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds values that are not finite")
        return values

    return Streamed(read, np.arange(len(array)), read(np.zeros(1, np.int64)).shape[1:])


def _numpy(path):
    with readable(path, "is no NumPy file that can be used without unpickling"):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    return _of_array(path, path.name, array), None, None, None


def _hdf5(path):
    h5py = need("h5py", "data")
    with readable(path, "is no HDF5 file that can be read"):
        file = h5py.File(path, "r")  # open as long as the items are in use
        names = [name for name in file if file.get(name, getclass=True) is h5py.Dataset]

    def items(name):
        entry = file[name]
        scale = entry.attrs.get("scale_factor", file.attrs.get("scale_factor"))
        return _of_array(path, name, entry, None if scale is None else float(scale))

    def labels(name, count):
        if name not in names:
            return None
        if file[name].ndim > 2 and len(file[name]) == count:  # fields
            return _of_array(path, name, file[name])
        return checked_labels(path, np.asarray(file[name][()]), count)

    if "train" in names and "heldout" in names:
        train, heldout = items("train"), items("heldout")
        return train, heldout, labels("train_labels", len(train)), labels("heldout_labels", len(heldout))
    for name in ("images", "latents", "data"):
        if name in names:
            train = items(name)
            return train, None, labels("labels", len(train)), None
    raise ValueError(f"{path} must hold train and heldout, or one of images, latents, data")


def _folder(directory, image_size):
    train, held = split_folders(directory)
    if held is None:
        items, labels = _images(directory, class_names(directory), image_size)
        return items, None, labels, None
    classes = class_names(train, held)
    (train, labels), (held, held_labels) = (_images(root, classes, image_size) for root in (train, held))
    return train, held, labels, held_labels


def _images(root, classes, image_size):
    """Return the images under ``root`` as a `Streamed`, and their labels or None."""
    paths = image_paths(root)
    if not paths:
        raise ValueError(f"{root} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    labels = [
        classes.index(p.relative_to(root).parts[0]) for p in paths if len(p.relative_to(root).parts) > 1
    ]
    if labels and len(labels) < len(paths):
        raise ValueError(f"{root} has images both in class folders and outside of them")

    def read(rows):
        images = [read_image(paths[row], image_size) for row in rows]
        for row, image in zip(rows, images, strict=True):
            if image.shape != images[0].shape or image.shape[0] != image.shape[1]:
                raise ValueError(
                    f"{paths[row]} is {image.shape[1]} x {image.shape[0]}: all images must be squares of one "
                    "size, or name an image size to crop and resize them to"
                )
        return as_unit_range(np.stack(images)).transpose(0, 3, 1, 2)

    def digest():
        return "\n".join(f"{path.relative_to(root)} {path.stat().st_size}" for path in paths)

    shape = read(np.zeros(1, np.int64)).shape[1:]
    items = Streamed(read, np.arange(len(paths)), shape, digest)
    return items, np.array(labels, np.int64) if labels else None
