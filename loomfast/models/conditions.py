"""What a network is told of an item beside the time: its class, a vector of numbers, a field, or nothing.

A field is an array with the height and width of the item, (C, H, W): a mask, a depth map, the picture that is
to be translated. An item without what it is told (classifier-free guidance, Ho and Salimans 2022) has the
label −1, or NaN in all its numbers; it adds nothing to the network.
"""

import torch
from torch import nn

CONDITIONS = ("num_classes", "condition_dim", "field_channels")


def check_conditions(config):
    """Raise ValueError unless a network's configuration has one kind of conditions or none, all positive."""
    given = [name for name in CONDITIONS if getattr(config, name, None) is not None]
    for name in given:
        if getattr(config, name) < 1:
            raise ValueError(f"{name} must be positive or None, got {getattr(config, name)}")
    if len(given) > 1:
        raise ValueError(f"a network takes {given[0]} or {given[1]}, not both")


def takes_labels(config):
    """Return whether a network of this configuration is told anything: classes, vectors or fields."""
    return any(getattr(config, name, None) is not None for name in CONDITIONS)


def condition_shape(config):
    """Return the shape of what one item has: () for a class, (c,) for a vector, (C, H, W) for a field.

    None for a network that is told nothing.
    """
    if getattr(config, "field_channels", None) is not None:
        return (config.field_channels, config.image_size, config.image_size)
    if config.condition_dim is not None:
        return (config.condition_dim,)
    return None if config.num_classes is None else ()


def embedding(config, width):
    """Return the layer that embeds the classes or vectors that ``config`` says, to ``width`` numbers."""
    if config.num_classes is not None:
        return nn.Embedding(config.num_classes, width)
    return nn.Linear(config.condition_dim, width)


def embedded(layer, y):
    """Return what a layer makes of labels (B,) int64 or conditions (B, ...); of an item without one 0."""
    if isinstance(layer, nn.Embedding):
        return layer(y.clamp(min=0)) * (y >= 0)[:, None]
    missing = torch.isnan(y)
    known = ~missing.flatten(1).any(dim=1)
    inside = layer(torch.where(missing, 0.0, y).to(layer.weight.dtype))
    return inside * known.view(-1, *[1] * (inside.ndim - 1))


def check_told(config, x, y):
    """Raise ValueError unless y is what the network takes: labels (B,), conditions (B, ...), or None."""
    shape = condition_shape(config)
    if (y is None) != (shape is None):
        takes = {
            0: f"{config.num_classes} classes",
            1: f"{config.condition_dim} numbers",
            3: f"fields {shape}",
        }
        takes = "no labels" if shape is None else takes[len(shape)]
        raise ValueError(f"this network takes {takes}, got y={'None' if y is None else 'labels'}")
    if y is None:
        return
    if shape and (y.shape != (len(x), *shape) or not y.is_floating_point()):
        raise ValueError(
            f"y must have shape {(len(x), *shape)}, floating point, got {tuple(y.shape)} {y.dtype}"
        )
    if not shape and y.shape != x.shape[:1]:
        raise ValueError(f"y must have shape ({x.shape[0]},), one label an item, got {tuple(y.shape)}")
