"""Runs the jobs of the table, one after the other; each goes on where a kill left it.

A job's network, checkpoints and clock are in ``runs/science``; its results are written once, whole, when
all of it is done.
"""

import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from timing import machine

from loomfast.config import CouplingConfig, config_to_dict
from loomfast.coupling import Loom, solve_globally
from loomfast.files import read_json, write_json
from loomfast.runs.directory import (
    append_entry,
    checkpoint_step,
    load_config,
    load_data,
    load_model,
    read_log,
)
from loomfast.runs.pairs import PairsRequest, make_pairs
from loomfast.training.loop import train
from report import clock, measure, planes
from report.configs import TRIAL, Effort, config_of, prepare
from report.page import page
from report.table import GUIDANCE, NFE, all_jobs
from report.tables import all_tables, read_results

STAGES = 4  # measurements during training, the last of them at its end


class OutOfTime(Exception):
    """The time that a sitting was given is over, or it was asked to stop; the next one goes on."""


class Sitting:
    """A sitting's folders, its end on the clock, the file while which exists it waits, and its effort."""

    def __init__(self, results, runs, minutes=None, pause=None, jobs=None, effort=None):
        self.results, self.runs = Path(results), Path(runs)
        self.effort = Effort() if effort is None else effort
        self.pause = None if pause is None else Path(pause)
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.by_name = {job.name: job for job in (all_jobs() if jobs is None else jobs)}

    def result(self, job):
        return self.results / f"{job.name}.json"

    def run(self, job):
        return self.runs / job.name

    def wait(self):
        """Wait while others want the machine."""
        while self.pause is not None and self.pause.exists():
            time.sleep(2)

    def breathe(self):
        """Wait while others want the machine; raise OutOfTime at the end of the sitting."""
        self.wait()
        if self.end is not None and time.monotonic() > self.end:
            raise OutOfTime


def run_jobs(sitting, chosen):
    """Run those of ``chosen`` that have no result yet, in order; returns how many were done."""
    done = 0
    sitting.results.mkdir(parents=True, exist_ok=True)
    sitting.runs.mkdir(parents=True, exist_ok=True)
    with suppress(OutOfTime):
        for job in chosen:
            if sitting.result(job).exists():
                continue
            sitting.breathe()
            begun = time.monotonic()
            found = RUNNERS[job.kind](sitting, job)
            about = {name: getattr(job, name) for name in ("name", "kind", "study", "title", "seed", "steps")}
            about |= {"base": job.base, "task": job.task, "machine": _machine()}
            write_json(sitting.result(job), {**about, **found})
            print(f"{time.strftime('%H:%M')} {job.name}: {time.monotonic() - begun:.0f} s", flush=True)
            done += 1
    return done


def try_jobs(chosen, steps=8):
    """Run one job of every way of making a run at so few steps, in a folder of its own; returns how many.

    Ways differ by kind, coupling, objective, preparation and data. The results say nothing, and are thrown
    away, when a report was made of them.
    """
    short = {job.name: replace(job, steps=min(job.steps, steps)) for job in all_jobs()}
    ways = {}
    for job in chosen:
        data = job.name.partition("-")[0]
        way = (job.kind, data, job.coupling.get("method"), job.settings.get("objective"), job.prepare)
        ways.setdefault(way, short[job.name])
    with tempfile.TemporaryDirectory() as folder:
        results, runs = Path(folder) / "results", Path(folder) / "runs"
        done = run_jobs(Sitting(results, runs, jobs=short.values(), effort=TRIAL), ways.values())
        found = read_results(results)
        page(found), all_tables(found)
    return done


def _machine():
    found = machine()
    return {name: found[name] for name in ("processor", "torch")} | {"threads": torch.get_num_threads()}


def run_train(sitting, job):
    """Train a velocity and measure it during training and at its end."""
    return _measured(sitting, job, train_job(sitting, job, stages=True))


