"""The run directory: what is in it, whose it is, and how a trained network is read from it.

``config.json``, ``state.safetensors`` (everything needed to go on), ``model.safetensors`` (averaged weights),
``log.jsonl`` (a line a step), ``metrics.jsonl``, ``samples/*.png``, ``coupling.png``.
"""

import json
import os
from pathlib import Path

import torch

from loomfast import models
from loomfast.checkpoint import atomic, read_json, read_tensors
from loomfast.data import load_dataset
from loomfast.presets import DATA_WANTED, config_from_dict, config_to_dict

# What may change from one session of a run to the next: nothing in the weights depends on it.
FREE = ("steps", "checkpoint_every", "sample_every", "log_to", "coupling.prefetch")


def default_directory(preset, config):
    """``runs/PRESET-COUPLING-seedN``."""
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
        found = flat(config_to_dict(config_from_dict(read_json(path))))
        for name, value in flat(wanted).items():
            other = found.get(name)
            if name not in FREE and other != value:
                raise ValueError(
                    f"{out} holds another run: its {name} is {other!r}, this one's {value!r}; "
                    "choose another --out, or the same settings to go on with it"
                )
    elif out.exists() and any(out.iterdir()):
        raise ValueError(f"{out} is not empty and holds no run of loomfast; choose another --out")


def _check_writable(out):
    """OSError if ``out``, or the folder it is to be made in, is no directory that can be written."""
    nearest = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(
            f"{out} cannot be a run directory: {nearest} is a file; choose another --out"
        )
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(f"{out} cannot be written: no permission in {nearest}; choose another --out")


def checkpoint_step(out):
    """The step of the checkpoint in a run directory; 0 if there is none. ValueError if it is damaged."""
    state = Path(out) / "state.safetensors"
    return int(read_tensors(state, names=("step",))[0]["step"][0]) if state.exists() else 0


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
    )


def load_model(run_directory):
    """(TrainConfig, network in eval mode with the averaged weights) of a run directory.

    Raises:
        FileNotFoundError: if it is not a run directory or has no checkpoint yet.
        ValueError: if the weights do not belong to the configuration.
    """
    run_directory = Path(run_directory)
    if not (run_directory / "config.json").is_file():
        raise FileNotFoundError(f"{run_directory} is not a run directory: it has no config.json")
    config = config_from_dict(read_json(run_directory / "config.json"))
    if not (run_directory / "model.safetensors").is_file():
        raise FileNotFoundError(f"{run_directory} has no checkpoint yet: it has no model.safetensors")
    tensors, _ = read_tensors(run_directory / "model.safetensors")
    model = models.build(config.model)
    try:
        model.load_state_dict({name: torch.from_numpy(value) for name, value in tensors.items()})
    except RuntimeError as mismatch:
        reason = str(mismatch).splitlines()[0]
        raise ValueError(
            f"{run_directory}/model.safetensors does not fit its config.json: {reason}"
        ) from None
    return config, model.eval()


def flat(values, prefix=""):
    """Nested dictionaries as one, with dotted names."""
    entries = {}
    for name, value in values.items():
        inner = flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
        entries |= inner
    return entries


def read_log(path):
    """The entries of ``log.jsonl`` in order; a last line that a kill cut short is left out."""
    entries = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


def truncate_log(path, step):
    """Drop what the log holds of steps that will be done again."""
    if path.exists():
        kept = [json.dumps(entry) + "\n" for entry in read_log(path) if entry["step"] < step]
        with atomic(path) as aside:
            aside.write_text("".join(kept), encoding="utf-8")
