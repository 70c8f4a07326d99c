"""The couplings by name, and the one that a configuration names."""

from loomfast.coupling.baselines import Independent, MinibatchOT
from loomfast.coupling.loom import Loom
from loomfast.coupling.semidiscrete import Semidiscrete

# Every coupling that a configuration can name: to add one, add its class.
COUPLINGS = {kind.method: kind for kind in (Loom, Independent, MinibatchOT, Semidiscrete)}


def build_coupler(config, num_items, shape, *, seed, fingerprint, data=None, fresh=True):
    """The coupling of a `loomfast.config.CouplingConfig` for a dataset.

    Args:
        config: its method names the coupling, its other fields are the coupling's options.
        num_items, shape: of the dataset; with flips twice its items.
        seed, fingerprint: of the run and of the dataset.
        data: (num_items, *shape), or a function that returns it, for couplings that choose from all items.
        fresh: whether a run begins: ``config.init`` is then read. A run that goes on has it in its own
            state.

    Raises:
        ValueError, OSError: if ``config.init`` is missing where it is needed, is given where none is taken,
            or is not a coupling of these data, this seed (for loom) and this metric.
    """
    kind = COUPLINGS[config.method]
    if config.init and not kind.takes_init:
        takers = " and ".join(name for name, other in COUPLINGS.items() if other.takes_init)
        raise ValueError(f"coupling.init is for methods {takers}, got method {config.method}")
    return kind.from_config(
        config, num_items, shape, seed=seed, fingerprint=fingerprint, data=data, fresh=fresh
    )
