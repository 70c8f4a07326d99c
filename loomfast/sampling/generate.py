"""Samples of a trained network by their ids: sample k of a seed is always the same."""

import math
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch

from loomfast._arrays import integer
from loomfast.noise import NoiseDomain, StepDomain, noise_from_ids, step_normals
from loomfast.sampling.ode import MAP, STEPS, STOCHASTIC, Solution, check_solver, integrate

CPU_BLOCK = 32  # ids a network call takes on the CPU, always, so that bits do not depend on the batch


def shares(start, num, count):
    """Ids start ... start + num - 1 in count contiguous shares, as [(first, how many)].

    They are cut at multiples of ``CPU_BLOCK``, so that every network call on the CPU is one that a single
    process would make, and every sample the same bits. Every share but the first may be empty.
    """
    low, high = start // CPU_BLOCK, -(-(start + num) // CPU_BLOCK)
    cuts = [low + -((low - high) * k // count) for k in range(count + 1)]
    ids = [min(max(cut * CPU_BLOCK, start), start + num) for cut in cuts]
    return [(first, last - first) for first, last in pairwise(ids)]


def generate(model, num, shape, *, trajectory=False, **options):
    """Samples of a seed: (num, *shape) float32, on the CPU.

    With trajectory=True the states of the whole path, (times, num, *shape), from noise to sample: one a step
    of a fixed-step solver, one a time of time_grid of an adaptive one. Everything else is as in
    ``generate_solution``.
    """
    solution = generate_solution(model, num, shape, trajectory=trajectory, **options)
    return solution.trajectory if trajectory else solution.x


@torch.no_grad()
def generate_solution(
    model,
    num,
    shape,
    *,
    seed,
    solver=None,
    nfe=None,
    start=0,
    batch_size=256,
    device=None,
    y=None,
    guidance=None,
    diffusion=None,
    source=None,
    domain=NoiseDomain.SAMPLING,
    progress=None,
    time_grid=None,
    trajectory=False,
    rtol=1e-5,
    atol=1e-5,
):
    """Samples start ... start + num - 1 of a seed, on the CPU, as a Solution.

    Its nfe is the number of evaluations a sample took; for an adaptive solver, whose calls may differ in it,
    the mean over samples.

    Sample k starts from the noise of id k in the sampling domain, which no training noise shares, and is
    always the same image. On the CPU the network takes ``CPU_BLOCK`` ids a call, aligned, whatever
    batch_size is, so the bits of a sample depend neither on num, start nor batch_size. On a GPU a call takes
    batch_size ids, and kernels may round differently at another size. The steps of an adaptive solver follow
    the ids of a call together: within rtol, a sample then depends on batch_size on a GPU, and on the labels
    of its neighbours.

    model: takes (x, t) or, where labels y (num,) are given, (x, t, y); put into evaluation mode meanwhile. It
    gets x in the dtype of its parameters (bfloat16, say); the states are float32. For euler-maruyama it also
    takes score=True, and then returns (velocity, score).
    guidance: None, or the scale w of classifier-free guidance (Ho and Salimans, 2022) on labels y: the
    velocity is v(x, t, none) + w (v(x, t, y) − v(x, t, none)), both from one call of the network on twice the
    items, and one evaluation, and the score likewise; the network has to know the label −1, "none", or the
    condition NaN. 1 is no guidance, 0 no label.
    diffusion: of the solver euler-maruyama, which needs it: g of the equation dx = (v + g²/2 s) dt + g dW of
    velocity v and score s, whose samples have the law of the flow's whatever g is (Tong et al., 2024,
    "Simulation-free Schrödinger bridges via score and flow matching"); the bridge itself has the sigma that
    the network was trained with. The noise of a step is a function of (seed, step, id); ids are then below
    2^32.
    source: None for noise; or (M, *shape) floating point, NumPy, which the flow begins at instead: sample k
    begins at item k mod M.
    domain: whose noise the ids are of.
    solver, nfe, time_grid: as in ``check_solver`` (an even nfe alone is midpoint, an odd one euler, and both
    are the map of a network of two times; of that the other solvers take the velocity).
    device: where the model is, taken from its parameters when None.
    progress: called with the number of samples finished. rtol, atol: of an adaptive solver.

    Raises ValueError for num < 1, a negative start, y of another length, a solver and nfe that do not fit, a
    diffusion that is missing or of another solver, or a model that makes NaN or infinity of the noise.
    """
    guidance = check_guidance(guidance, y)
    solver, arguments = check_solver(solver, nfe, time_grid, **outputs_of(getattr(model, "config", None)))
    diffusion = check_diffusion(diffusion, solver)
    if solver == MAP and guidance is not None:
        raise ValueError(f"guidance={guidance} is of velocities, not of maps: give solver midpoint, say")
    arguments |= {"trajectory": trajectory, "rtol": rtol, "atol": atol}
    num, start, batch_size = _check_request(num, start, batch_size, y)
    parameter = _parameter_of(model)
    there = "cpu" if parameter is None else parameter.device
    device = torch.device(there if device is None else device)
    with _evaluating(model):
        states, evaluations = None, 0
        for first, last in blocks(start, start + num, batch_size, device):
            begin = starting_points(np.arange(first, last), shape, seed, source, domain).to(device)
            noise = _kicks(first, last, begin, seed, diffusion)
            velocity = _velocity(model, _told(first, last, start, y, begin), guidance, diffusion, begin.dtype)
            part = _solve_block(velocity, first, last, begin, solver, {**arguments, **noise})
            kept = part.x[None] if part.trajectory is None else part.trajectory
            if states is None:
                states = torch.empty(len(kept), num, *shape, dtype=torch.float32, device="cpu")
            low, high = max(first, start), min(last, start + num)
            states[:, low - start : high - start] = kept[:, low - first : high - first].cpu()
            evaluations += part.nfe * (high - low)
            if progress is not None:
                progress(high - start)
    mean_nfe = part.nfe if solver in STEPS else evaluations / num
    return Solution(states[-1], mean_nfe, solver, states if trajectory else None, part.times)


def starting_points(ids, shape, seed, source=None, domain=NoiseDomain.SAMPLING):
    """Return where samples begin, (n, *shape) float32 on the CPU: noise, or items of a source (M, *shape).

    ids: (n,) int64 NumPy, the numbers of the samples. Raises ValueError for a source of another shape.
    """
    if source is None:
        return torch.from_numpy(noise_from_ids(ids, tuple(shape), seed=seed, domain=domain))
    if tuple(source.shape[1:]) != tuple(shape):
        raise ValueError(f"source must hold items of shape {tuple(shape)}, got shape {tuple(source.shape)}")
    return torch.from_numpy(np.array(source[ids % len(source)], np.float32))


def check_guidance(guidance, y):
    """Return the scale of classifier-free guidance as a float, or None; ValueError if it is none, or y is."""
    if guidance is None:
        return None
    if not 0 <= guidance < float("inf"):
        raise ValueError(f"guidance must be a finite number of at least 0, got {guidance}")
    if y is None:
        raise ValueError(f"guidance={guidance} needs labels y to guide to")
    return float(guidance)


@contextmanager
def _evaluating(model):
    """Within, a model that has modes is in evaluation mode."""
    was_training = getattr(model, "training", False)
    if was_training:
        model.eval()
    try:
        yield
    finally:
        if was_training:
            model.train()


def _check_request(num, start, batch_size, y):
    """Return the three numbers as int, once they and the labels fit."""
    num, start = integer(num, "num", 1), integer(start, "start", 0)
    batch_size = integer(batch_size, "batch_size", 1)
    if y is not None and len(y) != num:
        raise ValueError(f"y must hold one label a sample ({num}), got {len(y)}")
    return num, start, batch_size


def blocks(low, high, batch_size, device):
    """The ranges of ids the network takes a call: aligned and of one size on the CPU, as asked on a GPU.

    On the CPU the first and the last may reach beyond low ... high - 1.
    """
    if device.type == "cpu":
        first = low // CPU_BLOCK * CPU_BLOCK
        return [(i, i + CPU_BLOCK) for i in range(first, high, CPU_BLOCK)]
    return [(i, min(i + batch_size, high)) for i in range(low, high, batch_size)]


def outputs_of(config):
    """Return what a network of this configuration can give, as arguments of `check_solver`.

    A function without one, None, is no map, but may return a score if it is asked to.
    """
    given = getattr(config, "two_times", False), getattr(config, "score_head", config is None)
    return dict(zip(("two_times", "score"), given, strict=True))


def check_diffusion(diffusion, solver):
    """Return the diffusion as a float, or None; ValueError where it does not go with the solver."""
    if (solver == STOCHASTIC) != (diffusion is not None):
        raise ValueError(f"diffusion is of solver {STOCHASTIC}, which needs it; got {diffusion}, {solver}")
    if diffusion is not None and not 0 <= diffusion < float("inf"):
        raise ValueError(f"diffusion must be a finite number of at least 0, got {diffusion}")
    return None if diffusion is None else float(diffusion)


def _kicks(first, last, z, seed, diffusion):
    """Return {"kick": ...} for `integrate` of ids first ... last - 1, which begin at z; {} without noise."""
    if diffusion is None:
        return {}

    def kick(k, length):
        draw = {"seed": seed, "step": k, "domain": StepDomain.DIFFUSION}
        normals = step_normals(np.arange(first, last), z.shape[1:], **draw)
        return diffusion * math.sqrt(length) * torch.from_numpy(normals).to(z.device)

    return {"kick": kick}


def _told(first, last, start, y, z):
    """Return what a network is told of ids first ... last - 1: (labels,), on the device of z, or ().

    Ids outside the asked range, which fill an aligned block, take the labels of its ends.
    """
    if y is None:
        return ()
    rows = (torch.arange(first, last, device="cpu") - start).clamp(0, len(y) - 1)
    return (torch.as_tensor(y, device="cpu")[rows].to(z.device),)


def _velocity(model, labels, guidance, diffusion, dtype):
    """Return the function that `integrate` takes: of a model's outputs, guided, and with its score's part."""
    parameter = _parameter_of(model)
    inner = dtype if parameter is None else parameter.dtype
    options = {} if diffusion is None else {"score": True}

    def drift(found):
        if diffusion is None:
            return found.to(dtype)
        velocity, score = found
        return velocity.to(dtype) + diffusion**2 / 2 * score.to(dtype)

    def velocity(x, t, end=None):
        if end is not None:
            return model(x.to(inner), t, *labels, end=end).to(dtype)
        if guidance is None:
            return drift(model(x.to(inner), t, *labels, **options))
        nothing = math.nan if labels[0].is_floating_point() else -1
        both = torch.cat([labels[0], torch.full_like(labels[0], nothing)])
        found = drift(model(torch.cat([x, x]).to(inner), torch.cat([t, t]), both, **options))
        labelled, unlabelled = found.chunk(2)
        return unlabelled + guidance * (labelled - unlabelled)

    return velocity


def _solve_block(velocity, first, last, z, solver, arguments):
    """The Solution of ids first ... last - 1, which begin at z."""
    solution = integrate(velocity, z, solver=solver, **arguments)
    if not torch.isfinite(solution.x).all():
        raise ValueError(f"samples {first} to {last - 1} are not finite: the model returned NaN or infinity")
    return solution


def _parameter_of(model):
    """Return the first of the model's floating-point parameters; None where it has none."""
    parameters = getattr(model, "parameters", tuple)()
    return next((p for p in parameters if p.is_floating_point()), None)
