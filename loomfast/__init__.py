"""loomfast: exact assignment, noise by id, and the LOOM-CFM coupling built from them.

The operations need NumPy only; training and sampling need ``pip install loomfast[train]``.
Public names are loaded at first use, so ``import loomfast`` imports neither torch nor a GPU library.
The documentation begins at docs/index.md of the sources; docs/troubleshooting.md explains errors.
"""

from importlib import import_module as _import_module

from loomfast._compile import prepare as _prepare

_HOMES = {
    "Assignment": "loomfast.assignment",
    "BottleneckAssignment": "loomfast.assignment",
    "InfeasibleError": "loomfast.assignment",
    "linear_sum_assignment": "loomfast.assignment",
    "min_weight_full_bipartite_matching": "loomfast.assignment",
    "solve": "loomfast.assignment",
    "solve_bottleneck": "loomfast.assignment",
    "solve_k_best": "loomfast.assignment",
    "solve_points": "loomfast.assignment",
    "solve_sparse": "loomfast.assignment",
    "interpolate_from_ids": "loomfast.noise",
    "noise_from_ids": "loomfast.noise",
    "paired_cost": "loomfast.cost",
    "pairwise_cost": "loomfast.cost",
    "pairwise_cost_from_ids": "loomfast.cost",
    "Independent": "loomfast.coupling",
    "Loom": "loomfast.coupling",
    "MinibatchOT": "loomfast.coupling",
    "Pair": "loomfast.coupling",
    "__version__": "loomfast._engine",
}

__all__ = list(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'loomfast' has no attribute {name!r}")
    value = getattr(_import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)


_prepare()
