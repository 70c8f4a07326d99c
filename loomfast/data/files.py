"""Data sets from files: CIFAR-10's binary version, image folders, .npy and .npz arrays, HDF5 latents.

Every loader returns (train, heldout, train_labels, heldout_labels); heldout is None where a file brings no
split of its own, and `split` then holds out every tenth item. Nothing in a file is ever unpickled.
"""

import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from loomfast.data.arrays import Archive, read_arrays
from loomfast.data.images import as_unit_range, channels_first, class_names, load_images, split_folders
from loomfast.extras import need
from loomfast.files import readable

_MOST_DEFLATED = 1032  # bytes that one byte of deflate can stand for
_LARGEST_LABEL = 2**31 - 1
_CIFAR_RECORD = 1 + 3 * 32 * 32


def load_path(path, image_size=None, conditions=None):
    """The data set at a path, by what is there, with its split.

    A directory with ``data_batch_1.bin`` is CIFAR-10's binary version; another directory holds images; a
    file is told by its suffix (.npy, .npz, .h5, .hdf5). image_size: centre-crops the images of a folder to
    squares and resizes them; for the rest it is only checked. conditions: see `split`.
    Raises ValueError where the content does not fit and ImportError where a reader is not installed.
    """
    path = Path(path)
    if path.is_dir():
        cifar = (path / "data_batch_1.bin").exists()
        arrays = load_cifar10(path) if cifar else load_image_folder(path, image_size)
    elif path.suffix.lower() in _READERS:
        arrays = _READERS[path.suffix.lower()](path)
    else:
        raise ValueError(f"{path}: a data file must end in {', '.join(_READERS)}")
    train = arrays[0]
    if image_size is not None and train.shape[2:] != (image_size, image_size):
        raise ValueError(
            f"{path}: items have shape {train.shape[1:]}, this needs {image_size} x {image_size} images"
        )
    return split(path, *arrays, conditions=conditions)


def load_cifar10(directory):
    """Load CIFAR-10's binary version: ``data_batch_*.bin`` to train on, ``test_batch.bin`` held out."""
    directory = Path(directory)
    train = [_cifar_batch(path) for path in sorted(directory.glob("data_batch_*.bin"))]
    images, labels = _cifar_batch(directory / "test_batch.bin")
    return (
        np.concatenate([batch for batch, _ in train]),
        images,
        np.concatenate([batch for _, batch in train]),
        labels,
    )


def _cifar_batch(path):
    """Return the images (N, 3, 32, 32) float32 and labels (N,) int64 of one file of 3073-byte records."""
    if not path.is_file():
        raise ValueError(
            f"{path} is missing; CIFAR-10's binary version has data_batch_1..5.bin and test_batch.bin"
        )
    content = np.fromfile(path, dtype=np.uint8)
    if content.size == 0 or content.size % _CIFAR_RECORD:
        raise ValueError(f"{path} must hold records of {_CIFAR_RECORD} bytes, it has {content.size} bytes")
    records = content.reshape(-1, _CIFAR_RECORD)
    if records[:, 0].max() > 9:
        raise ValueError(f"{path} is not of CIFAR-10: it has a label {records[:, 0].max()}")
    return as_unit_range(records[:, 1:]).reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def load_image_folder(directory, image_size=None):
    """Images in a folder, as RGB (N, 3, H, W), all of one square size unless image_size makes them so.

    With folders ``train`` and one of heldout, test, val, validation, these are the split. Sub-folders (of a
    split, or of the directory itself) are classes, in alphabetical order. See `loomfast.data.images` for what
    is passed over, and what is made of each picture.
    """
    directory = Path(directory)
    train, held = split_folders(directory)
    if held is None:
        items, labels = load_images(directory, class_names(directory), image_size)
        return items, None, labels, None
    classes = class_names(train, held)
    train, train_labels = load_images(train, classes, image_size)
    heldout, heldout_labels = load_images(held, classes, image_size, size=train.shape[2:])
    return train, heldout, train_labels, heldout_labels


def load_numpy(path):
    """Load a .npy file, which is one array of items, or a .npz file of named arrays.

    It holds ``train`` and ``heldout``, or ``images`` (or ``data``) alone. Labels are in ``train_labels`` and
    ``heldout_labels``, or in ``labels``: integers (N,), floating-point conditions (N, c), or fields, as
    `checked_labels` takes them.
    """
    arrays = read_arrays(path)
    if isinstance(arrays, np.ndarray):
        return _items(path, path.name, arrays), None, None, None
    return _named_arrays(path, list(arrays), arrays.__getitem__)


def load_hdf5(path):
    """Load HDF5 datasets, named as in `load_numpy`, or ``latents``.

    They are multiplied by the attribute ``scale_factor`` of the dataset or of the file where there is one
    (0.18215 for Stable Diffusion's autoencoder).
    """
    h5py = need("h5py", "data")
    complaint = "is no HDF5 file that can be read"

    def read(name):
        with readable(path, complaint):
            entry = file[name]
            array = _stored(entry)
            scale = entry.attrs.get("scale_factor", file.attrs.get("scale_factor"))
            scale = None if scale is None else float(scale)
        return _scaled(path, name, array, scale)

    with ExitStack() as stack:
        with readable(path, complaint):
            file = stack.enter_context(h5py.File(path, "r"))
            names = [name for name in file if file.get(name, getclass=True) is h5py.Dataset]
        return _named_arrays(path, names, read)


