"""Pairs of noise and what a run makes of it: the data of reflow (Liu et al., 2023; LOOM-CFM, Section 4.2).

Of an exact flow these pairs cost no more than those that it was trained on (LOOM-CFM, equation 5).

The noise of a pair is stored as its id, which takes 8 bytes: half of what noise and image take. A directory
of pairs is data to train on, with the coupling ``paired``; `loomfast.data.load_dataset` reads it.
"""

import hashlib
import math
import os
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from loomfast._arrays import integer
from loomfast.coupling.paired import write_pairs
from loomfast.data import DRAWN, LOADERS, fingerprint
from loomfast.data.dataset import PAIRS
from loomfast.distributed import world
from loomfast.files import atomic, holds_nothing, read_json, remove_leftovers, write_json
from loomfast.models import item_shape
from loomfast.models.conditions import condition_shape
from loomfast.noise import NoiseDomain
from loomfast.runs.directory import load_data, load_model
from loomfast.sampling.generate import CPU_BLOCK, generate_solution
from loomfast.sampling.ode import ADAPTIVE, STOCHASTIC, check_solver

PER_ITEM = 20  # pairs a training item: the paper's million for the 50,000 of CIFAR-10
NFE = 40
UNIT = CPU_BLOCK  # samples that are made, and lost by a kill, together
GPU_BATCH = 256
LABELS_AT_ONCE = 1 << 24  # numbers
PATIENCE = timedelta(days=1)  # processes wait for each other's shares


@dataclass(frozen=True)
class PairsRequest:
    """Which pairs are asked for; the fields are flags of ``loomfast reflow``."""

    run: str
    """Run directory, or an export, that makes samples of noise."""
    out: str
    """Directory of the pairs; where it holds some of them, the others are made."""
    num: int | None = None
    """How many; None for 20 a training item."""
    nfe: int | None = None
    """Function evaluations; None for 40, and for an adaptive solver."""
    solver: str | None = None
    """Solver, as in `loomfast.sampling.ode.check_solver`."""
    seed: int = 0
    """Seed of the noise."""
    device: str = "auto"
    """As in `loomfast.distributed.resolve_device`."""


def make_pairs(request, *, progress=None):
    """Make the pairs of a PairsRequest, or those of them that are not there yet.

    Started by torchrun, all processes share the work. Every sample is written, flushed and marked as soon as
    it is made, `UNIT` at a time; to go on after a kill, call it again, with as many processes as you like. On
    the CPU the pairs are the same bit for bit (see `loomfast.sampling.generate.generate`).

    The directory gets ``pairs.json``, ``images.npy`` (num, *shape) float32, ``labels.npy`` if the network
    has classes or conditions (those of the training items), which are taken in turn, and at last
    ``pairs.safetensors``, the ids, for ``coupling.pairs``.

    Args:
        request: a PairsRequest.
        progress: a function (total, title) that returns a context manager, which yields a function of the
            number done, such as `loomfast.console.progress`; the first process reports its share.

    Returns:
        int: how many pairs there are.

    Raises:
        ValueError, OSError: if the request does not fit the run, or the directory holds something else.
        FailedElsewhere: in all processes but the first, where any of them raised one of these.
    """
    with world(request.device, patience=PATIENCE) as group:
        with group.together():
            plan = _plan(request, group.device)
        with group.together():
            todo = _open(plan) if group.rank == 0 else None
        todo = group.from_first(todo)
        mine = np.array_split(todo, group.size)[group.rank]
        with group.together():
            shown = progress is not None and group.rank == 0 and len(mine)
            with progress(len(mine) * UNIT, "make pairs") if shown else nullcontext() as update:
                _make(plan, mine, update)
        with group.together():
            if group.rank == 0:
                _finish(plan)
        return plan.num


@dataclass(frozen=True)
class _Plan:
    """A checked request: the run's network, and what the directory is to say of its pairs."""

    out: Path
    about: dict
    model: Any
    told: Any  # what the network is told, in turn: classes, the items' conditions (or Streamed), or None
    shape: tuple
    options: dict  # of generate_solution

    @property
    def num(self):
        return self.about["num"]

    def labels(self, ids):
        """Return the classes or the conditions of pairs, or None."""
        return None if self.told is None else self.told[ids % len(self.told)]


