"""``loomfast couple PRESET|DATA``."""

import argparse
import math
import re
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, replace

from loomfast import console
from loomfast.cli.arguments import natural, output_file, positive
from loomfast.coupling import Loom, solve_globally
from loomfast.data import coupled_items
from loomfast.extras import need
from loomfast.files import write_json

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Find the optimal coupling of a dataset with its noises, all at once: exact where the\n"
        "matrix fits into memory, else exact in the largest blocks that fit, swept until it gains no more.\n"
        "Training starts from the file with --coupling.init. To go on after an interruption, run the same\n"
        "command again: unfinished work is in FILE.partial until the end."
    )
    command.epilog = (
        "example: loomfast couple patches32 --num-items 8192 --out patches32.safetensors\n"
        "         loomfast train patches32 --num-items 8192 --coupling.init patches32.safetensors"
    )
    command.set_defaults(run=run)
    command.add_argument("data", metavar="PRESET|DATA", help="a preset, or data as `loomfast train --data`")
    command.add_argument(
        "--out", type=output_file, required=True, metavar="FILE", help=".safetensors file to write"
    )
    command.add_argument("--num-items", type=positive, help="training items (default: the preset's, or all)")
    command.add_argument(
        "--num-caches", type=positive, help="noises an item holds (default: the preset's, or 4)"
    )
    command.add_argument(
        "--metric", choices=("sqeuclidean", "euclidean"), help="cost of a pair (default: the preset's)"
    )
    command.add_argument(
        "--flips",
        action=argparse.BooleanOptionalAction,
        help="mirror images are items, too, as in training with flips (default: the preset's)",
    )
    command.add_argument(
        "--seed", type=natural, help="seed of the run that is to use it (default: the preset's, or 0)"
    )
    command.add_argument(
        "--memory", type=size, help="memory a block may take, such as 12G (default: 70 %% of what is free)"
    )
    command.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="where blocks that fit there are computed and solved (default: %(default)s)",
    )
    command.add_argument(
        "--min-gain",
        type=share,
        default=1e-3,
        help="share of all gain under which a sweep over blocks is the last (default: %(default)s)",
    )
    command.add_argument("--json", type=output_file, help="write the result to this file, too")


def run(arguments):
    """Couple the dataset, write the file, and print one line about the result."""
    need("torch", "train")
    from loomfast.distributed import first_of_all, started

    if started() > 1:
        if not first_of_all():
            return 0
        raise ValueError("loomfast couple works in one process, with threads: start it without torchrun")
    begun = time.perf_counter()
    dataset, config = _what_to_couple(arguments)
    coupling = config.coupling
    if arguments.out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {str(arguments.out)!r}")
    flips = config.flips if arguments.flips is None else arguments.flips
    if flips and dataset.train.ndim != 4:
        raise ValueError(f"--flips is for images; items of {arguments.data} are {dataset.train.shape[1:]}")
    num_items, take, labels, fingerprint = coupled_items(dataset, flips)
    coupler = Loom(
        num_items,
        dataset.train.shape[1:],
        num_caches=arguments.num_caches or coupling.num_caches,
        seed=config.seed if arguments.seed is None else arguments.seed,
        metric=arguments.metric or coupling.metric,
        label_weight=coupling.label_weight,
        tolerance=coupling.tolerance,
        dataset_fingerprint=fingerprint,
    )
    if arguments.device == "cuda":
        try:
            coupler.to(arguments.device)
        except RuntimeError as error:
            raise ValueError(f"--device cuda: {error}") from None
    partial = arguments.out.with_name(arguments.out.name + ".partial")
    with ExitStack() as stack:
        result = solve_globally(
            coupler,
            take,
            labels=labels if coupling.label_weight else None,
            memory=arguments.memory,
            min_gain=arguments.min_gain,
            folder=partial,
            progress=_bars(stack, arguments.data),
        )
    coupler.save(arguments.out)
    shutil.rmtree(partial, ignore_errors=True)
    seconds = time.perf_counter() - begun
    if arguments.json:
        write_json(arguments.json, asdict(result) | {"total_seconds": seconds})
    print(arguments.out)
    print(_summary(result, seconds))
    return 0


def _what_to_couple(arguments):
    """Return (Dataset, TrainConfig) of a preset, or of data given by another name or a path."""
    from loomfast.config import PRESETS, TrainConfig
    from loomfast.models import MLPConfig
    from loomfast.runs.directory import load_data

    named = {} if arguments.num_items is None else {"num_items": arguments.num_items}
    if arguments.data in PRESETS:
        config = replace(PRESETS[arguments.data][1], **named)
    else:
        # the network only has to be one that does not resize images
        config = TrainConfig(data=arguments.data, model=MLPConfig(dim=2), **named)
    return load_data(config), config


def _bars(stack, title):
    """Return a progress callback for `solve_globally` that shows a bar for every sweep."""
    update, before = None, math.inf

    def progress(done, total, note):
        nonlocal update, before
        if done < before:
            stack.close()
            update = stack.enter_context(console.progress(total, f"couple {title}", first=0))
        update(done, note)
        before = done

    return progress


def _summary(result, seconds):
    if result.num_blocks == 1:
        proof = f"certified gap {result.gap:.3g}"
    else:
        proof = f"certified gap none, {result.sweeps} sweeps over {result.num_blocks} exact blocks"
    costs = f"independent {result.cost_independent:.6g}, coupled {result.cost_after:.6g}"
    return f"cost per pair: {costs}, {proof}, {seconds:.1f} s"


def size(text):
    """Parse a number of bytes, such as 500M or 12G, for argparse."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgt]?)b?", text.strip().lower())
    if not match or float(match[1]) <= 0:
        raise argparse.ArgumentTypeError(f"must be a size in bytes such as 500M or 12G, got {text!r}")
    return int(float(match[1]) * UNITS[match[2]])


def share(text):
    """Parse a number in [0, 1) for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1), got {text!r}")
    return value
