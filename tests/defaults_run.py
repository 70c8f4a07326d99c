"""Trains, samples, couples and measures, and prints a digest of each result: run with torch's defaults set.

python defaults_run.py DTYPE DEVICE FOLDER
"""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

torch.set_num_threads(1)
torch.set_default_dtype(getattr(torch, sys.argv[1]))
torch.set_default_device(sys.argv[2])

import loomfast  # noqa: E402 what is made when a module is loaded counts, too
from loomfast import metrics  # noqa: E402
from loomfast.assignment.torch_ops import solve_assignment  # noqa: E402
from loomfast.config import CouplingConfig, TrainConfig  # noqa: E402
from loomfast.models import MLPConfig, UNetConfig  # noqa: E402
from loomfast.runs.directory import load_model  # noqa: E402
from loomfast.runs.evaluate import evaluate  # noqa: E402
from loomfast.runs.pictures import picture_run  # noqa: E402
from loomfast.sampling.generate import generate  # noqa: E402
from loomfast.sampling.ode import integrate  # noqa: E402
from loomfast.training.loop import train  # noqa: E402
from loomfast.training.memory import estimate_memory  # noqa: E402

POINTS = TrainConfig(
    model=MLPConfig(width=8), data="moons", num_items=64, steps=3, batch_size=16, threads=1, sample_every=2,
    coupling=CouplingConfig(prefetch="on"),
)  # fmt: skip
IMAGES = TrainConfig(
    model=UNetConfig(8, 1, 8, 1, (1, 2), (), num_groups=4, num_head_channels=8, num_classes=10, dropout=0.1),
    data="digits", steps=2, batch_size=16, threads=1, label_dropout=0.3, flips=True, precision="bfloat16",
    coupling=CouplingConfig(method="minibatch-ot"),
)  # fmt: skip


def trained(folder):
    for name, config in (("points", POINTS), ("images", IMAGES)):
        train(config, folder / name)
        yield f"trained {name}", (folder / name / "state.safetensors").read_bytes()
    picture_run(POINTS, folder / "points")
    config, model = load_model(folder / "images")
    for solver in ({"nfe": 3}, {"solver": "dopri5", "rtol": 1e-2, "atol": 1e-2}):
        yield f"sampled {solver}", generate(model, 3, (1, 8, 8), seed=1, y=[1, 2, 3], **solver)
    yield "evaluated", repr(evaluate(*load_model(folder / "points"), nfe=(1,), num=40))
    yield "features", torch.from_numpy(metrics.digits_features(np.zeros((3, 1, 8, 8))))
    yield "estimated", repr(estimate_memory(replace(config, precision="float32")))


def computed():
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((16, 2)).astype(np.float32))
    coupler = loomfast.Loom(32, (2,), num_caches=2)
    for step in range(3):
        yield f"coupled {step}", coupler.couple(x, np.arange(16) + step).noise
    labels = np.arange(16) % 2, np.arange(16) % 3
    yield "cost", loomfast.pairwise_cost(x, x, labels=labels, label_weight=0.5)
    yield "cost from ids", loomfast.pairwise_cost_from_ids(x, torch.from_numpy(np.arange(9)), seed=0)
    for number, part in enumerate(solve_assignment(loomfast.pairwise_cost(x, x + 1))):
        yield f"assignment {number}", part
    yield "noise", loomfast.noise_from_ids(torch.from_numpy(np.arange(3)), (5,), seed=0)
    yield "path", loomfast.interpolate_from_ids(x, np.arange(16), np.linspace(0, 1, 16), seed=0)[0]
    yield "solved", integrate(lambda x, t: -x * t[:, None], x, solver="rk4", nfe=8).x
    yield "curvature", repr(metrics.curvature(lambda x, t: -x * t[:, None], x))
    yield "distance", repr(metrics.exact_w2(x, x + 1))


for name, value in (*trained(Path(sys.argv[3])), *computed()):
    if isinstance(value, torch.Tensor):
        value = f"{value.dtype} {tuple(value.shape)}".encode() + value.contiguous().numpy().tobytes()
    print(name, hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest())
