"""``loomfast reflow RUN``: its own flags, and the fields of the configuration."""

import dataclasses
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from loomfast import console
from loomfast.cli.arguments import OneLineParser, natural, positive
from loomfast.cli.train import train_table
from loomfast.extras import need

DESCRIPTION = """Train on what a run makes of noise (reflow; Liu et al., 2023): pairs of noise and sample, of
which the paths are straighter than those of noise and data, so that fewer steps do. The pairs are made first
and stored in --pairs, the noise by its ids. Then a network that begins with the run's weights (--init '' for
a new one) trains on them in the run directory --out, by default runs/RUN-reflow. Under torchrun the processes
share both. To resume, run the same command again: no more pairs are lost than the last few of each process,
and of the training what it did since its last checkpoint."""


def run(argv):
    """Make the pairs and train as the words ``argv`` say; the first of them is the run."""
    parser = _parser()
    try:
        if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
            parser.error("name a RUN first, a run directory of loomfast train")
        arguments, flags = parser.parse_known_args(argv[1:] if argv[0][:1] != "-" else argv)
    except SystemExit as stop:  # after help, or an error that was told
        return stop.code
    need("torch", "train")
    from loomfast.distributed import FailedElsewhere
    from loomfast.runs.directory import load_config

    base = Path(argv[0])
    name = base.absolute().name
    pairs = arguments.pairs or Path("runs") / f"{name}-pairs"
    base_config = load_config(base)
    if arguments.pairs_only and flags:
        raise ValueError(f"--pairs-only trains nothing: leave {' '.join(flags)} out")
    # The first process says why all fail; torchrun would kill it at another one's failure.
    with suppress(FailedElsewhere):
        made = partial(_made, base, pairs, arguments)
        if arguments.pairs_only:
            with made(base_config):
                return 0
        table = {"RUN": ("the run", _configuration(base_config, base, pairs))}
        out = Path("runs") / f"{name}-reflow"
        return train_table(table, ["RUN", *flags], "reflow", DESCRIPTION, lambda _: out, around=made)
    return 0


def _parser():
    parser = OneLineParser(
        prog="loomfast reflow",
        usage="loomfast reflow RUN [--num N] [--nfe N] [--pairs DIR] [--out DIR] [--steps N] [...]",
        description=DESCRIPTION,
        epilog="All other flags are those of `loomfast train` (see loomfast train digits --help); "
        "their defaults are the run's own. example: loomfast reflow runs/digits-loom-seed0",
        allow_abbrev=False,
    )
    parser.add_argument("--num", type=positive, help="pairs (default: 20 a training item, as in the paper)")
    parser.add_argument("--nfe", type=positive, help="function evaluations for a pair (default: 40)")
    parser.add_argument("--solver", help="solver that makes the pairs (default: as of `loomfast sample`)")
    parser.add_argument(
        "--pairs", type=Path, metavar="DIR", help="directory of the pairs (default: runs/RUN-pairs)"
    )
    parser.add_argument("--pairs-seed", type=natural, default=0, help="seed of their noise (default: 0)")
    parser.add_argument("--pairs-only", action="store_true", help="make the pairs and stop")
    return parser


@contextmanager
def _made(base, pairs, arguments, config):
    """Make the pairs; within, the processes that torchrun started stay connected: they cannot meet twice."""
    from loomfast.distributed import world
    from loomfast.runs.pairs import PATIENCE, PairsRequest, make_pairs

    request = PairsRequest(
        run=str(base),
        out=str(pairs),
        num=arguments.num,
        nfe=arguments.nfe,
        solver=arguments.solver,
        seed=arguments.pairs_seed,
        device=config.device,
    )
    with world(config.device, patience=PATIENCE) as group:
        made = make_pairs(request, progress=console.progress)
        if group.rank == 0:
            print(f"{made} pairs: {pairs}")
        yield


def _configuration(base_config, base, pairs):
    """Return the TrainConfig of a velocity that begins with a run's and trains on its pairs."""
    from loomfast.config import CouplingConfig

    return dataclasses.replace(
        base_config,
        objective="velocity",
        model=dataclasses.replace(base_config.model, two_times=False),
        init=str(base),
        data=str(pairs),
        conditions="",
        num_items=0,
        stream=False,
        flips=False,
        coupling=CouplingConfig(method="paired", pairs=str(pairs / "pairs.safetensors")),
    )
