"""Snapshots of a run's power-function averages, and networks of any average made from them."""

from pathlib import Path

import numpy as np
import torch

from loomfast import models
from loomfast.files import read_tensors, write_tensors
from loomfast.models.power_ema import LENGTHS, power_coefficients, power_exponent
from loomfast.runs.directory import check_weights, load_model, saved_step, split_by_prefix

FOLDER = "averages"  # in the run directory


def write_snapshot(out, step, averages):
    """Write the averages after ``step`` steps, a list of dicts of tensors, one for each of `LENGTHS`."""
    folder = Path(out) / FOLDER
    folder.mkdir(exist_ok=True)
    tensors = {f"{i}.{name}": value for i, average in enumerate(averages) for name, value in average.items()}
    write_tensors(folder / f"step-{step:07d}.safetensors", {**tensors, "step": np.array([step], np.int64)})


def load_average(run_directory, length):
    """(TrainConfig, network in evaluation mode with the average of a length) of a run directory.

    The average is that after the steps of the run's last checkpoint; see `loomfast.models.power_ema`.

    Raises:
        FileNotFoundError: if it is no run directory, or holds no checkpoint or no snapshots.
        ValueError: for a length that is none, or if a file is damaged or of another network.
    """
    power_exponent(length)  # or an error, before the files are read
    run_directory = Path(run_directory)
    config, model = load_model(run_directory)
    weights = run_directory / "model.safetensors"
    last = int(read_tensors(weights, names=())[1].get("step", config.steps))
    paths = {path: _step_of(path) for path in sorted((run_directory / FOLDER).glob("step-*.safetensors"))}
    paths = {path: step for path, step in paths.items() if 0 < step <= last}
    if not paths:
        raise FileNotFoundError(
            f"{run_directory} has no snapshots of its averages: train a run with --snapshot-every, say a "
            "thirtieth of its steps"
        )
    steps = np.repeat(list(paths.values()), len(LENGTHS))
    shares = power_coefficients(steps, LENGTHS * len(paths), last, length).reshape(-1, len(LENGTHS))
    total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in model.state_dict().items()}
    for path, of_averages in zip(paths, shares, strict=True):
        parts = split_by_prefix(read_tensors(path)[0])
        for i, share in enumerate(of_averages):
            found = parts.get(str(i), {})
            check_weights(path, found, total, prefix=f"{i}.")
            for name, value in found.items():
                total[name] += share * torch.from_numpy(value).double()
    average = models.build(config.model, "meta")
    average.load_state_dict({name: value.float() for name, value in total.items()}, assign=True)
    return config, average.eval()


def _step_of(path):
    return saved_step(path, read_tensors(path, names=("step",))[0])
