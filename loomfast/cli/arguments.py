"""What the commands' argument parsers share: errors of one line, and the types of arguments."""

import argparse
import sys

from loomfast.files import writable

USER_ERROR = 2


class OneLineParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line, and which fails where its own text cannot be printed."""

    def _print_message(self, message, file=None):
        if message:
            (file or sys.stderr).write(message)

    def error(self, message):
        self.exit(USER_ERROR, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def add_solver_and_seed(command):
    """Add ``--solver`` and ``--seed``, which every command that samples takes."""
    command.add_argument(
        "--solver",
        help="euler, midpoint, heun, rk4, an adaptive one of torchdiffeq such as dopri5, or, for a network "
        "with a score, euler-maruyama (default: midpoint for an even --nfe, else euler; a flow map: map, its "
        "own steps)",
    )
    command.add_argument("--seed", type=natural, default=0, help="seed of the noise (default: %(default)s)")


def add_device(command):
    """Add ``--device``, for commands that run a network; `loomfast.distributed.resolve_device` reads it."""
    command.add_argument(
        "--device", default="auto", help="auto, cpu, cuda or cuda:N (default: a GPU if there is one)"
    )


def output_file(text):
    """Parse a path for argparse that can be written to, which is found out before the work."""
    try:
        return writable(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def natural(text):
    """Parse an integer of 0 or more for argparse."""
    return _integer(text, 0)


def positive(text):
    """Parse an integer of 1 or more for argparse."""
    return _integer(text, 1)


def positive_list(text):
    """Parse comma-separated integers of 1 or more for argparse."""
    return [positive(part) for part in text.split(",")]


def natural_list(text):
    """Parse comma-separated integers of 0 or more for argparse."""
    return [natural(part) for part in text.split(",")]


def lengths(text):
    """Parse comma-separated lengths of averages for argparse."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be numbers such as .02,.05,.1, got {text!r}") from None


def time_grid(text):
    """Parse comma-separated times, or a word that names a law of them, for argparse."""
    if text.isalpha():
        return text
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be times such as 0,0.5,1, got {text!r}") from None


def _integer(text, minimum):
    try:
        value = int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be an integer, got {text!r}") from None
    if value < minimum:
        raise argparse.ArgumentTypeError(f"must be at least {minimum}, got {value}")
    return value
