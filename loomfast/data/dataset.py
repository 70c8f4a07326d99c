"""A dataset with a fixed held-out split: a built-in one by its name, another one by the path of its files."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loomfast._arrays import integer
from loomfast.data.builtin import DRAWN, LOADERS
from loomfast.data.files import load_path, split
from loomfast.data.streamed import Streamed, chosen, stream_path
from loomfast.files import read_json, readable

PAIRS = "pairs.json"  # says what a directory of pairs holds


@dataclass(frozen=True)
class Dataset:
    """Items and what is held out from them.

    train, heldout: float32 (N, C, H, W) images in [-1, 1], or (N, 2) points; train may be a
    `loomfast.data.streamed.Streamed`, whose items are read when they are asked for. train_labels,
    heldout_labels: int64 (N,), float32 (N, c) conditions or (N, C, H, W) fields, or None; train_labels may be
    a Streamed of fields. fingerprint: sha256, hexadecimal, of train's bytes and shape.
    """

    name: str
    train: np.ndarray
    heldout: np.ndarray
    train_labels: np.ndarray | None
    heldout_labels: np.ndarray | None
    fingerprint: str


def fingerprint(items):
    """Return the sha256, hexadecimal, of an array's shape, dtype and bytes; what is none says its own."""
    if isinstance(items, Streamed | Mirrored):
        return items.fingerprint()
    items = np.ascontiguousarray(items)
    digest = hashlib.sha256(f"{items.dtype.str}{items.shape}".encode())
    digest.update(items.data)
    return digest.hexdigest()


def load_dataset(name, *, image_size=None, num_items=None, stream=False, conditions=None):
    """The dataset of that name, or at that path.

    ``digits``: scikit-learn's 1797 images as (1, 8, 8), every fifth of each class held out. ``patches32``:
    (3, 32, 32) crops of scikit-learn's two photographs, held out from strips no training crop touches. Points
    in the plane: ``8gaussians``, ``moons``, ``scurve``, ``checkerboard``.

    A path: a directory with CIFAR-10's binary files or with images, or a .npy, .npz, .h5 or .hdf5 file; see
    `loomfast.data.files`; or a directory of pairs that `loomfast reflow` made, whose held-out items are those
    of the data that the pairs' run was trained on. image_size: images of a folder are cropped and resized to
    it, others must have it.

    num_items: as many training items: more crops or points of what is drawn, a fixed random choice of what is
    not. The held-out items stay what they are.

    stream: of a path, do not read the training items, but map or open their files: see
    `loomfast.data.streamed`.

    conditions: a .npy file of what networks are told of the items, in the place of labels: integers (M,),
    floating-point vectors (M, c), or fields (M, C, H, W), a row for each item in the order of a file, or of a
    folder's sorted paths; of data that bring their own split first the training items', then the held-out's.

    Raises ValueError for a name that is neither, for content that does not fit, or for more items than there
    are, and ImportError where a package is needed and missing.
    """
    num_items = None if num_items is None else integer(num_items, "num_items", 1)
    if stream and name in (*DRAWN, *LOADERS):
        raise ValueError(f"stream is for data in files; {name} is made in memory")
    if name in DRAWN:
        return make_dataset(name, *split(name, *DRAWN[name](num_items), conditions=conditions))
    if name in LOADERS:
        return choose_items(
            make_dataset(name, *split(name, *LOADERS[name](), conditions=conditions)), num_items
        )
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(
            f"there is no data set {str(name)!r}, nor a file or directory of that name; the names are "
            f"{', '.join((*LOADERS, *DRAWN))}"
        )
    if (path / PAIRS).is_file():
        if conditions is not None:
            raise ValueError(
                f"conditions are of data; the pairs in {path} have those that they were made with"
            )
        return choose_items(_load_pairs(path, image_size, stream), num_items)
    load = stream_path if stream else load_path
    return choose_items(make_dataset(str(name), *load(path, image_size, conditions)), num_items)


