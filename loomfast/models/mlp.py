"""A small multilayer perceptron for data that are vectors, such as the two-dimensional toys."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from loomfast._arrays import check_integers
from loomfast.models.times import check_end


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
    two_times: bool = False
    """A network of flow maps, which takes a second time; set by the training objective."""

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
    """The velocity field v(x, t) or v(x, t, y) of vectors; t enters as one more coordinate.

    With ``two_times`` it is the average velocity v_{t,end}(x) of a flow map (`loomfast.flow_map`); the time
    from t to end enters the first layer with weights that start at zero.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        sizes = [config.dim + 1] + [config.width] * config.depth
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.width)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(config.width, config.dim)
        if config.two_times:  # last, so that all else starts as it does without it
            self.span_embed = nn.Linear(1, config.width, bias=False)
            nn.init.zeros_(self.span_embed.weight)

    def forward(self, x, t, y=None, end=None):
        """x (B, dim), t (B,) in [0, 1], y (B,) int64 labels or None -> velocity (B, dim).

        A label of -1 means no label. end: (B,) the times to average the velocity to, for a network of two
        times; None for t itself. Raises ValueError for another shape, for labels on an unconditional network,
        for none on a conditional one, and for an end on a network of one time.
        """
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x must have shape (B, {self.config.dim}), got {tuple(x.shape)}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one time an item, got {tuple(t.shape)}")
        if (y is None) != (self.config.num_classes is None):
            takes = "no labels" if self.config.num_classes is None else f"{self.config.num_classes} classes"
            raise ValueError(f"this network takes {takes}, got y={'None' if y is None else 'labels'}")
        check_end(self.config, t, end)
        h = self.hidden[0](torch.cat([x, t[:, None].to(x.dtype)], dim=1))
        if self.config.two_times:
            span = torch.zeros_like(t) if end is None else end - t
            h = h + self.span_embed(span[:, None].to(x.dtype))
        if y is not None:
            h = h + self.label_emb(y.clamp(min=0)) * (y >= 0)[:, None]
        h = nn.functional.silu(h)
        for layer in self.hidden[1:]:
            h = nn.functional.silu(layer(h))
        return self.out(h)
