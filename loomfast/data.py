"""Data sets, each with a fixed held-out split: by name those that need no download, by path files."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loomfast._arrays import integer
from loomfast.datafiles import load_path
from loomfast.extras import need


@dataclass(frozen=True)
class Dataset:
    """Items and what is held out from them.

    train, heldout: float32 (N, C, H, W) images in [-1, 1], or (N, 2) points. train_labels, heldout_labels:
    int64 (N,) or None. fingerprint: sha256, hexadecimal, of train's bytes and shape.
    """

    name: str
    train: np.ndarray
    heldout: np.ndarray
    train_labels: np.ndarray | None
    heldout_labels: np.ndarray | None
    fingerprint: str


def fingerprint(items):
    """sha256, hexadecimal, of an array's shape, dtype and bytes."""
    items = np.ascontiguousarray(items)
    digest = hashlib.sha256(f"{items.dtype.str}{items.shape}".encode())
    digest.update(items.data)
    return digest.hexdigest()


def load_dataset(name, *, image_size=None, num_items=None):
    """The data set of that name, or at that path.

    ``digits``: scikit-learn's 1797 images as (1, 8, 8), every fifth of each class held out. ``patches32``:
    (3, 32, 32) crops of scikit-learn's two photographs, held out from strips no training crop touches. Points
    in the plane: ``8gaussians``, ``moons``, ``scurve``, ``checkerboard``.

    A path: a directory with CIFAR-10's binary files or with images, or a .npy, .npz, .h5 or .hdf5 file; see
    ``loomfast.datafiles``. image_size: images of a folder are cropped and resized to it, others must have it.

    num_items: as many training items: more crops or points of what is drawn, a fixed random choice of what is
    not. The held-out items stay what they are.

    Raises ValueError for a name that is neither, for content that does not fit, or for more items than there
    are, and ImportError where a package is needed and missing.
    """
    num_items = None if num_items is None else integer(num_items, "num_items", 1)
    if name in DRAWN:
        return make_dataset(name, *DRAWN[name](num_items))
    if name in LOADERS:
        return choose_items(make_dataset(name, *LOADERS[name]()), num_items)
    path = Path(name).expanduser()
    if not path.exists():
        raise ValueError(
            f"there is no data set {str(name)!r}, nor a file or directory of that name; the names are "
            f"{', '.join((*LOADERS, *DRAWN))}"
        )
    return choose_items(make_dataset(str(name), *load_path(path, image_size)), num_items)


def make_dataset(name, train, heldout, train_labels=None, heldout_labels=None):
    """A Dataset from arrays: items become contiguous float32, labels int64."""
    items = [np.ascontiguousarray(a, dtype=np.float32) for a in (train, heldout)]
    labels = [None if a is None else np.asarray(a, dtype=np.int64) for a in (train_labels, heldout_labels)]
    return Dataset(name, *items, *labels, fingerprint(items[0]))


def coupled_items(dataset, flips):
    """What a coupling of a dataset couples: with flips every item's mirror image is an item, too.

    Returns:
        (int, function, labels, str): how many items there are, N or 2N; a function from items (B,) to their
        data, item i + N being the mirror image of item i; their labels or None; their fingerprint.
    """
    train, labels = dataset.train, dataset.train_labels
    if not flips:
        return len(train), train.__getitem__, labels, dataset.fingerprint

    def take(items):
        x = train[items % len(train)]
        mirrored = items >= len(train)
        x[mirrored] = x[mirrored][..., ::-1]
        return x

    labels = None if labels is None else np.concatenate([labels, labels])
    return 2 * len(train), take, labels, dataset.fingerprint + ":flips"


def choose_items(dataset, num_items):
    """The dataset with ``num_items`` of its training items, a fixed choice in their order; None for all."""
    available = len(dataset.train)
    if num_items is None or num_items == available:
        return dataset
    if num_items > available:
        raise ValueError(
            f"num_items must be at most the {available} training items of {dataset.name}, got {num_items}"
        )
    chosen = np.sort(np.random.default_rng(0).permutation(available)[:num_items])
    labels = None if dataset.train_labels is None else dataset.train_labels[chosen]
    return make_dataset(dataset.name, dataset.train[chosen], dataset.heldout, labels, dataset.heldout_labels)


