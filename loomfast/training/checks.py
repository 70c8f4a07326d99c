"""What is checked of a training run: that its parts fit together, that its numbers are finite."""

import math
from contextlib import contextmanager

import numpy as np
import torch

from loomfast import models
from loomfast.config import config_to_dict
from loomfast.coupling.build import COUPLINGS
from loomfast.models.conditions import CONDITIONS, condition_shape
from loomfast.runs.directory import checkpoint_step
from loomfast.training.step import part_loss, parts_with_times


def check_fit(config, dataset, processes=1):
    """Raise ValueError unless data, network, batch and number of processes fit together."""
    num_items, shape = len(dataset.train), dataset.train.shape[1:]
    together = config.batch_size * config.coupling.ot_batch
    if together > num_items:
        name = "batch_size" if config.coupling.ot_batch == 1 else "batch_size times coupling.ot_batch"
        raise ValueError(
            f"{name} must be at most the {num_items} training items of {dataset.name}, got {together}"
        )
    if shape != models.item_shape(config.model):
        raise ValueError(
            f"model takes items of shape {models.item_shape(config.model)}, those of {dataset.name} have "
            f"shape {shape}"
        )
    if config.batch_size % (processes * config.accumulate):
        raise ValueError(
            f"batch_size must be a multiple of {processes} processes times accumulate={config.accumulate}, "
            f"got {config.batch_size}"
        )
    if config.flips and len(shape) != 3:
        raise ValueError(f"flips are for images; the items of {dataset.name} have shape {shape}")
    if config.stream and "semidiscrete" in methods_of(config.coupling):
        raise ValueError("coupling.method semidiscrete looks at all items: they cannot be streamed")
    asked = _asked_of_network(config.model) or asks_for_labels(config.coupling)
    if dataset.train_labels is None and asked:
        raise ValueError(
            f"{asked}, but {dataset.name} has no labels: give them with the data, or --conditions"
        )
    check_kind_of_labels(config.model, dataset)
    wants = config.model.num_classes
    if wants is not None and dataset.train_labels.max() >= wants:
        raise ValueError(
            f"model.num_classes must be at least {dataset.train_labels.max() + 1} for the labels of "
            f"{dataset.name}, got {wants}"
        )


def _asked_of_network(model):
    """Return what of a network's configuration needs labels, in words; "" if nothing."""
    given = [name for name in CONDITIONS if getattr(model, name, None) is not None]
    return f"model.{given[0]} is {getattr(model, given[0])}" if given else ""


def check_kind_of_labels(model, dataset):
    """Raise ValueError unless a dataset has the classes, vectors or fields that a network takes."""
    wanted = condition_shape(model)
    found = dataset.train_labels.shape[1:] if dataset.train_labels is not None else wanted
    if wanted is None or wanted == found:
        return
    fitting = {
        0: "classes: give model.num_classes instead",
        1: f"conditions of {found[0]} numbers: give model.condition_dim {found[0]} instead" if found else "",
        3: f"fields of shape {found}: give model.field_channels {found[0]} instead" if found else "",
    }[len(found)]
    if len(found) == 3 and found[1:] != dataset.train.shape[2:]:
        fitting = f"fields of shape {found}: they must have the height and width of the items"
    raise ValueError(f"{_asked_of_network(model)}, but {dataset.name} has {fitting}")


def shared_settings(config):
    """Return what all processes of a run must have alike, a flat dict; paths may differ between machines."""
    values = config_to_dict(config)
    parts = {f"{part}.{name}": v for part in ("model", "coupling") for name, v in values.pop(part).items()}
    own = {
        "data",
        "conditions",
        "device",
        "threads",
        "log_to",
        "coupling.init",
        "coupling.pairs",
        "coupling.source",
    }
    return {name: value for name, value in {**values, **parts}.items() if name not in own}


def asks_for_labels(coupling):
    """Return what of a CouplingConfig cannot do without labels, in words; "" if nothing."""
    for method in methods_of(coupling):
        if COUPLINGS[method].needs_labels:
            return f"coupling.method is {method}"
        if method == "semidiscrete" and coupling.by_class:
            return "coupling.by_class is set"
    return "coupling.label_weight is not 0" if coupling.label_weight else ""


def methods_of(coupling):
    """Return the names of the couplings that a CouplingConfig comes to, a tuple."""
    if coupling.method == "mixed":
        return coupling.mixed_first, coupling.mixed_second
    return (coupling.method,)


def check_finite(tensors):
    """Raise FloatingPointError naming the first of the tensors that holds NaN or infinity."""
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
            raise FloatingPointError(f"{name} holds NaN or infinity")


def check_moments(path, tensors, parameters):
    """Raise ValueError unless Adam's state in a file is finite, and of these parameters."""
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        shape = {"step": (), "exp_avg": None, "exp_avg_sq": None}.get(key, "unknown")
        if name in parameters and shape is None:
            shape = tuple(parameters[name].shape)
        complete = all(f"{name}.{other}" in tensors for other in ("step", "exp_avg", "exp_avg_sq"))
        if not complete or value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ValueError(f"{path} is damaged: its optimizer.{full} is not of this network's optimizer")


def check_sound(state):
    """Raise FloatingPointError unless the weights as they are now, and the loss they lead to, are finite."""
    check_finite(state.ema)
    check_finite(dict(state.model.named_parameters()))
    batch = state.batches.last()
    parts = parts_with_times(state, batch) if batch else ()
    loss = sum(part_loss(state, state.model, part).item() for part in parts)
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")


@contextmanager
def divergence_named(state, out):
    """Have a FloatingPointError within end the run as a loss that is not finite does."""
    try:
        yield
    except FloatingPointError as error:
        raise diverged(f"{error} after step {state.step - 1}", state.config, out) from None


def diverged(what, config, out):
    """Return the error that ends a run which is not finite any more: what is kept, and what to try."""
    kept = checkpoint_step(out)
    kept = f"its checkpoint after {kept} steps is kept" if kept else "it had no checkpoint yet"
    clip = f"less than {config.grad_clip:g}" if config.grad_clip else "1"
    advice = f"a smaller --learning-rate, more --warmup-steps, a --grad-clip of {clip}"
    if config.precision != "float32":
        advice += ", --precision float32"
    return FloatingPointError(f"training diverged: {what}; {kept}. Try, in another --out, {advice}")
