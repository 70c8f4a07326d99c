"""The coupling a configuration names."""

from loomfast.coupling.fresh import Independent, MinibatchOT
from loomfast.coupling.loom import Loom


def build_coupler(config, num_items, shape, *, seed, fingerprint, fresh=True):
    """The coupling of a `loomfast.presets.CouplingConfig` for a dataset.

    Args:
        config: method, num_caches, metric, label_weight, tolerance, precision and init.
        num_items, shape: of the dataset; with flips twice its items.
        seed, fingerprint: of the run and of the dataset.
        fresh: whether a run begins: ``config.init`` is then read. A run that goes on has it in its own
            state.

    Raises:
        ValueError, OSError: if ``config.init`` is not a coupling of these data, this seed and this metric.
    """
    if config.init and config.method != "loom":
        raise ValueError(f"coupling.init is for method loom, got method {config.method}")
    if config.method == "independent":
        return Independent(num_items, shape, seed=seed)
    if config.method == "minibatch-ot":
        return MinibatchOT(num_items, shape, seed=seed, metric=config.metric)
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
        coupler.load(config.init)
        coupler.step = 0
    return coupler
