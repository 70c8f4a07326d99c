"""Pictures of every kind are what a viewer shows, or refused; folders of the system are no classes."""

import numpy as np
import pytest
from damage import mutations
from PIL import Image

from loomfast.cli import main
from loomfast.data import load_dataset
from loomfast.data.images import read_image

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
RGB = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)


def saved(image, path, **options):
    image.save(path, **options)
    return path


def test_sixteen_bits_are_rounded_to_eight(tmp_path):
    values = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1040
    expected = np.round(values / 257)[..., None].repeat(3, axis=2)
    for name in ("a.png", "a.ppm"):
        np.testing.assert_array_equal(read_image(saved(Image.fromarray(values), tmp_path / name)), expected)


def test_palettes_grey_and_black_and_white(tmp_path):
    palette = Image.fromarray(RGB).quantize(16)
    np.testing.assert_array_equal(read_image(saved(palette, tmp_path / "p.png")), palette.convert("RGB"))
    np.testing.assert_array_equal(
        read_image(saved(Image.fromarray(GREY), tmp_path / "l.png")), GREY[..., None].repeat(3, axis=2)
    )
    bits = read_image(saved(Image.fromarray(GREY > 100), tmp_path / "b.png"))
    np.testing.assert_array_equal(bits[..., 0], 255 * (GREY > 100))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "palette", "colour"])
def test_what_is_transparent_is_white(mode, tmp_path):
    options = {}
    if mode in ("RGBA", "LA"):
        image = Image.fromarray(RGB).convert(mode)
        image.putalpha(Image.fromarray(np.where(GREY < 100, 0, 255).astype(np.uint8)))
        hidden = GREY < 100
    else:
        indices = (np.arange(64, dtype=np.uint8) % 4).reshape(8, 8)
        image = Image.fromarray(indices)
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        hidden = indices == 1
        options = {"transparency": 1}
        if mode == "colour":
            image, options = image.convert("RGB"), {"transparency": (200, 0, 0)}
    shown = np.array(image.convert("RGB"))
    shown[hidden] = 255
    np.testing.assert_array_equal(read_image(saved(image, tmp_path / "a.png", **options)), shown)


def test_half_of_an_alpha_lets_half_of_the_white_through(tmp_path):
    image = Image.fromarray(RGB)
    image.putalpha(128)
    found = read_image(saved(image, tmp_path / "a.png"))
    np.testing.assert_allclose(found, 255 + (RGB - 255.0) * 128 / 255, atol=1)


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    found = read_image(saved(image, tmp_path / "a.jpg", quality=100))
    assert np.abs(found.astype(int) - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright(orientation, tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:4, :8] = 255  # top left
    # How a camera that was held so stores it (EXIF 2.3, 4.6.4): what undoes it is what a viewer does.
    stored = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels),
        7: np.rot90(pixels, 2).transpose(1, 0, 2),
        8: np.rot90(pixels, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(Image.fromarray(np.ascontiguousarray(stored)), tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(path), pixels)


def test_pictures_that_are_too_large_or_of_another_format_are_refused(tmp_path):
    for width, message in ((3000, r"it claims 3000 x 8000 pixels in \d+ bytes"), (20_000, "exceeds limit")):
        blank = saved(Image.new("1", (width, 8000)), tmp_path / "blank.png")
        with pytest.raises(ValueError, match=rf"blank\.png is no image that can be read: .*{message}"):
            read_image(blank)
    for name, options in (("a.gif", {"format": "GIF"}), ("b.eps", {"format": "EPS"})):
        path = tmp_path / f"{name}.png"
        Image.fromarray(RGB).save(path, **options)
        with pytest.raises(ValueError, match=r"is no image that can be read"):
            read_image(path)


def test_folders_of_the_system_are_no_classes(tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i in range(10):
            saved(Image.fromarray(RGB), tmp_path / name / f"{i}.png")
    expected = load_dataset(tmp_path)
    for name in (".ipynb_checkpoints", "@eaDir", "__MACOSX", "cat/.thumbnails", "dog/@eaDir"):
        (tmp_path / name).mkdir()
        saved(Image.fromarray(RGB), tmp_path / name / "0.png")
    for name in ("Thumbs.db", ".DS_Store", "._0.png", "cat/._0.png", "cat/Thumbs.db"):
        (tmp_path / name).write_bytes(b"of the system")
    (tmp_path / "dog" / "folder.png").mkdir()
    found = load_dataset(tmp_path)
    assert found.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(found.train_labels, expected.train_labels)


def test_a_damaged_picture_in_a_folder_is_named(tmp_path, capsys):
    for i in range(10):
        saved(Image.fromarray(RGB), tmp_path / f"{i}.png")
    content = (tmp_path / "3.png").read_bytes()
    for damaged in list(mutations(content, 3, 40))[:10]:
        (tmp_path / "3.png").write_bytes(damaged)
        code = main(["couple", str(tmp_path), "--out", str(tmp_path / "a.safetensors")])
        errors = capsys.readouterr().err.splitlines()
        if code:
            assert code == 2
            assert len(errors) == 1
            assert "3.png" in errors[0]
