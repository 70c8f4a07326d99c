"""A short run with each coupling, as `test_couplings_train` and its two processes do them."""

import sys
from pathlib import Path

import numpy as np
import torch.distributed as dist

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import COUPLINGS
from loomfast.models import MLPConfig
from loomfast.training.loop import train

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
        method=method, num_caches=2, groups=2, refresh_epochs=1, ot_batch=2, **special.get(method, {})
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


def main():
    folder = Path(sys.argv[1])
    dist.init_process_group("gloo")
    for method in COUPLINGS:
        train(config(folder, method), folder / f"two-{method}")
    refused = []
    for wrong in ("paired", "hierarchical"):
        try:
            train(config(folder / "absent", wrong), folder / "absent-run")
        except Exception as error:
            refused.append(type(error).__name__)
    (folder / f"refused-{dist.get_rank()}.txt").write_text(" ".join(refused))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
