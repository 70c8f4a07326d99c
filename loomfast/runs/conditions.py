"""What a run's network is told of the samples that it is asked for: classes in turn, or conditions."""

import numpy as np
import torch

from loomfast.files import readable
from loomfast.models import classes_in_turn
from loomfast.models.conditions import condition_shape
from loomfast.runs.directory import load_data


def told_in_turn(config, num, dataset=None):
    """Return what samples 0 to num - 1 are asked for: classes (num,), conditions (num, ...), or None.

    All classes come in turn, and so do the conditions of the held-out items (`conditions_of`). dataset: the
    run's, if it is there already.
    """
    if not condition_shape(config.model):
        return classes_in_turn(config.model, num)
    known = conditions_of(config, dataset)
    return torch.from_numpy(known[np.arange(num) % len(known)])


def conditions_of(config, dataset=None):
    """Return the conditions of a run's held-out items, (M, ...) float32, or else of its training items.

    Raises ValueError if the run's data have no such conditions any more.
    """
    dataset = load_data(config) if dataset is None else dataset
    known = dataset.train_labels if dataset.heldout_labels is None else dataset.heldout_labels
    if known is None or known.shape[1:] != condition_shape(config.model):
        raise ValueError(f"{dataset.name} has no conditions of shape {condition_shape(config.model)}")
    return known


def read_conditions(path, shape):
    """Return the conditions in a .npy file, (M, *shape) float32.

    Raises ValueError if the network takes none (shape is None, or () for classes), or the file holds anything
    else or nothing.
    """
    if not shape:
        raise ValueError("this network was trained without conditions: leave --conditions out")
    with readable(path, "holds no conditions"):
        found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray) or found.shape[1:] != shape or not len(found):
        got = getattr(found, "shape", "several arrays")
        raise ValueError(f"{path} must hold conditions of shape (M, {', '.join(map(str, shape))}), got {got}")
    if found.dtype.kind not in "fiu" or not np.isfinite(found.astype(np.float32)).all():
        raise ValueError(f"{path} must hold finite numbers, got {found.dtype}")
    return found.astype(np.float32)
