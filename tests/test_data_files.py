"""Data from files: what is read, and that whatever does not fit is named and nothing is unpickled."""

import numpy as np
import pytest
from PIL import Image

from loomfast.data import load_dataset


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def write_cifar(directory, rng, sizes=(4, 3), num_test=2):
    directory.mkdir(exist_ok=True)
    batches = {}
    for name, num in [(f"data_batch_{i + 1}", n) for i, n in enumerate(sizes)] + [("test_batch", num_test)]:
        records = rng.integers(256, size=(num, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        records.tofile(directory / f"{name}.bin")
        batches[name] = records
    return batches


def test_cifar10_binary_files(tmp_path, rng):
    batches = write_cifar(tmp_path, rng)
    data = load_dataset(tmp_path)
    assert data.train.shape == (7, 3, 32, 32)
    assert data.heldout.shape == (2, 3, 32, 32)
    np.testing.assert_array_equal(data.train_labels[4:], batches["data_batch_2"][:, 0])
    np.testing.assert_array_equal(data.heldout_labels, batches["test_batch"][:, 0])
    # A record is the label, then the red, green and blue planes, row by row.
    pixel = batches["data_batch_1"][2, 1 + 1024 + 32 * 5 + 7]
    assert data.train[2, 1, 5, 7] == pytest.approx(pixel / 127.5 - 1, abs=1e-6)


def test_damaged_cifar10_is_named(tmp_path, rng):
    write_cifar(tmp_path, rng)
    (tmp_path / "data_batch_2.bin").write_bytes(b"x" * 5000)
    with pytest.raises(ValueError, match=r"data_batch_2\.bin must hold records of 3073 bytes, it has 5000"):
        load_dataset(tmp_path)
    (tmp_path / "data_batch_2.bin").write_bytes(bytes([11]) * 3073)
    with pytest.raises(ValueError, match=r"data_batch_2\.bin is not of CIFAR-10: it has a label 11"):
        load_dataset(tmp_path)
    (tmp_path / "data_batch_2.bin").unlink()
    (tmp_path / "test_batch.bin").unlink()
    with pytest.raises(ValueError, match=r"test_batch\.bin is missing"):
        load_dataset(tmp_path)


def write_images(directory, rng, num, size=(6, 6), suffix=".png"):
    directory.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(256, size=(num, size[1], size[0], 3), dtype=np.uint8)
    for i in range(num):
        Image.fromarray(pixels[i]).save(directory / f"{i:03}{suffix}")
    return pixels


def test_image_folder_holds_out_every_tenth(tmp_path, rng):
    pixels = write_images(tmp_path, rng, 20)
    data = load_dataset(tmp_path)
    assert data.train.shape == (18, 3, 6, 6)
    assert data.train_labels is None
    np.testing.assert_allclose(data.heldout, pixels[[9, 19]].transpose(0, 3, 1, 2) / 127.5 - 1, atol=1e-6)


def test_image_folder_with_classes(tmp_path, rng):
    for name in ("cat", "bird"):
        write_images(tmp_path / name, rng, 10)
    data = load_dataset(tmp_path)
    np.testing.assert_array_equal(data.train_labels, [0] * 9 + [1] * 9)
    np.testing.assert_array_equal(data.heldout_labels, [0, 1])


def test_image_folder_with_its_own_split(tmp_path, rng):
    write_images(tmp_path / "train" / "a", rng, 3)
    write_images(tmp_path / "train" / "b", rng, 2)
    write_images(tmp_path / "test" / "b", rng, 2)
    data = load_dataset(tmp_path)
    np.testing.assert_array_equal(data.train_labels, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(data.heldout_labels, [1, 1])


def test_images_are_cropped_and_resized_when_asked(tmp_path):
    for i in range(10):
        image = np.zeros((8, 16, 3), dtype=np.uint8)
        image[:, 4:12] = 255  # the centre square is white, the sides are black
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    data = load_dataset(tmp_path, image_size=4)
    assert data.train.shape == (9, 3, 4, 4)
    assert np.all(data.train == 1)
    with pytest.raises(ValueError, match=r"0\.png is 16 x 8: all images must be squares of one size"):
        load_dataset(tmp_path)


def test_image_folders_that_do_not_fit_are_named(tmp_path, rng):
    with pytest.raises(ValueError, match="holds no images"):
        load_dataset(tmp_path)
    write_images(tmp_path, rng, 9)
    with pytest.raises(ValueError, match="holds 9 items; to hold out every tenth"):
        load_dataset(tmp_path)
    write_images(tmp_path / "dog", rng, 2)
    with pytest.raises(ValueError, match="both in class folders and outside"):
        load_dataset(tmp_path)
    (tmp_path / "005.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match=r"005\.png is no image that can be read"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("shape", [(20, 5, 5), (20, 5, 5, 1), (20, 1, 5, 5)])
def test_npy_of_bytes_are_images(tmp_path, rng, shape):
    pixels = rng.integers(256, size=shape, dtype=np.uint8)
    np.save(tmp_path / "images.npy", pixels)
    data = load_dataset(tmp_path / "images.npy")
    expected = pixels.reshape(20, 1, 5, 5) / 127.5 - 1
    np.testing.assert_allclose(data.train, np.delete(expected, [9, 19], axis=0), atol=1e-6)
    np.testing.assert_allclose(data.heldout, expected[[9, 19]], atol=1e-6)


def test_npy_of_floats_is_taken_as_it_is(tmp_path, rng):
    items = rng.standard_normal((30, 7))
    np.save(tmp_path / "points.npy", items)
    data = load_dataset(str(tmp_path / "points.npy"))
    np.testing.assert_array_equal(data.heldout, items[9::10].astype(np.float32))


def test_npz_with_a_split_and_labels(tmp_path, rng):
    train, heldout = rng.standard_normal((5, 2, 4, 4)), rng.standard_normal((3, 2, 4, 4))
    labels = {"train_labels": np.arange(5), "heldout_labels": np.arange(3, dtype=np.uint8)}
    np.savez(tmp_path / "a.npz", train=train, heldout=heldout, **labels)
    data = load_dataset(tmp_path / "a.npz", image_size=4)
    np.testing.assert_array_equal(data.train, train.astype(np.float32))
    np.testing.assert_array_equal(data.heldout, heldout.astype(np.float32))
    np.testing.assert_array_equal(data.train_labels, np.arange(5))
    assert data.heldout_labels.dtype == np.int64
    with pytest.raises(ValueError, match=r"items have shape \(2, 4, 4\), this needs 8 x 8 images"):
        load_dataset(tmp_path / "a.npz", image_size=8)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((20, 2))}, "one of images, latents, data; it holds pictures"),
        ({"train": np.zeros((5, 2)), "heldout": np.zeros((5, 3))}, "differ in shape"),
        ({"images": np.full((20, 2), np.inf)}, "images holds values that are not finite"),
        ({"images": np.zeros((20, 2), dtype=np.int64)}, "must be uint8 or floating point, got int64"),
        ({"images": np.zeros(20)}, r"images must be \(N, ...\)"),
        ({"images": np.zeros((20, 2)), "labels": np.zeros(19, int)}, "labels must be 20 integers"),
        ({"images": np.zeros((20, 2)), "labels": np.zeros(20)}, "labels must be 20 integers"),
    ],
)
def test_npz_that_do_not_fit_are_named(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        load_dataset(tmp_path / "a.npz")


class Payload:
    """Would write a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_nothing_is_unpickled(tmp_path):
    objects = np.array([Payload(tmp_path / "ran")], dtype=object)
    np.save(tmp_path / "a.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "a.npz", images=objects)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(ValueError, match="without unpickling"):
            load_dataset(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_hdf5_latents_are_scaled(tmp_path, rng):
    h5py = pytest.importorskip("h5py", reason="h5py comes with loomfast[data]")
    latents = rng.standard_normal((20, 4, 8, 8)).astype(np.float16)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["latents"] = latents
        file["latents"].attrs["scale_factor"] = 0.18215
        file["labels"] = np.arange(20)
    data = load_dataset(tmp_path / "a.h5")
    np.testing.assert_allclose(data.heldout, latents[9::10].astype(np.float64) * 0.18215, rtol=1e-6)
    np.testing.assert_array_equal(data.heldout_labels, [9, 19])
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["latents"].attrs["scale_factor"] = -1.0
    with pytest.raises(ValueError, match="scale_factor positive"):
        load_dataset(tmp_path / "a.h5")
    (tmp_path / "b.hdf5").write_bytes(b"not HDF5")
    with pytest.raises(ValueError, match=r"b\.hdf5 is no HDF5 file"):
        load_dataset(tmp_path / "b.hdf5")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"a data file must end in \.npy, \.npz, \.h5, \.hdf5"):
        load_dataset(tmp_path / "a.csv")
    np.savez(tmp_path / "cut.npz", images=np.zeros((20, 2)))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut\.npz is no NumPy file"):
        load_dataset(tmp_path / "cut.npz")
    (tmp_path / "a.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.npy is no NumPy file"):
        load_dataset(tmp_path / "a.npy")
