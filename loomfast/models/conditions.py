"""What a network is told of an item beside the time: its class, a vector of numbers, or nothing.

An item without it (classifier-free guidance, Ho and Salimans 2022) has the label −1, or a vector of NaN; it
adds nothing to the embedding of the time.
"""

import torch
from torch import nn


def check_conditions(config):
    """Raise ValueError unless a network's configuration has classes, conditions, or neither, all positive."""
    for name in ("num_classes", "condition_dim"):
        value = getattr(config, name)
        if value is not None and value < 1:
            raise ValueError(f"{name} must be positive or None, got {value}")
    if config.num_classes is not None and config.condition_dim is not None:
        raise ValueError("a network takes num_classes or condition_dim, not both")


def takes_labels(config):
    """Return whether a network of this configuration is told anything: classes or vectors."""
    return config.num_classes is not None or config.condition_dim is not None


def embedding(config, width):
    """Return the layer that embeds what ``config`` says the network is told, to ``width`` numbers."""
    if config.num_classes is not None:
        return nn.Embedding(config.num_classes, width)
    return nn.Linear(config.condition_dim, width)


def embedded(layer, y):
    """Return the embedding (B, width) of labels (B,) int64 or conditions (B, c); of those without one 0."""
    if isinstance(layer, nn.Embedding):
        return layer(y.clamp(min=0)) * (y >= 0)[:, None]
    known = ~torch.isnan(y).any(dim=1, keepdim=True)
    return layer(torch.where(known, y, 0.0).to(layer.weight.dtype)) * known


def check_told(config, x, y):
    """Raise ValueError unless y is what the network takes: (B,) labels, (B, c) conditions, or None."""
    size = config.condition_dim
    if (y is None) == takes_labels(config):
        takes = (
            "no labels" if y is not None else f"{size} numbers" if size else f"{config.num_classes} classes"
        )
        raise ValueError(f"this network takes {takes}, got y={'None' if y is None else 'labels'}")
    if y is None:
        return
    if size and (y.shape != (len(x), size) or not y.is_floating_point()):
        raise ValueError(
            f"y must have shape ({len(x)}, {size}), floating point, got {tuple(y.shape)} {y.dtype}"
        )
    if not size and y.shape != x.shape[:1]:
        raise ValueError(f"y must have shape ({x.shape[0]},), one label an item, got {tuple(y.shape)}")