def _load_pairs(directory, image_size, stream):
    """Return the Dataset of a directory of pairs; it has the name of the data that it takes the place of."""
    with readable(directory / PAIRS, "cannot be used"):
        about = read_json(directory / PAIRS)
        data, num, conditions = about["data"], about["num"], about.get("conditions")
    images = directory / "images.npy"
    if not (directory / "pairs.safetensors").is_file():
        raise ValueError(f"{directory} holds pairs that are not all made yet: run loomfast reflow again")
    base = load_dataset(data, image_size=image_size, conditions=conditions)
    with readable(images, "cannot be used"):
        items = np.load(images, mmap_mode="r" if stream else None, allow_pickle=False)
        if items.shape != (num, *base.heldout.shape[1:]) or items.dtype != np.float32:
            raise ValueError(f"it holds {items.dtype} of shape {items.shape}")
    labels = directory / "labels.npy"
    labels = np.load(labels, "r" if stream else None, allow_pickle=False) if labels.is_file() else None
    if stream:
        items = Streamed(items.__getitem__, np.arange(num), items.shape[1:])
        if np.ndim(labels) == 4:
            labels = Streamed(labels.__getitem__, np.arange(num), labels.shape[1:])
    return make_dataset(base.name, items, base.heldout, labels, base.heldout_labels)


def make_dataset(name, train, heldout, train_labels=None, heldout_labels=None):
    """Return a Dataset of these arrays: items become contiguous float32, labels int64 or float32."""
    items = [
        a if isinstance(a, Streamed) else np.ascontiguousarray(a, dtype=np.float32) for a in (train, heldout)
    ]
    labels = [
        a
        if a is None or isinstance(a, Streamed)
        else np.asarray(a, np.int64 if np.ndim(a) == 1 else np.float32)
        for a in (train_labels, heldout_labels)
    ]
    return Dataset(name, *items, *labels, fingerprint(items[0]))


class Mirrored:
    """Images and their mirror images, (2N, C, H, W), read when asked for: item i + N is that of item i.

    Args:
        items: (N, C, H, W), an array or a `Streamed`.
    """

    def __init__(self, items):
        self._items = items
        self.dtype, self.ndim, self.shape = items.dtype, items.ndim, (2 * len(items), *items.shape[1:])

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, rows):
        found = self._items[rows % len(self._items)]
        mirrored = rows >= len(self._items)
        found[mirrored] = found[mirrored][..., ::-1]
        return found

    def fingerprint(self):
        """Return that of the items, and what was done with them."""
        return fingerprint(self._items)


def coupled_items(dataset, flips):
    """What a coupling of a dataset couples: with flips every item's mirror image is an item, too.

    Returns:
        (int, function, labels, str): how many items there are, N or 2N; a function from items (B,) to their
        data, item i + N being the mirror image of item i; their labels or None; their fingerprint. Labels are
        the mirror image's, too, and fields are mirrored with their items.
    """
    train, labels = dataset.train, dataset.train_labels
    if not flips:
        return len(train), train.__getitem__, labels, dataset.fingerprint
    if labels is not None:
        labels = Mirrored(labels) if labels.ndim == 4 else np.concatenate([labels, labels])
    return 2 * len(train), Mirrored(train).__getitem__, labels, dataset.fingerprint + ":flips"


def choose_items(dataset, num_items):
    """Return the dataset with a fixed choice of ``num_items`` training items, in order; None for all."""
    available = len(dataset.train)
    if num_items is None or num_items == available:
        return dataset
    if num_items > available:
        raise ValueError(
            f"num_items must be at most the {available} training items of {dataset.name}, got {num_items}"
        )
    rows = np.sort(np.random.default_rng(0).permutation(available)[:num_items])
    train, labels = chosen(dataset.train, rows), chosen(dataset.train_labels, rows)
    return make_dataset(dataset.name, train, dataset.heldout, labels, dataset.heldout_labels)
