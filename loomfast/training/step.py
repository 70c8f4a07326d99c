"""One training step: Algorithm 1 of the LOOM-CFM paper, on one screen."""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch

from loomfast.cost import paired_cost
from loomfast.flow import bridge_loss, drop_labels, flow_matching_loss, timesteps
from loomfast.flow_map import MapTimes, flow_map_loss, map_times
from loomfast.models import ema_decay, ema_update
from loomfast.models.conditions import takes_labels
from loomfast.models.power_ema import LENGTHS, power_update
from loomfast.noise import StepDomain, step_bits, step_normals


def training_step(state):
    """One step of Algorithm 1 on a TrainingState, which is changed; returns the step's log entry, a dict."""
    config, step, optimizer = state.config, state.step, state.optimizer
    parameters = dict(state.model.named_parameters())

    # Lines 3 to 5: sample items x, generate the noises z of the ids they hold, solve the assignment of their
    # pairwise costs exactly, and write the new ids back. `Loom.pair_up` and `Loom.commit` are these lines.
    batch, pair = state.batches.take(step)

    # Line 6: descend along the regression of the velocity x - z at x_t = t x + (1 - t) z (equations 1 to 3),
    # or along the loss of a flow map on the same pairs.
    optimizer.zero_grad(set_to_none=True)
    total = 0.0
    for part in parts_with_times(state, batch):
        with state.summed_over_processes(part.number):
            loss = part_loss(state, state.network, part)
            loss.backward()
        total = total + loss.detach()
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.grad_clip > 0:
        torch.nn.utils.clip_grad_norm_(parameters.values(), config.grad_clip)
    optimizer.step()

    ema_update(state.ema, parameters, ema_decay(step, config.ema_decay))
    for average, length in zip(state.averages, LENGTHS, strict=False):
        power_update(average, parameters, step, length)
    state.step = step + 1
    return {"step": step, "loss": float(total), **_coupling_entry(config, batch, pair)}


@dataclass(frozen=True)
class Part:
    """A part of a batch, as one forward pass takes it: ``number`` is its place in the batch.

    x, z: (b, *shape) data and noise. t: (b,) times. sigma_noise: as x, the noise on the path. y: (b,) labels,
    or (b, ...) conditions, -1 or NaN where one is withheld, or None for an unconditional network. times: of a
    flow map, else None.
    """

    number: int
    x: torch.Tensor
    z: torch.Tensor
    t: torch.Tensor
    sigma_noise: torch.Tensor
    y: torch.Tensor | None
    times: MapTimes | None


def parts_with_times(state, batch):
    """Yield this process's Parts of a coupled batch; what is drawn is a function of (seed, step, item)."""
    config, draw = state.config, {"seed": state.config.seed, "step": state.step}
    for number, rows in state.batches.parts():
        x, index = batch["x"][rows], batch["draws"][rows]
        t, times = timesteps(index, law=config.time_law, **draw), None
        if config.objective != "velocity":
            places = np.arange(rows.start, rows.stop)
            times = map_times(index, places, t, config=config.flow_map, **draw).to(state.device)
        sigma_noise = torch.from_numpy(step_normals(index, x.shape[1:], domain=StepDomain.SIGMA, **draw))
        y = None
        if takes_labels(config.model):
            y = torch.from_numpy(batch["labels"][rows]).to(state.device)
            if config.label_dropout:
                y = drop_labels(y, index, probability=config.label_dropout, **draw)
        z = batch["noise"][rows]
        yield Part(number, x, z, t.to(state.device), sigma_noise.to(state.device), y, times)


def part_loss(state, network, part):
    """Return the share of a Part in the loss of its batch, a scalar tensor with its graph."""
    config = state.config
    reseed_dropout(config.seed, state.step, part.number)
    half = config.precision == "bfloat16"
    with torch.autocast(state.device.type, torch.bfloat16) if half else nullcontext():
        options = {"sigma": config.sigma, "sigma_noise": part.sigma_noise, "path": config.path, "y": part.y}
        if config.score:
            options.pop("path")
            loss = bridge_loss(network, part.x, part.z, part.t, **options)
        elif part.times is None:
            loss = flow_matching_loss(network, part.x, part.z, part.t, **options)
        else:
            options |= {"kind": config.objective, "config": config.flow_map, "teacher": state.teacher}
            loss = flow_map_loss(network, part.x, part.z, part.times, **options)
    return loss / config.accumulate


def reseed_dropout(seed, step, part=0):
    """Make what torch draws in this step, for this part of the batch, a function of (seed, step, part)."""
    bits = step_bits(np.full(1, part, np.int64), 2, seed=seed, step=step, domain=StepDomain.DROPOUT)
    torch.manual_seed(int(bits[0, 0]) << 31 ^ int(bits[0, 1]))


def _coupling_entry(config, batch, pair):
    """Return what a step did to the coupling, a dict; the later steps of an OT batch change nothing."""
    if pair is None:
        cost = paired_cost(batch["x"], batch["noise"], metric=config.coupling.metric)
        cost = float(cost.mean())
        return {"swaps": 0, "cost_before": cost, "cost_after": cost, "gap": None, "coupling_seconds": 0.0}
    pair = pair.on_host()
    return {
        "swaps": pair.swaps,
        "cost_before": None if np.isnan(pair.cost_before) else pair.cost_before,
        "cost_after": pair.cost_after,
        "gap": None if np.isnan(pair.gap) else pair.gap,
        "coupling_seconds": sum(pair.seconds.values()),
        **({} if np.isnan(pair.marginal_error) else {"marginal_error": pair.marginal_error}),
    }
