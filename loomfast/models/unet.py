"""The ADM UNet (Dhariwal & Nichol 2021), with guided-diffusion's parameter names and shapes.

The names (``time_embed.0``, ``input_blocks.N.M.in_layers.0``, ``middle_block``, ``output_blocks``, ``out``)
are kept so that checkpoints trained with that architecture load. The forward pass is our own: attention
goes through torch's fused kernel, on tokens laid out channels last.
"""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from loomfast._arrays import check_integers, integer
from loomfast.models.conditions import check_conditions, check_told, embedded, embedding, takes_labels
from loomfast.models.outputs import check_end, check_score


@dataclass(frozen=True)
class UNetConfig:
    """The shape of a UNet; the paper's Table 4 has four of them."""

    image_size: int
    """Height and width of the input."""
    in_channels: int = 3
    """Channels of the input, and of the output."""
    model_channels: int = 128
    """Width of the first level; a multiple of num_groups."""
    num_res_blocks: int = 2
    """Residual blocks a level on the way down; one more on the way up."""
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level in units of model_channels; each has half the resolution of the one before."""
    attention_downsample: tuple[int, ...] = (2,)
    """Downsampling factors at which attention follows each residual block; 2 is half the resolution."""
    num_heads: int = 4
    """Attention heads, where num_head_channels is None."""
    num_head_channels: int | None = 64
    """Channels of an attention head."""
    dropout: float = 0.0
    """Dropout inside the residual blocks."""
    num_classes: int | None = None
    """Classes to condition on; None for a network without."""
    use_scale_shift_norm: bool = False
    """The embedding scales and shifts the second norm instead of being added before it."""
    resblock_updown: bool = False
    """Residual blocks resample instead of convolutions."""
    num_groups: int = 32
    """Groups of every group norm; small networks want fewer: a channel alone in its group loses the time."""
    activation_checkpointing: bool = False
    """Blocks are computed again in the backward pass instead of stored."""
    two_times: bool = False
    """A network of flow maps, which takes a second time; set by the training objective."""
    condition_dim: int | None = None
    """Numbers of a condition, a vector that an item has instead of a class; None for a network without."""
    field_channels: int | None = None
    """Channels of a field, an array of the image's height and width that an item has instead of a class, such
    as a mask or the picture to translate; None for a network without."""
    score_head: bool = False
    """A second output, the score, of a network of bridges; set by ``score`` of the training."""

    def __post_init__(self):
        check_integers(self)
        object.__setattr__(self, "channel_mult", tuple(self.channel_mult))
        object.__setattr__(self, "attention_downsample", tuple(self.attention_downsample))
        for name in ("channel_mult", "attention_downsample"):
            for factor in getattr(self, name):
                integer(factor, f"each factor in {name}", 1)
        if not self.channel_mult or min(self.channel_mult) < 1:
            raise ValueError(f"channel_mult must hold positive multiples, got {self.channel_mult}")
        names = ("image_size", "in_channels", "model_channels", "num_res_blocks", "num_heads", "num_groups")
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.num_head_channels is not None and self.num_head_channels < 1:
            raise ValueError(f"num_head_channels must be positive or None, got {self.num_head_channels}")
        check_conditions(self)
        if self.model_channels % self.num_groups:
            raise ValueError(
                f"model_channels must be a multiple of num_groups={self.num_groups}, "
                f"got {self.model_channels}"
            )
        if min(self.channel_mult) * self.model_channels == self.num_groups and not self.use_scale_shift_norm:
            raise ValueError(
                f"num_groups={self.num_groups} leaves one channel a group, whose norm would cancel the time "
                f"embedding: take fewer groups or more channels"
            )
        if self.num_res_blocks > 1024 or len(self.channel_mult) > self.image_size.bit_length():
            raise ValueError(
                f"num_res_blocks must be at most 1024 and channel_mult have fewer levels than halve "
                f"image_size={self.image_size}, got {self.num_res_blocks} and {len(self.channel_mult)} levels"
            )
        factors = [2**level for level in range(len(self.channel_mult))]
        if self.image_size % factors[-1]:
            raise ValueError(
                f"image_size must be divisible by {factors[-1]} for {len(factors)} levels, "
                f"got {self.image_size}"
            )
        if not set(self.attention_downsample) <= set(factors):
            raise ValueError(
                f"attention_downsample must hold downsampling factors among {factors}, "
                f"got {self.attention_downsample}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1), got {self.dropout}")
        self._check_heads(factors)

    def _check_heads(self, factors):
        with_attention = {self.channel_mult[factors.index(f)] for f in self.attention_downsample}
        for mult in with_attention | {self.channel_mult[-1]}:  # the middle block always attends
            channels = mult * self.model_channels
            size = self.num_head_channels or self.num_heads
            if channels % size:
                name = "num_head_channels" if self.num_head_channels else "num_heads"
                raise ValueError(
                    f"{name}={size} does not divide the {channels} channels of an attention level"
                )


def time_embedding(t, dim, max_period=10000.0):
    """Sinusoidal features of t: (B,) -> (B, dim) float32, the cosines first, then the sines.

    t in [0, 1] enters as it is, not multiplied by a number of steps. dim must be even.
    """
    half = dim // 2
    frequencies = torch.exp(
        torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(max_period) / half)
    )
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _zero(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


class Upsample(nn.Module):
    """Doubles the resolution (nearest neighbour), then convolves where ``conv`` is asked for."""

    def __init__(self, channels, conv):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1) if conv else nn.Identity()

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Downsample(nn.Module):
    """Halves the resolution by a strided convolution, or by averaging where ``conv`` is False."""

    def __init__(self, channels, conv):
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1) if conv else nn.AvgPool2d(2)

    def forward(self, x):
        return self.op(x)


class ResBlock(nn.Module):
    """A residual block: norm, SiLU, conv; the embedding enters; norm, SiLU, dropout, conv; plus the input."""

    def __init__(self, channels, out_channels, config, *, resample=None):
        super().__init__()
        self.scale_shift = config.use_scale_shift_norm
        self.in_layers = nn.Sequential(
            nn.GroupNorm(config.num_groups, channels),
            nn.SiLU(),
            nn.Conv2d(channels, out_channels, 3, padding=1),
        )
        self.resample = resample(channels, conv=False) if resample else nn.Identity()
        self.emb_layers = nn.Sequential(
            nn.SiLU(), nn.Linear(4 * config.model_channels, out_channels * (2 if self.scale_shift else 1))
        )
        self.out_layers = nn.Sequential(
            nn.GroupNorm(config.num_groups, out_channels),
            nn.SiLU(),
            nn.Dropout(config.dropout),
            _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        self.skip_connection = (
            nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)
        )

    def forward(self, x, emb):
        norm, act, conv = self.in_layers
        h = conv(self.resample(act(norm(x))))
        emb = self.emb_layers(emb)[:, :, None, None]
        norm, act, dropout, conv = self.out_layers
        if self.scale_shift:
            scale, shift = emb.chunk(2, dim=1)
            h = norm(h) * (1 + scale) + shift
        else:
            h = norm(h + emb)
        return self.skip_connection(self.resample(x)) + conv(dropout(act(h)))


class AttentionBlock(nn.Module):
    """Self-attention over all positions, heads split *before* q, k and v (guided-diffusion's first order)."""

    def __init__(self, channels, config):
        super().__init__()
        per_head = config.num_head_channels
        self.num_heads = channels // per_head if per_head else config.num_heads
        self.norm = nn.GroupNorm(config.num_groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = _zero(nn.Conv1d(channels, channels, 1))

    def forward(self, x):
        b, c, height, width = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 1).reshape(b, height * width, c)
        qkv = F.linear(tokens, self.qkv.weight[:, :, 0], self.qkv.bias)
        heads = qkv.view(b, height * width, self.num_heads, 3, c // self.num_heads)
        q, k, v = heads.permute(3, 0, 2, 1, 4)
        h = F.scaled_dot_product_attention(q, k, v)
        h = h.transpose(1, 2).reshape(b, height * width, c)
        h = F.linear(h, self.proj_out.weight[:, :, 0], self.proj_out.bias)
        return x + h.reshape(b, height, width, c).permute(0, 3, 1, 2)


class EmbedSequential(nn.Sequential):
    """A sequence whose residual blocks also receive the embedding."""

    def forward(self, x, emb):
        for layer in self:
            x = layer(x, emb) if isinstance(layer, ResBlock) else layer(x)
        return x


class UNet(nn.Module):
    """The velocity field v(x, t) or v(x, t, y). Its output convolution starts at zero.

    With ``two_times`` it is the average velocity v_{t,end}(x) of a flow map (`loomfast.flow_map`): the time
    from t to end is embedded like t and added to its embedding, by a layer that starts at zero. With
    ``score_head`` a second output gives the score of a bridge's points.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.model_channels
        self.time_embed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        first = config.channel_mult[0] * width
        if config.field_channels is not None:  # as if the field's channels were more of the input's
            self.field_in = nn.Conv2d(config.field_channels, first, 3, padding=1)
        elif takes_labels(config):
            self.label_emb = embedding(config, 4 * width)
        self.input_blocks, skips = _input_blocks(config)
        channels = config.channel_mult[-1] * width
        self.middle_block = EmbedSequential(
            ResBlock(channels, channels, config),
            AttentionBlock(channels, config),
            ResBlock(channels, channels, config),
        )
        self.output_blocks = _output_blocks(config, skips)
        self.out = _output(first, config)
        if config.two_times:  # last, so that all else starts as it does without it
            self.span_embed = nn.Sequential(
                nn.Linear(width, 4 * width), nn.SiLU(), _zero(nn.Linear(4 * width, 4 * width))
            )
        if config.score_head:
            self.score_out = _output(first, config)

    def forward(self, x, t, y=None, end=None, score=False):
        """x (B, in_channels, H, W), t (B,) in [0, 1], y as told or None -> velocity, x's shape.

        y: (B,) int64 labels, (B, c) floating-point conditions or (B, field_channels, H, W) fields; one of -1,
        or of NaN, is left out (classifier-free guidance).
        end: (B,) the times to average the velocity to, for a network of two times; None for t itself.
        score: return (velocity, score), for a network with a score head.
        Raises ValueError for another shape, for labels on an unconditional network, for none on a
        conditional one, for an end on a network of one time, and for a score that it does not have.
        """
        self._check(x, t, y)
        check_end(self.config, t, end)
        check_score(self.config, score)
        emb = self.time_embed(self._features(t))
        if self.config.two_times:
            emb = emb + self.span_embed(self._features(torch.zeros_like(t) if end is None else end - t))
        told = y is not None
        if told and self.config.field_channels is None:
            emb = emb + embedded(self.label_emb, y)
        skips = []
        h = x
        for block in self.input_blocks:
            h = self._run(block, h, emb)
            if told and not skips and self.config.field_channels is not None:
                h = h + embedded(self.field_in, y)
            skips.append(h)
        h = self._run(self.middle_block, h, emb)
        for block in self.output_blocks:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), emb)
        return (self.out(h), self.score_out(h)) if score else self.out(h)

    def _features(self, t):
        return time_embedding(t, self.config.model_channels).to(self.time_embed[0].weight.dtype)

    def _run(self, block, h, emb):
        if self.config.activation_checkpointing and self.training and torch.is_grad_enabled():
            return checkpoint(block, h, emb, use_reentrant=False)
        return block(h, emb)

    def _check(self, x, t, y):
        size = self.config.image_size
        if x.ndim != 4 or x.shape[1:] != (self.config.in_channels, size, size):
            raise ValueError(
                f"x must have shape (B, {self.config.in_channels}, {size}, {size}), got {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(f"x must be floating point, got {x.dtype}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t must have shape ({x.shape[0]},), one time an item, got {tuple(t.shape)}")
        check_told(self.config, x, y)


def _output(channels, config):
    """Return the last layers, from ``channels`` to an item; they start at zero."""
    return nn.Sequential(
        nn.GroupNorm(config.num_groups, channels),
        nn.SiLU(),
        _zero(nn.Conv2d(channels, config.in_channels, 3, padding=1)),
    )


def _input_blocks(config):
    """Return the blocks of the way down, and the channels each of them leaves for the way up."""
    channels = config.channel_mult[0] * config.model_channels
    blocks = nn.ModuleList([EmbedSequential(nn.Conv2d(config.in_channels, channels, 3, padding=1))])
    skips = [channels]
    for level, mult in enumerate(config.channel_mult):
        for _ in range(config.num_res_blocks):
            layers = [ResBlock(channels, mult * config.model_channels, config)]
            channels = mult * config.model_channels
            if 2**level in config.attention_downsample:
                layers.append(AttentionBlock(channels, config))
            blocks.append(EmbedSequential(*layers))
            skips.append(channels)
        if level < len(config.channel_mult) - 1:
            down = (
                ResBlock(channels, channels, config, resample=Downsample)
                if config.resblock_updown
                else Downsample(channels, conv=True)
            )
            blocks.append(EmbedSequential(down))
            skips.append(channels)
    return blocks, skips


def _output_blocks(config, skips):
    """Return the blocks of the way up, each of which takes the last output beside what the way down left."""
    skips = list(skips)
    channels = skips[-1]
    blocks = nn.ModuleList()
    for level in reversed(range(len(config.channel_mult))):
        out_channels = config.channel_mult[level] * config.model_channels
        for i in range(config.num_res_blocks + 1):
            layers = [ResBlock(channels + skips.pop(), out_channels, config)]
            channels = out_channels
            if 2**level in config.attention_downsample:
                layers.append(AttentionBlock(channels, config))
            if level and i == config.num_res_blocks:
                up = (
                    ResBlock(channels, channels, config, resample=Upsample)
                    if config.resblock_updown
                    else Upsample(channels, conv=True)
                )
                layers.append(up)
            blocks.append(EmbedSequential(*layers))
    return blocks
