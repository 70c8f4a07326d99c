"""``loomfast sample RUN``."""

from contextlib import suppress

from loomfast import console
from loomfast.cli.arguments import (
    add_device,
    add_solver_and_seed,
    natural,
    natural_list,
    positive,
    time_grid,
)
from loomfast.extras import need


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Draw samples from a trained run and write them to a file or a folder.\n\n"
        "Sample k of a seed is always the same sample, whatever --num and --batch-size are.\n"
        "Under torchrun the processes share the work, on a GPU each where there are several."
    )
    command.epilog = (
        "examples:\n"
        "  loomfast sample runs/digits-loom-seed0 --num 16 --nfe 4 --out samples.png\n"
        "  loomfast sample runs/digits-loom-seed0 --num 6 --nfe 16 --trajectory --out paths.png\n"
        "  torchrun --nproc-per-node 2 -m -- loomfast sample runs/digits-loom-seed0 --num 5000 --out digits/"
    )
    command.set_defaults(run=run)
    command.add_argument("directory", metavar="RUN", help="run directory of `loomfast train`, or an export")
    command.add_argument("--num", type=positive, default=64, help="how many samples (default: %(default)s)")
    command.add_argument("--start", type=natural, default=0, help="number of the first sample (default: 0)")
    add_times_and_labels(command)
    command.add_argument(
        "--codec",
        metavar="PATH",
        help="decode latents with this AutoencoderKL: a folder, or a name on the Hugging Face hub",
    )
    command.add_argument(
        "--ema",
        type=float,
        metavar="LENGTH",
        help="sample with the average of this length, a share of the training in (0, 0.2887), of a run that "
        "was trained with --snapshot-every (default: the run's own average)",
    )
    command.add_argument(
        "--batch-size", type=positive, default=256, help="samples at once on a GPU (default: %(default)s)"
    )
    command.add_argument(
        "--out",
        help=".png for a picture, .npz for numbers, DIR/ for a new folder with a PNG for each sample "
        "(default: a picture in samples/ of the run directory)",
    )
    add_solver_and_seed(command)
    add_device(command)
    command.add_argument(
        "--compile", action="store_true", help="compile the network with torch.compile first"
    )


def add_times_and_labels(command):
    """Add the flags that say what is sampled: steps in time, classes, ends or whole paths."""
    command.add_argument(
        "--nfe",
        type=positive,
        help="function evaluations (default: 8; an adaptive solver chooses its own)",
    )
    command.add_argument(
        "--time-grid",
        type=time_grid,
        metavar="T,T,...|LAW",
        help="times from 0 (noise) to 1 (data) instead of --nfe, such as 0,0.2,0.5,1; or how the steps of "
        "--nfe are spaced: uniform, quadratic (short near the noise), cosine (short near both ends)",
    )
    labels = command.add_mutually_exclusive_group()
    labels.add_argument(
        "--label",
        dest="labels",
        type=lambda text: [natural(text)],
        metavar="K",
        help="class of every sample, for a network trained with labels (default: all classes in turn)",
    )
    labels.add_argument("--labels", type=natural_list, metavar="K,K,...", help="classes, taken in turn")
    labels.add_argument(
        "--conditions",
        metavar="FILE",
        help=".npy file of conditions (M, c) or fields (M, C, H, W), taken in turn, for a network trained "
        "with --model.condition-dim or --model.field-channels (default: those of the held-out items)",
    )
    command.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="classifier-free guidance: go W times as far from the unlabelled velocity as the label says, "
        "for a network trained with --label-dropout (1: as the label says; default: no guidance)",
    )
    command.add_argument(
        "--diffusion",
        type=float,
        metavar="G",
        help="noise of --solver euler-maruyama, the stochastic equation of a run that was trained with "
        "--path bridge --score (default: that run's sigma)",
    )
    command.add_argument(
        "--source",
        metavar="FILE",
        help=".npy file of items to begin at, in turn, for a run that was trained with --coupling.source "
        "(default: that file)",
    )
    command.add_argument(
        "--trajectory", action="store_true", help="write the whole paths, not their ends alone"
    )


def run(arguments):
    """Draw the samples, write them, and print one line that says where they are."""
    need("torch", "train")
    from loomfast.distributed import FailedElsewhere
    from loomfast.runs.sample import SampleRequest, sample_run

    fields = {name: value for name, value in vars(arguments).items() if name != "run"}
    # The first process says why all fail; torchrun would kill it at another one's failure, before it has
    # cleaned up.
    with suppress(FailedElsewhere):
        written = sample_run(SampleRequest(**fields), progress=console.progress)
        if written is not None:
            out = arguments.out or written.out
            evaluations = f"{written.nfe:g} function evaluations"
            print(f"{arguments.num} samples, {written.solver}, {evaluations}: {out}")
    return 0
