"""``loomfast doctor``."""

from loomfast import console
from loomfast.doctor import report


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = "List what loomfast found on this machine, and how to get what is missing."
    command.set_defaults(run=run)


def run(_):
    """Print what was found on this machine, one line a fact."""
    print(
        console.table(
            ["what", "here", "detail"], [(f.name, "yes" if f.found else "no", f.detail) for f in report()]
        )
    )
    return 0