def _plan(request, device):
    config, model = load_model(request.run)
    if config.coupling.source:
        raise ValueError(f"{request.run} begins at data, not at noise: its pairs have no ids to be stored by")
    if request.solver == STOCHASTIC:
        raise ValueError(f"solver {STOCHASTIC} makes samples of more than noise: pairs need another one")
    nfe = NFE if request.nfe is None and request.solver not in ADAPTIVE else request.nfe
    solver, settings = check_solver(request.solver, nfe, two_times=config.model.two_times)
    dataset = load_data(config)
    num = PER_ITEM * len(dataset.train) if request.num is None else integer(request.num, "num", 1)
    built_in = dataset.name in (*LOADERS, *DRAWN)
    weights = Path(request.run, "model.safetensors").read_bytes()
    about = {
        "data": dataset.name if built_in else str(Path(dataset.name).expanduser().absolute()),
        "num": num,
        "seed": integer(request.seed, "seed", 0, 1 << 64),
        "solver": solver,
        "nfe": nfe,
        "weights": hashlib.sha256(weights).hexdigest(),
        **({"conditions": str(Path(config.conditions).absolute())} if config.conditions else {}),
    }
    options = {"seed": about["seed"], "solver": solver, "domain": NoiseDomain.PAIRS, **settings}
    told = dataset.train_labels if condition_shape(config.model) else None
    told = told if config.model.num_classes is None else np.arange(config.model.num_classes)
    return _Plan(Path(request.out), about, model.to(device), told, item_shape(config.model), options)


def _open(plan):
    """Make the directory ready, or find it so; return the units that are not made yet, (n,) int64."""
    about = plan.out / PAIRS
    if about.is_file():
        found = read_json(about)
        for name, value in plan.about.items():
            if found.get(name) != value:
                raise ValueError(
                    f"{plan.out} holds other pairs: their {name} is {found.get(name)!r}, here {value!r}; "
                    "choose another --pairs, or the same settings to go on with them"
                )
    elif plan.out.exists() and (not plan.out.is_dir() or not holds_nothing(plan.out)):
        raise ValueError(f"{plan.out} is not empty and holds no pairs; choose another --pairs")
    plan.out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(plan.out)
    write_json(about, plan.about)
    if (plan.out / "images.npy").exists():
        return np.empty(0, np.int64)
    marks = plan.out / "made"
    if not marks.exists():
        with open(plan.out / "images.npy.partial", "wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (plan.num, *plan.shape)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + 4 * plan.num * math.prod(plan.shape))
            os.fsync(file.fileno())
        with atomic(marks) as aside:
            aside.write_bytes(bytes(-(-plan.num // UNIT)))
    return np.flatnonzero(np.frombuffer(marks.read_bytes(), np.uint8) == 0)


def _make(plan, units, update):
    """Make these units, write them and mark them, each when it is there."""
    size = UNIT * math.prod(plan.shape) * 4
    device = next(plan.model.parameters()).device
    together = 1 if device.type == "cpu" else GPU_BATCH // UNIT
    path, made = plan.out / "images.npy.partial", 0
    if not len(units):
        return
    with open(path, "r+b") as images, open(plan.out / "made", "r+b") as marks:
        begin = path.stat().st_size - 4 * plan.num * math.prod(plan.shape)
        for few in _neighbours(units, together):
            first, last = few[0] * UNIT, min((few[-1] + 1) * UNIT, plan.num)
            y = plan.labels(np.arange(first, last))
            solution = generate_solution(
                plan.model, last - first, plan.shape, start=first, y=y, batch_size=GPU_BATCH, **plan.options
            )
            _write(images, begin + few[0] * size, solution.x.numpy().astype("<f4").tobytes())
            _write(marks, few[0], b"\1" * len(few))
            made += len(few)
            if update is not None:
                update(made * UNIT)


def _write_labels(plan):
    """Write what the pairs' network was told, (num, ...), some of them at a time: fields are many numbers."""
    first = plan.labels(np.zeros(1, np.int64))
    together = max(UNIT, LABELS_AT_ONCE // max(1, first.size))
    with atomic(plan.out / "labels.npy") as aside, open(aside, "wb") as file:
        shape = (plan.num, *first.shape[1:])
        header = {"descr": np.lib.format.dtype_to_descr(first.dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        for begin in range(0, plan.num, together):
            some = plan.labels(np.arange(begin, min(begin + together, plan.num)))
            file.write(np.ascontiguousarray(some).data)


def _neighbours(units, most):
    """Return the units in groups of at most ``most`` that follow each other."""
    groups = []
    for unit in units.tolist():
        if groups and unit == groups[-1][-1] + 1 and len(groups[-1]) < most:
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return groups


def _write(file, place, content):
    file.seek(place)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _finish(plan):
    """Give the whole directory its last files; what says that it is whole comes last."""
    if (plan.out / "pairs.safetensors").exists():
        return
    images = plan.out / "images.npy"
    if not images.exists():
        os.replace(plan.out / "images.npy.partial", images)
    ids = np.arange(plan.num)
    if plan.told is not None:
        _write_labels(plan)
    digest = fingerprint(np.load(images, mmap_mode="r"))
    options = {"seed": plan.about["seed"], "domain": NoiseDomain.PAIRS, "dataset_fingerprint": digest}
    write_pairs(plan.out / "pairs.safetensors", ids, **options)
    (plan.out / "made").unlink(missing_ok=True)
