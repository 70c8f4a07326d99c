"""The Triton kernels without a GPU: in the interpreter, and compiled ahead of time for every architecture."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from loomfast.cost import pairwise_cost
from loomfast.noise import interpolate_from_ids, noise_from_ids

triton = pytest.importorskip("triton", reason="the Triton kernels need triton: pip install 'loomfast[gpu]'")

import triton_ahead  # noqa: E402  (needs triton)

HERE = Path(__file__).parent
TABLE = json.loads(triton_ahead.TABLE.read_text())
MATRIX = {
    80: "mma.sync",
    86: "mma.sync",
    89: "mma.sync",
    90: "wgmma.mma_async",
    100: "tcgen05.mma",
    120: "mma.sync",
}
needs_cuobjdump = pytest.mark.skipif(
    not Path(triton.knobs.nvidia.cuobjdump.path).exists(), reason="this triton came without cuobjdump"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")


PARTS = {"each_side": 40, "cost and not each_side": 30, "not cost and not each_side": 100}


@pytest.mark.parametrize("part", PARTS)
def test_in_the_interpreter(part):
    """TRITON_INTERPRET must be set before triton is imported, hence the process; in parts, by the time."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/triton_interpreted.py"]
    command += ["-k", part]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    result = subprocess.run(command, env=environment, cwd=HERE.parent, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.search(r"(\d+) passed", result.stdout)[1]) >= PARTS[part]
    assert "skipped" not in result.stdout


@needs_cuobjdump
@pytest.mark.parametrize(("name", "capability"), triton_ahead.everything())
def test_resources(name, capability):
    """No spills, the expected matrix instructions, and the table's numbers with the table's Triton."""
    row = triton_ahead.resources(triton_ahead.everything()[name, capability]())
    assert row["spilled"] == 0
    if "bf16" in name and capability >= 80:
        assert MATRIX[capability] in row["matrix"]
    if "ieee" in name:
        assert row["matrix"] == []
    if triton.__version__ == TABLE["triton"]:
        assert row == TABLE[name][str(capability)]


def test_the_float32_product_from_ids_is_not_tf32_without_norms_either():
    compiled = triton_ahead.compile_cost(100, "ieee", from_ids=True, norms=False)
    assert triton_ahead.matrix_instructions(compiled) == []


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize("capability", [75, 90, 120])
def test_noise_holds_exactly_rounded_operations_only(capability, dtype):
    check_exact(triton_ahead.compile_noise(capability, dtype, wide=dtype == "bf16").asm["ptx"])


@pytest.mark.parametrize("capability", triton_ahead.ARCHITECTURES)
def test_interpolation_holds_exactly_rounded_operations_only(capability):
    kernel = triton_ahead.noise.interpolate_kernel
    check_exact(triton_ahead.compile_noise(capability, kernel=kernel).asm["ptx"])


def check_exact(ptx):
    floats = set(re.findall(r"^\s*(?:@\S+\s+)?([a-z][a-z0-9_.]*\.f32[a-z0-9_.]*)", ptx, re.MULTILINE))
    floats = {name.replace("f32x2", "f32") for name in floats}  # two at once, each rounded
    arithmetic = {name for name in floats if not name.startswith(("mov", "ld", "st", "setp", "selp", "cvt"))}
    assert {"add.rn.f32", "mul.rn.f32", "sqrt.rn.f32"} <= arithmetic
    assert arithmetic <= {"add.rn.f32", "sub.rn.f32", "mul.rn.f32", "sqrt.rn.f32", "neg.f32"}
    assert not re.search(r"\bfma\.|\.approx|\bex2\.|\blg2\.|\bsin\.|\bcos\.", ptx)


def test_the_check_for_exact_operations_finds_a_fused_one():
    kernel = triton_ahead.noise.noise_kernel
    constants = {"WHOLE": True, "WIDE": False, "BLOCK": 256}
    fused = triton_ahead.compile_for(kernel, 90, triton_ahead.NOISE, constants, enable_fp_fusion=True)
    assert "fma." in fused.asm["ptx"] or "mul.f32" in fused.asm["ptx"]
    with pytest.raises(AssertionError):
        check_exact(fused.asm["ptx"])


@pytest.mark.parametrize("capability", [80, 90])
def test_four_normals_are_stored_at_once_and_need_no_shared_memory(capability):
    for compiled in (
        triton_ahead.compile_noise(capability),
        triton_ahead.compile_noise(capability, kernel=triton_ahead.noise.interpolate_kernel),
    ):
        assert set(re.findall(r"st\.global\S*", compiled.asm["ptx"])) == {"st.global.v4.b32"}
        assert compiled.metadata.shared == 0


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_norms_stay_out_of_the_loop_over_the_depth(capability, precision):
    """Between the label of the loop and the branch to it there is no arithmetic of float32."""
    ptx = triton_ahead.compile_cost(capability, precision, from_ids=False, norms=True).asm["ptx"]
    loops = re.findall(r"^(\$L__BB0_\d+):(.*?)\bbra(?:\.uni)?\s+\1;", ptx, re.MULTILINE | re.DOTALL)
    (loop,) = (body for _, body in loops if "mma" in body)
    assert not re.findall(r"\b(?:fma|mul|add)(?:\.rn)?\.f32", loop)
    noisy = triton_ahead.compile_cost(capability, precision, from_ids=True, norms=True).asm["ptx"]
    assert re.findall(r"\b(?:fma|mul|add)(?:\.rn)?\.f32", noisy)  # as such arithmetic is written


