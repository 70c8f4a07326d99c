"""The log of a run: a line of JSON a step, and TensorBoard or Weights & Biases beside it."""

import numpy as np

from loomfast.config import config_to_dict
from loomfast.extras import need
from loomfast.files import json_text
from loomfast.runs.directory import truncate_log


def check_log(name):
    """Raise ImportError naming the extra if what ``log_to`` names is not installed."""
    if name == "tensorboard":
        need("tensorboard", "tensorboard")
    elif name == "wandb":
        need("wandb", "wandb")


class RunLog:
    """Writes a run's entries to ``log.jsonl``, from ``step`` on, and to what ``config.log_to`` names."""

    def __init__(self, config, out, step):
        truncate_log(out / "log.jsonl", step)
        self._file = open(out / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115 closed by `close`
        self._other = _OTHERS[config.log_to](config, out, step)

    def write(self, record):
        """Write one step's entry, a dict of numbers with ``step``; what is not finite becomes null."""
        self._file.write(json_text(record) + "\n")
        self._other.write(record)

    def picture(self, path, step):
        """Log a PNG of samples, as they were after ``step`` steps."""
        self._other.picture(path, step)

    def flush(self):
        """Have everything written so far in the file."""
        self._file.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._other.close()
        self._file.close()


class _Nothing:
    def __init__(self, config, out, step):
        pass

    def write(self, record):
        pass

    def picture(self, path, step):
        pass

    def close(self):
        pass


class _TensorBoard:
    """Writes event files into ``tensorboard/`` of the run directory; steps done again replace the old."""

    def __init__(self, config, out, step):
        writer = need("torch.utils.tensorboard", "tensorboard").SummaryWriter
        self._writer = writer(out / "tensorboard", purge_step=step)

    def write(self, record):
        for name, value in _numbers(record).items():
            self._writer.add_scalar(name, value, record["step"])

    def picture(self, path, step):
        image_module = need("PIL.Image", "train")
        with image_module.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        self._writer.add_image("samples", pixels, step, dataformats="HWC")

    def close(self):
        self._writer.close()


class _Wandb:
    """Writes to one W&B run for the run directory, which is gone on with when training is."""

    def __init__(self, config, out, step):
        self._wandb = need("wandb", "wandb")
        name = "-".join(out.absolute().parts[-2:])
        values = config_to_dict(config)
        self._run = self._wandb.init(
            project="loomfast", name=name, id=name, dir=str(out), config=values, resume="allow"
        )

    def write(self, record):
        self._run.log(_numbers(record), step=record["step"])

    def picture(self, path, step):
        self._run.log({"samples": self._wandb.Image(str(path))}, step=step - 1)

    def close(self):
        self._run.finish()


def _numbers(record):
    return {name: value for name, value in record.items() if name != "step" and value is not None}


_OTHERS = {"none": _Nothing, "tensorboard": _TensorBoard, "wandb": _Wandb}
