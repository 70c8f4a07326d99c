"""The state of a training run: network, optimizer, averages and coupling, on disk and back."""

import json
from contextlib import nullcontext
from functools import cached_property

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from loomfast import models
from loomfast.coupling.build import COUPLINGS
from loomfast.data import fingerprint
from loomfast.distributed import World
from loomfast.files import json_object, read_tensors, readable, write_tensors
from loomfast.models.conditions import takes_labels
from loomfast.models.power_ema import LENGTHS
from loomfast.runs.averages import write_snapshot
from loomfast.runs.directory import check_weights, saved_step, split_by_prefix
from loomfast.training.batches import Batches
from loomfast.training.checks import check_finite, check_fit, check_moments, check_sound, shared_settings


class TrainingState:
    """What a run carries from step to step; all of it is in ``state.safetensors``.

    Args:
        config: a TrainConfig.
        dataset: a Dataset.
        world: the processes that train together; this one on the CPU by default.
        fresh: whether the run begins here, and not with `load`.
        start: the `loomfast.training.start.Start` of a run that ``config.init`` names, or None.

    Attributes:
        batches: the `Batches` of the run, with its coupling.
        model: the network. network: what is called in training, the model itself or what exchanges its
            gradients between processes.
        ema: the moving average of the weights, {name: float32 tensor}.
        optimizer: Adam. step: how many steps were done.
        averages: a list of averages by power functions, like ``ema``, one for each of
            `loomfast.models.power_ema.LENGTHS`; empty where no snapshots are asked for.
        teacher: the trained network that the objective ``lmd`` distils, frozen; None for the others.

    Raises:
        ValueError: if data, network, batch and processes do not fit together.
    """

    def __init__(self, config, dataset, world=None, *, fresh=True, start=None):
        self.config, self.world = config, world or World()
        self.device = self.world.device
        check_fit(config, dataset, self.world.size)
        torch.manual_seed(config.seed)
        self.model = models.build(config.model)
        if start is not None and fresh:
            start.give_weights(self.model)
        self.model.to(self.device)
        self.teacher = start.teacher(config.model, self.device) if config.objective == "lmd" else None
        self.batches = Batches(config, dataset, self.world, fresh=fresh)
        if start is not None and fresh and continues_coupling(config.coupling):
            start.give_coupling(self.batches.coupler)
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        lengths = LENGTHS if config.snapshot_every else ()
        self.averages = [{name: p.clone() for name, p in self.ema.items()} for _ in lengths]
        fused = {"fused": True} if self.device.type == "cuda" else {}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, **fused)
        if config.compile:
            self.model.compile(fullgraph=True)  # in place: the parameters keep their names
        self.network = self.model
        self.step = 0

    def join(self):
        """Train as one with the other processes from here on; all of them must come here.

        Raises ValueError, or FailedElsewhere, if they have other settings, labels, or data to couple.
        """
        labels = {"the labels' fingerprint": self.label_digest.tobytes().hex()}
        self.world.check_alike(shared_settings(self.config) | labels)
        self.batches.join()
        if self.world.size > 1:
            self.network = DistributedDataParallel(self.model)

    def summed_over_processes(self, number):
        """Return a context in which the processes exchange gradients in the last part of a batch only."""
        last = (number + 1) % self.config.accumulate == 0
        return nullcontext() if last or self.world.size == 1 else self.network.no_sync()

    def averaged_model(self):
        """Return the network with the averaged weights, which it shares with this run, in evaluation mode."""
        model = models.build(self.config.model, "meta")
        model.load_state_dict(self.ema, assign=True)
        return model.eval()

    def tensors(self):
        """Return everything of the run by name, a dict of tensors, and the file's metadata, a dict of str."""
        named = {f"model.{name}": p for name, p in self.model.named_parameters()}
        named |= {f"ema.{name}": p for name, p in self.ema.items()}
        for i, average in enumerate(self.averages):
            named |= {f"average{i}.{name}": p for name, p in average.items()}
        for name, p in self.model.named_parameters():
            state = self.optimizer.state.get(p, {})
            named |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        coupling = self.batches.coupler.state_dict()
        named |= {f"coupling.{key}": value for key, value in coupling.items() if key != "metadata"}
        named["step"] = np.array([self.step], dtype=np.int64)
        named["labels"] = self.label_digest
        # One entry only: the file's writer puts several in any order.
        return named, {"coupling": json.dumps(coupling["metadata"], sort_keys=True)}

    @cached_property
    def label_digest(self):
        """Return the fingerprint of the labels, uint8 (32,), or (0,) where none are used."""
        used = self.batches.labels is not None and takes_labels(self.config.model)
        return np.frombuffer(bytes.fromhex(fingerprint(self.batches.labels) if used else ""), np.uint8)

    def save(self, out):
        """Checkpoint: the state first, then the weights to sample from; each file whole or not there.

        The first process writes, once all are found to hold the same coupling (RuntimeError if not). Nothing
        is written where something, or the loss it leads to, has become NaN or infinite (FloatingPointError).
        """
        with self.world.together():
            check_sound(self)
        tensors, metadata = self.tensors()
        self.world.check_same({name: tensors[name] for name in tensors if name.startswith("coupling.")})
        with self.world.together():
            check_finite(tensors)
            if self.world.rank == 0:
                write_tensors(out / "state.safetensors", tensors, metadata)
                write_tensors(out / "model.safetensors", self.ema, {"step": str(self.step)})

    def snapshot(self, out):
        """Keep the averages as they are now in a run directory, in the first process, where there are any."""
        if self.averages and self.world.rank == 0:
            write_snapshot(out, self.step, self.averages)

    def load(self, path):
        """Take up a checkpoint. Raises ValueError if it is damaged or belongs to another run."""
        tensors, metadata = read_tensors(path)
        parts = split_by_prefix(tensors)
        parameters = dict(self.model.named_parameters())
        averages = [f"average{i}" for i in range(len(self.averages))]
        for kind in ("model", "ema", *averages):
            check_weights(
                path, parts.get(kind, {}), parameters, "belongs to another network", prefix=f"{kind}."
            )
        check_moments(path, parts.get("optimizer", {}), parameters)
        step = saved_step(path, tensors)
        if not np.array_equal(tensors.get("labels"), self.label_digest):
            raise ValueError(f"{path} belongs to other labels than those of {self.config.data} now")
        with readable(path, "cannot be gone on from"):
            coupling = json_object(metadata.get("coupling", ""))
            self.batches.coupler.load_state_dict({**parts.get("coupling", {}), "metadata": coupling})
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(torch.from_numpy(parts["model"][name]))
                self.ema[name].copy_(torch.from_numpy(parts["ema"][name]))
                for average, kind in zip(self.averages, averages, strict=True):
                    average[name].copy_(torch.from_numpy(parts[kind][name]))
        load_optimizer(self.optimizer, self.model, parts.get("optimizer", {}))
        self.step = step

    def close(self):
        """Stop coupling batches ahead."""
        self.batches.close()


def continues_coupling(config):
    """Return whether a new run's coupling may go on from another run's: it learns, and names no file."""
    return COUPLINGS[config.method].takes_init and not config.init


def load_optimizer(optimizer, model, tensors):
    """Give Adam the moments stored as ``NAME.KEY``, one entry a parameter and key."""
    parameters = dict(model.named_parameters())
    number = {name: i for i, name in enumerate(parameters)}
    state = {i: {} for i in number.values()}
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        value = torch.from_numpy(value)
        if value.ndim:  # in the parameter's own memory layout, where rounding is what it was
            value = torch.empty_like(parameters[name]).copy_(value)
        state[number[name]][key] = value
    filled = {i: entry for i, entry in state.items() if entry}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": filled})
