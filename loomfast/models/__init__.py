"""Networks: the ADM UNet, a small MLP for two-dimensional toys, and the moving average of weights."""

import torch

from loomfast._defaults import plain_defaults
from loomfast.models.ema import ema_decay, ema_update
from loomfast.models.mlp import MLP, MLPConfig
from loomfast.models.unet import UNet, UNetConfig

__all__ = [
    "build",
    "classes_in_turn",
    "item_shape",
    "UNet",
    "UNetConfig",
    "MLP",
    "MLPConfig",
    "ema_update",
    "ema_decay",
]


def build(config, device="cpu"):
    """The network of a configuration: a ``UNet`` for a ``UNetConfig``, an ``MLP`` for an ``MLPConfig``.

    Every network takes ``(x, t, y=None)`` and returns the velocity, of x's shape. Its initial weights come
    from torch's global generator; a UNet's are laid out channels last, which its convolutions prefer. They
    are float32 and on ``device`` ("meta" for shapes alone), whatever torch's defaults are. Raises TypeError
    for anything else.
    """
    with plain_defaults(device):
        if isinstance(config, UNetConfig):
            return UNet(config).to(memory_format=torch.channels_last)
        if isinstance(config, MLPConfig):
            return MLP(config)
    raise TypeError(f"config must be a UNetConfig or an MLPConfig, got {type(config).__name__}")


def item_shape(config):
    """Return the shape of one item that a network of this configuration takes: (C, H, W), or (dim,)."""
    if isinstance(config, UNetConfig):
        return (config.in_channels, config.image_size, config.image_size)
    return (config.dim,)


def classes_in_turn(config, num):
    """Return the classes of samples 0 to num - 1, all in turn: (num,) int64, or None where there are none."""
    return None if config.num_classes is None else torch.arange(num, device="cpu") % config.num_classes
