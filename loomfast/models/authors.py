"""Reads the checkpoints released with the LOOM-CFM paper (its repository's ``model.pth``).

Such a file is a pickled dict with ``model`` (the network's weights under ``backbone.``, perhaps with a
``module.`` from distributed training before or behind it, and an autoencoder's under ``ae.``),
``optimizer``, ``lr_scheduler`` and ``global_step``. Only tensors and plain values are ever unpickled.
"""

import pickle
import re
import warnings
from pathlib import Path

import torch

from loomfast._defaults import plain_defaults
from loomfast.files import readable
from loomfast.models.unet import UNet

_PREFIX = re.compile(r"^(module\.)?backbone\.(module\.)?")


def load_authors_checkpoint(path, config):
    """The network of a released checkpoint, in evaluation mode on the CPU, and the step it was saved at.

    Args:
        path: the ``.pth`` file.
        config: the UNetConfig of that network, such as a preset's ``model``.

    Returns:
        (UNet, int or None): the float32 network, and ``global_step`` where the file has it.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no such checkpoint, holds more than tensors and plain values, or its weights
            belong to another configuration.
    """
    checkpoint = _load(Path(path))
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("model"), dict):
        raise ValueError(f"{path} is no checkpoint of the authors' layout: it has no dict called 'model'")
    named = {str(name): value for name, value in checkpoint["model"].items()}
    weights = {_PREFIX.sub("", name): value for name, value in named.items() if _PREFIX.match(name)}
    if not weights:
        raise ValueError(f"{path} has no weights under 'backbone.' in its 'model'")
    with plain_defaults("meta"):
        model = UNet(config)
    _check_fit(path, weights, model.state_dict())
    model.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    step = checkpoint.get("global_step")
    if isinstance(step, torch.Tensor) and step.numel() == 1:
        step = step.item()
    if step is not None and type(step) is not int:
        raise ValueError(f"{path} is damaged: its global_step is {type(step).__name__}, not an integer")
    return model.eval(), step


def _load(path):
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with readable(path, "is no checkpoint torch can read"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the pickle protocols of files it then refuses
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError(
                "it holds more than tensors and plain values, or is damaged; nothing else is unpickled"
            ) from None


def _check_fit(path, weights, expected):
    """Raise ValueError naming the first weights that do not fit the configuration, or are not finite."""
    odd = [name for name, value in weights.items() if not isinstance(value, torch.Tensor)]
    if odd:
        raise ValueError(f"{path} is damaged: its {odd[0]} is no tensor")
    missing = [f"no {name}" for name in expected if name not in weights]
    unknown = [f"unknown {name}" for name in weights if name not in expected]
    shapes = [
        f"{name} is {tuple(weights[name].shape)} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in weights and weights[name].shape != value.shape
    ]
    numbers = [
        f"{name} holds what is no finite number"
        for name, value in weights.items()
        if name in expected and not (value.is_floating_point() and torch.isfinite(value).all())
    ]
    wrong = missing + unknown + shapes + numbers
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(f"{path} holds a network of another configuration: {'; '.join(wrong[:3])}{more}")
