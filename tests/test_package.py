"""What importing loomfast gives, and what it must not cost."""

import subprocess
import sys

import pytest

import loomfast
from loomfast.extras import need


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_import_loads_no_heavy_library():
    code = "import sys, loomfast; print(sorted({m.split('.')[0] for m in sys.modules} & {HEAVY}))"
    heavy = "{'torch', 'triton', 'cupy', 'scipy', 'matplotlib', 'rich', 'tyro'}"
    assert run_python(code.replace("{HEAVY}", heavy)).strip() == "[]"


def test_the_operations_need_numpy_only():
    code = (
        "import sys, numpy as np, loomfast\n"
        "loomfast.linear_sum_assignment(np.eye(3)); loomfast.solve(np.eye(3))\n"
        "z = loomfast.noise_from_ids(np.arange(3), (2,), seed=0)\n"
        "loomfast.pairwise_cost(z, z); loomfast.Loom(3, (2,)).couple(z, np.arange(3))\n"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    assert run_python(code).strip() == "False False"


def test_public_names():
    assert set(loomfast.__all__) == {
        "Assignment",
        "BottleneckAssignment",
        "Independent",
        "InfeasibleError",
        "Loom",
        "MinibatchOT",
        "Pair",
        "__version__",
        "interpolate_from_ids",
        "linear_sum_assignment",
        "min_weight_full_bipartite_matching",
        "noise_from_ids",
        "paired_cost",
        "pairwise_cost",
        "pairwise_cost_from_ids",
        "solve",
        "solve_bottleneck",
        "solve_k_best",
        "solve_points",
        "solve_sparse",
    }
    for name in loomfast.__all__:
        assert getattr(loomfast, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = loomfast.nothing


def test_a_missing_extra_is_named():
    with pytest.raises(ImportError, match=r"pip install 'loomfast\[fid\]'"):
        need("a_module_nobody_has", "fid")
