"""``loomfast sample RUN``."""

import argparse
import os
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from loomfast import console
from loomfast.cli.arguments import (
    add_device,
    add_solver_and_seed,
    natural,
    natural_list,
    positive,
    time_grid,
    writable,
)
from loomfast.extras import need, need_compiler

NFE = 8  # evaluations where nothing says how many
REPORTS = np.linspace(0, 1, 11)  # times of an adaptive solver's trajectory where none are given


def add(commands):
    """The parser of the command."""
    sample = commands.add_parser(
        "sample",
        help="draw samples from a run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw samples from a trained run and write them to a file or a folder.\n\n"
        "Sample k of a seed is always the same sample, whatever --num and --batch-size are.\n"
        "Under torchrun the processes share the work, on a GPU each where there are several.",
        epilog="examples:\n"
        "  loomfast sample runs/digits-loom-seed0 --num 16 --nfe 4 --out samples.png\n"
        "  loomfast sample runs/digits-loom-seed0 --num 6 --nfe 16 --trajectory --out paths.png\n"
        "  torchrun --nproc-per-node 2 -m -- loomfast sample runs/digits-loom-seed0 --num 5000 --out digits/",
    )
    sample.set_defaults(run=run)
    sample.add_argument("directory", metavar="RUN", help="run directory of `loomfast train`, or an export")
    sample.add_argument("--num", type=positive, default=64, help="how many samples (default: %(default)s)")
    sample.add_argument("--start", type=natural, default=0, help="number of the first sample (default: 0)")
    add_times_and_labels(sample)
    sample.add_argument(
        "--codec",
        metavar="PATH",
        help="decode latents with this AutoencoderKL: a folder, or a name on the Hugging Face hub",
    )
    sample.add_argument(
        "--batch-size", type=positive, default=256, help="samples at once on a GPU (default: %(default)s)"
    )
    sample.add_argument(
        "--out",
        help=".png for a picture, .npz for numbers, DIR/ for a new folder with a PNG for each sample "
        "(default: a picture in samples/ of the run directory)",
    )
    add_solver_and_seed(sample)
    add_device(sample)
    sample.add_argument("--compile", action="store_true", help="compile the network with torch.compile first")


def add_times_and_labels(sample):
    """What is sampled: steps in time, classes, ends or whole paths."""
    sample.add_argument(
        "--nfe",
        type=positive,
        help=f"function evaluations (default: {NFE}; an adaptive solver chooses its own)",
    )
    sample.add_argument(
        "--time-grid",
        type=time_grid,
        metavar="T,T,...|LAW",
        help="times from 0 (noise) to 1 (data) instead of --nfe, such as 0,0.2,0.5,1; or how the steps of "
        "--nfe are spaced: uniform, quadratic (short near the noise), cosine (short near both ends)",
    )
    labels = sample.add_mutually_exclusive_group()
    labels.add_argument(
        "--label",
        dest="labels",
        type=lambda text: [natural(text)],
        metavar="K",
        help="class of every sample, for a network trained with labels (default: all classes in turn)",
    )
    labels.add_argument("--labels", type=natural_list, metavar="K,K,...", help="classes, taken in turn")
    sample.add_argument(
        "--trajectory", action="store_true", help="write the whole paths, not their ends alone"
    )


def run(arguments):
    """``loomfast sample RUN``."""
    need("torch", "train")
    from loomfast.distributed import FailedElsewhere, world

    # The first process says why all fail; torchrun would kill it at another one's failure, before it has
    # cleaned up. It may have to wait for the others' samples for as long as its own took it.
    with suppress(FailedElsewhere), world(arguments.device, patience=timedelta(days=1)) as group:
        with group.together():
            plan = make_plan(arguments, group)
        write = write_folder if plan.kind == "folder" else write_file
        with progress_of(plan.count, group) as update:
            nfe = write(plan, group, update)
        if group.rank == 0:
            out = arguments.out or plan.out
            print(f"{arguments.num} samples, {plan.solver}, {nfe:g} function evaluations: {out}")
    return 0


def progress_of(count, group):
    """The first process reports on its own share."""
    if group.rank:
        return nullcontext(lambda done: None)
    return console.progress(count, "sample" if group.world == 1 else f"sample, process 0 of {group.world}")


@dataclass(frozen=True)
class Plan:
    """What is asked for, checked, and which part of it this process does."""

    model: Any
    shape: tuple
    codec: Any
    kind: str  # png, npz or folder
    out: Path
    labels: np.ndarray | None  # (num,), those of all processes' samples
    start: int
    shares: list  # (first, count) a process
    rank: int
    device: Any
    solver: str
    options: dict = field(default_factory=dict)  # of generate_solution

    @property
    def count(self):
        return self.shares[self.rank][1]


