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
from loomfast.sampling.generate import generate_solution, outputs_of, starting_points
from loomfast.sampling.ode import STOCHASTIC, check_solver

CURVATURE_TRAJECTORIES = 1000  # the paper's Figure 6
CURVATURE_STEPS = 20


def evaluate(config, model, *, nfe=(1, 2, 4, 8, 40), num=2000, solver=None, seed=0, progress=None):
    """Metrics of a trained network. One with classes is asked for all of them in turn, one with
    conditions for those of the held-out items.

    Args:
        config: the run's TrainConfig.
        model: its network, in eval mode.
        nfe: numbers of function evaluations to sample with; ``(None,)`` for an adaptive solver, whose
            evaluations are counted.
        num: samples for each of them.
        solver: solver for all of them; by default midpoint for an even number, else Euler, and a flow map's
            own steps.
        seed: seed of the samples' noise.
        progress: called as ``progress(done, total)`` with numbers of samples.

    Returns:
        dict: the conditions (``data``, ``reference``, ``num``, ``seed``, ``steps``), ``curvature``, and
        ``samples``: for each number of evaluations its ``solver`` and ``nfe``, the measure of quality
        (see `sample_quality`) and the mean ``transport_cost`` between noise and sample.

    Raises:
        ValueError: for fewer than 2 samples, or a solver that cannot make a number of evaluations.
    """
    if integer(num, "num", -math.inf) < 2:
        raise ValueError(f"num must be at least 2, a covariance needs that many samples; got {num}")
    for evaluations in nfe:
        check_solver(solver, evaluations, **outputs_of(config.model))
    dataset = load_data(config)
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
                **sample_quality(solution.x, dataset),
                "transport_cost": float(metrics.transport_cost(solution.x, begin)),
            }
        )
    return {
        "data": dataset.name,
        "reference": f"{len(dataset.heldout)} held-out items",
        "num": num,
        "seed": seed,
        "steps": config.steps,
        "curvature": mean_curvature(config, model, dataset, seed),
        "samples": entries,
    }


def sample_quality(samples, dataset):
    """How far samples are from the held-out items, as a dict of one entry.

    ``frechet``: Fréchet distance on a small classifier's features (digits). ``exact_w2``: for other data, the
    exact Wasserstein-2 distance in data space between equally many samples and held-out items.
    """
    if dataset.name == "digits":
        reference = metrics.digits_features(torch.from_numpy(dataset.heldout))
        return {"frechet": float(metrics.frechet_distance(metrics.digits_features(samples), reference))}
    count = min(len(samples), len(dataset.heldout))
    return {"exact_w2": float(metrics.exact_w2(samples[:count], dataset.heldout[:count]))}


def mean_curvature(config, model, dataset, seed):
    """Return the curvature of the sampling paths, measured as in the paper's Section 4.1 and Figure 6."""
    ids = np.arange(CURVATURE_TRAJECTORIES)
    source = read_source(config.coupling.source)
    begin = starting_points(ids, dataset.train.shape[1:], seed, source, NoiseDomain.VALIDATION)
    y = told_in_turn(config, CURVATURE_TRAJECTORIES, dataset)
    velocity = model if y is None else lambda x, t: model(x, t, y)
    return float(metrics.curvature(velocity, begin, steps=CURVATURE_STEPS))
