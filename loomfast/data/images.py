"""Pictures of a folder as arrays: which files count, and what is made of each.

Folders and files of the system are passed over: whatever begins with a dot (``.ipynb_checkpoints``,
``._001.png``), and those in `SYSTEM`. A picture is turned as its EXIF orientation says; 16 bits a channel are
rounded to 8; colours behind an alpha channel lie on white; palettes, grey and CMYK become RGB. What cannot be
shown so, and what claims more pixels than its file can hold, is refused by name.
"""

import io
import warnings
from contextlib import suppress

import numpy as np

from loomfast.extras import need
from loomfast.files import readable

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")  # of Pillow; others may start other programs
HELDOUT_FOLDERS = ("heldout", "test", "val", "validation")
SYSTEM = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found")
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {  # its values, as names of Pillow's Transpose
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_PIXELS_UNASKED, _PIXELS_A_BYTE = 1 << 24, 1000  # a picture may have the first, or the second for its bytes


def split_folders(directory):
    """Return the folders (train, heldout) of a directory that brings its own split, else (None, None)."""
    held = [directory / name for name in HELDOUT_FOLDERS if (directory / name).is_dir()]
    return (directory / "train", held[0]) if (directory / "train").is_dir() and held else (None, None)


def class_names(*roots):
    """Return the names of the folders in these folders, in alphabetical order, but for the system's own."""
    return sorted({p.name for root in roots for p in root.iterdir() if p.is_dir() and not _systems(p.name)})


def load_images(root, classes, image_size, size=None):
    """Return the images under ``root``, sorted by path: (N, 3, H, W) float32, and labels (N,) or None."""
    paths = image_paths(root)
    if not paths:
        raise ValueError(f"{root} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    size = (image_size, image_size) if image_size else size
    images = None
    for i, path in enumerate(paths):
        image = read_image(path, image_size)
        size = size or image.shape[:2]
        if image.shape[:2] != size or size[0] != size[1]:
            raise ValueError(
                f"{path} is {image.shape[1]} x {image.shape[0]}: all images must be squares of one size, or "
                "name an image size to crop and resize them to"
            )
        if images is None:
            images = np.empty((len(paths), 3, *size), dtype=np.float32)
        images[i] = as_unit_range(image).transpose(2, 0, 1)
    labels = [
        classes.index(p.relative_to(root).parts[0]) for p in paths if len(p.relative_to(root).parts) > 1
    ]
    if labels and len(labels) < len(paths):
        raise ValueError(f"{root} has images both in class folders and outside of them")
    return images, np.array(labels) if labels else None


def image_paths(root):
    """Return the paths of the images under ``root``, sorted."""
    return sorted(p for p in root.rglob("*") if _is_image(p, root))


def read_image(path, image_size=None):
    """Return a picture as (H, W, 3) uint8; with image_size its centre square, resized by area averaging."""
    image_module = need("PIL.Image", "train")
    with readable(path, "is no image that can be read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of metadata that is not looked at
        warnings.simplefilter("error", image_module.DecompressionBombWarning)
        content = path.read_bytes()  # where a length that is only claimed is cut off by the end
        with image_module.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_pixels(image.size, len(content))
            return np.array(_squared(_upright(_as_rgb(image), image), image_size))


def channels_first(images):
    """Return uint8 images (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W)."""
    if images.ndim == 3:
        return images[:, None]
    if images.ndim == 4 and images.shape[3] in (1, 3, 4) and images.shape[1] not in (1, 3, 4):
        return images.transpose(0, 3, 1, 2)
    return images


def as_unit_range(values):
    """Return uint8 values, 0 to 255, as float32 in [-1, 1]."""
    return values.astype(np.float32) / np.float32(127.5) - 1


def _systems(name):
    return name.startswith(".") or name in SYSTEM


def _is_image(path, root):
    own = not any(_systems(part) for part in path.relative_to(root).parts)
    return own and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def _check_pixels(size, num_bytes):
    pixels = size[0] * size[1]
    if pixels > max(_PIXELS_UNASKED, _PIXELS_A_BYTE * num_bytes):
        raise ValueError(f"it claims {size[0]} x {size[1]} pixels in {num_bytes} bytes")


def _as_rgb(image):
    image_module = need("PIL.Image", "train")
    if image.mode.startswith("I"):  # one channel of 16 bits, which Pillow would cut off at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError(f"it has values from {values.min()} to {values.max()}, not 16 bits")
        return image_module.fromarray(((values + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating point: write it with 8 or 16 bits")
    if "transparency" in image.info or image.mode in ("LA", "PA", "RGBA"):
        image = image.convert("RGBA")
        white = image_module.new("RGBA", image.size, "white")
        return image_module.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _upright(rgb, image):
    """Return the picture turned as the EXIF orientation of the file says, if that can be read."""
    turn = None
    with suppress(Exception):
        turn = _TURNS.get(image.getexif().get(_ORIENTATION))
    return rgb if turn is None else rgb.transpose(getattr(need("PIL.Image", "train").Transpose, turn))


def _squared(image, image_size):
    if not image_size:
        return image
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    return image.resize((image_size, image_size), need("PIL.Image", "train").Resampling.BOX, box=box)
