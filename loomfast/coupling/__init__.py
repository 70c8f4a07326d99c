"""Couplings: which noise each data item is trained with.

Every coupling has the same interface (see `Coupling`): ``couple(x, index)`` returns the noise for a batch.
"""

from loomfast.coupling.baselines import Independent, MinibatchOT
from loomfast.coupling.build import build_coupler
from loomfast.coupling.interface import Coupling, Pair, Prepared
from loomfast.coupling.loom import Loom
from loomfast.coupling.prefetch import Ahead
from loomfast.coupling.semidiscrete import Semidiscrete
from loomfast.coupling.whole_dataset import GlobalCoupling, solve_globally

__all__ = [
    "Ahead",
    "Coupling",
    "GlobalCoupling",
    "Independent",
    "Loom",
    "MinibatchOT",
    "Pair",
    "Prepared",
    "Semidiscrete",
    "build_coupler",
    "solve_globally",
]
