"""The run directory: what is in it, whose it is, and how a trained network is read from it.

``config.json``, ``state.safetensors`` (everything needed to go on), ``model.safetensors`` (averaged weights),
``log.jsonl`` (a line a step), ``metrics.jsonl``, ``samples/*.png``, ``coupling.png``.
"""

import os
from pathlib import Path

import numpy as np
import torch

from loomfast import models
from loomfast.config import DATA_WANTED, config_from_dict, config_to_dict
from loomfast.data import load_dataset
from loomfast.files import atomic, holds_nothing, json_object, json_text, read_json, read_tensors, readable

# What may change from one session of a run to the next: nothing in the weights depends on it.
FREE = ("steps", "checkpoint_every", "sample_every", "log_to", "coupling.prefetch")


def default_directory(preset, config):
    """Return the path ``runs/PRESET-COUPLING-seedN``."""
    return Path("runs") / f"{preset}-{config.coupling.method}-seed{config.seed}"


def check_directory(config, out):
    """ValueError unless ``out`` is new or empty, or holds a run of this configuration.

    Only what is named in ``FREE`` may differ: raising ``steps`` continues a finished run. Raises OSError if
    ``out`` can be neither made nor written.
    """
    path = out / "config.json"
    wanted = config_to_dict(config)
    _check_writable(out)
    if path.exists():
        found = flat(config_to_dict(read_config(path)))
        for name, value in flat(wanted).items():
            other = found.get(name)
            if name not in FREE and other != value:
                raise ValueError(
                    f"{out} holds another run: its {name} is {other!r}, this one's {value!r}; "
                    "choose another --out, or the same settings to go on with it"
                )
    elif out.exists() and not holds_nothing(out):
        raise ValueError(f"{out} is not empty and holds no run of loomfast; choose another --out")


def _check_writable(out):
    """Raise OSError if ``out``, or the folder it is to be made in, is no directory that can be written."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{out} cannot be a run directory: {nearest} is a file; choose another --out"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{out} cannot be written: no permission in {nearest}; choose another --out")


def checkpoint_step(out):
    """Return the step of the checkpoint in a run directory, 0 without one; ValueError if it is damaged."""
    state = Path(out) / "state.safetensors"
    return saved_step(state, read_tensors(state, names=("step",))[0]) if state.exists() else 0


def saved_step(path, tensors):
    """Return the step among the tensors of a run's state; raises ValueError if there is none."""
    step = tensors.get("step")
    if step is None or step.shape != (1,) or step.dtype != np.int64 or step[0] < 0:
        raise ValueError(f"{path} is not the state of a run: it has no step")
    return int(step[0])


def check_weights(path, found, expected, complaint="does not fit its config.json", prefix=""):
    """ValueError unless ``found`` are finite arrays with the names and shapes of ``expected``'s tensors.

    complaint: what it says of the path where they are others. prefix: of all names, in the file.
    """
    for name in (*expected, *found):
        there, here = (tuple(side[name].shape) if name in side else None for side in (found, expected))
        if there != here:
            raise ValueError(
                f"{path} {complaint}: its {prefix}{name} has shape {there}, the network's {here}"
            )
        if found[name].dtype.kind != "f" or not np.isfinite(found[name]).all():
            raise ValueError(f"{path} is damaged: its {prefix}{name} holds what is no finite number")


def split_by_prefix(tensors):
    """Return {"model.a": ..., "ema.a": ...} as {"model": {"a": ...}, "ema": {"a": ...}}."""
    parts = {}
    for full, value in tensors.items():
        prefix, _, name = full.partition(".")
        parts.setdefault(prefix, {})[name] = value
    return parts


def read_config(path):
    """Return the TrainConfig in a config.json; raises ValueError naming the file where it holds none."""
    values = read_json(path)
    with readable(path, "cannot be used"):
        return config_from_dict(values)


def load_data(config):
    """The Dataset a configuration names; images of a folder are resized to what its network takes.

    Raises ValueError where a preset's files are missing, saying what belongs there, and as `load_dataset`.
    """
    if config.data in DATA_WANTED and not Path(config.data).exists():
        raise ValueError(
            f"{config.data} does not exist; it is to hold {DATA_WANTED[config.data]}. Put them there, or "
            "name another place with --data"
        )
    return load_dataset(
        config.data,
        image_size=getattr(config.model, "image_size", None),
        num_items=config.num_items or None,
        stream=config.stream,
        conditions=config.conditions or None,
    )


def load_config(run_directory):
    """Return the TrainConfig of a run directory; raises FileNotFoundError if it is none."""
    path = Path(run_directory) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run_directory} is not a run directory: it has no config.json")
    return read_config(path)


def load_model(run_directory):
    """(TrainConfig, network in eval mode with the averaged weights) of a run directory.

    Raises:
        FileNotFoundError: if it is not a run directory or has no checkpoint yet.
        ValueError: if the weights do not belong to the configuration.
    """
    run_directory = Path(run_directory)
    config = load_config(run_directory)
    weights = run_directory / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"{run_directory} has no checkpoint yet: it has no model.safetensors")
    tensors, _ = read_tensors(weights)
    with readable(run_directory / "config.json", "cannot be used"):
        model = models.build(config.model, "meta")  # a network that is only claimed takes no memory
    check_weights(weights, tensors, model.state_dict())
    model.to_empty(device="cpu")
    model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    return config, model.eval()


def flat(values, prefix=""):
    """Return nested dictionaries as one, with dotted names."""
    entries = {}
    for name, value in values.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        entries |= inner
    return entries


def read_log(path, numbers=("step",)):
    """The entries of a file with an object (dict) of JSON a line, in order.

    A last line that a kill cut short is left out. Raises ValueError naming the line where another is no
    object, or has no number under one of the names ``numbers`` (null stands for one that was not finite).
    """
    entries = []
    *lines, rest = Path(path).read_bytes().split(b"\n")
    for number, line in enumerate([*lines, rest] if _is_whole(rest) else lines, 1):
        with readable(path, f"cannot be used, line {number} is damaged"):
            entry = json_object(line)
            _check_numbers(entry, numbers)
        entries.append(entry)
    return entries


def _is_whole(line):
    try:
        return bool(json_object(line))
    except (ValueError, RecursionError):
        return False


def _check_numbers(entry, names):
    for name in names:
        value = entry.get(name, "")
        wanted = int if name == "step" else int | float | None
        if isinstance(value, bool) or not isinstance(value, wanted):
            raise ValueError(f"it has no number {name!r}" if name not in entry else f"{name} is {value!r}")


def truncate_log(path, step):
    """Drop what the log holds of steps that will be done again."""
    if path.exists():
        kept = [json_text(entry) + "\n" for entry in read_log(path) if entry["step"] < step]
        with atomic(path) as aside:
            aside.write_text("".join(kept), encoding="utf-8")


def append_entry(path, entry):
    """Add an entry to a file of JSON lines, in the place of a last line that a kill cut short."""
    with open(path, "a+b") as file:
        file.seek(0)
        content = file.read()
        if not _is_whole(content[content.rfind(b"\n") + 1 :]):
            file.truncate(content.rfind(b"\n") + 1)
        elif content:
            file.write(b"\n")
        file.write(json_text(entry).encode() + b"\n")
