"""Measures a run: sample quality against function evaluations, and how straight its paths are."""

import math

import numpy as np
import torch

from loomfast import metrics
from loomfast._arrays import integer
from loomfast.coupling.memoryless import read_source
from loomfast.noise import NoiseDomain
from loomfast.runs.conditions import told_in_turn
from loomfast.runs.directory import load_data
from loomfast.runs.quality import Reference, choose_features
from loomfast.sampling.generate import generate_solution, outputs_of, starting_points
from loomfast.sampling.ode import STOCHASTIC, check_solver

CURVATURE_TRAJECTORIES = 1000  # the paper's Figure 6
CURVATURE_STEPS = 20


def evaluate(
    config,
    model,
    *,
    nfe=(1, 2, 4, 8, 40),
    num=2000,
    solver=None,
    seed=0,
    features="auto",
    weights=None,
    progress=None,
):
    """Metrics of a trained network. One with classes is asked for all of them in turn, one with
    conditions for those of the held-out items.

    Args:
        config: the run's TrainConfig.
        model: its network, in eval mode, on the device where it is to run.
        nfe: numbers of function evaluations to sample with; ``(None,)`` for an adaptive solver, whose
            evaluations are counted.
        num: samples for each of them.
        solver: solver for all of them; by default midpoint for an even number, else Euler, and a flow map's
            own steps.
        seed: seed of the samples' noise.
        features, weights: what samples and held-out items are compared by, as in
            `loomfast.runs.quality.choose_features`.
        progress: called as ``progress(done, total)`` with numbers of samples.

    Returns:
        dict: the conditions (``data``, ``num``, ``seed``, ``steps``, and those of
        `loomfast.runs.quality.Reference`), ``notes`` for the reader, ``curvature`` and ``straightness`` of
        the paths, and ``samples``: for each number of evaluations its ``solver`` and ``nfe``, the measures
        of quality (`Reference.quality`) and the mean ``transport_cost`` between noise and sample.

    Raises:
        ValueError: for fewer than 2 samples, a solver that cannot make a number of evaluations, or features
            that the data do not have.
        ImportError, FileNotFoundError: for Inception's features without torch-fidelity or the weights.
    """
    if integer(num, "num", -math.inf) < 2:
        raise ValueError(f"num must be at least 2, a covariance needs that many samples; got {num}")
    for evaluations in nfe:
        check_solver(solver, evaluations, **outputs_of(config.model))
    dataset = load_data(config)
    chosen = choose_features(dataset, features, weights=weights, device=device_of(model))
    reference = Reference(dataset, chosen)
    shape = dataset.train.shape[1:]
    source = read_source(config.coupling.source)
    begin = starting_points(np.arange(num), shape, seed, source)
    entries = []
    for i, evaluations in enumerate(nfe):
        before = i * num
        solution = generate_solution(
            model,
            num,
            shape,
            seed=seed,
            solver=solver,
            nfe=evaluations,
            y=told_in_turn(config, num, dataset),
            diffusion=config.sigma if solver == STOCHASTIC else None,
            source=source,
            progress=progress and (lambda done, before=before: progress(before + done, num * len(nfe))),
        )
        entries.append(
            {
                "solver": solution.solver,
                "nfe": solution.nfe,
                **reference.quality(solution.x),
                "transport_cost": float(metrics.transport_cost(solution.x, begin)),
            }
        )
    return {
        "data": dataset.name,
        **reference.about,
        "num": num,
        "seed": seed,
        "steps": config.steps,
        "notes": reference.notes(num),
        **path_measures(config, model, dataset, seed),
        "samples": entries,
    }


def path_measures(config, model, dataset, seed):
    """Return curvature (LOOM-CFM, Section 4.1, Figure 6) and straightness of the sampling paths, a dict."""
    ids = np.arange(CURVATURE_TRAJECTORIES)
    source = read_source(config.coupling.source)
    begin = starting_points(ids, dataset.train.shape[1:], seed, source, NoiseDomain.VALIDATION)
    device = device_of(model)
    y = told_in_turn(config, CURVATURE_TRAJECTORIES, dataset)
    y = None if y is None else torch.as_tensor(y).to(device)
    velocity = model if y is None else lambda x, t: model(x, t, y)
    return metrics.path_measures(velocity, begin.to(device), steps=CURVATURE_STEPS)


def device_of(model):
    """Return the device of a network's parameters; the CPU where it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))
