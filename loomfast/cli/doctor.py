"""``loomfast doctor``."""

from loomfast import console


def add(commands):
    """The parser of the command."""
    doctor = commands.add_parser(
        "doctor",
        help="what works here, and how to get the rest",
        description="List what loomfast found on this machine, and how to get what is missing.",
    )
    doctor.set_defaults(run=run)


def run(_):
    """``loomfast doctor``."""
    from loomfast.doctor import report

    print(
        console.table(
            ["what", "here", "detail"], [(f.name, "yes" if f.found else "no", f.detail) for f in report()]
        )
    )
    return 0
