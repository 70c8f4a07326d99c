"""Samples of a run, written to a file or a folder; under torchrun the processes share the work."""

import os
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loomfast.coupling.memoryless import read_source
from loomfast.distributed import world
from loomfast.extras import need_compiler
from loomfast.files import atomic, atomic_directory, check_new_directory, writable
from loomfast.models import item_shape
from loomfast.models.conditions import condition_shape, takes_labels
from loomfast.plots import save_image_files, save_samples, save_trajectory
from loomfast.runs.averages import load_average
from loomfast.runs.conditions import conditions_of, read_conditions
from loomfast.runs.directory import load_model
from loomfast.sampling.codec import autoencoder_kl
from loomfast.sampling.generate import (
    blocks,
    check_diffusion,
    check_guidance,
    generate_solution,
    outputs_of,
    shares,
)
from loomfast.sampling.ode import ADAPTIVE, MAP, STOCHASTIC, check_solver

NFE = 8  # evaluations where nothing says how many
REPORTS = np.linspace(0, 1, 11)  # times of an adaptive solver's trajectory where none are given


@dataclass(frozen=True)
class SampleRequest:
    """Which samples of a run are asked for, and how; the fields are the flags of ``loomfast sample``."""

    directory: str
    """Run directory of `loomfast train`, or an export."""
    out: str | None = None
    """File that ends in .png or .npz, or a folder, which ends in a slash; None for a picture in ``samples/``
    of the run directory."""
    num: int = 64
    """How many samples."""
    start: int = 0
    """Number of the first sample."""
    seed: int = 0
    """Seed of the noise."""
    solver: str | None = None
    """Solver, as in `loomfast.sampling.ode.check_solver`."""
    nfe: int | None = None
    """Function evaluations; 8 where neither they, times nor an adaptive solver are given."""
    time_grid: Any = None
    """Times from 0 (noise) to 1 (data), or the name of a law that spaces the steps of ``nfe``."""
    labels: list | None = None
    """Classes, taken in turn; None for all of the network's."""
    conditions: str | None = None
    """.npy file of conditions (M, c), or fields (M, C, H, W), taken in turn, for a network that takes them;
    None for those of the run's held-out items."""
    guidance: float | None = None
    """Scale of classifier-free guidance, as of `generate_solution`; None for none."""
    diffusion: float | None = None
    """Noise of the solver euler-maruyama, as of `generate_solution`; None for the run's sigma."""
    source: str | None = None
    """File of the items that samples begin at; None for the run's own, which is noise but for
    ``coupling.source``."""
    trajectory: bool = False
    """Write the whole paths, not their ends alone."""
    codec: str | None = None
    """AutoencoderKL that decodes latents: a folder, or a name on the Hugging Face hub."""
    batch_size: int = 256
    """Samples at once on a GPU."""
    device: str = "auto"
    """As in `loomfast.distributed.resolve_device`."""
    compile: bool = False
    """Compile the network with torch.compile first."""
    ema: float | None = None
    """Length of the average of weights, of a run with snapshots; None for the run's own average."""


@dataclass(frozen=True)
class Written:
    """What `sample_run` did: where the samples are, its solver, and the mean evaluations of a sample."""

    out: Path
    solver: str
    nfe: float


def sample_run(request, *, progress=None):
    """Draw the samples of a SampleRequest and write them; all of them or nothing is there in the end.

    Started by torchrun, all processes share the work; the first of them writes.

    Args:
        request: a SampleRequest.
        progress: a function (total, title) that returns a context manager, which yields a function of the
            number of samples done, such as `loomfast.console.progress`. The first process reports on its own
            share.

    Returns:
        Written in the first process, None in the others.

    Raises:
        ValueError, OSError: if the request does not fit the run, the output or the machine. All that can be
            found wrong is found before the work.
        FailedElsewhere: in all processes but the first, where any of them raised one of these.
    """
    # The first process may have to wait for the others' samples for as long as its own took it.
    with world(request.device, patience=timedelta(days=1)) as group:
        with group.together():
            plan = make_plan(request, group)
        write = write_folder if plan.kind == "folder" else write_file
        with _progress_of(plan.count, group, progress) as update:
            nfe = write(plan, group, update)
        return Written(plan.out, plan.solver, nfe) if group.rank == 0 else None


def _progress_of(count, group, progress):
    if group.rank or progress is None:
        return nullcontext(lambda done: None)
    return progress(count, "sample" if group.size == 1 else f"sample, process 0 of {group.size}")


