"""What a training step costs: LOOM coupled ahead against independent noise, compiled against eager.

    python bench/trainer.py [--preset digits] [--batch-size N] [--steps N] [--threads N] [--device cpu|cuda]
                            [--precision float32|bfloat16] [--compile] [--json FILE]

Runs of one preset that differ only in what is named take turns, one step each, in one process:

- independent: noise as drawn, not coupled; loom: LOOM-CFM in the step's own time; loom ahead: coupled in a
  thread while the network trains. ratio: to independent, from the medians. Goal of loom ahead: 1.03 with a
  core to spare (its thread has one, --threads are the network's; what the processor shares is shared).
- compiled (with --compile): the same network through torch.compile. ratio: to the eager loom run.

Before anything is timed, the runs are trained for some steps: coupled ahead or not, the weights and couplings
must agree bit for bit, and the compiled run's losses with the eager one's within 1e-3 (2e-2 in bfloat16).
"""

import argparse
import os
from dataclasses import replace

import numpy as np
import torch
from timing import interleaved, report

from loomfast.config import PRESETS, config_from_dict, config_to_dict
from loomfast.distributed import World, resolve_device
from loomfast.runs.directory import load_data
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

CHECKED_STEPS = 5


def configurations(arguments):
    """{contestant: TrainConfig}, alike but for what the contestant's name says."""
    values = config_to_dict(PRESETS[arguments.preset][1])
    base = replace(
        config_from_dict(values),
        batch_size=arguments.batch_size or values["batch_size"],
        steps=10**9,  # so that no step is the last, and every step is coupled ahead of
        threads=arguments.threads,
        device=arguments.device,
        precision=arguments.precision,
    )
    if arguments.data:
        base = replace(base, data=arguments.data)

    def coupled(method, prefetch):
        return replace(base, coupling=replace(base.coupling, method=method, prefetch=prefetch))

    runs = {
        "independent": coupled("independent", "off"),
        "loom": coupled("loom", "off"),
        "loom ahead": coupled("loom", "on"),
    }
    if arguments.compile:
        runs["compiled"] = replace(runs["loom"], compile=True)
    return runs


def validate(runs, precision):
    """Train all for some steps and compare; SystemExit where they do not agree."""
    losses = {name: [training_step(run)["loss"] for _ in range(CHECKED_STEPS)] for name, run in runs.items()}
    one, two = (runs[name].tensors()[0] for name in ("loom", "loom ahead"))
    different = [name for name in one if not np.array_equal(_array(one[name]), _array(two[name]))]
    if different:
        raise SystemExit(f"coupled ahead, these are not what they are coupled in the step: {different[:5]}")
    if "compiled" in runs:
        tolerance = 1e-3 if precision == "float32" else 2e-2
        if not np.allclose(losses["compiled"], losses["loom"], rtol=tolerance):
            raise SystemExit(f"losses differ: {losses['compiled']} compiled, {losses['loom']} eager")


def _array(value):
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value


def rows(seconds, config):
    """A row a contestant, with its ratio to what it is compared with."""
    against = {"loom": "independent", "loom ahead": "independent", "compiled": "loom"}
    return [
        {
            "step": name,
            "data": config.data,
            "batch": config.batch_size,
            "ms": 1e3 * value,
            "items_per_second": config.batch_size / value,
            "against": against.get(name, ""),
            "ratio": value / seconds[against[name]] if name in against else 1.0,
        }
        for name, value in seconds.items()
    ]


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="digits", choices=PRESETS)
    parser.add_argument("--data", default="", help="other data for the preset's network")
    parser.add_argument("--batch-size", type=int, default=0, help="the preset's by default")
    parser.add_argument("--steps", type=int, default=100, help="steps of each contestant that are timed")
    parser.add_argument("--threads", type=int, default=0, help="of the network; all cores but one by default")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--compile", action="store_true", help="time a compiled network, too")
    parser.add_argument("--json", default="trainer.json")
    arguments = parser.parse_args()
    arguments.threads = arguments.threads or max(1, len(os.sched_getaffinity(0)) - 1)
    return arguments


def main():
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    configs = configurations(arguments)
    config = configs["loom"]
    dataset, world = load_data(config), World(device=resolve_device(config.device))
    runs = {name: TrainingState(each, dataset, world) for name, each in configs.items()}
    try:
        validate(runs, arguments.precision)

        def step(run):
            training_step(run)
            if world.device.type == "cuda":
                torch.cuda.synchronize()

        contestants = {name: (lambda run=run: step(run)) for name, run in runs.items()}
        seconds = interleaved(contestants, arguments.steps)
    finally:
        for run in runs.values():
            run.close()
    report(rows(seconds, config), arguments.json)


if __name__ == "__main__":
    main()
