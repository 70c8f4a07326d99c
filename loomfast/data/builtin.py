"""The datasets that need no download: scikit-learn's digits and photographs, and points in the plane.

Every loader returns (train, heldout, train_labels, heldout_labels), the labels None where there are none.
"""

from collections.abc import Callable

import numpy as np

from loomfast.extras import need


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
    """Load every crop on a grid of _STRIDE pixels, or ``num_items`` different ones from anywhere."""
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
    """Return photograph, top and left, (N, 3) int, of every crop on a grid that lies in a strip."""
    count, height, _, _ = shape
    lefts = [left for low, high in strips for left in range(low, high - _PATCH + 1, stride)]
    tops = range(0, height - _PATCH + 1, stride)
    grid = np.meshgrid(np.arange(count), lefts, tops, indexing="ij")
    photograph, left, top = (part.reshape(-1) for part in grid)
    return np.stack([photograph, top, left], axis=1)


def _crops(photographs, places):
    """Return the crops at these places, (N, 3, 32, 32) float32."""
    crops = np.empty((len(places), 3, _PATCH, _PATCH), np.float32)
    for crop, (photograph, top, left) in zip(crops, places, strict=True):
        crop[...] = photographs[photograph, top : top + _PATCH, left : left + _PATCH].transpose(2, 0, 1)
    return crops


_NUM_TRAIN, _NUM_HELDOUT = 8192, 2048


def _points(draw):
    """Return a loader of points in the plane, train and held-out from one fixed stream of numbers.

    Points that are wanted beyond them come from a second stream, so that neither changes.
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
