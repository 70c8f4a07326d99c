"""``loomfast export RUN``."""

from loomfast.extras import need


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Write the weights, the configuration and a model card of a run to a new directory.\n"
        "`loomfast sample DIR` and `loomfast evaluate DIR` take it as they take a run."
    )
    command.epilog = "example: loomfast export runs/digits-loom-seed0 --out digits-loom"
    command.set_defaults(run=run)
    command.add_argument("directory", metavar="RUN", help="run directory that `loomfast train` wrote")
    command.add_argument(
        "--out", required=True, metavar="DIR", help="directory to make; it may not hold files"
    )


def run(arguments):
    """Export the run, and print where it is."""
    need("torch", "train")
    from loomfast.runs.export import export_run

    out = export_run(arguments.directory, arguments.out)
    print(f"weights, configuration and model card: {out}")
    return 0
