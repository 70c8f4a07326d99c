"""What a step of each coupling costs beside one of independent noise: steps by turns, in one process.

A run's own CPU seconds depend on what else the machine did meanwhile. Here all couplings share that: the
medians' ratios say how many steps of independent noise a run took the time of.
"""

import statistics
import tempfile
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

from loomfast.runs.directory import load_data
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step
from report.configs import config_of, prepare
from report.table import CLOCKED, all_jobs

WARM = 2  # steps that are not counted


def run_clock(sitting, job):
    """Return, for each run's title, the median CPU seconds of a step, and those of what is made before."""
    found = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        states = {}
        for one in all_jobs():
            if one.name not in CLOCKED:
                continue
            config, path = config_of(one, sitting.effort), Path(folder) / f"{one.name}.safetensors"
            seconds = 0.0
            if one.prepare in ("global", "converged"):
                seconds = prepare(config, one.prepare, path, sitting.effort)
                config = replace(config, coupling=replace(config.coupling, init=str(path)))
            found[one.title] = {"preparation_cpu_seconds": seconds}
            states[one.title] = stack.enter_context(closing(TrainingState(config, load_data(config))))
        times = {title: [] for title in states}
        for number in range(WARM + sitting.effort.rounds):
            sitting.wait()
            for title, state in states.items():
                begun = time.process_time()
                training_step(state)
                if number >= WARM:
                    times[title].append(time.process_time() - begun)
    for title, seconds in times.items():
        found[title]["step_cpu_seconds"] = statistics.median(seconds)
    return {"rounds": sitting.effort.rounds, "clock": found}
