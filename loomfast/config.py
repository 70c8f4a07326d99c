"""Configuration: frozen dataclasses, and a flat table of presets."""

import dataclasses
import json
from dataclasses import dataclass, field
from types import UnionType
from typing import Annotated, Literal, Union, get_args, get_origin, get_type_hints

from typing_extensions import Doc

from loomfast._arrays import MOST_THREADS, check_integers, integer
from loomfast.coupling.build import COUPLINGS
from loomfast.flow_map import FlowMapConfig, Kind
from loomfast.models import MLPConfig, UNetConfig
from loomfast.models.conditions import takes_labels

_PARTS = tuple(name for name, kind in COUPLINGS.items() if name != "mixed" and not kind.chooses_items)
# tyro keeps a line that begins with a dash.
_METHODS = "".join(f"\n- {name}: {kind.summary}" for name, kind in COUPLINGS.items())


@dataclass(frozen=True)
class CouplingConfig:
    """How data are coupled with noise."""

    method: Annotated[Literal[*COUPLINGS], Doc(_METHODS)] = "loom"
    num_caches: int = 4
    """loom: noises an item holds (paper, Section 3.2)."""
    metric: Literal["sqeuclidean", "euclidean"] = "sqeuclidean"
    """Transport cost of a pair, for all that look at it."""
    init: str = ""
    """loom, semidiscrete: file to start from, as written by `loomfast couple`."""
    pairs: str = ""
    """paired: file of the ends that items are paired with, .npy or as of loomfast.coupling.write_pairs."""
    source: str = ""
    """Couplings with new noise: .npy file of items at the other end of the flow, instead of noise."""
    replace: bool = False
    """minibatch-ot, sinkhorn: draw the pairs of a batch from its plan with replacement, as OT-CFM does."""
    epsilon: float = 0.05
    """sinkhorn, partial, unbalanced: entropic regularisation, as a share of a batch's mean cost."""
    mass: float = 0.9
    """partial: share of the mass that is transported."""
    marginal_weight: float = 1.0
    """unbalanced: penalty of the marginals, in units of the mean cost."""
    groups: int = 4
    """hierarchical: groups that a batch is divided into."""
    candidates: int = 4
    """nearest: noises an item has to choose from."""
    target_ratio: float = 0.05
    """conditional, loom-conditional: where label_weight is 0, share of a batch's pairs that stay candidates
    (C2OT's r); for labels conditional keeps noises within their class instead."""
    condition_metric: Literal["cosine", "sqeuclidean"] = "cosine"
    """conditional, loom-conditional: distance of continuous conditions."""
    by_class: bool = False
    """semidiscrete: prices for each class, so that noise and class are independent; needs labels."""
    mixed_first: Literal[*_PARTS] = "loom"
    """mixed: the coupling that an item is paired by with the probability share."""
    mixed_second: Literal[*_PARTS] = "independent"
    """mixed: the coupling of all other items."""
    share: float = 0.5
    """mixed: share of the items that the first coupling pairs (the paper's phi)."""
    share_end: float | None = None
    """mixed: that share after share_steps steps, to which it changes linearly; none for the same."""
    share_steps: int = 0
    """mixed: steps in which the share changes."""
    refresh_epochs: int = 10
    """loom-refresh: epochs between replacements of all noise."""
    injection: float = 0.05
    """loom-inject: probability that an item of a batch gets new noise."""
    label_weight: float = 0.0
    """loom, conditional, loom-conditional: cost of a pair whose labels differ; needs data with labels."""
    tolerance: float = 0.0
    """loom: share of its gain by which a batch may fall short of its optimum."""
    precision: Literal["float32", "bfloat16"] | None = None
    """loom: precision of the product in the cost; none for the data's own."""
    ot_batch: int = 1
    """Training batches coupled together; the pairs of one coupling feed as many steps."""
    prefetch: Literal["auto", "on", "off"] = "auto"
    """Couple the next batch while the network trains on this one; auto: with a GPU or a core to spare. The
    weights are the same."""

    def __post_init__(self):
        check_integers(self, "coupling.")
        for name in ("num_caches", "ot_batch", "groups", "candidates", "refresh_epochs"):
            integer(getattr(self, name), f"coupling.{name}", 1)


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on; written to config.json in the run directory."""

    model: UNetConfig | MLPConfig
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    objective: Literal["velocity", Kind] = "velocity"
    """What is trained: the velocity (the paper), or a flow map, which samples in one step or few: lsd
    (Lagrangian self-distillation), esd (Eulerian), psd (progressive), meanflow, or lmd (distils init)."""
    flow_map: FlowMapConfig = field(default_factory=FlowMapConfig)
    init: str = ""
    """Run whose averaged weights training begins with, and whose coupling it goes on with where it is the
    same one; they are copied into the run directory. See `loomfast distill`."""
    data: str = "digits"
    """Dataset: the name of one that needs no download, or a path to images, arrays or latents."""
    conditions: str = ""
    """.npy file of what the network is told of each item in the place of the data's labels: classes (M,),
    vectors (M, c) or fields (M, C, H, W), in the order of the items; see model.num_classes, condition_dim and
    field_channels."""
    num_items: int = 0
    """Training items to use, a fixed choice; 0 for all."""
    stream: bool = False
    """Read training items from their files (.npy, HDF5, images in folders) by the batch, not into memory."""
    flips: bool = False
    """Mirror images at random, left to right. A mirrored image is an item of its own to the coupling: the
    cache is twice as large."""
    label_dropout: float = 0.0
    """Share of labels withheld in training, for classifier-free guidance; needs model.num_classes,
    condition_dim or field_channels."""
    steps: int = 1000
    """Training steps in all; a finished run goes on when this is raised."""
    batch_size: int = 128
    """Items in a training step, over all processes."""
    accumulate: int = 1
    """Parts a process takes its share of a batch in, one after the other: less memory, the same gradient."""
    seed: int = 0
    """Weights, noise, data order and times are functions of the seed and the step."""
    learning_rate: float = 1e-3
    """Adam's, after the warm-up."""
    warmup_steps: int = 100
    """Steps in which the learning rate rises linearly."""
    grad_clip: float = 1.0
    """Largest norm of the gradient; 0 for none."""
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, which is what is sampled from."""
    snapshot_every: int = 0
    """Steps between snapshots of two further averages, from which `loomfast evaluate --ema` makes one of any
    length afterwards (as EDM2 does); a thirtieth of the steps is enough, 0 keeps none."""
    sigma: float = 1e-7
    """Standard deviation of the noise on the path (paper, eq. 3 and Table 4)."""
    path: Literal["straight", "target", "variance-preserving", "bridge"] = "straight"
    """Path of a pair: straight (the paper, I-CFM), target (Lipman et al. 2023), variance-preserving (Albergo
    and Vanden-Eijnden 2023), or bridge (SB-CFM, Tong et al. 2024: give sigma, and coupling.method
    sinkhorn)."""
    score: bool = False
    """bridge: a second output of the network learns the score, so that samples may be drawn by the bridge's
    stochastic equation ([SF]2M, Tong et al. 2024): loomfast sample --solver euler-maruyama."""
    time_law: Literal["uniform", "beta", "u-shaped"] = "uniform"
    """Law of the training times."""
    checkpoint_every: int = 250
    """Steps between checkpoints; after a kill at most this much is done again."""
    sample_every: int = 0
    """Steps between pictures of samples; 0 for one at the end."""
    log_to: Literal["none", "tensorboard", "wandb"] = "none"
    """Where the log goes besides log.jsonl."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the network trains; auto: on a GPU if there is one."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: the network computes under autocast; weights, gradients and averages stay float32."""
    compile: bool = False
    """Compile the network with torch.compile, in one piece."""
    threads: int = 0
    """CPU threads of the network; 0 for torch's choice. Weights agree bit for bit at equal counts."""

    def __post_init__(self):
        check_integers(self)
        self._check_objective()
        least = dict.fromkeys(("steps", "batch_size", "checkpoint_every", "accumulate"), 1)
        least |= dict.fromkeys(("seed", "learning_rate", "warmup_steps", "grad_clip", "sigma", "threads"), 0)
        least |= dict.fromkeys(("num_items", "sample_every", "snapshot_every"), 0)
        for name, minimum in least.items():
            value = getattr(self, name)
            if not minimum <= value < float("inf"):
                raise ValueError(f"{name} must be a number of at least {minimum}, got {value}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout must be in [0, 1), got {self.label_dropout}")
        if self.label_dropout and not takes_labels(self.model):
            raise ValueError(
                f"label_dropout={self.label_dropout} needs labels: give model.num_classes, or "
                "model.condition_dim or model.field_channels for continuous conditions"
            )
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size must be a multiple of accumulate={self.accumulate}, got {self.batch_size}"
            )
        integer(self.seed, "seed", 0, 1 << 64)
        integer(self.threads, "threads", 0, MOST_THREADS)

    def _check_objective(self):
        """Give the network the second time of a flow map, or the score; ValueError where that cannot be."""
        maps = self.objective != "velocity"
        if self.model.two_times and not maps:
            raise ValueError("model.two_times is for flow maps: give an objective such as lsd")
        if self.model.score_head and not self.score:
            raise ValueError("model.score_head is of the score of bridges: give path bridge and score")
        if self.score and (self.path != "bridge" or maps or not self.sigma > 0):
            raise ValueError(
                f"score is of path bridge with a positive sigma and objective velocity, got path "
                f"{self.path}, sigma={self.sigma:g}, objective {self.objective}"
            )
        model = dataclasses.replace(self.model, two_times=maps, score_head=self.score)
        object.__setattr__(self, "model", model)
        if self.objective == "lmd" and not self.init:
            raise ValueError("objective lmd distils a trained run: name it as init, or use loomfast distill")
        if self.objective not in ("velocity", "psd") and getattr(
            self.model, "activation_checkpointing", False
        ):
            raise ValueError(
                f"model.activation_checkpointing cannot be had with objective {self.objective}, whose "
                f"derivatives torch cannot compute again: leave it out, raise accumulate, or take psd"
            )


