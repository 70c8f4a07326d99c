"""Run directories that nobody trained, for tests of what is done with a run."""

import torch

from loomfast.config import TrainConfig, config_to_dict
from loomfast.files import write_json, write_tensors
from loomfast.models import MLPConfig, UNetConfig, build

POINTS = MLPConfig(width=16, depth=1)


def images(channels=1, num_classes=None):
    """The configuration of a UNet for 8x8 images that computes in a moment."""
    fields = {"num_groups": 4, "num_head_channels": 8, "num_classes": num_classes}
    return UNetConfig(8, channels, 8, 1, (1, 2), (), **fields)


def untrained_run(folder, model, *, step=7, **fields):
    """Write a run directory with random weights, as after ``step`` steps; returns its path."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    network = build(model)
    for parameter in network.parameters():  # the last layer's would be zero
        torch.nn.init.normal_(parameter, std=0.1)
    write_json(folder / "config.json", config_to_dict(TrainConfig(model=model, steps=step, **fields)))
    weights = {name: value.detach() for name, value in network.named_parameters()}
    write_tensors(folder / "model.safetensors", weights, {"step": str(step)})
    return folder