@dataclass(frozen=True)
class Plan:
    """A SampleRequest that was checked, with what is needed for it, and the part that this process does."""

    model: Any
    shape: tuple
    codec: Any
    kind: str  # png, npz or folder
    out: Path
    labels: np.ndarray | None  # (num, ...), those of all processes' samples
    start: int
    shares: list  # (first, count) a process
    rank: int
    device: Any
    solver: str
    options: dict = field(default_factory=dict)  # of generate_solution

    @property
    def count(self):
        return self.shares[self.rank][1]


def make_plan(request, group):
    """Return the Plan of a SampleRequest for this process; what can be found wrong before the work is."""
    if request.compile:
        need_compiler(group.device)
    if request.ema is None:
        config, model = load_model(request.directory)
    else:
        config, model = load_average(request.directory, request.ema)
    shape = item_shape(config.model)
    solver, nfe, settings = _solver_of(request, config)
    kind = kind_of(request.out)
    check_kind(kind, shape, request.codec)
    codec = codec_of(request.codec, shape, group.device)
    labels = labels_of(config, request)
    check_guided(config, request.guidance, solver)
    ending = "" if request.guidance is None else f"-guidance{request.guidance:g}"
    ending += "" if request.ema is None else f"-ema{request.ema:g}"
    ending += "-trajectory" if request.trajectory else ""
    name = f"seed{request.seed}-{solver}{f'-nfe{nfe}' if nfe else ''}{ending}"
    out = output_of(request.out, kind, request.directory, name)
    model = model.to(group.device)
    return Plan(
        model=torch.compile(model, fullgraph=True, dynamic=False) if request.compile else model,
        shape=shape,
        codec=codec,
        kind=kind,
        out=out,
        labels=labels,
        start=request.start,
        shares=shares(request.start, request.num, group.size),
        rank=group.rank,
        device=group.device,
        solver=solver,
        options={
            "seed": request.seed,
            "solver": solver,
            "batch_size": request.batch_size,
            "trajectory": request.trajectory,
            "guidance": request.guidance,
            "source": read_source(request.source or config.coupling.source),
        }
        | settings,
    )


def _solver_of(request, config):
    """Return (solver, evaluations or None, arguments for `generate_solution`) of a request to a run."""
    grid = request.time_grid
    if request.solver in ADAPTIVE and request.trajectory and grid is None:
        grid = REPORTS
    timed = grid is not None and not isinstance(grid, str)
    nfe = request.nfe or (None if timed or request.solver in ADAPTIVE else NFE)
    if timed and nfe:
        raise ValueError("--nfe and the times of --time-grid both say how many steps: leave one out")
    solver, settings = check_solver(request.solver, nfe, grid, **outputs_of(config.model))
    diffusion = config.sigma if solver == STOCHASTIC and request.diffusion is None else request.diffusion
    return solver, nfe, settings | {"diffusion": check_diffusion(diffusion, solver)}


def kind_of(out):
    """Return what ``out`` asks for: "png" (also where it is None), "npz" or "folder"."""
    if out is None:
        return "png"
    if out.endswith(os.sep) or Path(out).is_dir():
        return "folder"
    kind = Path(out).suffix
    if kind not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, or in {os.sep} for a folder, got {out!r}")
    return kind[1:]


def output_of(out, kind, directory, name):
    """Return where the samples go, found writable; by default a picture of this name in the run directory."""
    if kind == "folder":
        check_new_directory(out)
        return Path(out)
    if out is not None:
        return writable(out)
    folder = Path(directory) / "samples"
    folder.mkdir(exist_ok=True)
    return writable(str(folder / f"{name}.png"))


def check_kind(kind, shape, codec):
    """Raise ValueError unless samples of this shape can be written as asked."""
    if codec and len(shape) != 3:
        raise ValueError(f"--codec decodes latents of shape (C, H, W); the samples' shape is {shape}")
    images = len(shape) == 3 and (codec is not None or shape[0] in (1, 3))
    if kind != "npz" and not images and (kind == "folder" or shape != (2,)):
        raise ValueError(
            f"samples of shape {shape} are no pictures: name an --out that ends in .npz"
            + (", or decode them with --codec" if len(shape) == 3 else "")
        )


