"""``loomfast distill RUN``: the flags are the fields of the configuration."""

import argparse
import dataclasses
from pathlib import Path

from loomfast.cli.train import train_table
from loomfast.extras import need

DESCRIPTION = """Make a flow map of a trained run: a network that samples in one step, or in as many as one
likes. It begins with the run's averaged weights, takes a second time, and trains on the run's data and
coupling. --kind says how: lsd (Lagrangian self-distillation, the default), lmd (distils the run's velocity),
esd, psd, meanflow. The run directory (--out, by default runs/RUN-KIND) is that of `loomfast train`. To
resume, or to go on with more --steps, run the same command again. All flags but --kind, --out and --dry-run
are those of the configuration; their defaults are the run's own."""

USAGE = f"""usage: loomfast distill RUN [--kind lsd|lmd|esd|psd|meanflow] [--out DIR] [--steps N] [...]

{DESCRIPTION}

example: loomfast distill runs/digits-loom-seed0
         loomfast evaluate runs/digits-loom-seed0-lsd --nfe 1,2,4
`loomfast distill RUN --help` lists all flags."""


def run(argv):
    """Distil as the words ``argv`` say; the first of them is the run."""
    if argv in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if not argv or argv[0].startswith("-"):
        raise ValueError(
            "distill needs a RUN first, a run directory of loomfast train (see loomfast distill --help)"
        )
    need("torch", "train")
    from loomfast.runs.directory import load_config

    base = Path(argv[0])
    kind, flags = _kind_of(argv[1:])
    config = load_config(base)
    coupling = config.coupling
    if coupling.method == "loom":  # its file is where the run began; this one goes on where the run is
        coupling = dataclasses.replace(coupling, init="")
    model = dataclasses.replace(config.model, score_head=False)
    config = dataclasses.replace(
        config, model=model, objective=kind, score=False, init=str(base), coupling=coupling
    )

    def default_out(config):
        return Path("runs") / f"{base.absolute().name}-{config.objective}"

    return train_table({"RUN": ("the run", config)}, ["RUN", *flags], "distill", DESCRIPTION, default_out)


def _kind_of(words):
    """Return what ``--kind`` says, and the words without it; ValueError if it is no kind."""
    from loomfast.flow_map import KINDS

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--kind", default="lsd", choices=KINDS)
    try:
        found, others = parser.parse_known_args(words)
    except argparse.ArgumentError as error:
        raise ValueError(f"{error} (see loomfast distill --help)") from None
    return found.kind, others
