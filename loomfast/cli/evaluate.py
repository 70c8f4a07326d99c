"""``loomfast evaluate RUN``."""

from pathlib import Path

from loomfast import console
from loomfast.cli.arguments import add_solver_and_seed, output_file, positive, positive_list
from loomfast.extras import need
from loomfast.files import write_json


def describe(command):
    """Give the command's parser its description and its flags."""
    command.description = (
        "Measure a trained run: the distance of its samples to held-out data for each number of\n"
        "function evaluations, and the curvature of its paths (1000 trajectories, 20 Euler steps).\n"
        "Results are printed, appended to metrics.jsonl in the run directory, and written to --json."
    )
    command.epilog = "example: loomfast evaluate runs/digits-loom-seed0 --nfe 1,2,4,8,40 --json metrics.json"
    command.set_defaults(run=run)
    command.add_argument("directory", metavar="RUN", help="run directory that `loomfast train` wrote")
    command.add_argument(
        "--nfe",
        type=positive_list,
        metavar="N,N,...",
        help="numbers of function evaluations (default: 1,2,4,8,40; an adaptive solver chooses its own)",
    )
    command.add_argument("--num", type=positive, default=2000, help="samples for each (default: %(default)s)")
    command.add_argument("--json", type=output_file, help="write the results to this file, too")
    add_solver_and_seed(command)


def run(arguments):
    """Evaluate the run, append the result to its metrics.jsonl, and print a table."""
    need("torch", "train")
    from loomfast.runs.directory import append_entry, load_model
    from loomfast.runs.evaluate import evaluate
    from loomfast.sampling.ode import ADAPTIVE

    config, model = load_model(arguments.directory)
    nfe = arguments.nfe or ([None] if arguments.solver in ADAPTIVE else [1, 2, 4, 8, 40])
    with console.progress(arguments.num * len(nfe), "evaluate") as update:
        result = evaluate(
            config,
            model,
            nfe=nfe,
            num=arguments.num,
            solver=arguments.solver,
            seed=arguments.seed,
            progress=update,
        )
    append_entry(Path(arguments.directory) / "metrics.jsonl", result)
    if arguments.json:
        write_json(arguments.json, result)
    headers = [name.replace("_", " ") for name in result["samples"][0]]
    print(console.table(headers, [[_short(v) for v in entry.values()] for entry in result["samples"]]))
    print(
        f"curvature {result['curvature']:.4f}; {result['num']} samples of seed {result['seed']} "
        f"against {result['reference']} of {result['data']}"
    )
    return 0


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else value