def config_to_dict(config):
    """Return a TrainConfig as plain JSON values, with the kind of its model under ``model.kind``."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    values["model"]["kind"] = "mlp" if isinstance(config.model, MLPConfig) else "unet"
    return values


def config_from_dict(values):
    """Return the TrainConfig that `config_to_dict` wrote; ValueError for unknown or missing entries."""
    values = dict(values)
    try:
        model = dict(values.pop("model"))
        kind = {"mlp": MLPConfig, "unet": UNetConfig}[model.pop("kind")]
        coupling, flow_map = dict(values.pop("coupling")), dict(values.pop("flow_map", {}))
        parts = ((kind, model), (CouplingConfig, coupling), (FlowMapConfig, flow_map), (TrainConfig, values))
        for owner, entries in parts:
            _check_types(owner, entries)
        tuples = {name: tuple(value) for name, value in model.items() if isinstance(value, list)}
        model = kind(**{**model, **tuples})
        return TrainConfig(
            model=model, coupling=CouplingConfig(**coupling), flow_map=FlowMapConfig(**flow_map), **values
        )
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not a configuration of this version of loomfast: {wrong}") from None


def _check_types(owner, entries):
    """Raise ValueError unless every entry is of the type that the dataclass declares for it."""
    for name, hint in get_type_hints(owner).items():
        if name in entries and not _fits(entries[name], hint):
            raise ValueError(f"{name} must be {getattr(hint, '__name__', hint)}, got {entries[name]!r}")


def _fits(value, hint):
    """Return whether a value read from JSON can stand for this type."""
    kind = get_origin(hint)
    if kind is Literal:
        return value in get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(hint))
    if kind is tuple:
        return isinstance(value, list) and all(_fits(entry, int) for entry in value)
    if isinstance(value, bool) or hint is bool:
        return isinstance(value, bool) and hint is bool
    return isinstance(value, int | float if hint is float else hint)


_DIGITS = UNetConfig(
    image_size=8,
    in_channels=1,
    model_channels=32,
    num_groups=8,
    num_res_blocks=1,
    channel_mult=(1, 1, 2),
    attention_downsample=(),
    num_head_channels=32,
)
_PATCHES32 = UNetConfig(
    image_size=32,
    in_channels=3,
    model_channels=32,
    num_groups=8,
    num_res_blocks=1,
    channel_mult=(1, 2, 2, 2),
    attention_downsample=(4,),
    num_head_channels=32,
)


def _table4(data, network, caches, **training):
    """Return a column of the paper's Table 4; sigma, EMA decay and dropout are the same in all columns."""
    return TrainConfig(
        data=data,
        model=UNetConfig(dropout=0.1, num_head_channels=64, **network),
        coupling=CouplingConfig(num_caches=caches),
        ema_decay=0.9999,
        checkpoint_every=5000,
        **training,
    )


