"""How the report's jobs are configured, what is made before them, and how much of all else is done."""

import time
from dataclasses import dataclass, field, replace

import torch

from loomfast.config import PRESETS, CouplingConfig
from loomfast.coupling import Loom, solve_globally
from loomfast.runs.directory import load_data
from loomfast.training.batches import data_order


@dataclass(frozen=True)
class Effort:
    """How much of everything but steps a sitting does: as the report says, or a little of it for a trial.

    samples, staged: for each number of evaluations, at a run's end and during it, {dataset: number}; paths:
    trajectories, likewise. pairs, pairs_nfe: of reflow. converged_epochs: of LOOM without a network. rounds:
    of the clock. checkpoint: steps from one to the next.
    """

    samples: dict = field(default_factory=lambda: {"digits": 1000, "patches32": 256})
    staged: dict = field(default_factory=lambda: {"digits": 1000, "patches32": 0})
    paths: dict = field(default_factory=lambda: {"digits": 500, "patches32": 64})
    pairs: int = 4096
    pairs_nfe: int = 8
    converged_epochs: int = 960  # 60 for each of 16 noises
    rounds: int = 20
    checkpoint: int = 50  # steps; what a kill loses at most


TRIAL = Effort(
    samples={"digits": 40, "patches32": 8},
    staged={"digits": 40, "patches32": 0},
    paths={"digits": 8, "patches32": 8},
    pairs=128,
    pairs_nfe=2,
    converged_epochs=2,
    rounds=1,
    checkpoint=2,
)


def config_of(job, effort):
    """Return the TrainConfig of a job of images, without what has to be prepared."""
    preset = PRESETS[job.name.partition("-")[0]][1]
    return replace(
        preset,
        coupling=CouplingConfig(**{"prefetch": "off", **job.coupling}),
        steps=job.steps,
        seed=job.seed,
        checkpoint_every=effort.checkpoint,
        threads=1,
        **_of_classes(preset, job),
        **job.settings,
    )


def _of_classes(preset, job):
    if job.kind != "guided":
        return {}
    return {"model": replace(preset.model, num_classes=10), "label_dropout": 0.1}


def prepare(config, how, path, effort):
    """Make the coupling that runs begin with, solved as a whole or by steps of LOOM; returns CPU seconds."""
    begun = time.process_time()
    dataset = load_data(config)
    coupler = Loom(
        len(dataset.train),
        dataset.train.shape[1:],
        num_caches=config.coupling.num_caches if config.coupling.method == "loom" else 1,
        seed=config.seed,
        dataset_fingerprint=dataset.fingerprint,
    )
    if how == "global":
        solve_globally(coupler, dataset.train, folder=path.with_suffix(".partial"))
    else:
        _converge(coupler, dataset.train, effort.converged_epochs)
    coupler.save(path)
    return time.process_time() - begun


def _converge(coupler, data, epochs):
    """Do the steps of LOOM without a network, until hardly any pair changes."""
    batch = 128
    for epoch in range(epochs):
        order = data_order(len(data), coupler.seed, epoch)
        for first in range(0, len(data) - batch + 1, batch):
            index = order[first : first + batch]
            coupler.couple(torch.from_numpy(data[index]), index)