def _digits():
    bunch = need("sklearn.datasets", "train").load_digits()
    images = bunch.images[:, None] / 8 - 1  # 0 ... 16 -> [-1, 1]
    # The occurrence of each image within its class, so that the split is stratified without any draw.
    occurrence = np.empty(len(images), dtype=np.int64)
    for digit in range(10):
        members = np.flatnonzero(bunch.target == digit)
        occurrence[members] = np.arange(len(members))
    held = occurrence % 5 == 4
    return images[~held], images[held], bunch.target[~held], bunch.target[held]


_PATCH = 32
_STRIDE = 8
# Columns of the 427 x 640 photographs, in strips so that both splits see all of the scene.
_TRAIN_STRIPS = ((0, 192), (256, 512), (576, 640))
_HELDOUT_STRIPS = ((192, 256), (512, 576))


def _patches32(num_items):
    """Every crop on a grid of _STRIDE pixels; or ``num_items`` different ones of all positions there are."""
    images = need("sklearn.datasets", "train").load_sample_images().images
    photographs = np.stack(images).astype(np.float32) / 127.5 - 1
    places = _places(photographs.shape, _TRAIN_STRIPS, _STRIDE)
    if num_items is not None:
        places = _places(photographs.shape, _TRAIN_STRIPS, 1)
        if num_items > len(places):
            raise ValueError(
                f"num_items must be at most the {len(places)} crops of patches32, got {num_items}"
            )
        places = np.random.default_rng(0).permutation(places)[:num_items]
    heldout = _crops(photographs, _places(photographs.shape, _HELDOUT_STRIPS, _STRIDE))
    return _crops(photographs, places), heldout, None, None


def _places(shape, strips, stride):
    """(N, 3) int: photograph, top and left of every crop on a grid of ``stride`` that lies in a strip."""
    count, height, _, _ = shape
    lefts = [left for low, high in strips for left in range(low, high - _PATCH + 1, stride)]
    tops = range(0, height - _PATCH + 1, stride)
    grid = np.meshgrid(np.arange(count), lefts, tops, indexing="ij")
    photograph, left, top = (part.reshape(-1) for part in grid)
    return np.stack([photograph, top, left], axis=1)


def _crops(photographs, places):
    """(N, 3, 32, 32): the crops at these places."""
    crops = np.empty((len(places), 3, _PATCH, _PATCH), np.float32)
    for crop, (photograph, top, left) in zip(crops, places, strict=True):
        crop[...] = photographs[photograph, top : top + _PATCH, left : left + _PATCH].transpose(2, 0, 1)
    return crops


_NUM_TRAIN, _NUM_HELDOUT = 8192, 2048


def _points(draw):
    """A loader of points in the plane: train and held-out from one fixed stream of numbers.

    What is wanted beyond them comes from a second stream, so that neither changes.
    """

    def load(num_items):
        points = draw(np.random.default_rng(0), _NUM_TRAIN + _NUM_HELDOUT)
        train, heldout = points[:_NUM_TRAIN], points[_NUM_TRAIN:]
        if num_items is not None:
            more = draw(np.random.default_rng(1), max(0, num_items - _NUM_TRAIN))
            train = np.concatenate((train, more))[:num_items]
        return train, heldout, None, None

    return load


def _eight_gaussians(rng, num):
    angle = rng.integers(8, size=num) * (np.pi / 4)
    return 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.15 * rng.standard_normal((num, 2))


def _moons(rng, num):
    angle = np.pi * rng.random(num)
    upper = rng.random(num) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle)) - 0.5
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle)) - 0.25
    return 1.5 * np.stack([x, y], axis=1) + 0.1 * rng.standard_normal((num, 2))


def _scurve(rng, num):
    angle = 3 * np.pi * (rng.random(num) - 0.5)
    points = np.stack([np.sin(angle), np.sign(angle) * (np.cos(angle) - 1)], axis=1)
    return points + 0.1 * rng.standard_normal((num, 2))


def _checkerboard(rng, num):
    x = 4 * rng.random(num) - 2
    y = rng.random(num) + 2 * rng.integers(2, size=num) - 2 + np.floor(x) % 2
    return np.stack([x, y], axis=1)


LOADERS: dict[str, Callable] = {"digits": _digits}

# Those that can give any number of training items; called with it, or with None.
DRAWN: dict[str, Callable] = {
    "patches32": _patches32,
    "8gaussians": _points(_eight_gaussians),
    "moons": _points(_moons),
    "scurve": _points(_scurve),
    "checkerboard": _points(_checkerboard),
}
