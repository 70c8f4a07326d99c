"""Pictures: grids of samples, and the progress of a coupling."""

from pathlib import Path

import numpy as np

from loomfast._arrays import to_numpy
from loomfast.files import atomic


def save_image_grid(images, path, *, columns=None, zoom=None):
    """Write images (N, C, H, W) in [-1, 1], C = 1 or 3, as one PNG; returns its path.

    Args:
        columns: images in a row; a square grid by default.
        zoom: pixels on a side for every pixel of an image; by default small images are enlarged.
    """
    pixels = as_pixels(images)
    return _save_png(tile(pixels, columns), path, zoom or max(1, 32 // pixels.shape[1]))


def save_points(points, path):
    """Write a scatter plot of points (N, 2) as PNG; returns its path."""
    points = to_numpy(points)
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5, 5), dpi=120)
    axes.scatter(points[:, 0], points[:, 1], s=4, alpha=0.5, linewidths=0)
    axes.set_aspect("equal")
    return _save_figure(figure, path)


def save_samples(samples, path):
    """Write samples as one PNG: a grid of images, or a scatter plot of two-dimensional points."""
    return save_points(samples, path) if samples.ndim == 2 else save_image_grid(samples, path)


def save_trajectory(states, path):
    """Write the states (T, N, ...) of sampling paths as one PNG; returns its path.

    Images, as in the paper's Figures 13 to 16: a row for every sample, a column for every time. Points in the
    plane: a line for every sample, from a grey dot for the noise to a coloured one.
    """
    states = to_numpy(states)
    if states.ndim > 3:
        return save_image_grid(np.concatenate(states.swapaxes(0, 1)), path, columns=len(states))
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(5, 5), dpi=120)
    axes.plot(states[:, :, 0], states[:, :, 1], color="0.8", linewidth=0.5, zorder=0)
    for points, color in ((states[0], "0.5"), (states[-1], "C0")):
        axes.scatter(points[:, 0], points[:, 1], s=4, linewidths=0, color=color)
    axes.set_aspect("equal")
    return _save_figure(figure, path)


def save_image_files(states, folder, first):
    """Write sample k of states (T, N, C, H, W) into a folder as PNG number ``first + k``, 000000.png and on.

    A file holds its sample at every time, beside one another; with one time, the image and nothing else.
    """
    from PIL import Image

    for k, images in enumerate(to_numpy(states).swapaxes(0, 1)):
        Image.fromarray(tile(as_pixels(images), len(images))).save(Path(folder) / f"{first + k:06d}.png")


def save_coupling_figure(records, path):
    """Reassignments and cost of the coupling against training steps (the paper's Figures 9 and 10).

    Args:
        records: the entries of ``log.jsonl``.
        path: PNG to write.
    """
    plt = _pyplot()
    steps = np.array([r["step"] for r in records])
    swaps = np.array([r["swaps"] for r in records], dtype=float)
    cost = np.array([r["cost_after"] for r in records], dtype=float)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), dpi=120, layout="constrained")
    for axes, values, title in (
        (left, swaps, "reassignments in a minibatch"),
        (right, cost, "transport cost of a pair"),
    ):
        axes.plot(steps, values, color="0.8", linewidth=0.8)
        axes.plot(steps, moving_average(values), color="C0", linewidth=1.6)
        axes.set_xlabel("training step")
        axes.set_title(title)
    return _save_figure(figure, path)


def save_comparison(rows, path, *, columns_titles, title):
    """Pictures side by side: one row for each entry of ``rows``, one column for each title.

    Args:
        rows: {row title: [images (N, C, H, W) in [-1, 1], one array for each column]}.
        columns_titles: titles of the columns.
    """
    plt = _pyplot()
    shape = (len(rows), len(columns_titles))
    size = (2.3 * shape[1], 2.45 * shape[0] + 0.4)
    figure, grid = plt.subplots(*shape, figsize=size, dpi=120, squeeze=False, layout="constrained")
    for axes_row, (name, cells) in zip(grid, rows.items(), strict=True):
        for axes, heading, images in zip(axes_row, columns_titles, cells, strict=True):
            axes.imshow(tile(as_pixels(images)), interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_title(heading, fontsize=9)
        axes_row[0].set_ylabel(name)
    figure.suptitle(title, fontsize=10)
    return _save_figure(figure, path)


def as_pixels(images):
    """Return images (N, C, H, W) in [-1, 1] as (N, H, W, 3) uint8; values outside are clipped."""
    images = to_numpy(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must have shape (N, 1 or 3, H, W), got {images.shape}")
    pixels = np.clip((images + 1) * 127.5 + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels


def tile(pixels, columns=None):
    """Return images (N, H, W, 3) as one sheet, square by default, with a line of white between them."""
    count, height, width, channels = pixels.shape
    columns = columns or max(1, round(count**0.5))
    rows = -(-count // columns)
    frames = np.full((rows * columns, height + 1, width + 1, channels), 255, np.uint8)
    frames[:count, :-1, :-1] = pixels
    sheet = frames.reshape(rows, columns, height + 1, width + 1, channels).swapaxes(1, 2)
    return sheet.reshape(rows * (height + 1), columns * (width + 1), channels)[:-1, :-1]


def moving_average(values, decay=0.98):
    """Return the exponential moving average of values (N,), without the bias of its start."""
    average, weight, smooth = 0.0, 0.0, np.empty(len(values))
    for i, value in enumerate(values):
        average = decay * average + (1 - decay) * value
        weight = decay * weight + (1 - decay)
        smooth[i] = average / weight
    return smooth


def _save_png(sheet, path, zoom):
    from PIL import Image

    path = Path(path)
    picture = Image.fromarray(sheet)
    picture = picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        picture.save(aside, format="PNG")
    return path


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save_figure(figure, path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic(path) as aside:
        figure.savefig(aside, format="png")
    _pyplot().close(figure)
    return path
