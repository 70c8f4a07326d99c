"""The command ``loomfast``, one file a command. ``solve`` and ``doctor`` need the core install only."""

import sys

from loomfast.cli import couple, doctor, evaluate, export, sample, solve, train
from loomfast.cli.arguments import USER_ERROR, OneLineParser


def main(argv=None):
    """Run the command; returns the exit code: 0, or 2 after one line on stderr for a user's error."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        if argv[:1] == ["train"]:
            return train.run(argv[1:])
        arguments = parser().parse_args(argv)
        return arguments.run(arguments)
    except (ValueError, TypeError, OSError, ImportError, MemoryError, OverflowError) as error:
        message = " ".join(str(error).split()) or type(error).__name__
        print(f"loomfast: error: {message}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("loomfast: interrupted", file=sys.stderr)
        return 130


def parser():
    """The parser of every command but ``train``, whose flags come from the configuration's dataclasses."""
    top = OneLineParser(
        prog="loomfast",
        description="Exact assignment, noise by id, and LOOM-CFM training and sampling.",
        epilog="loomfast train --help lists the presets; loomfast COMMAND --help explains a command.",
    )
    top.add_argument("--version", action="version", version=_version())
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (train, sample, evaluate, export, couple, solve, doctor):
        command.add(commands)
    return top


def _version():
    import loomfast

    return f"loomfast {loomfast.__version__}"