PRESETS = {
    "digits": (
        "scikit-learn's handwritten digits, 8x8: minutes on a laptop",
        TrainConfig(data="digits", model=_DIGITS, coupling=CouplingConfig(num_caches=16), steps=2500),
    ),
    "patches32": (
        "32x32 colour crops of scikit-learn's two photographs",
        TrainConfig(data="patches32", model=_PATCHES32, steps=2000),
    ),
    **{
        name: (
            f"two-dimensional toy: {name}",
            TrainConfig(data=name, model=MLPConfig(dim=2), batch_size=256, steps=2000),
        )
        for name in ("8gaussians", "moons", "scurve", "checkerboard")
    },
    "cifar10": (
        "CIFAR-10 as in the paper's Table 4",
        _table4(
            "data/cifar10",
            {"image_size": 32, "model_channels": 128, "num_res_blocks": 2, "channel_mult": (1, 2, 2, 2)},
            caches=4,
            batch_size=128,
            steps=391_000,
            learning_rate=2e-4,
            warmup_steps=5000,
            flips=True,
        ),
    ),
    "imagenet32": (
        "ImageNet at 32x32 as in the paper's Table 4",
        _table4(
            "data/imagenet32",
            {
                "image_size": 32,
                "model_channels": 128,
                "num_res_blocks": 3,
                "channel_mult": (1, 2, 2, 2),
                "attention_downsample": (2, 4),
            },
            caches=1,
            batch_size=512,
            steps=500_000,
            learning_rate=1e-4,
            warmup_steps=20_000,
        ),
    ),
    "imagenet64": (
        "ImageNet at 64x64 as in the paper's Table 4",
        _table4(
            "data/imagenet64",
            {
                "image_size": 64,
                "model_channels": 192,
                "num_res_blocks": 2,
                "channel_mult": (1, 2, 3, 4),
                "attention_downsample": (4,),
            },
            caches=1,
            batch_size=96,
            steps=1_334_000,
            learning_rate=1e-4,
            warmup_steps=20_000,
        ),
    ),
    "ffhq256-latent": (
        "FFHQ 256x256 in the latent space of Stable Diffusion's autoencoder, as in the paper's Table 4",
        _table4(
            "data/ffhq256-latents.h5",
            {
                "image_size": 32,
                "in_channels": 4,
                "model_channels": 256,
                "num_res_blocks": 2,
                "channel_mult": (1, 2, 3, 4),
                "attention_downsample": (2, 4, 8),
            },
            caches=4,
            batch_size=128,
            steps=273_000,
            learning_rate=2e-5,
            warmup_steps=3500,
        ),
    ),
}

# What belongs where a preset looks for its data.
DATA_WANTED = {
    "data/cifar10": "CIFAR-10's binary version (data_batch_1.bin to data_batch_5.bin, test_batch.bin)",
    "data/imagenet32": "ImageNet's images in folders train and val (cropped and resized to 32x32 here)",
    "data/imagenet64": "ImageNet's images in folders train and val (cropped and resized to 64x64 here)",
    "data/ffhq256-latents.h5": "latents (N, 4, 32, 32) as train and heldout, or as latents alone (an "
    "attribute scale_factor multiplies them)",
}
