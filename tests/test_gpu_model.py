"""The model of the kernels' times, and the rule by which the launcher chooses among plans."""

import json
import sys

import pytest
import test_noise_cuda
from cuda_on_cpu import build, engine

from loomfast import backends

sys.path.insert(0, str(build.ROOT / "bench"))

import gpu_model

DEVICE = gpu_model.Device()
COUNTS = json.loads(gpu_model.COUNTS.read_text())
SASS = json.loads(gpu_model.SASS.read_text())["90"]
KERNELS = ("warp", "block", "grid", "cluster")  # of plan.cuh, in its order
# A few words stand for the whole model: its best is met but for so much.
AS_GOOD_AS = 1.25


@pytest.mark.parametrize("case", gpu_model.CASES, ids=str)
def test_the_estimates_reach_their_targets(case):
    way, parts = gpu_model.best_way(case, COUNTS[case.key], SASS, DEVICE)
    assert all(seconds >= 0 for seconds in parts.values())
    assert way.at_once >= 1
    assert case.target is None or sum(parts.values()) * 1e3 <= case.target


def test_the_dependent_steps_and_the_rate_of_noise_reach_their_targets():
    counts = COUNTS["img 2048 grid16"]
    assert counts["rounds"] + counts["repair_passes"] + counts["forest_steps"] <= 450
    assert gpu_model.NOISE_INSTRUCTIONS == test_noise_cuda.MOST_INSTRUCTIONS
    assert gpu_model.noise_rate(DEVICE) >= 380e9


# Products in the lower precisions are so fast that the launches beside them weigh more than was wished.
SLOWER_COSTS = {*(("tf32", n) for n in (1024, 2048, 4096)), *(("bf16", n) for n in (512, 1024, 2048))}


@pytest.mark.parametrize("n", gpu_model.COST_SIZES)
@pytest.mark.parametrize("precision", gpu_model.PRODUCT_RATES)
def test_a_cost_takes_little_more_than_its_product(precision, n):
    _, ratio = gpu_model.cost_ratio(n, 3072, precision, DEVICE)
    assert 1.0 <= ratio <= 1.45
    assert (ratio > 1.15) == ((precision, n) in SLOWER_COSTS)


def milliseconds(batch, n):
    case = gpu_model.Case("unif" if n == 64 else "img", batch, n, n)
    return sum(gpu_model.best_way(case, COUNTS[case.key], SASS, DEVICE)[1].values()) * 1e3


@pytest.mark.parametrize("row", backends.SOLVER_TIMES, ids=lambda row: str(row[0]))
def test_the_table_of_auto_is_what_the_model_says(row):
    """To a tenth, until it is what a card says."""
    n, one, each, _ = row
    assert one == pytest.approx(milliseconds(1, n), rel=0.1)
    many = 1024 if n == 64 else 512
    assert each == pytest.approx(milliseconds(many, n) / many, rel=0.1)


@pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable()))
@pytest.mark.parametrize("clusters", [True, False])
@pytest.mark.parametrize("n", [66, 128, 256, 512, 1024, 2048, 4096])
def test_the_launcher_chooses_nearly_as_well_as_the_model(n, clusters):
    shim = engine.ShimEngine(DEVICE.multiprocessors, 227 << 10)
    for k, (_, most) in enumerate(DEVICE.clusters):
        shim.limits.clusters[k] = most if clusters else 0
    known = f"img {n} " + ("grid16" if n <= 2048 else "grid32")
    counts = COUNTS.get(known, COUNTS["img 128 grid16"])
    for batch in (1, 2, 4, 8, 16, 33, 64, 100, 132, 208, 512):
        case = gpu_model.Case("img", batch, n, n)
        times = {
            (way.kernel, way.blocks): sum(gpu_model.estimate(case, way, counts, SASS, DEVICE).values())
            for way in gpu_model.ways(case, DEVICE)
            if clusters or way.kernel != "cluster"
        }
        kernel, blocks, wide = shim.plan(batch, n, n)
        name = ("grid32" if wide else "grid16") if KERNELS[kernel] == "grid" else KERNELS[kernel]
        assert times[name, blocks] <= AS_GOOD_AS * min(times.values()), (batch, name, blocks, times)
