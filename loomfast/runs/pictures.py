"""Pictures of a run: samples of its network, and how its coupling settled."""

from pathlib import Path

from loomfast.coupling.memoryless import read_source
from loomfast.distributed import resolve_device
from loomfast.models import item_shape
from loomfast.plots import save_coupling_figure, save_samples
from loomfast.runs.conditions import told_in_turn
from loomfast.runs.directory import load_model, read_log
from loomfast.sampling.generate import generate


def picture_run(config, out):
    """Write ``samples/step-N.png`` (8 function evaluations) and ``coupling.png``; returns their paths."""
    out = Path(out)
    _, model = load_model(out)
    return [
        save_sample_picture(model.to(resolve_device(config.device)), config, out, config.steps),
        save_coupling_figure(
            read_log(out / "log.jsonl", ("step", "swaps", "cost_after")), out / "coupling.png"
        ),
    ]


def save_sample_picture(model, config, out, step):
    """Write samples of a network, one class after the other where it has classes; returns the path."""
    shape = item_shape(config.model)
    num = 100 if len(shape) == 3 else 2000
    y = told_in_turn(config, num)
    source = read_source(config.coupling.source)
    samples = generate(model, num, shape, seed=config.seed, nfe=8, y=y, source=source)
    path = out / "samples" / f"step-{step:07d}.png"
    if len(shape) == 3 and shape[0] not in (1, 3):
        samples = samples[:, :3]  # latents: their first channels give an idea
    return save_samples(samples, path)
