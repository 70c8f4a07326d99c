"""``loomfast train PRESET``: the flags are the fields of the configuration."""

import contextlib
import dataclasses
import io
import json
from itertools import takewhile
from pathlib import Path

from loomfast import console
from loomfast.data import DRAWN, LOADERS
from loomfast.extras import need

TRAIN_DESCRIPTION = """Train a flow-matching model. The run directory (--out, by default
runs/PRESET-COUPLING-seedN) receives the configuration, checkpoints, a log, pictures of samples and of the
coupling. To resume, or to go on with more --steps, run the same command again."""


def run(argv):
    """Train as the words ``argv`` say, or print the plan; the flags are the fields of the configuration."""
    need("tyro", "train")
    need("torch", "train")
    from loomfast.config import PRESETS
    from loomfast.runs.directory import default_directory

    def default_out(config):
        return default_directory(next(a for a in argv if a in PRESETS), config)

    return train_table(PRESETS, argv, "train", TRAIN_DESCRIPTION, default_out)


def train_table(table, argv, name, description, default_out, around=None):
    """Train the configuration of a table that ``argv`` names, with its other words as flags for the fields.

    Args:
        table: {word: (its line in the help, TrainConfig)}.
        argv: the words after the command's name.
        name, description: the command's, for its help and errors.
        default_out: function of a TrainConfig that returns its run directory where ``--out`` names none.
        around: function of the TrainConfig that returns a context manager to train in; nothing by default.

    Returns:
        int: the exit code.
    """
    from loomfast.config import TrainConfig

    @dataclasses.dataclass(frozen=True)
    class Command(TrainConfig):
        out: Path | None = None
        """Run directory; one named after the run in runs/ if none is named."""
        dry_run: bool = False
        """Print the configuration, the number of parameters and an estimate of the memory, and stop."""

    commands = {word: (text, Command(**_fields(config))) for word, (text, config) in table.items()}
    command = _tyro_parse(commands, argv, name, description)
    if command is None:
        return 0
    values = _fields(command)
    out, dry_run = values.pop("out"), values.pop("dry_run")
    config = TrainConfig(**values)
    out = out or default_out(config)
    if dry_run:
        return _print_plan(config, out)
    with around(config) if around else contextlib.nullcontext():
        return _train(config, out)


def _fields(config):
    return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)}


def _tyro_parse(table, argv, name, description):
    """Return the Command that ``argv`` asks for, or None if it asked for help.

    Raises ValueError with one line for words that are no command.
    """
    tyro = need("tyro", "train")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.extras.overridable_config_cli(
                table,
                args=argv,
                prog=f"loomfast {name}",
                description=" ".join(description.split()),
                config=(tyro.conf.AvoidSubcommands, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if not stop.code:
            return None
        raise ValueError(f"{_first_message(printed.getvalue())} (see loomfast {name} --help)") from None


def _first_message(frame):
    """What stands in the frame that tyro draws around an error, down to the rule above its hints.

    tyro has no public way to get at the message alone.
    """
    lines = (line.strip("│ ") for line in frame.splitlines()[1:])
    return " ".join(takewhile(lambda line: not line.startswith(("─", "╰")), lines))


def _print_plan(config, out):
    from loomfast import models
    from loomfast.config import config_to_dict
    from loomfast.runs.directory import load_data
    from loomfast.training.memory import estimate_memory

    parameters = sum(p.numel() for p in models.build(config.model, "meta").parameters())
    at_hand = config.data in (*LOADERS, *DRAWN)
    num_items = config.num_items or (len(load_data(config).train) if at_hand else None)
    print(json.dumps(config_to_dict(config), indent=2))
    print(f"parameters: {parameters:,}")
    for name, count in estimate_memory(config, num_items=num_items).items():
        size = "not known without --num-items" if count is None else f"{count / 2**20:,.1f} MiB"
        print(f"memory, {name} (estimate): {size}")
    print(f"run directory: {out}")
    return 0


def _train(config, out):
    from loomfast.distributed import FailedElsewhere, first_of_all
    from loomfast.runs.directory import checkpoint_step
    from loomfast.runs.pictures import picture_run
    from loomfast.training.loop import train

    if not first_of_all():
        # The first process says why; torchrun would kill it at another one's failure.
        with contextlib.suppress(FailedElsewhere, FloatingPointError):
            train(config, out)
        return 0
    first = min(checkpoint_step(out), config.steps)
    with console.progress(config.steps, f"train {out.name}", first=first, items=config.batch_size) as update:

        def report(done, record):
            update(done, f"loss {record['loss']:.4f}  cost {record['cost_after']:.3f}")

        done = train(config, out, progress=report)
    if done < config.steps:
        print(f"stopped at step {done} of {config.steps}; run the same command again to go on")
        return 0
    for picture in picture_run(config, out):
        print(picture)
    print(f"trained {done} steps: {out}")
    return 0
