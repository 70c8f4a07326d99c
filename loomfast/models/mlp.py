"""A small multilayer perceptron for data that are vectors, such as the two-dimensional toys."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from loomfast._arrays import check_integers


@dataclass(frozen=True)
class MLPConfig:
    """The shape of an MLP."""

    dim: int = 2
    """Length of a data vector."""
    width: int = 128
    """Units of a hidden layer."""
    depth: int = 3
    """Hidden layers."""
    num_classes: int | None = None
    """Classes to condition on; None for an unconditional network."""

    def __post_init__(self):
        check_integers(self)
        for name in ("dim", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.depth > 1024:
            raise ValueError(f"depth must be at most 1024, got {self.depth}")
        if self.num_classes is not None and self.num_classes < 1:
            raise ValueError(f"num_classes must be positive or None, got {self.num_classes}")


class MLP(nn.Module):
    """The velocity field v(x, t) or v(x, t, y) of vectors; t enters as one more coordinate."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        sizes = [config.dim + 1] + [config.width] * config.depth
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.width)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(config.width, config.dim)

    def forward(self, x, t, y=None):
        """x (B, dim), t (B,) in [0, 1], y (B,) int64 labels or None -> velocity (B, dim).

        A label of -1 means no label. Raises ValueError for another shape, for labels on an unconditional
        network, and for none on a conditional one.
        """
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x must have shape (B, {self.config.dim}), got {tuple(x.shape)}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one time an item, got {tuple(t.shape)}")
        if (y is None) != (self.config.num_classes is None):
            takes = "no labels" if self.config.num_classes is None else f"{self.config.num_classes} classes"
            raise ValueError(f"this network takes {takes}, got y={'None' if y is None else 'labels'}")
        h = self.hidden[0](torch.cat([x, t[:, None].to(x.dtype)], dim=1))
        if y is not None:
            h = h + self.label_emb(y.clamp(min=0)) * (y >= 0)[:, None]
        h = nn.functional.silu(h)
        for layer in self.hidden[1:]:
            h = nn.functional.silu(layer(h))
        return self.out(h)
