"""Couplings: which noise each data item is trained with.

Every coupling has the same interface (see `Coupling`): ``couple(x, index)`` returns the noise for a batch.
"""

from loomfast.coupling.baselines import FixedSource, Independent, MinibatchOT
from loomfast.coupling.build import COUPLINGS, build_coupler
from loomfast.coupling.conditional import Conditional, ConditionalLoom
from loomfast.coupling.entropic import EntropicPlan, Sinkhorn, sinkhorn
from loomfast.coupling.hierarchical import Hierarchical
from loomfast.coupling.interface import Coupling, Pair, Prepared
from loomfast.coupling.loom import Loom
from loomfast.coupling.mixed import Mixed
from loomfast.coupling.nearest import Nearest
from loomfast.coupling.paired import Paired, write_pairs
from loomfast.coupling.partial import Partial, Unbalanced
from loomfast.coupling.prefetch import Ahead
from loomfast.coupling.renewed import InjectedLoom, RefreshedLoom
from loomfast.coupling.semidiscrete import Semidiscrete
from loomfast.coupling.stable import Stable, stable_matching
from loomfast.coupling.whole_dataset import GlobalCoupling, solve_globally

__all__ = [
    "COUPLINGS",
    "Ahead",
    "Conditional",
    "ConditionalLoom",
    "Coupling",
    "EntropicPlan",
    "FixedSource",
    "GlobalCoupling",
    "Hierarchical",
    "Independent",
    "InjectedLoom",
    "Loom",
    "MinibatchOT",
    "Mixed",
    "Nearest",
    "Pair",
    "Paired",
    "Partial",
    "Prepared",
    "RefreshedLoom",
    "Semidiscrete",
    "Sinkhorn",
    "Stable",
    "Unbalanced",
    "build_coupler",
    "sinkhorn",
    "solve_globally",
    "stable_matching",
    "write_pairs",
]
