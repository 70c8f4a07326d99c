"""What every process of `test_distributed` does; started by torchrun, with a folder as its argument."""

import dataclasses
import errno
import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Semidiscrete
from loomfast.distributed import FailedElsewhere
from loomfast.models import MLPConfig
from loomfast.training import loop as train_module
from loomfast.training import state as state_module

CONFIG = TrainConfig(
    model=MLPConfig(dim=2, width=32), data="moons", steps=30, batch_size=32, num_items=256, warmup_steps=5,
    threads=1, device="cpu", coupling=CouplingConfig(num_caches=2, ot_batch=2, prefetch="on"),
)  # fmt: skip


class Watched(state_module.TrainingState):
    """A run that also writes down, in every process, the coupling it holds at a checkpoint."""

    def save(self, out):
        super().save(out)
        if self.step == self.config.steps:
            state = self.batches.coupler.state_dict()
            name = "ids" if "ids" in state else "duals"
            np.save(out.parent / f"{name}-{out.name}-{self.world.rank}.npy", state[name])


def main():
    folder = Path(sys.argv[1])
    train_module.TrainingState = Watched
    dist.init_process_group("gloo")  # once for all runs
    train_module.train(CONFIG, folder / "straight")
    train_module.train(dataclasses.replace(CONFIG, steps=13), folder / "parts")
    train_module.train(CONFIG, folder / "parts")
    train_module.train(dataclasses.replace(CONFIG, accumulate=2), folder / "accumulated")
    if dist.get_rank():
        Semidiscrete._margin = otherwise_rounded(Semidiscrete._margin)
    train_module.train(semidiscrete(folder), folder / "semidiscrete")
    train_module.train(dataclasses.replace(semidiscrete(folder), steps=13), folder / "semidiscrete-parts")
    train_module.train(semidiscrete(folder), folder / "semidiscrete-parts")
    refused(dataclasses.replace(CONFIG, batch_size=31), folder / "refused", dist.get_rank())
    state_module.write_tensors = full_disk
    refused(CONFIG, folder / "full", dist.get_rank())
    dist.destroy_process_group()


def semidiscrete(folder):
    """The configuration of a run that starts from the item prices in this folder."""
    coupling = CouplingConfig(
        method="semidiscrete", init=str(folder / "coupling.safetensors"), ot_batch=2, prefetch="on"
    )
    return dataclasses.replace(CONFIG, coupling=coupling)


def otherwise_rounded(function):
    """As on a machine with another BLAS."""
    return lambda *arguments: function(*arguments) * (1 + 1e-7)


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def refused(config, out, rank):
    """Write down what each process says to a run that fails."""
    try:
        train_module.train(config, out)
    except (ValueError, OSError, FailedElsewhere) as error:
        (out.parent / f"{out.name}-{rank}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
