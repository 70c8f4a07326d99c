"""A short run with each coupling, as `test_couplings_train` and its two processes do them."""

import json
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import COUPLINGS
from loomfast.distributed import world
from loomfast.models import MLPConfig
from loomfast.runs.directory import load_data
from loomfast.training.loop import train
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

STEPS, NUM = 7, 64


def write_data(folder):
    """Points in the plane with labels, and what the couplings that read files need."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(NUM + 10, 2)).astype(np.float32)
    labels = np.arange(NUM + 10) % 3
    np.savez(
        folder / "points.npz",
        train=points[:NUM],
        heldout=points[NUM:],
        train_labels=labels[:NUM],
        heldout_labels=labels[NUM:],
    )
    np.save(folder / "ends.npy", rng.normal(size=(NUM, 2)).astype(np.float32))
    np.save(folder / "vectors.npy", rng.normal(size=(NUM + 10, 3)).astype(np.float32))
    np.save(folder / "few.npy", np.zeros((NUM, 3), np.float32))


def config(folder, method):
    """The configuration of a run of this coupling; ot_batch makes it stop within an OT batch at step 3."""
    special = {
        "paired": {"pairs": str(folder / "ends.npy")},
        "semidiscrete": {"by_class": True},
        "mixed": {"mixed_second": "minibatch-ot", "replace": True},
        "sinkhorn": {"replace": True},
        "stable": {"source": str(folder / "ends.npy")},
    }
    coupling = CouplingConfig(
        method=method, num_caches=2, groups=8, refresh_epochs=1, ot_batch=2, **special.get(method, {})
    )
    return TrainConfig(
        model=MLPConfig(dim=2, width=16, num_classes=3),
        coupling=coupling,
        data=str(folder / "points.npz"),
        label_dropout=0.2,
        steps=STEPS,
        batch_size=16,
        warmup_steps=2,
        threads=1,
        device="cpu",
    )


def config_with_conditions(folder):
    """The configuration of a run whose network and coupling are told a vector of every item."""
    return replace(
        config(folder, "loom-conditional"),
        model=MLPConfig(dim=2, width=16, condition_dim=3),
        conditions=str(folder / "vectors.npy"),
    )


def runs(folder):
    """The configurations of all runs by name: one of each coupling, one with conditions, one with a score."""
    return {method: config(folder, method) for method in COUPLINGS} | {
        "conditions": config_with_conditions(folder),
        "score": replace(config(folder, "sinkhorn"), path="bridge", sigma=0.5, score=True),
    }


def run(config, out, *, upto=STEPS, world=None):
    """Train until step ``upto`` from the checkpoint in ``out``, as the trainer does, without its pictures.

    Returns the log: the loss and the cost of every step.
    """
    state_file = out / "state.safetensors"
    state = TrainingState(config, load_data(config), world, fresh=not state_file.exists())
    if state_file.exists():
        state.load(state_file)
    state.join()
    log = []
    with closing(state):
        while state.step < upto:
            entry = training_step(state)
            log.append([float(entry["loss"]), entry["cost_after"]])
        out.mkdir(exist_ok=True)
        state.save(out)
    return log


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with world("cpu") as together:
        for name, settings in runs(folder).items():
            log = run(settings, folder / f"two-{name}", world=together)
            losses = [together.total(loss) / 2 for loss, _ in log]
            if together.rank == 0:
                costs = [cost for _, cost in log]
                (folder / f"two-{name}.json").write_text(json.dumps([losses, costs]))
        small = replace(config(folder, "hierarchical"), batch_size=6)
        refused(folder, together, "refused", lambda: run(small, folder / "refused", world=together))
        unlike = replace(config(folder, "loom"), batch_size=16 if together.rank == 0 else 8)
        refused(folder, together, "unlike", lambda: train(unlike, folder / "unlike"))
        if together.rank == 1:  # another dataset than the first process has
            np.savez(
                folder / "others.npz", **{**np.load(folder / "points.npz"), "train": np.ones((NUM, 2), "f4")}
            )
        data = "points" if together.rank == 0 else "others"
        other = replace(config(folder, "paired"), data=str(folder / f"{data}.npz"))
        refused(folder, together, "others", lambda: train(other, folder / "others"))
        conditions = config_with_conditions(folder)
        mine = folder / f"vectors-{together.rank}.npy"
        np.save(mine, np.load(folder / "vectors.npy") + together.rank)
        told = replace(conditions, conditions=str(mine))
        refused(folder, together, "told", lambda: train(told, folder / "told"))
        few = replace(conditions, conditions=str(folder / ("few.npy" if together.rank else "vectors.npy")))
        refused(folder, together, "few", lambda: train(few, folder / "few"))


def refused(folder, together, name, action):
    """Write down what an action raises in this process."""
    try:
        action()
    except Exception as error:
        (folder / f"{name}-{together.rank}.txt").write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
