"""A small multilayer perceptron for data that are vectors, such as the two-dimensional toys."""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from loomfast._arrays import check_integers
from loomfast.models.conditions import check_conditions, check_told, embedded, embedding, takes_labels
from loomfast.models.outputs import check_end, check_score


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
    """Classes to condition on; None for a network without."""
    two_times: bool = False
    """A network of flow maps, which takes a second time; set by the training objective."""
    condition_dim: int | None = None
    """Numbers of a condition, a vector that an item has instead of a class; None for a network without."""
    score_head: bool = False
    """A second output, the score, of a network of bridges; set by ``score`` of the training."""

    def __post_init__(self):
        check_integers(self)
        for name in ("dim", "width", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.depth > 1024:
            raise ValueError(f"depth must be at most 1024, got {self.depth}")
        check_conditions(self)


class MLP(nn.Module):
    """The velocity field v(x, t) or v(x, t, y) of vectors; t enters as one more coordinate.

    With ``two_times`` it is the average velocity v_{t,end}(x) of a flow map (`loomfast.flow_map`); the time
    from t to end enters the first layer with weights that start at zero. With ``score_head`` a second last
    layer, which starts at zero, gives the score of a bridge's points.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        sizes = [config.dim + 1] + [config.width] * config.depth
        if takes_labels(config):
            self.label_emb = embedding(config, config.width)
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.out = nn.Linear(config.width, config.dim)
        if config.two_times:  # last, so that all else starts as it does without it
            self.span_embed = nn.Linear(1, config.width, bias=False)
            nn.init.zeros_(self.span_embed.weight)
        if config.score_head:
            self.score_out = nn.Linear(config.width, config.dim)
            nn.init.zeros_(self.score_out.weight)
            nn.init.zeros_(self.score_out.bias)

    def forward(self, x, t, y=None, end=None, score=False):
        """x (B, dim), t (B,) in [0, 1], y as told or None -> velocity (B, dim).

        y: (B,) int64 labels or (B, c) floating-point conditions; one of -1, or of NaN, is left out. end: (B,)
        the times to average the velocity to, for a network of two times; None for t itself. score: return
        (velocity, score), for a network with a score head. Raises ValueError for another shape, for labels on
        an unconditional network, for none on a conditional one, for an end on a network of one time, and for
        a score that it does not have.
        """
        if x.ndim != 2 or x.shape[1] != self.config.dim:
            raise ValueError(f"x must have shape (B, {self.config.dim}), got {tuple(x.shape)}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one time an item, got {tuple(t.shape)}")
        check_told(self.config, x, y)
        check_end(self.config, t, end)
        check_score(self.config, score)
        h = self.hidden[0](torch.cat([x, t[:, None].to(x.dtype)], dim=1))
        if self.config.two_times:
            span = torch.zeros_like(t) if end is None else end - t
            h = h + self.span_embed(span[:, None].to(x.dtype))
        if y is not None:
            h = h + embedded(self.label_emb, y)
        h = nn.functional.silu(h)
        for layer in self.hidden[1:]:
            h = nn.functional.silu(layer(h))
        return (self.out(h), self.score_out(h)) if score else self.out(h)