@pytest.mark.parametrize(("product", "most"), [("fp32", 125), ("fp64", 1020)])
def test_what_a_product_could_not_hold_is_asked_in_float64(product, most):
    """As an argument the limit of float64 was float32's infinity, and nothing was beyond it."""
    ptx = triton_ahead.compile_finish(90, product=product, element=product).asm["ptx"]
    limit = f"0d{(most + 1023) << 52:016X}"
    assert re.search(rf"setp\.\w+\.f64\s.*{limit}", ptx)


def test_a_new_batch_size_compiles_nothing_anew():
    """Sizes that change from batch to batch are not looked at; what makes loads whole vectors is."""
    noise, passes = triton_ahead.noise, triton_ahead.cost_passes
    kernels = (noise.noise_kernel, noise.interpolate_kernel, noise.words_kernel, passes.norms_kernel)
    kernels += (triton_ahead.cost.cost_kernel, passes.direct_kernel, passes.finish_kernel)
    kernels += (triton_ahead.cost_split.split_kernel,)
    changing = {"n", "m", "num_blocks", "blocks_per_item", "item_size", "seed", "word3", "label_weight"}
    changing |= {"multiplier", "shift", "stride_product", "parts", "stride_part", "part_blocks"}
    for kernel in kernels:
        looked_at = {p.name for p in kernel.params if not p.is_constexpr and not p.do_not_specialize}
        assert not looked_at & changing
        assert all(
            name.startswith("p_") or name in triton_ahead.ALIGNED or name == "stride_out"
            for name in looked_at
        )
    aligned = [
        p.do_not_specialize for p in triton_ahead.cost.cost_kernel.params if p.name in triton_ahead.ALIGNED
    ]
    assert not any(aligned)


def test_tiles():
    cost = triton_ahead.cost
    assert cost.tile_for(86, "bf16") == cost.TILES[80, "bf16"]
    assert cost.tile_for(103, "ieee", from_ids=True) == cost.TILES_FROM_IDS[100, "ieee"]
    with pytest.raises(RuntimeError, match="'tf32' has no Triton tile for compute capability 75"):
        cost.tile_for(75, "tf32")
    for tile in (*cost.TILES.values(), *cost.TILES_FROM_IDS.values()):
        assert 2 * tile.num_stages * (tile.rows + tile.columns) * tile.depth <= 99 * 1024


def test_triton_on_the_cpu_says_what_it_needs():
    with pytest.raises(RuntimeError, match="needs tensors on an NVIDIA GPU, got cpu"):
        noise_from_ids(torch.arange(2), 3, seed=0, backend="triton")
    with pytest.raises(RuntimeError, match="needs tensors on an NVIDIA GPU, got cpu"):
        pairwise_cost(torch.ones(2, 20), torch.ones(2, 20), backend="triton")


@pytest.mark.gpu
@needs_gpu
def test_gpu_noise_has_the_cpu_bits():
    ids = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63, 3000))
    for dtype in ("float32", "bfloat16", "float64"):
        expected = noise_from_ids(ids, (3, 32, 32), seed=7, dtype=dtype)
        assert torch.equal(noise_from_ids(ids.cuda(), (3, 32, 32), seed=7, dtype=dtype).cpu(), expected)
    x, t = torch.randn(3000, 3, 32, 32), torch.rand(3000)
    expected = interpolate_from_ids(x, ids, t, seed=7)
    for got, want in zip(interpolate_from_ids(x.cuda(), ids, t, seed=7), expected, strict=True):
        assert torch.equal(got.cpu(), want)


@pytest.mark.gpu
@needs_gpu
def test_gpu_tuning_times_every_tile_of_the_precision():
    timed = triton_ahead.cost.tune(256, 256, 512, precision="bf16")
    assert timed == sorted(timed)
    assert {tile for _, tile in timed} == {t for (_, p), t in triton_ahead.cost.TILES.items() if p == "bf16"}


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("precision", "unit"),
    [("float64", 2.0**-24), ("float32", 2.0**-24), ("tf32", 2.0**-11), ("bfloat16", 2.0**-8)],
)
@pytest.mark.parametrize(("n", "m", "d"), [(1, 1, 17), (127, 129, 3072), (1000, 513, 100), (64, 64, 2)])
def test_gpu_cost(precision, unit, n, m, d):
    x, z = torch.randn(n, d), torch.randn(m, d)
    expected = pairwise_cost(x.double(), z.double())
    cost = pairwise_cost(x.cuda(), z.cuda(), precision=precision).cpu()
    assert (cost - expected).abs().max() <= 16 * unit * max(1.0, x.square().sum(1).max().item())