def codec_of(name, shape, device):
    """Return the Codec of this name, found fit for the samples' shape; None where none is named."""
    if name is None:
        return None
    codec = autoencoder_kl(name, device=device)
    if codec.channels != shape[0]:
        raise ValueError(f"--codec {name} decodes {codec.channels} channels, the samples have {shape[0]}")
    return codec


def labels_of(config, request):
    """Return what the network is told of each sample: (num,) int64, (num, ...) float32, or None.

    Raises ValueError for labels that the network has no classes for, and for conditions that do not fit it.
    """
    classes, labels, start, num = config.model.num_classes, request.labels, request.start, request.num
    turn, shape = None, condition_shape(config.model)
    if request.conditions is not None:
        turn = read_conditions(request.conditions, shape)
    if shape:
        if labels:
            raise ValueError("this network takes conditions, not classes: give --conditions FILE")
        turn = conditions_of(config) if turn is None else turn
        return turn[(start + np.arange(num)) % len(turn)]
    if classes is None:
        if labels:
            raise ValueError("this network was trained without labels: leave --label and --labels out")
        return None
    turn = np.array(labels or range(classes), dtype=np.int64)
    if turn.max() >= classes:
        raise ValueError(f"labels must be below {classes}, this network's classes; got {turn.max()}")
    return turn[(start + np.arange(num)) % len(turn)]


def check_guided(config, guidance, solver):
    """Raise ValueError unless the run's network can be guided so: with classes, and samples without one."""
    if guidance is None:
        return
    if not takes_labels(config.model):
        raise ValueError("this network was trained without labels: leave --guidance out")
    if not config.label_dropout:
        raise ValueError(
            "--guidance needs a network that has seen items without their label: train with --label-dropout"
        )
    if solver == MAP:
        raise ValueError("--guidance is of velocities, not of maps: give --solver midpoint, say")
    check_guidance(guidance, ())


def drawn(plan, update):
    """Yield the first id, the Solution and its decoded states for each call of the network.

    The calls are those of this process's share. States are (T, n, ...), with T = 1 unless trajectories are
    asked for. ``update`` is called with the number done.
    """
    first, count = plan.shares[plan.rank]
    for low, high in blocks(first, first + count, plan.options["batch_size"], plan.device) if count else ():
        low, high = max(low, first), min(high, first + count)
        y = None if plan.labels is None else plan.labels[low - plan.start : high - plan.start]
        solution = generate_solution(
            plan.model, high - low, plan.shape, start=low, device=plan.device, y=y, **plan.options
        )
        states = solution.x[None] if solution.trajectory is None else solution.trajectory
        if plan.codec is not None:
            images = plan.codec.decode(states.flatten(0, 1))
            states = images.unflatten(0, states.shape[:2])
        yield low, solution, states
        update(high - first)


def write_file(plan, group, update):
    """Write the samples of all processes as one file; return the mean evaluations of a sample."""
    parts, evaluations, times = [], 0, None
    with group.together():
        for _, solution, states in drawn(plan, update):
            parts.append(states)
            evaluations += solution.nfe * states.shape[1]
            times = solution.times
    counts = [count for _, count in plan.shares]
    states = group.collect(torch.cat(parts, dim=1) if parts else None, counts)
    with group.together():
        if group.rank == 0:
            save(plan, states, times)
    return group.total(evaluations) / sum(counts)


def save(plan, states, times):
    """Write states (T, num, ...) as a picture or as arrays."""
    if plan.kind == "png":
        if plan.options["trajectory"]:
            save_trajectory(states, plan.out)
        else:
            save_samples(states[0], plan.out)
        return
    arrays = {"samples": states[-1].numpy()}
    if plan.options["trajectory"]:
        arrays |= {"trajectory": states.numpy(), "times": times}
    if plan.labels is not None:
        arrays["labels"] = plan.labels
    with atomic(plan.out) as aside, open(aside, "wb") as file:
        np.savez(file, **arrays)


def write_folder(plan, group, update):
    """Write every sample as a PNG into a new folder; return the mean evaluations of a sample."""
    with ExitStack() as stack:
        aside, evaluations = None, 0
        with group.together():
            if group.rank == 0:
                aside = stack.enter_context(atomic_directory(plan.out))
        aside = group.from_first(aside)
        with group.together():
            for first, solution, states in drawn(plan, update):
                save_image_files(states, aside, first)
                evaluations += solution.nfe * states.shape[1]
        return group.total(evaluations) / sum(count for _, count in plan.shares)
