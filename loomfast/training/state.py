"""The state of a training run: data, coupling, network, optimizer and averages, on disk and back."""

import json
from contextlib import nullcontext

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from loomfast import models
from loomfast._arrays import cores
from loomfast.coupling import Ahead, build_coupler
from loomfast.data import coupled_items, fingerprint
from loomfast.distributed import SharedCoupler, World
from loomfast.files import json_object, read_tensors, readable, write_tensors
from loomfast.noise import StepDomain, step_bits, step_uniforms
from loomfast.runs.directory import check_weights, saved_step


class Run:
    """What a run carries from step to step; all of it is in ``state.safetensors``.

    Args:
        config: a TrainConfig.
        dataset: a Dataset.
        world: the processes that train together; this one on the CPU by default.
        fresh: whether the run begins here, and not with `load`.

    Raises:
        ValueError: if data, network, batch and processes do not fit together.
    """

    def __init__(self, config, dataset, world=None, *, fresh=True):
        self.config, self.world = config, world or World()
        self.device = self.world.device
        check_fit(config, dataset, self.world.world)
        self.data = place(torch.from_numpy(dataset.train), self.device)
        self.num_items = len(self.data)
        self.labels = coupled_items(dataset, config.flips)[2]
        self.coupler = self._build_coupler(dataset, fresh)
        torch.manual_seed(config.seed)
        self.model = models.build(config.model).to(self.device)
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        fused = {"fused": True} if self.device.type == "cuda" else {}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate, **fused)
        if config.compile:
            self.model.compile(fullgraph=True)  # in place: the parameters keep their names
        self.network = self.model
        self.step = 0
        self._epoch, self._order = -1, None
        self._group, self._batch = None, None
        ahead = works_ahead(config.coupling.prefetch, self.device)
        self._ahead = Ahead(self.coupler, self.batch_at, enabled=ahead, device=self.device)

    def _build_coupler(self, dataset, fresh):
        config = self.config
        num_items, take, _, fingerprint = coupled_items(dataset, config.flips)
        coupler = build_coupler(
            config.coupling,
            num_items,
            dataset.train.shape[1:],
            seed=config.seed,
            fingerprint=fingerprint,
            # semidiscrete coupling chooses from all items
            data=take(np.arange(num_items)) if config.coupling.method == "semidiscrete" else None,
            fresh=fresh,
        )
        return SharedCoupler(coupler, self.world) if self.world.world > 1 else coupler

    def join(self):
        """Train as one with the other processes from here on; all of them must come here."""
        if self.world.world > 1:
            self.coupler.join()
            self.network = DistributedDataParallel(self.model)

    def batch_index(self, group):
        """(ot_batch·B,) int64: the items of an OT batch, from an order that changes every epoch.

        With flips, item i + N is the mirror image of item i, and which of them comes is a function of (seed,
        step, i). Semidiscrete coupling chooses the items itself.
        """
        config, num = self.config, self.config.batch_size * self.config.coupling.ot_batch
        if config.coupling.method == "semidiscrete":
            return self.coupler.choose(num, step=group)
        epoch, batch = divmod(group, self.num_items // num)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, data_order(self.num_items, config.seed, epoch)
        index = self._order[batch * num :][:num]
        if not config.flips:
            return index
        steps = range(group * config.coupling.ot_batch, (group + 1) * config.coupling.ot_batch)
        parts = zip(steps, np.split(index, len(steps)), strict=True)
        return np.concatenate(
            [part + self.num_items * flipped(part, config.seed, step) for step, part in parts]
        )

    def batch_at(self, group):
        """The OT batch of these steps, for `Ahead`: ``x``, ``index``, and ``labels`` where there are any."""
        return self._items(self.batch_index(group))

    def _items(self, index):
        x = self.data[torch.from_numpy(index % self.num_items).to(self.data.device)]
        if self.config.flips:
            mirrored = torch.from_numpy(index >= self.num_items).to(x.device)
            x = torch.where(mirrored.view(-1, *[1] * (x.ndim - 1)), x.flip(-1), x)
        batch = {"x": x.to(self.device), "index": index}
        return batch if self.labels is None else {**batch, "labels": self.labels[index]}

    def next_batch(self):
        """This step's items with their noise, and the Pair if a coupling was computed for this step.

        One coupling of an OT batch feeds ``ot_batch`` steps: the first of them gets the Pair, the others
        None.

        Returns:
            (dict, Pair or None): ``x`` and ``noise`` (B, *shape), ``index`` (B,), ``labels`` (B,) if any.
        """
        config, k = self.config, self.config.coupling.ot_batch
        group, part = divmod(self.step, k)
        pair = None
        if part == 0:
            batch, pair = self._ahead.take(group, last=(group + 1) * k >= config.steps)
            self._group, self._batch = group, {**batch, "noise": pair.noise}
        elif group != self._group:  # after a restart: the coupling has this OT batch's pairs already
            chosen = config.coupling.method == "semidiscrete"
            batch = self._items(self.coupler.last_choice()) if chosen else self.batch_at(group)
            noise = self.coupler.recall(batch["x"], batch["index"], step=group).noise
            self._group, self._batch = group, {**batch, "noise": noise}
        return self._part(part), pair

    def last_batch(self):
        """What `next_batch` gave last, without the Pair; None before it gave any."""
        k = self.config.coupling.ot_batch
        return None if self._batch is None else self._part((self.step - 1) % k)

    def _part(self, part):
        rows = slice(part * self.config.batch_size, (part + 1) * self.config.batch_size)
        return {name: value[rows] for name, value in self._batch.items()}

    def parts(self):
        """The parts of a batch this process takes one after the other: [(number in the batch, rows)]."""
        accumulate = self.config.accumulate
        size = self.config.batch_size // (self.world.world * accumulate)
        first = self.world.rank * accumulate
        return [(n, slice(n * size, (n + 1) * size)) for n in range(first, first + accumulate)]

    def summed_over_processes(self, number):
        """Context in which the processes exchange gradients: in the last part of a batch only."""
        last = (number + 1) % self.config.accumulate == 0
        return nullcontext() if last or self.world.world == 1 else self.network.no_sync()

    def averaged_model(self):
        """The network with the averaged weights, which it shares with this run, in evaluation mode."""
        model = models.build(self.config.model, "meta")
        model.load_state_dict(self.ema, assign=True)
        return model.eval()

    def tensors(self):
        """Everything of the run by name: raw weights, moving average, optimizer, coupling, step."""
        named = {f"model.{name}": p for name, p in self.model.named_parameters()}
        named |= {f"ema.{name}": p for name, p in self.ema.items()}
        for name, p in self.model.named_parameters():
            state = self.optimizer.state.get(p, {})
            named |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        coupling = self.coupler.state_dict()
        named |= {f"coupling.{key}": value for key, value in coupling.items() if key != "metadata"}
        named["step"] = np.array([self.step], dtype=np.int64)
        named["labels"] = self._label_digest()
        # One entry only: the file's writer puts several in any order.
        return named, {"coupling": json.dumps(coupling["metadata"], sort_keys=True)}

    def _label_digest(self):
        """uint8 (32,): the labels' fingerprint, or (0,) where none are used; the coupling has the data's."""
        used = self.labels is not None and self.config.model.num_classes is not None
        return np.frombuffer(bytes.fromhex(fingerprint(self.labels) if used else ""), np.uint8)

    def save(self, out):
        """Checkpoint: the state first, then the weights to sample from; each file whole or not there.

        The first process writes, once all are found to hold the same coupling (RuntimeError if not). Nothing
        is written where something has become NaN or infinite (FloatingPointError).
        """
        tensors, metadata = self.tensors()
        self.world.check_same({name: tensors[name] for name in tensors if name.startswith("coupling.")})
        with self.world.together():
            check_finite(tensors)
            if self.world.rank == 0:
                write_tensors(out / "state.safetensors", tensors, metadata)
                write_tensors(out / "model.safetensors", self.ema, {"step": str(self.step)})

    def load(self, path):
        """Take up a checkpoint. Raises ValueError if it is damaged or belongs to another run."""
        tensors, metadata = read_tensors(path)
        parts = split_by_prefix(tensors)
        parameters = dict(self.model.named_parameters())
        for kind in ("model", "ema"):
            check_weights(
                path, parts.get(kind, {}), parameters, "belongs to another network", prefix=f"{kind}."
            )
        check_moments(path, parts.get("optimizer", {}), parameters)
        step = saved_step(path, tensors)
        if not np.array_equal(tensors.get("labels"), self._label_digest()):
            raise ValueError(f"{path} belongs to other labels than those of {self.config.data} now")
        with readable(path, "cannot be gone on from"):
            coupling = json_object(metadata.get("coupling", ""))
            self.coupler.load_state_dict({**parts.get("coupling", {}), "metadata": coupling})
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(torch.from_numpy(parts["model"][name]))
                self.ema[name].copy_(torch.from_numpy(parts["ema"][name]))
        load_optimizer(self.optimizer, self.model, parts.get("optimizer", {}))
        self.step = step

    def close(self):
        """Stop working ahead."""
        self._ahead.close()


def check_fit(config, dataset, processes=1):
    """ValueError unless data, network, batch and number of processes fit together."""
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
    wants = config.model.num_classes
    if dataset.train_labels is None and (wants is not None or config.coupling.label_weight):
        asked = f"model.num_classes is {wants}" if wants is not None else "coupling.label_weight is not 0"
        raise ValueError(f"{asked}, but {dataset.name} has no labels")
    if wants is not None and dataset.train_labels.max() >= wants:
        raise ValueError(
            f"model.num_classes must be at least {dataset.train_labels.max() + 1} for the labels of "
            f"{dataset.name}, got {wants}"
        )


def works_ahead(prefetch, device):
    """Whether to couple the next batch while the network trains; auto: with a GPU or a core to spare."""
    if prefetch != "auto":
        return prefetch == "on"
    return device.type == "cuda" or cores() > torch.get_num_threads()


def place(data, device):
    """The data on the device where they take at most a quarter of its free memory, else where they are."""
    if device.type == "cuda" and data.nbytes <= torch.cuda.mem_get_info(device)[0] // 4:
        return data.to(device)
    return data


def data_order(num_items, seed, epoch):
    """(num_items,) int64: the order of the data in an epoch, a function of (seed, epoch)."""
    bits = step_bits(np.arange(num_items), 2, seed=seed, step=epoch, domain=StepDomain.DATA_ORDER)
    keys = bits[:, 0].astype(np.uint64) << np.uint64(32) | bits[:, 1]
    return np.argsort(keys, kind="stable")


def flipped(items, seed, step):
    """(B,) bool: which items are mirrored in a step, each with probability 1/2: of (seed, step, item)."""
    return step_uniforms(items, 1, seed=seed, step=step, domain=StepDomain.FLIP)[:, 0] < 0.5


def check_finite(tensors):
    """FloatingPointError naming the first of the tensors that holds NaN or infinity."""
    for name, value in tensors.items():
        if isinstance(value, torch.Tensor) and not torch.isfinite(value).all():
            raise FloatingPointError(f"{name} holds NaN or infinity")


def check_moments(path, tensors, parameters):
    """ValueError unless Adam's state in a file is finite and of the parameters; see `load_optimizer`."""
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        shape = {"step": (), "exp_avg": None, "exp_avg_sq": None}.get(key, "unknown")
        if name in parameters and shape is None:
            shape = tuple(parameters[name].shape)
        complete = all(f"{name}.{other}" in tensors for other in ("step", "exp_avg", "exp_avg_sq"))
        if not complete or value.shape != shape or value.dtype.kind != "f" or not np.isfinite(value).all():
            raise ValueError(f"{path} is damaged: its optimizer.{full} is not of this network's optimizer")


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


def split_by_prefix(tensors):
    """{"model.a": ..., "ema.a": ...} as {"model": {"a": ...}, "ema": {"a": ...}}."""
    parts = {}
    for full, value in tensors.items():
        prefix, _, name = full.partition(".")
        parts.setdefault(prefix, {})[name] = value
    return parts
