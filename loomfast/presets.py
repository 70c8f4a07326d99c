"""Configuration: frozen dataclasses, and a flat table of presets."""

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Literal

from loomfast.models import MLPConfig, UNetConfig


@dataclass(frozen=True)
class CouplingConfig:
    """How data are coupled with noise."""

    method: Literal["loom", "independent", "minibatch-ot", "semidiscrete"] = "loom"
    """loom: remembered and improved; minibatch-ot: new noise, optimal in the batch; independent: as drawn;
    semidiscrete: new noise, coupled by the prices of a global solve (needs init)."""
    num_caches: int = 4
    """loom: noises an item holds (paper, Section 3.2)."""
    metric: Literal["sqeuclidean", "euclidean"] = "sqeuclidean"
    """loom, minibatch-ot: transport cost of a pair."""
    init: str = ""
    """loom, semidiscrete: file to start from, as written by `loomfast couple`."""
    label_weight: float = 0.0
    """loom: cost of a pair whose labels differ; needs data with labels."""
    tolerance: float = 0.0
    """loom: share of its gain by which a batch may fall short of its optimum."""
    precision: Literal["float32", "bfloat16"] | None = None
    """loom: precision of the product in the cost; none for the data's own."""


@dataclass(frozen=True)
class TrainConfig:
    """Everything a training run depends on; written to config.json in the run directory."""

    model: UNetConfig | MLPConfig
    coupling: CouplingConfig = field(default_factory=CouplingConfig)
    data: str = "digits"
    """Dataset: the name of one that needs no download, or a path to images, arrays or latents."""
    steps: int = 1000
    """Training steps in all; a finished run goes on when this is raised."""
    batch_size: int = 128
    """Items in a training step, and in the assignment."""
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
    sigma: float = 1e-7
    """Standard deviation of the noise on the path (paper, eq. 3 and Table 4)."""
    time_law: Literal["uniform", "beta", "u-shaped"] = "uniform"
    """Law of the training times."""
    checkpoint_every: int = 250
    """Steps between checkpoints; after a kill at most this much is done again."""
    threads: int = 0
    """CPU threads of the network; 0 for torch's choice. Weights agree bit for bit at equal counts."""

    def __post_init__(self):
        least = {"steps": 1, "batch_size": 1, "checkpoint_every": 1}
        least |= dict.fromkeys(("seed", "learning_rate", "warmup_steps", "grad_clip", "sigma", "threads"), 0)
        for name, minimum in least.items():
            value = getattr(self, name)
            if not minimum <= value < float("inf"):
                raise ValueError(f"{name} must be a number of at least {minimum}, got {value}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")


def config_to_dict(config):
    """A TrainConfig as plain JSON values; the model's kind is kept under ``model.kind``."""
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    values["model"]["kind"] = "mlp" if isinstance(config.model, MLPConfig) else "unet"
    return values


def config_from_dict(values):
    """The TrainConfig that `config_to_dict` wrote. Raises ValueError for unknown or missing entries."""
    values = dict(values)
    try:
        model = dict(values.pop("model"))
        kind = {"mlp": MLPConfig, "unet": UNetConfig}[model.pop("kind")]
        tuples = {name: tuple(value) for name, value in model.items() if isinstance(value, list)}
        coupling = CouplingConfig(**values.pop("coupling"))
        return TrainConfig(model=kind(**{**model, **tuples}), coupling=coupling, **values)
    except (KeyError, TypeError) as wrong:
        raise ValueError(f"not a configuration of this version of loomfast: {wrong}") from None


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
}