def _stored(entry):
    """Return the array of an HDF5 dataset; ValueError if it claims more than its bytes can hold."""
    if entry.external:
        raise ValueError("its numbers are in another file")
    stored = entry.id.get_storage_size()
    most = stored * (_MOST_DEFLATED if entry.id.get_create_plist().get_nfilters() else 1)
    if entry.dtype.kind == "O" or (entry.size and entry.nbytes > most):
        raise ValueError(f"{entry.name} cannot be {entry.dtype} of shape {entry.shape} in {stored} bytes")
    return np.asarray(entry[()])


def _scaled(path, name, array, scale):
    if scale is None or name.endswith("labels"):
        return array
    if not (math.isfinite(scale) and scale > 0) or not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path}: {name} must be floating point and its scale_factor positive, got {scale}")
    with np.errstate(all="ignore"):  # what is not finite, or overflows, is refused later
        return array.astype(np.float32) * np.float32(scale)


def _named_arrays(path, names, read):
    """Return the four arrays of a dataset from those of these names, of which only what is needed is read."""
    if "train" in names and "heldout" in names:
        train, heldout = (_items(path, name, read(name)) for name in ("train", "heldout"))
        if train.shape[1:] != heldout.shape[1:]:
            raise ValueError(
                f"{path}: train and heldout differ in shape, {train.shape[1:]} and {heldout.shape[1:]}"
            )
        labels = [
            checked_labels(path, read(f"{name}_labels"), len(items)) if f"{name}_labels" in names else None
            for name, items in (("train", train), ("heldout", heldout))
        ]
        return train, heldout, *labels
    for name in ("images", "latents", "data"):
        if name in names:
            items = _items(path, name, read(name))
            labels = checked_labels(path, read("labels"), len(items)) if "labels" in names else None
            return items, None, labels, None
    raise ValueError(
        f"{path} must hold train and heldout, or one of images, latents, data; it holds "
        f"{', '.join(sorted(names)) or 'nothing'}"
    )


def _items(path, name, array):
    """Return items as float32: uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) in [-1, 1], others as is."""
    if array.ndim < 2 or array.size == 0:
        raise ValueError(
            f"{path}: {name} must be (N, ...), at least one item of one number, got shape {array.shape}"
        )
    if array.dtype == np.uint8:
        return as_unit_range(channels_first(array))
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"{path}: {name} must be uint8 or floating point, got {array.dtype}")
    with np.errstate(all="ignore"):
        array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: {name} holds values that are not finite")
    return array


def checked_labels(path, labels, num_items):
    """Return labels (N,) int64, conditions (N, c) float32, or fields (N, C, H, W) float32.

    Fields are floating point of this shape, or uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), 0 to 255, which
    become -1 to 1 as images do. Raises ValueError naming the file for anything else.
    """
    if labels.dtype == np.uint8 and labels.ndim in (3, 4) and len(labels) == num_items and labels.size:
        return as_unit_range(channels_first(labels))
    if labels.ndim in (2, 4) and len(labels) == num_items and labels.size and labels.dtype.kind == "f":
        with np.errstate(over="ignore"):
            labels = labels.astype(np.float32)
        if not np.isfinite(labels).all():
            raise ValueError(f"{path}: labels hold values that are not finite")
        return labels
    if labels.shape != (num_items,) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{path}: labels must be {num_items} integers from 0, or as many rows of floating-point "
            f"conditions (N, c) or fields (N, C, H, W), got {labels.dtype} of shape {labels.shape}"
        )
    if labels.min() < 0 or labels.max() > _LARGEST_LABEL:
        raise ValueError(f"{path}: labels must be from 0 on, got {labels.min()} to {labels.max()}")
    return labels.astype(np.int64)


def read_conditions_file(path, count):
    """Return what networks are told of ``count`` items, in a .npy file; see `checked_labels`.

    Raises ValueError for another file, or another number of rows.
    """
    found = read_arrays(Path(path), "is no .npy file of conditions")
    if isinstance(found, Archive) or found.ndim == 0 or len(found) != count:
        rows = "several arrays" if isinstance(found, Archive) else f"shape {found.shape}"
        raise ValueError(
            f"conditions={str(path)!r} must be one array with a row for each of {count} items, got {rows}"
        )
    return checked_labels(path, found, count)


def split(path, train, heldout, train_labels, heldout_labels, *, conditions=None):
    """Return the four arrays of a dataset, of which every tenth item is held out where ``heldout`` is None.

    conditions: None, or the path of a .npy file of what its networks are told, which takes the place of the
    labels: as `checked_labels` has it, a row for each item in the order of the files, those of the held-out
    items behind the others where they are files of their own.
    """
    count = len(train) + (0 if heldout is None else len(heldout))
    if conditions is not None:
        train_labels = read_conditions_file(conditions, count)
        heldout_labels = None if heldout is None else train_labels[len(train) :]
        train_labels = train_labels[: len(train)]
    if heldout is not None:
        return train, heldout, train_labels, heldout_labels
    if count < 10:
        raise ValueError(f"{path} holds {count} items; to hold out every tenth it takes at least 10")
    held = np.arange(count) % 10 == 9
    labels = (None, None) if train_labels is None else (train_labels[~held], train_labels[held])
    return train[~held], train[held], *labels


_READERS = {".npy": load_numpy, ".npz": load_numpy, ".h5": load_hdf5, ".hdf5": load_hdf5}