def make_plan(arguments, group):
    """The Plan. Everything that can be found wrong before the work is found here."""
    import torch

    from loomfast.models import item_shape
    from loomfast.runs.directory import load_model
    from loomfast.sampling.generate import shares
    from loomfast.sampling.ode import ADAPTIVE, check_solver

    if arguments.compile:
        need_compiler(group.device)
    config, model = load_model(arguments.directory)
    shape = item_shape(config.model)
    grid = arguments.time_grid
    if arguments.solver in ADAPTIVE and arguments.trajectory and grid is None:
        grid = REPORTS
    timed = grid is not None and not isinstance(grid, str)
    nfe = arguments.nfe or (None if timed or arguments.solver in ADAPTIVE else NFE)
    if timed and nfe:
        raise ValueError("--nfe and the times of --time-grid both say how many steps: leave one out")
    solver, settings = check_solver(arguments.solver, nfe, grid)
    kind = kind_of(arguments.out)
    check_kind(kind, shape, arguments.codec)
    codec = codec_of(arguments.codec, shape, group.device)
    labels = labels_of(config, arguments)
    out = output_of(arguments, kind, f"seed{arguments.seed}-{solver}{f'-nfe{nfe}' if nfe else ''}")
    model = model.to(group.device)
    return Plan(
        model=torch.compile(model, fullgraph=True, dynamic=False) if arguments.compile else model,
        shape=shape,
        codec=codec,
        kind=kind,
        out=out,
        labels=labels,
        start=arguments.start,
        shares=shares(arguments.start, arguments.num, group.world),
        rank=group.rank,
        device=group.device,
        solver=solver,
        options={
            "seed": arguments.seed,
            "solver": solver,
            "batch_size": arguments.batch_size,
            "trajectory": arguments.trajectory,
        }
        | settings,
    )


def kind_of(out):
    """What ``--out`` asks for: "png" (also where it is None), "npz" or "folder"."""
    if out is None:
        return "png"
    if out.endswith(os.sep) or Path(out).is_dir():
        return "folder"
    kind = Path(out).suffix
    if kind not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, or in {os.sep} for a folder, got {out!r}")
    return kind[1:]


def output_of(arguments, kind, name):
    """Where the samples go, found writable; by default a picture of this name in the run directory."""
    from loomfast.files import check_new_directory

    if kind == "folder":
        check_new_directory(arguments.out)
        return Path(arguments.out)
    if arguments.out is not None:
        return writable(arguments.out)
    folder = Path(arguments.directory) / "samples"
    folder.mkdir(exist_ok=True)
    return writable(str(folder / f"{name}{'-trajectory' if arguments.trajectory else ''}.png"))


def check_kind(kind, shape, codec):
    """ValueError unless samples of this shape can be written as asked."""
    if codec and len(shape) != 3:
        raise ValueError(f"--codec decodes latents of shape (C, H, W); the samples' shape is {shape}")
    images = len(shape) == 3 and (codec is not None or shape[0] in (1, 3))
    if kind != "npz" and not images and (kind == "folder" or shape != (2,)):
        raise ValueError(
            f"samples of shape {shape} are no pictures: name an --out that ends in .npz"
            + (", or decode them with --codec" if len(shape) == 3 else "")
        )


def codec_of(name, shape, device):
    """The Codec of ``--codec``, found fit for the samples' shape; None where it was not asked for."""
    if name is None:
        return None
    from loomfast.sampling.codec import autoencoder_kl

    codec = autoencoder_kl(name, device=device)
    if codec.channels != shape[0]:
        raise ValueError(f"--codec {name} decodes {codec.channels} channels, the samples have {shape[0]}")
    return codec


def labels_of(config, arguments):
    """(num,) int64 labels of the samples, in turn by their number; None for an unconditional network."""
    classes = config.model.num_classes
    if classes is None:
        if arguments.labels:
            raise ValueError("this network was trained without labels: leave --label and --labels out")
        return None
    turn = np.array(arguments.labels or range(classes), dtype=np.int64)
    if turn.max() >= classes:
        raise ValueError(f"labels must be below {classes}, this network's classes; got {turn.max()}")
    return turn[(arguments.start + np.arange(arguments.num)) % len(turn)]


def drawn(plan, update):
    """For each call of the network in this process's share: the first id, the Solution, its decoded states.

    States are (T, n, ...), with T = 1 unless trajectories are asked for. update: called with the number done.
    """
    from loomfast.sampling.generate import blocks, generate_solution

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
    """Write the samples of all processes as one file; returns the mean evaluations of a sample."""
    import torch

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
    from loomfast.files import atomic
    from loomfast.plots import save_samples, save_trajectory

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
    """Write every sample as a PNG into a new folder; returns the mean evaluations of a sample."""
    from loomfast.files import atomic_directory
    from loomfast.plots import save_image_files

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
