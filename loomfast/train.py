"""The trainer: a straight loop around Algorithm 1 of the LOOM-CFM paper.

Everything random in a step is a function of (seed, step, item), so a checkpoint holds no generator and a run
that was killed and started again is, bit for bit, the run that was not.
"""

import json
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from loomfast import models
from loomfast.checkpoint import read_tensors, write_json, write_tensors
from loomfast.coupling import build_coupler
from loomfast.flow import flow_matching_loss, timesteps
from loomfast.models import ema_decay, ema_update
from loomfast.noise import StepDomain, step_bits, step_normals
from loomfast.plots import save_coupling_figure, save_samples
from loomfast.presets import config_to_dict
from loomfast.rundir import check_directory, load_data, load_model, read_log, truncate_log
from loomfast.sample import generate


def train(config, out, *, progress=None):
    """Train until step ``config.steps``, going on from the checkpoint in ``out`` if there is one.

    Args:
        config: a TrainConfig.
        out: the run directory; made if it is not there.
        progress: called as ``progress(step, record)`` after every step; ``record`` is the step's log entry.

    Returns:
        int: the steps done. Fewer than ``config.steps`` only if SIGTERM or SIGINT asked to stop: the
        checkpoint is then of that step.

    Raises:
        ValueError: if ``out`` holds a run of another configuration or of more steps, or the data do not fit
            the model. Nothing is then written.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    out = Path(out)
    state = out / "state.safetensors"
    run = Run(config, load_data(config), fresh=not state.exists())
    check_directory(config, out)
    if state.exists():
        run.load(state)
    if run.step > config.steps:
        raise ValueError(
            f"{out} is at step {run.step} already: steps must be at least that, not {config.steps}"
        )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "config.json", config_to_dict(config))
    truncate_log(out / "log.jsonl", run.step)

    with open(out / "log.jsonl", "a", encoding="utf-8") as log, stop_on_signals() as stopping:
        while run.step < config.steps and not stopping():
            record = training_step(run)
            log.write(json.dumps(record) + "\n")
            if progress is not None:
                progress(run.step, record)
            if run.step % config.checkpoint_every == 0 and run.step < config.steps:
                log.flush()
                run.save(out)
    run.save(out)
    return run.step


def picture_run(config, out):
    """Write ``samples/step-N.png`` (8 function evaluations) and ``coupling.png``; returns their paths."""
    out = Path(out)
    _, model = load_model(out)
    shape = models.item_shape(config.model)
    samples = generate(model, 100 if len(shape) == 3 else 2000, shape, seed=config.seed, nfe=8)
    return [
        save_samples(samples, out / "samples" / f"step-{config.steps:07d}.png"),
        save_coupling_figure(read_log(out / "log.jsonl"), out / "coupling.png"),
    ]


class Run:
    """What a run carries from step to step; all of it is in ``state.safetensors``."""

    def __init__(self, config, dataset, *, fresh=True):
        if config.batch_size > len(dataset.train):
            raise ValueError(
                f"batch_size must be at most the {len(dataset.train)} training items of {dataset.name}, "
                f"got {config.batch_size}"
            )
        if dataset.train.shape[1:] != models.item_shape(config.model):
            raise ValueError(
                f"model takes items of shape {models.item_shape(config.model)}, those of {dataset.name} have "
                f"shape {dataset.train.shape[1:]}"
            )
        self.config = config
        self.data = torch.from_numpy(dataset.train)
        self.coupler = build_coupler(
            config.coupling,
            len(self.data),
            dataset.train.shape[1:],
            seed=config.seed,
            fingerprint=dataset.fingerprint,
            fresh=fresh,
        )
        torch.manual_seed(config.seed)
        self.model = models.build(config.model)
        self.ema = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.learning_rate)
        self.step = 0
        self._epoch, self._order = -1, None

    def batch_index(self):
        """(B,) int64: the items of this step, from an order of the data that changes every epoch."""
        per_epoch = len(self.data) // self.config.batch_size
        epoch, batch = divmod(self.step, per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, data_order(len(self.data), self.config.seed, epoch)
        return self._order[batch * self.config.batch_size :][: self.config.batch_size]

    def tensors(self):
        """Everything of the run by name: raw weights, moving average, optimizer, coupling, step."""
        named = {f"model.{name}": p for name, p in self.model.named_parameters()}
        named |= {f"ema.{name}": p for name, p in self.ema.items()}
        for name, p in self.model.named_parameters():
            state = self.optimizer.state.get(p, {})
            named |= {f"optimizer.{name}.{key}": value for key, value in state.items()}
        coupling = self.coupler.state_dict()
        named |= {f"coupling.{key}": value for key, value in coupling.items() if key != "metadata"}
        named["step"] = np.array([self.step], dtype=np.int64)
        return named, {"coupling": json.dumps(coupling["metadata"], sort_keys=True)}

    def save(self, out):
        """Checkpoint: the state first, then the weights to sample from; each file whole or not there."""
        tensors, metadata = self.tensors()
        write_tensors(out / "state.safetensors", tensors, metadata)
        write_tensors(out / "model.safetensors", self.ema, {"step": str(self.step)})

    def load(self, path):
        """Take up a checkpoint. Raises ValueError if it is damaged or belongs to another run."""
        tensors, metadata = read_tensors(path)
        parts = split_by_prefix(tensors)
        weights = {k: torch.from_numpy(v) for k, v in parts["model"].items()}
        self.model.load_state_dict(weights)
        for name, value in parts["ema"].items():
            self.ema[name].copy_(torch.from_numpy(value))
        load_optimizer(self.optimizer, self.model, parts.get("optimizer", {}))
        self.coupler.load_state_dict({**parts["coupling"], "metadata": json.loads(metadata["coupling"])})
        self.step = int(tensors["step"][0])


def training_step(run):
    """One step of Algorithm 1: sample, couple, write back, interpolate, descend. Returns the log entry."""
    config, step = run.config, run.step
    index = run.batch_index()
    x = run.data[index]
    pair = run.coupler.couple(x, index, step=step)

    t = timesteps(index, seed=config.seed, step=step, law=config.time_law)
    noise_on_path = torch.from_numpy(
        step_normals(index, x.shape[1:], seed=config.seed, step=step, domain=StepDomain.SIGMA)
    )
    reseed_dropout(config.seed, step)
    loss = flow_matching_loss(run.model, x, pair.noise, t, sigma=config.sigma, sigma_noise=noise_on_path)

    for group in run.optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if config.grad_clip > 0:
        torch.nn.utils.clip_grad_norm_(run.model.parameters(), config.grad_clip)
    run.optimizer.step()
    ema_update(run.ema, dict(run.model.named_parameters()), ema_decay(step, config.ema_decay))
    run.step = step + 1
    return {
        "step": step,
        "loss": float(loss.detach()),
        "swaps": pair.swaps,
        "cost_before": pair.cost_before,
        "cost_after": pair.cost_after,
        "gap": None if np.isnan(pair.gap) else pair.gap,
        "coupling_seconds": sum(pair.seconds.values()),
    }


def data_order(num_items, seed, epoch):
    """(num_items,) int64: the order of the data in an epoch, a function of (seed, epoch)."""
    bits = step_bits(np.arange(num_items), 2, seed=seed, step=epoch, domain=StepDomain.DATA_ORDER)
    keys = bits[:, 0].astype(np.uint64) << np.uint64(32) | bits[:, 1]
    return np.argsort(keys, kind="stable")


def reseed_dropout(seed, step):
    """Make what torch draws in this step a function of (seed, step)."""
    bits = step_bits(np.zeros(1, np.int64), 2, seed=seed, step=step, domain=StepDomain.DROPOUT)
    torch.manual_seed(int(bits[0, 0]) << 31 ^ int(bits[0, 1]))


def load_optimizer(optimizer, model, tensors):
    """Give Adam the moments stored as ``NAME.KEY``, one entry a parameter and key."""
    parameters = dict(model.named_parameters())
    place = {name: i for i, name in enumerate(parameters)}
    state = {i: {} for i in place.values()}
    for full, value in tensors.items():
        name, _, key = full.rpartition(".")
        value = torch.from_numpy(value)
        if value.ndim:  # in the parameter's own memory layout, where rounding is what it was
            value = torch.empty_like(parameters[name]).copy_(value)
        state[place[name]][key] = value
    filled = {i: entry for i, entry in state.items() if entry}
    optimizer.load_state_dict({**optimizer.state_dict(), "state": filled})


def split_by_prefix(tensors):
    """{"model.a": ..., "ema.a": ...} as {"model": {"a": ...}, "ema": {"a": ...}}."""
    parts = {}
    for full, value in tensors.items():
        prefix, _, name = full.partition(".")
        parts.setdefault(prefix, {})[name] = value
    return parts


@contextmanager
def stop_on_signals():
    """Within: SIGTERM and SIGINT ask to stop after the running step, instead of killing it."""
    asked = []
    # Python handles signals in the main thread only; elsewhere they are left as they are.
    main = threading.current_thread() is threading.main_thread()
    handled = (signal.SIGTERM, signal.SIGINT) if main else ()
    before = {number: signal.signal(number, lambda *_: asked.append(True)) for number in handled}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
