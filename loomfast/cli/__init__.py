"""The command ``loomfast``, one file a command. ``solve`` and ``doctor`` need the core install only."""

import argparse
import sys
from importlib import import_module

import loomfast
from loomfast.cli import streams
from loomfast.cli.arguments import USER_ERROR, OneLineParser

# name -> its line in `loomfast --help`; the module of a command is loaded when it is asked for
COMMANDS = {
    "train": "train a preset; run the same command again to resume",
    "sample": "draw samples from a run",
    "evaluate": "measure a run",
    "distill": "make a one-step flow map of a trained run",
    "reflow": "train on a run's own samples, whose paths are straighter",
    "export": "write a trained network as a folder to give away",
    "couple": "couple a whole dataset with its noise, exactly",
    "solve": "solve the assignment of a cost matrix",
    "doctor": "what works here, and how to get the rest",
}
OF_CONFIGURATION = ("train", "distill", "reflow")  # their flags come from the configuration's dataclasses
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
    if argv[:1] and argv[0] in OF_CONFIGURATION:
        return _module(argv[0]).run(argv[1:])
    try:
        arguments = parser(argv[0] if argv else None).parse_args(argv)
    except SystemExit as stop:  # after help, or an error that was told
        return stop.code
    return arguments.run(arguments)


def _fail(error, code):
    message = " ".join(str(error).split()) or type(error).__name__
    print(f"loomfast: error: {message}", file=sys.stderr)
    return code


def parser(asked=None):
    """The parser of every command but those of ``OF_CONFIGURATION``.

    Only the command ``asked`` for, if any, gets its flags: the modules of the others are not loaded.
    """
    top = OneLineParser(
        prog="loomfast",
        description="Exact assignment, noise by id, and LOOM-CFM training and sampling.",
        epilog="loomfast train --help lists the presets; loomfast COMMAND --help explains a command.",
    )
    top.add_argument("--version", action="version", version=f"loomfast {loomfast.__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, line in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=line,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            add_help=name not in OF_CONFIGURATION,
        )
        if name == asked:
            _module(name).describe(command)
    return top


def _module(command):
    return import_module(f"loomfast.cli.{command}")
