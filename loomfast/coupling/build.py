"""The couplings by name, and the one that a configuration names."""

from dataclasses import replace

from loomfast.coupling.baselines import FixedSource, Independent, MinibatchOT
from loomfast.coupling.conditional import Conditional, ConditionalLoom
from loomfast.coupling.entropic import Sinkhorn
from loomfast.coupling.hierarchical import Hierarchical
from loomfast.coupling.loom import Loom
from loomfast.coupling.mixed import Mixed
from loomfast.coupling.nearest import Nearest
from loomfast.coupling.paired import Paired
from loomfast.coupling.partial import Partial, Unbalanced
from loomfast.coupling.renewed import InjectedLoom, RefreshedLoom
from loomfast.coupling.semidiscrete import Semidiscrete
from loomfast.coupling.stable import Stable

# Every coupling that a configuration can name: to add one, add its class.
COUPLINGS = {
    kind.method: kind
    for kind in (
        *(Loom, Independent, MinibatchOT, Semidiscrete, Sinkhorn, Stable, Partial, Unbalanced, Hierarchical),
        *(Nearest, Conditional, ConditionalLoom, Mixed, Paired, FixedSource, RefreshedLoom, InjectedLoom),
    )
}


def build_coupler(config, num_items, shape, *, seed, fingerprint, data=None, labels=None, fresh=True):
    """The coupling of a `loomfast.config.CouplingConfig` for a dataset.

    Args:
        config: its method names the coupling, its other fields are the coupling's options.
        num_items, shape: of the dataset; with flips twice its items.
        seed, fingerprint: of the run and of the dataset.
        data: (num_items, *shape), or a function that returns it, for couplings that choose from all items.
        labels: (num_items,) int64, the labels of the dataset, or None where it has none.
        fresh: whether a run begins: ``config.init`` is then read. A run that goes on has it in its own
            state.

    Raises:
        ValueError, OSError: if ``config.init`` is missing where it is needed, is given where none is taken,
            or is not a coupling of these data, this seed (for loom) and this metric; the same of
            ``config.source`` and ``config.pairs``.
        ImportError: for a coupling of a package that is not installed.
    """
    kind, dataset = COUPLINGS[config.method], {"seed": seed, "fingerprint": fingerprint, "data": data}
    if kind is Mixed:
        parts = [
            build_coupler(
                replace(config, method=name), num_items, shape, labels=labels, fresh=fresh, **dataset
            )
            for name in (config.mixed_first, config.mixed_second)
        ]
        return Mixed(*parts, share=config.share, share_end=config.share_end, share_steps=config.share_steps)
    for option, takes in (("init", "takes_init"), ("source", "takes_source")):
        if getattr(config, option) and not getattr(kind, takes):
            takers = " and ".join(name for name, other in COUPLINGS.items() if getattr(other, takes))
            raise ValueError(f"coupling.{option} is for methods {takers}, got method {config.method}")
    more = {"labels": labels} if kind.takes_labels else {}
    return kind.from_config(config, num_items, shape, fresh=fresh, **dataset, **more)
