"""``loomfast sample RUN``."""

import argparse
from pathlib import Path

import numpy as np

from loomfast import console
from loomfast.cli.arguments import add_solver_and_seed, natural, output_file, positive
from loomfast.extras import need


def add(commands):
    """The parser of the command."""
    sample = commands.add_parser(
        "sample",
        help="draw samples from a run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Draw samples from a trained run and write them to a file.\n\n"
        "Sample k of a seed is always the same sample, whatever --num and --batch-size are.",
        epilog="example: loomfast sample runs/digits-loom-seed0 --num 16 --nfe 4 --out samples.png",
    )
    sample.set_defaults(run=run)
    sample.add_argument("directory", metavar="RUN", help="run directory that `loomfast train` wrote")
    sample.add_argument("--num", type=positive, default=64, help="how many samples (default: %(default)s)")
    sample.add_argument("--start", type=natural, default=0, help="number of the first sample (default: 0)")
    sample.add_argument(
        "--nfe", type=positive, help="function evaluations (default: 8; an adaptive solver chooses its own)"
    )
    sample.add_argument(
        "--batch-size", type=positive, default=256, help="samples computed together (default: %(default)s)"
    )
    sample.add_argument(
        "--out",
        type=output_file,
        help=".png for a picture, .npz for numbers (default: a picture in samples/ of the run directory)",
    )
    add_solver_and_seed(sample)


def run(arguments):
    """``loomfast sample RUN``."""
    need("torch", "train")
    from loomfast.checkpoint import atomic
    from loomfast.models import item_shape
    from loomfast.plots import save_samples
    from loomfast.rundir import load_model
    from loomfast.sample import ADAPTIVE, check_solver, generate_solution

    config, model = load_model(arguments.directory)
    nfe = arguments.nfe or (None if arguments.solver in ADAPTIVE else 8)
    solver, _ = check_solver(arguments.solver, nfe)
    name = f"seed{arguments.seed}-{solver}{f'-nfe{nfe}' if nfe else ''}.png"
    out = arguments.out or Path(arguments.directory) / "samples" / name
    if out.suffix not in (".png", ".npz"):
        raise ValueError(f"--out must end in .png or .npz, got {str(out)!r}")
    with console.progress(arguments.num, "sample") as update:
        solution = generate_solution(
            model,
            arguments.num,
            item_shape(config.model),
            seed=arguments.seed,
            start=arguments.start,
            solver=solver,
            nfe=nfe,
            batch_size=arguments.batch_size,
            progress=update,
        )
    if out.suffix == ".png":
        save_samples(solution.x, out)
    else:
        with atomic(out) as aside, open(aside, "wb") as file:
            np.savez(file, samples=solution.x.numpy())
    print(f"{arguments.num} samples, {solver}, {solution.nfe:g} function evaluations: {out}")
    return 0
