"""A trained network as a folder to give away: weights, configuration, and a card that says what it is."""

import json
import re
import shutil
from pathlib import Path

from loomfast.coupling.build import COUPLINGS
from loomfast.files import atomic_directory, read_tensors, readable
from loomfast.flow_map import OBJECTIVES
from loomfast.models import item_shape
from loomfast.models.conditions import condition_shape
from loomfast.runs.directory import load_model, read_log
from loomfast.runs.evaluate import CURVATURE_STEPS, CURVATURE_TRAJECTORIES
from loomfast.runs.quality import DETAILS

CONDITIONS = ("solver", "nfe")  # of an entry of metrics.jsonl; its other numbers are measures


def export_run(run, out):
    """Write ``model.safetensors``, ``config.json`` and ``README.md`` (the model card) to a new directory.

    ``load_model`` and ``loomfast sample`` take the directory as they take a run.

    Args:
        run: a run directory with a checkpoint.
        out: the directory to make. It appears when it is whole.

    Returns:
        Path: ``out``.

    Raises:
        FileNotFoundError: if ``run`` is no run directory or has no checkpoint, or ``out`` cannot be made.
        FileExistsError: if ``out`` is anything but an empty directory.
        ValueError: if the run's files do not fit each other.
    """
    run, out = Path(run), Path(out)
    config, model = load_model(run)
    step = _step_of(run / "model.safetensors")
    text = model_card(config, model, step=step, metrics=read_metrics(run / "metrics.jsonl"))
    with atomic_directory(out) as aside:
        for name in ("model.safetensors", "config.json"):
            shutil.copyfile(run / name, aside / name)
        (aside / "README.md").write_text(text, encoding="utf-8")
    return out


def _step_of(path):
    """Return the training step that the weights in a file are of, or None where it does not say."""
    step = read_tensors(path, names=())[1].get("step")
    with readable(path, "does not say its step"):
        return None if step is None else int(step)


def model_card(config, model, *, step=None, metrics=()):
    """The card's Markdown.

    Args:
        config: the run's TrainConfig.
        model: its network.
        step: the training step of the weights, where it is known.
        metrics: results of ``loomfast.runs.evaluate.evaluate``; those of other steps are left out.
    """
    data = _plain(Path(config.data).name)
    shape = item_shape(config.model)
    steps = config.steps if step is None else step
    told = condition_shape(config.model)
    nfe = 1 if config.model.two_times else 8
    facts = {
        "data": f"{data}, items of shape {shape}",
        "classes": str(config.model.num_classes)
        if told == ()
        else "none" + ("" if told else ", unconditional"),
        **({"conditions": _conditions(told)} if told else {}),
        "network": f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} parameters",
        "coupling of data and noise": COUPLINGS[config.coupling.method].description(config.coupling),
        "training": f"{steps} steps of {config.batch_size}, seed {config.seed}; averaged weights",
        "licence": "not stated",
    }
    measured = _measured([entry for entry in metrics if entry["steps"] == steps])
    return f"""---
library_name: loomfast
tags: [flow-matching, loom-cfm]
---

# {data}, {_what(config)} with {config.coupling.method} coupling

{_lines(_about(config))}

| | |
|---|---|
{_lines(f"| {name} | {value} |" for name, value in facts.items())}

## Use

In the directory of this file, with `pip install 'loomfast[train]'`:

```python
{_usage(shape, told, config.model.num_classes, nfe)}
```

or {_command(shape, nfe)}
{_lines(measured)}"""