def train_job(sitting, job, *, stages=False):
    """Train a job's velocity, all that it needs before it; returns (CPU seconds, stages).

    With ``stages`` it is measured at every quarter of its steps but the last.
    """
    if job.prepare == "global-after-loom":
        return _global_after_loom(sitting, job, stages)
    config, before = _with_preparation(sitting, job)
    stops = [job.steps * (k + 1) // STAGES for k in range(STAGES)]
    return _train(sitting, config, sitting.run(job), stops, before, stages)


def _measured(sitting, job, trained, *, nfes=NFE):
    seconds, stages = trained
    config, model = load_model(sitting.run(job))
    return {
        "config": config_to_dict(config),
        "cpu_seconds": seconds,
        "stages": stages,
        **({} if config.model.two_times else measure.paths(config, model, sitting.effort.paths)),
        **measure.final(config, model, nfes, sitting.effort.samples),
        "settling": measure.settling(sitting.run(job)),
    }


def run_guided(sitting, job):
    """Train a network of classes and measure it at every weight of guidance, with 8 midpoint evaluations."""
    seconds, _ = train_job(sitting, job)
    config, model = load_model(sitting.run(job))
    found = {str(w): measure.final(config, model, (8,), sitting.effort.samples, guidance=w) for w in GUIDANCE}
    return {"config": config_to_dict(config), "cpu_seconds": seconds, "guidance": found}


def run_distill(sitting, job):
    """Make a flow map of the base job's run and measure it in 1, 2, 4 and 8 jumps."""
    base = _base(sitting, job)
    config = replace(
        load_config(base),
        steps=job.steps,
        init=str(base),
        checkpoint_every=sitting.effort.checkpoint,
        **job.settings,
    )
    if config.coupling.method == "loom":  # the cache goes on where the run is
        config = replace(config, coupling=replace(config.coupling, init=""))
    trained = _train(sitting, config, sitting.run(job), [job.steps], 0.0, False)
    return _measured(sitting, job, trained, nfes=(1, 2, 4, 8))


def run_reflow(sitting, job):
    """Make pairs with the base job's run, train on them from its weights, and measure."""
    base = _base(sitting, job)
    pairs, effort = sitting.runs / f"{job.name}-pairs", sitting.effort
    begun = time.process_time()
    make_pairs(
        PairsRequest(run=str(base), out=str(pairs), num=effort.pairs, nfe=effort.pairs_nfe, device="cpu")
    )
    making = time.process_time() - begun
    config = replace(
        load_config(base),
        init=str(base),
        data=str(pairs),
        steps=job.steps,
        checkpoint_every=sitting.effort.checkpoint,
        coupling=CouplingConfig(method="paired", pairs=str(pairs / "pairs.safetensors"), prefetch="off"),
    )
    trained = _train(sitting, config, sitting.run(job), [job.steps], 0.0, False)
    about = {"pairs": effort.pairs, "pairs_nfe": effort.pairs_nfe, "pairs_cpu_seconds": making}
    return about | _measured(sitting, job, trained, nfes=(1, 2, 4, 8))


def _base(sitting, job):
    """Return the run directory that a job begins with; where it is not here, it is trained again."""
    base = sitting.by_name[job.base]
    train_job(sitting, base)
    return sitting.run(base)


def _with_preparation(sitting, job):
    """Return (TrainConfig, CPU seconds spent before it): its coupling made where it is to be made first."""
    config = config_of(job, sitting.effort)
    if not job.prepare:
        return config, 0.0
    method, data = config.coupling.method, job.name.partition("-")[0]
    caches = config.coupling.num_caches if method == "loom" else 1
    path = sitting.runs / f"{data}-{job.prepare}-{caches}-seed{job.seed}.safetensors"
    spent = path.with_suffix(".json")
    if not spent.exists():
        write_json(spent, {"cpu_seconds": prepare(config, job.prepare, path, sitting.effort)})
    config = replace(config, coupling=replace(config.coupling, init=str(path)))
    return config, read_json(spent)["cpu_seconds"]


def _global_after_loom(sitting, job, stages):
    """Train half of the steps with LOOM, solve its cache, and train the others with averaged weights and it.

    The second half is a run of its own: Adam begins anew. Returns as `train_job`.
    """
    config, half = config_of(job, sitting.effort), job.steps // 2
    run = sitting.run(job)
    first = run.with_name(f"{run.name}-before")
    stops = [half // 2, half]
    before, found = _train(sitting, config, first, stops, 0.0, stages)
    path = run.with_name(f"{run.name}-solved.safetensors")
    spent = path.with_suffix(".json")
    if not spent.exists():
        begun = time.process_time()
        dataset = load_data(config)
        coupler = _coupler_of(first, config, dataset)
        solve_globally(coupler, dataset.train, folder=path.with_suffix(".partial"))
        coupler.save(path)
        write_json(spent, {"cpu_seconds": time.process_time() - begun})
    before += read_json(spent)["cpu_seconds"]
    config = replace(config, steps=half, init=str(first), coupling=replace(config.coupling, init=str(path)))
    total, more = _train(sitting, config, run, stops, before, stages)
    return total, [*found, *({**entry, "step": entry["step"] + half} for entry in more)]


def _coupler_of(run, config, dataset):
    """Return the Loom of a run's last checkpoint."""
    from loomfast.training.start import read_start

    coupler = Loom(
        len(dataset.train),
        dataset.train.shape[1:],
        num_caches=config.coupling.num_caches,
        seed=config.seed,
        dataset_fingerprint=dataset.fingerprint,
    )
    start = read_start(replace(config, init=str(run)), run)
    start.give_coupling(coupler)
    if np.array_equal(coupler.ids.ravel(), np.arange(coupler.ids.size)):
        raise RuntimeError(f"the coupling of {run} was not taken over")
    return coupler


def _train(sitting, config, run, stops, before, stages):
    """Train a run to the last of ``stops``; returns (CPU seconds, stages: what is measured at the others).

    before: CPU seconds spent on what it begins with. They are those of training and coupling alone, of all
    threads, and are kept beside the run, so that the next sitting goes on with them.
    """
    times, found = run.with_name(f"{run.name}.times.jsonl"), []
    reached, every = checkpoint_step(run), sitting.effort.checkpoint
    spent = _seconds_at(times, reached, before)
    begun = time.process_time()

    def progress(step, record):
        if step % every == 0:  # a checkpoint is written next
            append_entry(times, {"step": step, "cpu_seconds": spent + time.process_time() - begun})
        elif step % every == 1:
            sitting.breathe()

    for stop in stops:
        if stop >= reached:  # also where it is reached: a kill may have come before the weights were written
            begun, before_that = time.process_time(), reached
            reached = train(replace(config, steps=stop), run, progress=progress)
            if reached > before_that:
                spent += time.process_time() - begun
                append_entry(times, {"step": reached, "cpu_seconds": spent})
            if reached < stop:
                raise OutOfTime  # a signal asked to stop: the checkpoint is of this step
        kept = run.with_name(f"{run.name}.stage{stop}.json")
        if stages and not kept.exists() and stop == checkpoint_step(run):
            seconds = _seconds_at(times, stop, before)
            write_json(kept, measure.stage(*load_model(run), stop, seconds, sitting.effort.staged))
        if kept.exists():
            found.append(read_json(kept))
    return _seconds_at(times, stops[-1], before), found


def _seconds_at(times, step, before):
    """Return the CPU seconds that a run's file of times has last at a step or before it."""
    entries = read_log(times) if times.exists() else []
    return next((e["cpu_seconds"] for e in reversed(entries) if e["step"] <= step), before)


RUNNERS = {
    "train": run_train,
    "distill": run_distill,
    "reflow": run_reflow,
    "guided": run_guided,
    "clock": clock.run_clock,
    "plane": planes.run_plane,
}
