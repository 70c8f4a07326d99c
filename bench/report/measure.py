"""What is measured of a trained network of the report, as plain JSON values."""

import base64
import io

import numpy as np

from loomfast import metrics
from loomfast.models import classes_in_turn
from loomfast.noise import NoiseDomain
from loomfast.plots import as_pixels, tile
from loomfast.runs.directory import load_data, read_log
from loomfast.runs.quality import Reference, choose_features
from loomfast.sampling.generate import generate_solution, starting_points

SAMPLE_SEED = 1000  # sampling noise is of a domain of its own, so that no network was trained on it
PICTURED = 36
BIN = 20  # steps that a point of a settling curve is the mean of


def samples_of(config, model, nfe, num, **options):
    """Return the Solution of the first ``num`` samples with ``nfe`` evaluations."""
    shape = load_data(config).train.shape[1:]
    y = classes_in_turn(config.model, num)
    return generate_solution(model, num, shape, seed=SAMPLE_SEED, nfe=nfe, y=y, **options)


def _reference(dataset):
    """Return the Reference of a dataset: digits on their classifier's features, others on the data."""
    return Reference(dataset, choose_features(dataset, "digits" if dataset.name == "digits" else "data"))


def stage(config, model, step, seconds, nums):
    """Return what is measured during training, of {dataset: number} samples with 1 and 8 evaluations."""
    dataset = load_data(config)
    num = nums[dataset.name]
    entry = {"step": step, "cpu_seconds": seconds, "num": num, "frechet": {}}
    for nfe in (1, 8) if num else ():
        samples = samples_of(config, model, nfe, num).x
        entry["frechet"][str(nfe)] = _reference(dataset).frechet(samples)
    return entry


def final(config, model, nfes, nums, *, guidance=None):
    """Return what is measured of a run at its end: the quality of {dataset: number} samples for each nfe."""
    dataset = load_data(config)
    reference, num, entries, pictures = _reference(dataset), nums[dataset.name], [], {}
    for nfe in nfes:
        options = {} if guidance is None else {"guidance": guidance}
        solution = samples_of(config, model, nfe, num, **options)
        entries.append({"nfe": solution.nfe, "solver": solution.solver, **reference.quality(solution.x)})
        pictures[str(nfe)] = picture(solution.x[:PICTURED])
    return {
        "data": dataset.name,
        **reference.about,
        "num": num,
        "sample_seed": SAMPLE_SEED,
        "samples": entries,
        "pictures": pictures,
    }


def paths(config, model, nums):
    """Return curvature and straightness of {dataset: number} of a velocity's paths."""
    dataset = load_data(config)
    num = nums[dataset.name]
    begin = starting_points(
        np.arange(num), dataset.train.shape[1:], SAMPLE_SEED, None, NoiseDomain.VALIDATION
    )
    return {
        "trajectories": num,
        **metrics.path_measures(model, begin),
    }


def settling(run):
    """Return the curves of a coupling from a run's log: means over `BIN` steps."""
    log = read_log(run / "log.jsonl")
    log = log[: len(log) // BIN * BIN]
    curves = {name: np.array([entry[name] for entry in log], float) for name in ("swaps", "cost_after")}
    rounded = {
        name: [round(float(v), 4) for v in values.reshape(-1, BIN).mean(axis=1)]
        for name, values in curves.items()
    }
    return {"steps": [BIN * (k + 1) for k in range(len(log) // BIN)], **rounded}


def picture(images):
    """Return images as one PNG in base64, six in a row, without enlargement."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(tile(as_pixels(images), 6)).convert("L" if images.shape[1] == 1 else "RGB").save(
        buffer, format="PNG", optimize=True
    )
    return base64.b64encode(buffer.getvalue()).decode()
