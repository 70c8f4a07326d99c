"""The trainer: a straight loop around Algorithm 1 of the LOOM-CFM paper.

Everything random in a step is a function of (seed, step, item), so a checkpoint holds no generator and a run
that was killed and started again is, bit for bit, the run that was not.
"""

import math
import signal
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import torch

from loomfast._defaults import plain_defaults
from loomfast.config import config_to_dict
from loomfast.distributed import world
from loomfast.extras import need_compiler
from loomfast.files import remove_leftovers, write_json
from loomfast.runs.directory import check_directory, load_data
from loomfast.runs.log import RunLog, check_log
from loomfast.runs.pictures import save_sample_picture
from loomfast.training.checks import check_sound, diverged, divergence_named
from loomfast.training.start import read_start
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step


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
            start = _find_start(config, out)
            state = _begin(config, out, processes, start)
        with closing(state):
            state.join()
            if processes.rank == 0:
                with _first_process(state, out, start) as log:
                    return _loop(state, out, log, progress)
            return _loop(state, out, None, None)


def _find_start(config, out):
    """Return the Start of the run, or None; a directory that holds another run is refused first."""
    check_directory(config, out)
    return read_start(config, out)


def _begin(config, out, processes, start):
    """Return the TrainingState, at the checkpoint's step if there is one; refuse what can be refused."""
    check_log(config.log_to)
    if config.compile:
        need_compiler(processes.device)
    checkpoint = out / "state.safetensors"
    fresh = not checkpoint.exists()
    state = TrainingState(config, load_data(config), processes, fresh=fresh, start=start)
    try:
        if not fresh:
            state.load(checkpoint)
        if state.step > config.steps:
            raise ValueError(
                f"{out} is at step {state.step} already: steps must be at least that, not {config.steps}"
            )
    except BaseException:
        state.close()
        raise
    return state


@contextmanager
def _first_process(state, out, start):
    """Make the run directory ready to be written, and yield the log."""
    out.mkdir(parents=True, exist_ok=True)
    remove_leftovers(out)
    write_json(out / "config.json", config_to_dict(state.config))
    if start is not None:
        start.copy(out)
    with RunLog(state.config, out, state.step) as log:
        yield log


def _loop(state, out, log, progress):
    """Train to the last step, or until a signal asks to stop; returns the steps done.

    log, progress: None in all processes but the first.
    """
    config, stopped = state.config, False
    with stop_on_signals() as stopping:
        while state.step < config.steps and not stopped:
            record = training_step(state)
            record["loss"], stopped = state.world.mean_and_any(record["loss"], stopping())
            if log is not None:
                log.write(record)
            if not math.isfinite(record["loss"]):
                raise diverged(f"the loss is {record['loss']} at step {state.step - 1}", config, out)
            if log is not None:
                if progress is not None:
                    progress(state.step, record)
                if _due(state, config.sample_every):
                    with divergence_named(state, out):
                        check_sound(state)
                    picture = save_sample_picture(state.averaged_model(), config, out, state.step)
                    log.picture(picture, state.step)
            if _due(state, config.snapshot_every):  # before the checkpoint, which goes on behind it
                state.snapshot(out)
            if _due(state, config.checkpoint_every):
                if log is not None:
                    log.flush()
                _save(state, out)
    state.snapshot(out)
    _save(state, out)
    return state.step


def _due(state, every):
    """Return whether to do now what is done every so many steps (0: never), before the last."""
    return every and state.step % every == 0 and state.step < state.config.steps


def _save(state, out):
    """Write a checkpoint that can be gone on from: one whose own loss is no number is not written."""
    with divergence_named(state, out):
        state.save(out)


@contextmanager
def stop_on_signals():
    """Have SIGTERM and SIGINT, where not ignored, ask to stop after the running step.

    Within, they do not end the process; the yielded function returns whether one came.
    """
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