def _plain(text):
    """Return text, a file's name say, so that Markdown shows it as it is, also in a table."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", " ".join(text.split()))


def _lines(lines):
    return "\n".join(lines)


def _what(config):
    return "flow map" if config.model.two_times else "flow matching"


def _about(config):
    """Return the lines that say what the network computes, and how it was trained."""
    paper = "[LOOM-CFM](https://openreview.net/forum?id=rsGPrJDIhh)"
    if not config.model.two_times:
        return [
            "A velocity field v(x, t) from noise, t = 0, to data, t = 1, trained by conditional flow",
            f"matching ({paper}) with loomfast.",
        ]
    return [
        "A flow map X(x, s, t) = x + (t − s) v(x, s, t) from noise, s = 0, to data, t = 1, which samples in",
        f"one evaluation or in several. Trained by {OBJECTIVES[config.objective]}",
        f"on pairs of data and noise ({paper}) with loomfast.",
    ]


def _conditions(told):
    return f"{told[0]} numbers an item" if len(told) == 1 else f"fields of shape {told}"


def _usage(shape, told, classes, nfe):
    labels = "" if told is None else f", y=[k % {classes} for k in range(64)]"
    labels = f", y=torch.zeros{(64, *told)}" if told else labels
    return (
        ("import torch\n" if told else "")
        + f"""from loomfast.rundir import load_model
from loomfast.sample import generate

config, model = load_model(".")
samples = generate(model, 64, {shape}, seed=0, nfe={nfe}{labels})"""
    )


def _command(shape, nfe):
    if shape == (2,) or (len(shape) == 3 and shape[0] in (1, 3)):
        return f"`loomfast sample . --nfe {nfe} --out samples.png`."
    numbers = f"`loomfast sample . --nfe {nfe} --out samples.npz`."
    return f"{numbers} Latents become images with `--codec` and the autoencoder that made them."


def _measured(metrics):
    """Return the lines of the card's tables: every number beside its solver, evaluations and seed."""
    lines = ["", "## Measured"] if metrics else []
    for result in metrics:
        names = [name for name in result["samples"][0] if name not in (*CONDITIONS, *DETAILS)]
        by = f", by {result['features']}" if "features" in result else ""
        data = _plain(Path(result["data"]).name)
        lines += [
            "",
            f"{result['num']} samples against {result['reference']} of {data}{by}:",
            "",
            f"| solver | evaluations | seed | {' | '.join(name.replace('_', ' ') for name in names)} |",
            "|---" * (3 + len(names)) + "|",
        ]
        for entry in result["samples"]:
            cells = [entry["solver"], entry["nfe"], result["seed"], *(entry[name] for name in names)]
            lines.append(f"| {' | '.join(_short(cell) for cell in cells)} |")
        paths = f"{CURVATURE_TRAJECTORIES} paths of {CURVATURE_STEPS} Euler steps, seed {result['seed']}"
        lines += ["", f"Curvature, {paths}: {_short(result['curvature'])}."]
    return [*lines, ""] if lines else []


def _short(value):
    if value is None:  # it was not finite
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _check_entry(entry):
    """Raise ValueError unless an entry of a metrics.jsonl has what its table is made of."""
    samples = entry.get("samples")
    if not (isinstance(samples, list) and samples and all(isinstance(part, dict) for part in samples)):
        raise ValueError("it has no list of samples")
    if any(part.keys() != samples[0].keys() or not set(CONDITIONS) <= part.keys() for part in samples):
        raise ValueError(f"its samples do not all say the same, with {' and '.join(CONDITIONS)}")
    if not all(isinstance(entry.get(name), str) for name in ("data", "reference")):
        raise ValueError("it does not say data and reference")


def read_metrics(path):
    """What evaluations wrote into a ``metrics.jsonl``, of equal conditions the last only.

    Those of other averages than the one that is exported are left out.

    Raises ValueError where an entry lacks what the card's tables are made of.
    """
    found = {}
    for entry in read_log(path, ("steps", "num", "seed", "curvature")) if path.is_file() else ():
        with readable(path, "cannot be used, an entry is damaged"):
            _check_entry(entry)
        if "ema" in entry:
            continue
        solvers = [(sample["solver"], sample["nfe"]) for sample in entry["samples"]]
        found[json.dumps([entry["steps"], entry["num"], entry["seed"], solvers])] = entry
    return list(found.values())
