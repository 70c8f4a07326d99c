"""What a run begins with if its ``init`` names another one: weights, coupling, and the teacher it distils."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from loomfast import models
from loomfast.files import json_object, read_tensors, readable, write_tensors
from loomfast.runs.directory import check_weights, load_model, split_by_prefix

COPY = "start.safetensors"  # in the run directory: the run it is of may train on, or be gone
SECOND_TIME = "span_embed."  # parameters that a network of two times has beyond those of one
NEW = (SECOND_TIME, "score_out.")  # and with a score beyond those of one without


@dataclass(frozen=True)
class Start:
    """The averaged weights of a run, {name: float32 array}, and its coupling's state, {} where it has none.

    origin: the file they come from, for messages.
    """

    origin: Path
    weights: dict
    coupling: dict

    def copy(self, out):
        """Keep them in a run directory; where they come from it, nothing is to be done."""
        if self.origin != out / COPY:
            tensors = {f"model.{name}": value for name, value in self.weights.items()}
            tensors |= {f"coupling.{k}": value for k, value in self.coupling.items() if k != "metadata"}
            metadata = {"coupling": self.coupling["metadata"]} if self.coupling else {}
            write_tensors(out / COPY, tensors, metadata)

    def give_weights(self, model):
        """Load the weights into a network; a second time, or a score, that they lack keeps its own weights.

        Those start at zero and add nothing. Raises ValueError if the weights are of another network.
        """
        expected = model.state_dict()
        own = {name: value.numpy() for name, value in expected.items() if name.startswith(NEW)}
        found = {
            name: value
            for name, value in self.weights.items()
            if name in expected or not name.startswith(NEW)
        }
        found = {**own, **found}
        check_weights(self.origin, found, expected, "is of another network than this run's model")
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in found.items()})

    def give_coupling(self, coupler):
        """Have the coupling of a new run go on from the earlier run's, if it is the same one."""
        if not self.coupling:
            return
        state = {**self.coupling, "step": np.zeros(1, np.int64)}
        with readable(self.origin, "cannot be begun with"):
            state["metadata"] = json_object(self.coupling["metadata"])
            if state["metadata"] == coupler.metadata():
                coupler.load_state_dict(state)

    def teacher(self, model_config, device):
        """Return the network that these weights are of, frozen and in evaluation mode."""
        two_times = any(name.startswith(SECOND_TIME) for name in self.weights)
        model = models.build(replace(model_config, two_times=two_times))
        self.give_weights(model)
        return model.eval().requires_grad_(False).to(device)


def read_start(config, out):
    """Return the Start of a run that begins, or goes on, in ``out``; None where ``config.init`` is empty.

    Raises:
        FileNotFoundError: if ``config.init`` is no run with a checkpoint, and no copy of one is in ``out``.
        ValueError: if its files are damaged.
    """
    if not config.init:
        return None
    copy = Path(out) / COPY
    if copy.exists():
        tensors, metadata = read_tensors(copy)
        parts = split_by_prefix(tensors)
        coupling = parts.get("coupling", {})
        return Start(copy, parts.get("model", {}), _state(coupling, metadata))
    _, model = load_model(config.init)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    state, coupling, metadata = Path(config.init) / "state.safetensors", {}, {}
    if state.exists():
        tensors, metadata = read_tensors(state)
        coupling = split_by_prefix(tensors).get("coupling", {})
    return Start(Path(config.init) / "model.safetensors", weights, _state(coupling, metadata))


def _state(arrays, metadata):
    return {**arrays, "metadata": metadata["coupling"]} if arrays and "coupling" in metadata else {}
