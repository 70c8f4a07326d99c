"""The command ``loomfast``, one file a command. ``solve`` and ``doctor`` need the core install only."""

import sys

from loomfast.cli import couple, doctor, evaluate, export, sample, solve, streams, train
from loomfast.cli.arguments import USER_ERROR, OneLineParser

DIVERGED = 1
BROKEN_PIPE = 128 + 13  # SIGPIPE


def main(argv=None):
    """Run the command; returns the exit code.

    0; 1 after training that diverged and 2 for a user's error, each with one line on stderr; 130 after
    Ctrl-C; 141, as of a program that SIGPIPE ended, where nobody reads any more what is printed.
    """
    streams.open_closed()
    try:
        return _run(sys.argv[1:] if argv is None else list(argv))
    except BrokenPipeError:
        return BROKEN_PIPE
    finally:
        streams.settle()


def _run(argv):
    try:
        code = _command(argv)
        sys.stdout.flush()  # while an error can still be told
        return code
    except BrokenPipeError:
        raise
    except FloatingPointError as error:
        return _fail(error, DIVERGED)
    except (ValueError, TypeError, OSError, ImportError, MemoryError, OverflowError) as error:
        return _fail(error, USER_ERROR)
    except KeyboardInterrupt:
        print("loomfast: interrupted", file=sys.stderr)
        return 130


def _command(argv):
    if argv[:1] == ["train"]:
        return train.run(argv[1:])
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as stop:  # after help, or an error that was told
        return stop.code
    return arguments.run(arguments)


def _fail(error, code):
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"loomfast: error: {message}", file=sys.stderr)
    return code


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
