"""The trainer: a straight loop around Algorithm 1 of the LOOM-CFM paper.

Everything random in a step is a function of (seed, step, item), so a checkpoint holds no generator and a run
that was killed and started again is, bit for bit, the run that was not.
"""

import math
import signal
import threading
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch

from loomfast import models
from loomfast._defaults import plain_defaults
from loomfast.config import config_to_dict
from loomfast.cost import paired_cost
from loomfast.distributed import resolve_device, world
from loomfast.extras import need_compiler
from loomfast.files import write_json
from loomfast.flow import drop_labels, flow_matching_loss, timesteps
from loomfast.models import ema_decay, ema_update
from loomfast.noise import StepDomain, step_bits, step_normals
from loomfast.plots import save_coupling_figure, save_samples
from loomfast.runs.directory import check_directory, checkpoint_step, load_data, load_model, read_log
from loomfast.runs.log import RunLog, check_log
from loomfast.sampling.generate import generate
from loomfast.training.state import Run, check_finite


@plain_defaults()
def train(config, out, *, progress=None):
    """Train until step ``config.steps``, going on from the checkpoint in ``out`` if there is one.

    Started by torchrun, all processes train together; the first of them writes.

    Args:
        config: a TrainConfig.
        out: the run directory; made if it is not there.
        progress: called as ``progress(step, record)`` after every step, in the first process; ``record`` is
            the step's log entry.

    Returns:
        int: the steps done. Fewer than ``config.steps`` only if SIGTERM or SIGINT asked to stop: the
        checkpoint is then of that step.

    Raises:
        ValueError: if ``out`` holds a run of another configuration or of more steps, the data do not fit the
            model, the device is not here, or there is nothing to compile with. Nothing is then written.
        OSError: if ``out`` cannot be written, or a checkpoint cannot: the one before it is then still there.
        FloatingPointError: if the loss or what is trained becomes NaN or infinite. The last checkpoint before
            that is kept.
        FailedElsewhere: in all processes but the first, where any of them raised one of these.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(out)
    with world(config.device) as processes:
        with processes.together():
            run = _begin(config, out, processes)
        with closing(run):
            run.join()
            if processes.rank == 0:
                with _first_process(run, out) as log:
                    return _loop(run, out, log, progress)
            return _loop(run, out, None, None)


def _begin(config, out, processes):
    """The Run, at the step of the checkpoint if there is one; everything that can be refused is, by now."""
    check_directory(config, out)
    check_log(config.log_to)
    if config.compile:
        need_compiler(processes.device)
    state = out / "state.safetensors"
    run = Run(config, load_data(config), processes, fresh=not state.exists())
    try:
        if state.exists():
            run.load(state)
        if run.step > config.steps:
            raise ValueError(
                f"{out} is at step {run.step} already: steps must be at least that, not {config.steps}"
            )
    except BaseException:
        run.close()
        raise
    return run


@contextmanager
def _first_process(run, out):
    """The run directory, ready to be written; yields the log."""
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", config_to_dict(run.config))
    with RunLog(run.config, out, run.step) as log:
        yield log


def _loop(run, out, log, progress):
    config, stopped = run.config, False
    with stop_on_signals() as stopping:
        while run.step < config.steps and not stopped:
            record = training_step(run)
            record["loss"], stopped = run.world.mean_and_any(record["loss"], stopping())
            if log is not None:
                log.write(record)
            if not math.isfinite(record["loss"]):
                raise _diverged(f"the loss is {record['loss']} at step {run.step - 1}", config, out)
            if log is not None:
                if progress is not None:
                    progress(run.step, record)
                if config.sample_every and run.step % config.sample_every == 0 and run.step < config.steps:
                    with _divergence_named(run, out):
                        _check_sound(run)
                    log.picture(_picture(run.averaged_model(), config, out, run.step), run.step)
            if run.step % config.checkpoint_every == 0 and run.step < config.steps:
                if log is not None:
                    log.flush()
                _save(run, out)
    _save(run, out)
    return run.step


def _save(run, out):
    """Write a checkpoint that can be gone on from: one whose own loss is no number is not written."""
    with _divergence_named(run, out):
        with run.world.together():
            _check_sound(run)
        run.save(out)


def _check_sound(run):
    """FloatingPointError unless the weights as they are now, and the loss that they lead to, are finite."""
    check_finite(run.ema)
    check_finite(dict(run.model.named_parameters()))
    batch = run.last_batch()
    loss = sum(_loss(run, run.model, batch, *part).item() for part in run.parts()) if batch else 0.0
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")


@contextmanager
def _divergence_named(run, out):
    """Has what is found NaN or infinite within end the run as a loss does."""
    try:
        yield
    except FloatingPointError as error:
        raise _diverged(f"{error} after step {run.step - 1}", run.config, out) from None


def _diverged(what, config, out):
    """The error that ends a run whose numbers became NaN or infinite: where, what is kept, what to try."""
    kept = checkpoint_step(out)
    kept = f"its checkpoint after {kept} steps is kept" if kept else "it had no checkpoint yet"
    clip = f"less than {config.grad_clip:g}" if config.grad_clip else "1"
    advice = f"a smaller --learning-rate, more --warmup-steps, a --grad-clip of {clip}"
    if config.precision != "float32":
        advice += ", --precision float32"
    return FloatingPointError(f"training diverged: {what}; {kept}. Try, in another --out, {advice}")


def picture_run(config, out):
    """Write ``samples/step-N.png`` (8 function evaluations) and ``coupling.png``; returns their paths."""
    out = Path(out)
    _, model = load_model(out)
    return [
        _picture(model.to(resolve_device(config.device)), config, out, config.steps),
        save_coupling_figure(
            read_log(out / "log.jsonl", ("step", "swaps", "cost_after")), out / "coupling.png"
        ),
    ]


def _picture(model, config, out, step):
    """Write samples of a network, one class after the other where it has classes; returns the path."""
    shape = models.item_shape(config.model)
    num = 100 if len(shape) == 3 else 2000
    y = models.classes_in_turn(config.model, num)
    samples = generate(model, num, shape, seed=config.seed, nfe=8, y=y)
    path = out / "samples" / f"step-{step:07d}.png"
    if len(shape) == 3 and shape[0] not in (1, 3):
        samples = samples[:, :3]  # latents: their first channels give an idea
    return save_samples(samples, path)


def training_step(run):
    """One step of Algorithm 1: sample, couple, write back, interpolate, descend. Returns the log entry."""
    config, step = run.config, run.step
    batch, pair = run.next_batch()

    run.optimizer.zero_grad(set_to_none=True)
    loss = sum(_descend(run, batch, number, rows) for number, rows in run.parts())
    for group in run.optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.grad_clip > 0:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.grad_clip)
    run.optimizer.step()
    ema_update(run.ema, dict(run.model.named_parameters()), ema_decay(step, config.ema_decay))
    run.step = step + 1
    return {"step": step, "loss": float(loss), **_coupling_entry(config, batch, pair)}


def _descend(run, batch, number, rows):
    """Add the gradient of one part of the batch to the network's; returns the part's share of the loss."""
    with run.summed_over_processes(number):
        loss = _loss(run, run.network, batch, number, rows)
        loss.backward()
    return loss.detach()


def _loss(run, network, batch, number, rows):
    """The share of the loss of one part of the batch, at the times of this step."""
    config, step = run.config, run.step
    x, index = batch["x"][rows], batch["index"][rows]
    t = timesteps(index, seed=config.seed, step=step, law=config.time_law).to(run.device)
    noise_on_path = torch.from_numpy(
        step_normals(index, x.shape[1:], seed=config.seed, step=step, domain=StepDomain.SIGMA)
    ).to(run.device)
    y = None
    if config.model.num_classes is not None:
        y = torch.from_numpy(batch["labels"][rows]).to(run.device)
        if config.label_dropout:
            y = drop_labels(y, index, seed=config.seed, step=step, probability=config.label_dropout)
    reseed_dropout(config.seed, step, number)
    half = config.precision == "bfloat16"
    with torch.autocast(run.device.type, torch.bfloat16) if half else nullcontext():
        loss = flow_matching_loss(
            network, x, batch["noise"][rows], t, sigma=config.sigma, sigma_noise=noise_on_path, y=y
        )
    return loss / config.accumulate


def _coupling_entry(config, batch, pair):
    """What a step did to the coupling. The later steps of an OT batch do nothing: no swaps, one cost."""
    if pair is None:
        cost = paired_cost(batch["x"], batch["noise"], metric=config.coupling.metric)
        cost = float(cost.mean())
        return {"swaps": 0, "cost_before": cost, "cost_after": cost, "gap": None, "coupling_seconds": 0.0}
    return {
        "swaps": pair.swaps,
        "cost_before": None if np.isnan(pair.cost_before) else pair.cost_before,
        "cost_after": pair.cost_after,
        "gap": None if np.isnan(pair.gap) else pair.gap,
        "coupling_seconds": sum(pair.seconds.values()),
    }


def reseed_dropout(seed, step, part=0):
    """Make what torch draws in this step, for this part of the batch, a function of (seed, step, part)."""
    bits = step_bits(np.full(1, part, np.int64), 2, seed=seed, step=step, domain=StepDomain.DROPOUT)
    torch.manual_seed(int(bits[0, 0]) << 31 ^ int(bits[0, 1]))


@contextmanager
def stop_on_signals():
    """Within: SIGTERM and SIGINT, where not ignored, ask to stop after the running step, not to be killed."""
    asked = []
    # Python handles signals in the main thread only; elsewhere they are left as they are.
    main = threading.current_thread() is threading.main_thread()
    handled = (signal.SIGTERM, signal.SIGINT) if main else ()
    # What was ignored from the start stays ignored, as under nohup or in a shell's background; what is no
    # handler of Python's (None) could not be put back.
    handled = [number for number in handled if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    before = {number: signal.signal(number, lambda *_: asked.append(True)) for number in handled}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
