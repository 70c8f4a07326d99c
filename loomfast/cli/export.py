"""``loomfast export RUN``."""

import argparse

from loomfast.extras import need


def add(commands):
    """The parser of the command."""
    export = commands.add_parser(
        "export",
        help="write a trained network as a folder to give away",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Write the weights, the configuration and a model card of a run to a new directory.\n"
        "`loomfast sample DIR` and `loomfast evaluate DIR` take it as they take a run.",
        epilog="example: loomfast export runs/digits-loom-seed0 --out digits-loom",
    )
    export.set_defaults(run=run)
    export.add_argument("directory", metavar="RUN", help="run directory that `loomfast train` wrote")
    export.add_argument(
        "--out", required=True, metavar="DIR", help="directory to make; it may not hold files"
    )


def run(arguments):
    """``loomfast export RUN``."""
    need("torch", "train")
    from loomfast.runs.export import export_run

    out = export_run(arguments.directory, arguments.out)
    print(f"weights, configuration and model card: {out}")
    return 0
