"""``loomfast evaluate RUN``."""

import sys
from pathlib import Path

from loomfast import console
from loomfast.cli.arguments import (
    add_device,
    add_solver_and_seed,
    lengths,
    output_file,
    positive,
    positive_list,
)
from loomfast.extras import need
from loomfast.files import write_json

FEATURES = ("auto", "digits", "inception", "data")  # as in loomfast.runs.quality, which loads torch


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
    command.add_argument(
        "--ema",
        type=lengths,
        metavar="L,L,...",
        help="instead of the run's average, those of these lengths, shares of the training in (0, 0.2887), "
        "of a run that was trained with --snapshot-every",
    )
    command.add_argument(
        "--features",
        default="auto",
        choices=FEATURES,
        help="what samples and held-out items are compared by: digits (a small classifier), inception (of "
        "published Fréchet distances), data (their own numbers: no Fréchet); auto: digits for that data "
        "set, else inception where torch-fidelity and its weights are here, else data",
    )
    command.add_argument(
        "--weights", metavar="FILE", help="Inception's weights (default: where torch.hub keeps them)"
    )
    add_solver_and_seed(command)
    add_device(command)


def run(arguments):
    """Evaluate the run, append the result to its metrics.jsonl, and print a table."""
    need("torch", "train")
    from loomfast.distributed import resolve_device
    from loomfast.runs.averages import load_average
    from loomfast.runs.directory import append_entry, load_model
    from loomfast.runs.evaluate import evaluate
    from loomfast.sampling.ode import ADAPTIVE

    config, model = load_model(arguments.directory)
    device = resolve_device(arguments.device)
    nfe = arguments.nfe or ([None] if arguments.solver in ADAPTIVE else [1, 2, 4, 8, 40])
    networks = [({}, model)]
    if arguments.ema:
        networks = [({"ema": one}, load_average(arguments.directory, one)[1]) for one in arguments.ema]
    results, total = [], arguments.num * len(nfe)
    with console.progress(total * len(networks), "evaluate") as update:
        for average, network in networks:
            before = total * len(results)
            found = evaluate(
                config,
                network.to(device),
                nfe=nfe,
                num=arguments.num,
                solver=arguments.solver,
                seed=arguments.seed,
                features=arguments.features,
                weights=arguments.weights,
                progress=lambda done, _, before=before: update(before + done),
            )
            results.append({**average, **found})
            append_entry(Path(arguments.directory) / "metrics.jsonl", results[-1])
    if arguments.json:
        write_json(arguments.json, {"averages": results} if arguments.ema else results[0])
    _print(results)
    return 0


def _print(results):
    from loomfast.runs.quality import DETAILS

    entries = [(result, entry) for result in results for entry in result["samples"]]
    rows = [
        {**_average(result), **{name: value for name, value in entry.items() if name not in DETAILS}}
        for result, entry in entries
    ]
    print(
        console.table(
            [name.replace("_", " ") for name in rows[0]], [[_short(v) for v in row.values()] for row in rows]
        )
    )
    for result in results:
        of = "".join(f" of ema {length:g}" for length in _average(result).values())
        print(
            f"curvature{of} {result['curvature']:.4f}; {result['num']} samples of seed {result['seed']} "
            f"against {result['reference']} of {result['data']}, by {result['features']}"
        )
    for note in results[0]["notes"]:
        print(f"note: {note}", file=sys.stderr)


def _average(result):
    return {"ema": result["ema"]} if "ema" in result else {}


def _short(value):
    return f"{value:.4g}" if isinstance(value, float) else value
