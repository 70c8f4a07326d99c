"""The coupling a configuration names."""

from contextlib import contextmanager

import numpy as np

from loomfast.coupling.baselines import Independent, MinibatchOT
from loomfast.coupling.loom import Loom
from loomfast.coupling.semidiscrete import Semidiscrete, read_duals


def build_coupler(config, num_items, shape, *, seed, fingerprint, data=None, fresh=True):
    """The coupling of a `loomfast.config.CouplingConfig` for a dataset.

    Args:
        config: method, num_caches, metric, label_weight, tolerance, precision and init.
        num_items, shape: of the dataset; with flips twice its items.
        seed, fingerprint: of the run and of the dataset.
        data: (num_items, *shape), which ``semidiscrete`` chooses from.
        fresh: whether a run begins: ``config.init`` is then read. A run that goes on has it in its own
            state.

    Raises:
        ValueError, OSError: if ``config.init`` is missing where it is needed, or is not a coupling of these
            data, this seed (for loom) and this metric.
    """
    if config.init and config.method not in ("loom", "semidiscrete"):
        raise ValueError(f"coupling.init is for methods loom and semidiscrete, got method {config.method}")
    if config.method == "independent":
        return Independent(num_items, shape, seed=seed, dataset_fingerprint=fingerprint)
    if config.method == "minibatch-ot":
        return MinibatchOT(num_items, shape, seed=seed, metric=config.metric, dataset_fingerprint=fingerprint)
    if config.method == "semidiscrete":
        return _semidiscrete(config, data, seed, fingerprint, fresh)
    coupler = Loom(
        num_items,
        shape,
        num_caches=config.num_caches,
        seed=seed,
        metric=config.metric,
        label_weight=config.label_weight,
        tolerance=config.tolerance,
        precision=config.precision,
        dataset_fingerprint=fingerprint,
    )
    if fresh and config.init:
        with _of_init(config):
            coupler.load(config.init)
        coupler.step = 0
    return coupler


@contextmanager
def _of_init(config):
    """Have a ValueError say which file it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"coupling.init={config.init!r} does not fit this run: {error}") from None


def _semidiscrete(config, data, seed, fingerprint, fresh):
    if not config.init:
        raise ValueError(
            "method semidiscrete needs coupling.init, the file of a global solve: `loomfast couple` writes it"
        )
    duals = np.zeros(len(data))  # a run that goes on has its own in its state
    if fresh:
        with _of_init(config):
            duals = read_duals(
                config.init,
                num_items=len(data),
                shape=data.shape[1:],
                metric=config.metric,
                dataset_fingerprint=fingerprint,
            )
    return Semidiscrete(data, duals, seed=seed, metric=config.metric, dataset_fingerprint=fingerprint)
