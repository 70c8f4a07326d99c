"""The data sets: shapes, ranges, splits that do not overlap, fingerprints that do not drift."""

import numpy as np
import pytest

from loomfast.data import DRAWN, LOADERS, builtin, fingerprint, load_dataset

SHAPES = {
    "digits": ((1442, 1, 8, 8), (355, 1, 8, 8)),
    "patches32": ((5500, 3, 32, 32), (1000, 3, 32, 32)),
    "8gaussians": ((8192, 2), (2048, 2)),
    "moons": ((8192, 2), (2048, 2)),
    "scurve": ((8192, 2), (2048, 2)),
    "checkerboard": ((8192, 2), (2048, 2)),
}


def test_every_loader_is_tested():
    assert set(SHAPES) == {*LOADERS, *DRAWN}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_types_and_determinism(name):
    data = load_dataset(name)
    assert (data.train.shape, data.heldout.shape) == SHAPES[name]
    for items in (data.train, data.heldout):
        assert items.dtype == np.float32
        assert items.flags.c_contiguous
        assert np.isfinite(items).all()
    assert data.fingerprint == load_dataset(name).fingerprint == fingerprint(data.train)


@pytest.mark.parametrize("name", ["digits", "patches32"])
def test_images_fill_their_range(name):
    data = load_dataset(name)
    for items in (data.train, data.heldout):
        assert items.min() == -1
        assert items.max() == 1


def test_digits_split_is_a_stratified_partition():
    data = load_dataset("digits")
    assert data.fingerprint == "546953b1a3a4" + data.fingerprint[12:]
    every = np.concatenate([data.train, data.heldout]).reshape(1797, -1)
    assert len(np.unique(every, axis=0)) == 1797
    counts = np.bincount(data.train_labels), np.bincount(data.heldout_labels)
    share = counts[1] / (counts[0] + counts[1])
    assert np.all((share > 0.19) & (share <= 0.2))


def test_heldout_patches_share_no_pixel_with_training_ones():
    """Tag every pixel by its own value: no tag of the held-out crops may occur in a training crop."""
    tags = np.arange(427 * 640, dtype=np.float32).reshape(1, 427, 640, 1)
    places = [
        builtin._places(tags.shape, strips, 8) for strips in (builtin._TRAIN_STRIPS, builtin._HELDOUT_STRIPS)
    ]
    train, heldout = (builtin._crops(tags, part) for part in places)
    assert not np.intersect1d(train, heldout).size
    assert len(np.unique(np.concatenate([train, heldout]))) > 0.95 * tags.size


def test_points_are_where_they_belong():
    gaussians = load_dataset("8gaussians").train
    angle = np.arange(8) * np.pi / 4
    centres = 2 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    nearest = np.linalg.norm(gaussians[:, None] - centres, axis=-1)
    assert nearest.min(axis=1).max() < 6 * 0.15
    assert np.bincount(nearest.argmin(axis=1)).min() > 900
    board = load_dataset("checkerboard").train
    assert np.all((np.floor(board[:, 0]) + np.floor(board[:, 1])) % 2 == 0)
    assert np.all(np.abs(board) <= 2)


def test_heldout_points_are_other_points():
    for name in ("8gaussians", "moons", "scurve", "checkerboard"):
        data = load_dataset(name)
        together = np.concatenate([data.train, data.heldout])
        assert len(np.unique(together, axis=0)) == len(together)


def test_fingerprint_sees_values_and_shape():
    a = np.zeros((2, 3), np.float32)
    b = a.copy()
    b[0, 0] = 1
    assert len({fingerprint(a), fingerprint(b), fingerprint(a.T), fingerprint(a.astype(np.float64))}) == 4


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"there is no data set 'mnist', .* the names are digits, "):
        load_dataset("mnist")


@pytest.mark.parametrize(
    ("name", "num"), [("digits", 100), ("patches32", 6000), ("moons", 50), ("moons", 9000)]
)
def test_as_many_items_as_asked_for_and_the_same_held_out(name, num):
    whole, part, again = load_dataset(name), *(load_dataset(name, num_items=num) for _ in range(2))
    assert len(part.train) == num
    assert len(np.unique(part.train.reshape(num, -1), axis=0)) == num
    np.testing.assert_array_equal(part.heldout, whole.heldout)
    assert part.fingerprint == again.fingerprint != whole.fingerprint


def test_items_chosen_from_a_dataset_keep_their_labels():
    whole, part = load_dataset("digits"), load_dataset("digits", num_items=200)
    first = {image.tobytes(): label for image, label in zip(whole.train, whole.train_labels, strict=True)}
    assert [first[image.tobytes()] for image in part.train] == list(part.train_labels)
    assert len(set(part.train_labels)) == 10


@pytest.mark.parametrize(
    ("name", "num", "message"),
    [
        ("digits", 5000, "at most the 1442 training items of digits, got 5000"),
        ("patches32", 10**7, "crops of patches32"),
        ("moons", 0, "at least 1, got 0"),
    ],
)
def test_more_items_than_there_are(name, num, message):
    with pytest.raises(ValueError, match=message):
        load_dataset(name, num_items=num)
