"""The Triton kernels in Triton's interpreter. Run by test_triton.py in a process with TRITON_INTERPRET=1.

Programs run in a shuffled order, and outputs are poisoned.
"""

import itertools
import random

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from loomfast.kernels import cost as cost_kernels
from loomfast.kernels import cost_passes, cost_split
from loomfast.kernels import noise as noise_kernels
from loomfast.kernels.cost import Tile
from noise_cases import KNOWN_ANSWERS
from triton.runtime import interpreter

from loomfast import _engine
from loomfast.cost import gpu, pairwise_cost, pairwise_cost_from_ids
from loomfast.cost import reference as cost_reference
from loomfast.noise import interpolate_from_ids, noise_from_ids, reference

IDS = torch.tensor([0, 1, -1, 2**40, -(2**63), 2**63 - 1, 5, 2**32, -(2**35) - 1])
SMALL = Tile(16, 16, 16, 4, 1)


@pytest.fixture(autouse=True)
def shuffled_programs(monkeypatch):
    """A kernel whose result depends on the order of its programs is wrong on a GPU."""
    builder = interpreter.interpreter_builder
    set_dimensions, set_index = builder.set_grid_dim, builder.set_grid_idx
    order = []

    def dimensions(x, y, z):
        set_dimensions(x, y, z)
        order[:] = itertools.product(range(x), range(y), range(z))
        random.Random(len(order)).shuffle(order)

    monkeypatch.setattr(builder, "set_grid_dim", dimensions)
    monkeypatch.setattr(builder, "set_grid_idx", lambda x, y, z: set_index(*order.pop()))


def same_bits(tensor, array):
    return tensor.shape == array.shape and tensor.numpy().tobytes() == array.tobytes()


def poisoned(*shape, dtype=torch.float32):
    return torch.full(shape, torch.nan, dtype=dtype)


@pytest.mark.parametrize("size", [1, 3, 4, 5, 64, 1023, 1024, 1025, 3 * 37])
@pytest.mark.parametrize("seed", [0, 1, 2**32 + 7, 2**63, 2**64 - 1])
def test_noise_repeats_the_reference(size, seed):
    out = poisoned(len(IDS), size)
    noise_from_ids(IDS, (size,), seed=seed, domain=3, backend="triton", out=out)
    assert same_bits(out, reference.noise_from_ids(IDS.numpy(), (size,), seed=seed, domain=3))


def test_a_hundred_thousand_normals():
    ids = torch.from_numpy(np.random.default_rng(0).integers(-(2**63), 2**63, 34))
    out = noise_from_ids(ids, (3, 32, 32), seed=5, backend="triton")
    assert out.numel() > 100_000
    assert same_bits(out, reference.noise_from_ids(ids.numpy(), (3, 32, 32), seed=5))


@triton.jit
def words_kernel(p_counter, p_words, seed):
    counter = p_counter + tl.zeros((1,), tl.int32)
    c0, c1 = tl.load(counter).to(tl.uint32), tl.load(counter + 1).to(tl.uint32)
    c2, c3 = tl.load(counter + 2).to(tl.uint32), tl.load(counter + 3).to(tl.uint32)
    x0, x1, x2, x3 = noise_kernels.philox4x32(c0, c1, c2, c3, seed)
    words = p_words + tl.zeros((1,), tl.int32)
    tl.store(words, x0.to(tl.int64))
    tl.store(words + 1, x1.to(tl.int64))
    tl.store(words + 2, x2.to(tl.int64))
    tl.store(words + 3, x3.to(tl.int64))


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_random123_known_answers(counter, key, words):
    out = torch.full((4,), -1)
    words_kernel[(1,)](torch.tensor(counter), out, np.int64(np.uint64(key[0] | key[1] << 32)).item())
    assert tuple(out.tolist()) == words


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_noise_conversions(dtype):
    expected = torch.from_numpy(reference.noise_from_ids(IDS.numpy(), (70,), seed=8)).to(dtype)
    assert torch.equal(noise_from_ids(IDS, 70, seed=8, dtype=dtype, backend="triton"), expected)


def test_noise_strides():
    expected = reference.noise_from_ids(IDS.numpy(), (6, 5), seed=2)
    wide = poisoned(len(IDS), 9, 5)
    noise_from_ids(IDS, (6, 5), seed=2, backend="triton", out=wide[:, 1:7])
    assert same_bits(wide[:, 1:7].contiguous(), expected)
    assert wide[:, 0].isnan().all()
    assert wide[:, 7:].isnan().all()
    turned = poisoned(len(IDS), 5, 6)
    noise_from_ids(IDS, (6, 5), seed=2, backend="triton", out=turned.transpose(1, 2))
    assert same_bits(turned.transpose(1, 2).contiguous(), expected)


def test_wide_indices_give_the_same_bits():
    out = poisoned(len(IDS), 33)
    blocks = 9
    arguments = (IDS, out, len(IDS) * blocks, blocks, 0, 0, 33, 33, 7, 0)
    options = {"WHOLE": False, "WIDE": True, "BLOCK": 128, "enable_fp_fusion": False}
    noise_kernels.noise_kernel[(1,)](*arguments, **options)
    assert same_bits(out, reference.noise_from_ids(IDS.numpy(), (33,), seed=7))


@triton.jit
def quotient_kernel(p_out, first, multiplier, shift):
    o = tl.arange(0, 64)
    tl.store(p_out + o, noise_kernels.quotient(first + o, multiplier, shift))


@pytest.mark.parametrize("blocks", [1, 2, 3, 7, 768, 769, 2**20 - 1, 2**30 - 1, 2**30])
@pytest.mark.parametrize("first", [0, 2**20, 2**30 - 64])
def test_divisions_are_products_and_shifts(blocks, first):
    multiplier, shift = noise_kernels.divisor(blocks)
    n = np.arange(first, first + 64)
    assert (((n * multiplier >> 32) + n) >> shift == n // blocks).all()
    found = torch.full((64,), -1, dtype=torch.int32)
    multiplier -= (multiplier >> 31) << 32
    quotient_kernel[(1,)](found, first, multiplier, shift)
    assert (found.numpy() == n // blocks).all()


def test_the_words_of_a_step_are_the_engines():
    ids, words = torch.cat((IDS, torch.arange(300))), torch.full((len(IDS) + 300,), -1)
    noise_kernels.fill_words(ids, words, seed=-3, word3=-(2**31) + 1)
    expected = np.zeros((len(ids), 1), np.uint32)
    _engine.noise_bits(ids.numpy().view(np.uint64), 2**64 - 3, 2**31 + 1, expected)
    assert (words.numpy() == expected[:, 0]).all()


@pytest.mark.parametrize("shape", [(1,), (7,), (3, 8, 8)])
def test_interpolation_repeats_the_reference(shape):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((len(IDS), *shape), dtype=np.float32)
    t = rng.random(len(IDS), dtype=np.float32)
    t[:2] = 0, 1
    expected = reference.interpolate_from_ids(x, IDS.numpy(), t, seed=2**64 - 3, domain=1)
    arguments = (torch.from_numpy(x), IDS, torch.from_numpy(t))
    for got, want in zip(
        interpolate_from_ids(*arguments, seed=2**64 - 3, domain=1, backend="triton"), expected, strict=True
    ):
        assert same_bits(got, want)


def items(n, d, seed, dtype):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32)).to(dtype)


def bound(x, z):
    """A few rounding errors of the largest term, as in test_cost.py."""
    size = max(part.double().square().sum(1).max().item() for part in (x, z))
    return 16 * 2.0**-24 * max(1.0, size)


# Two of the four kernels at every size, so that each meets every n and every (m, d).
KERNELS = [("ieee", False), ("bf16", True), ("bf16", False), ("ieee", True)]
SIZES = itertools.product(
    enumerate([1, 15, 16, 17]), enumerate([(1, 9), (15, 15), (16, 16), (17, 17), (33, 33)])
)
EACH_SIDE = [(*KERNELS[2 * ((i + j) % 2) + k], n, m, d) for (i, n), (j, (m, d)) in SIZES for k in range(2)]


@pytest.mark.parametrize(("precision", "drop_norms", "n", "m", "d"), EACH_SIDE)
def test_cost_each_side_of_every_tile_boundary(precision, drop_norms, n, m, d):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, z, out = items(n, d, 0, dtype), items(m, d, 1, dtype), poisoned(n, m)
    options = {"metric": "sqeuclidean", "labels": None, "label_weight": 0.0, "drop_norms": drop_norms}
    cost_kernels.cost(x, z, out, precision=precision, tile=SMALL, **options)
    expected = cost_reference.pairwise_cost(x.double(), z.double(), assignment_only=drop_norms)
    assert np.abs(out.numpy() - expected).max() <= bound(x, z)
    ids, out = torch.arange(m) - 3, poisoned(n, m)
    cost_kernels.cost_from_ids(x, ids, out, seed=-5, word3=2, precision=precision, tile=SMALL, **options)
    z = torch.from_numpy(reference.noise_from_ids(ids.numpy(), (d,), seed=2**64 - 5, domain=2)).to(dtype)
    expected = cost_reference.pairwise_cost(x.double(), z.double(), assignment_only=drop_norms)
    assert np.abs(out.numpy() - expected).max() <= bound(x, z)


DIVIDED = [(1, 1, 256), (16, 17, 300), (33, 15, 271), (40, 35, 640)]


@pytest.mark.parametrize(("n", "m", "d"), DIVIDED)
@pytest.mark.parametrize(("precision", "drop_norms"), KERNELS)
def test_cost_by_parts_of_the_depth(precision, drop_norms, n, m, d):
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    x, z, out = items(n, d, 0, dtype), items(m, d, 1, dtype), poisoned(n + 1, m + 3)[:n, 1 : m + 1]
    labels = (torch.arange(n) % 3, torch.arange(m) % 4)
    options = {"metric": "sqeuclidean", "labels": labels, "label_weight": 7.0}
    assert cost_split.parts_of(n, m, d, SMALL)[0] == d // 128
    cost_split.cost(x, z, out, precision=precision, tile=SMALL, drop_norms=drop_norms, **options)
    expected = cost_reference.pairwise_cost(x.double(), z.double(), assignment_only=drop_norms, **options)
    assert np.abs(out.numpy() - expected).max() <= bound(x, z)


def test_parts_of_a_depth_keep_a_gpu_busy_and_hold_all_of_it():
    tile = cost_kernels.tile_for(90, "bf16")
    for n, m, d in itertools.product((0, 1, 128, 500, 1024, 1536, 4096), (128, 2000), (16, 256, 3072)):
        parts, depth = cost_split.parts_of(n, m, d, tile)
        assert depth % tile.depth == 0
        assert (parts - 1) * depth < d <= parts * depth
        tiles = -(-n // tile.rows) * -(-m // tile.columns)
        assert parts == 1 or tiles * parts <= cost_split.LEAST_PROGRAMS
    assert cost_split.parts_of(512, 512, 3072, tile) == (8, 384)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [1, 2, 16, 40, 270])
def test_public_cost_with_labels_and_strides(metric, d):
    x, z = items(45, d, 0, torch.float32), items(70, d, 1, torch.float32)
    labels = (torch.arange(45) % 3, torch.arange(70) % 4)
    options = {"metric": metric, "labels": labels, "label_weight": 1.5}
    expected = cost_reference.pairwise_cost(x, z, **options)
    wide = poisoned(90, 75)
    pairwise_cost(x, z, out=wide[::2, 2:72], backend="triton", **options)
    assert np.allclose(wide[::2, 2:72].numpy(), expected, rtol=1e-5, atol=1e-5)
    assert wide[1::2].isnan().all()
    assert wide[:, :2].isnan().all()
    turned = poisoned(70, 45)
    pairwise_cost(x, z, out=turned.T, backend="triton", **options)
    assert np.allclose(turned.T.numpy(), expected, rtol=1e-5, atol=1e-5)
    strided = torch.stack((x, x), dim=2)[:, :, 0]
    assert np.allclose(pairwise_cost(strided, z, backend="triton", **options), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("d", [3, 16, 50])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
def test_public_cost_from_ids(metric, d):
    x, ids = items(20, d, 0, torch.float32), torch.arange(2**33, 2**33 + 30)
    z = reference.noise_from_ids(ids.numpy(), (d,), seed=3, domain=1)
    expected = cost_reference.pairwise_cost(x, z, metric=metric)
    cost = pairwise_cost_from_ids(x, ids, seed=3, domain=1, metric=metric, backend="triton")
    assert np.allclose(cost, expected, rtol=1e-5, atol=1e-5)


def test_a_nan_in_the_data_stays_a_nan():
    x, z = items(40, 20, 0, torch.float32), items(40, 20, 1, torch.float32)
    x[7, 3] = torch.nan
    for precision in ("float32", "bfloat16"):
        cost = pairwise_cost(x, z, precision=precision, backend="triton")
        assert cost[7].isnan().all()
        assert not cost[:7].isnan().any()


@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_empty(n, m):
    assert pairwise_cost(torch.ones(n, 20), torch.ones(m, 20), backend="triton").shape == (n, m)
    assert noise_from_ids(torch.arange(n), (m,), seed=0, backend="triton").shape == (n, m)


def test_what_it_does_not_take():
    wide = torch.ones(2, 20, dtype=torch.int64)
    for x, z in ((wide, torch.ones(2, 20)), (torch.ones(2, 20), wide)):
        with pytest.raises(
            TypeError, match=r"[xz] must hold .* 32-bit integers at most on a GPU, got torch\.int64"
        ):
            pairwise_cost(x, z, backend="triton")
    with pytest.raises(TypeError, match=r"x must hold .* pass x\.double\(\)"):
        pairwise_cost_from_ids(wide, torch.arange(3), seed=0, backend="triton")
    with pytest.raises(ValueError, match="too long for the Triton kernel"):
        cost_passes.check_lengths(1 << 27, 64, SMALL)


@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("assignment_only", [False, True])
@pytest.mark.parametrize(
    ("dtype", "d"), [(torch.float64, 3), (torch.float64, 40), (torch.int32, 40), (torch.uint32, 3)]
)
def test_what_float32_does_not_hold_is_computed_in_float64(monkeypatch, metric, assignment_only, dtype, d):
    """Numbers whose differences float32 loses: what it holds near them is 4 apart."""
    monkeypatch.setattr(gpu, "PRODUCT_ENTRIES", 70 * 13)
    rng = np.random.default_rng(1)
    whole = [2**25 + rng.integers(0, 40, (n, d)) for n in (45, 70)]
    x, z = (torch.from_numpy(part).to(dtype) for part in whole)
    labels = (torch.arange(45) % 3, torch.arange(70) % 4)
    options = {"metric": metric, "labels": labels, "label_weight": 1.5, "assignment_only": assignment_only}
    expected = cost_reference.pairwise_cost(*whole, **options)
    cost = pairwise_cost(x, z, backend="triton", out=poisoned(45, 70), **options)
    # Sums of d products of 2^50 are rounded in float64, as on the CPU.
    rounding = 0.0 if d == 3 and not (assignment_only and metric == "sqeuclidean") else 4.0 * d
    slack = 1e-6 * np.abs(expected) + (np.sqrt(rounding) if metric == "euclidean" else rounding)
    assert (np.abs(cost.numpy() - expected) <= slack).all()


def test_float64_from_ids_is_computed_in_float64():
    x, ids = items(9, 20, 0, torch.float64) * 1e-3 + 1e5, torch.arange(30)
    z = reference.noise_from_ids(ids.numpy(), (20,), seed=3)
    expected = cost_reference.pairwise_cost(x, z)
    for precision in (None, "float64"):
        cost = pairwise_cost_from_ids(x, ids, seed=3, precision=precision, backend="triton")
        assert np.allclose(cost, expected, rtol=1e-7, atol=0)


# NumPy, in the interpreter, warns of what the kernels go on to mend.
overflows = pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
EXTREMES = [
    *itertools.product(["cublas", "triton"], ["sqeuclidean", "euclidean"], [False, True], [None], [40]),
    *itertools.product(["cublas"], ["sqeuclidean", "euclidean"], [False, True], ["float64"], [40]),
    *itertools.product(["cublas", "triton", "parts"], ["sqeuclidean"], [False, True], ["bfloat16"], [40]),
    *itertools.product(["parts"], ["sqeuclidean", "euclidean"], [False], [None], [40]),
    *itertools.product(["cublas"], ["sqeuclidean", "euclidean"], [False], [None, "float64"], [5]),
]


@overflows
@pytest.mark.parametrize(("route", "metric", "assignment_only", "precision", "d"), EXTREMES)
def test_finite_numbers_of_any_size_give_their_cost(
    monkeypatch, route, metric, assignment_only, precision, d
):
    """Rows whose squares float32 cannot hold, beside ordinary ones: NaN was what they gave."""
    monkeypatch.setattr(gpu, "takes_cublas", lambda *_: route == "cublas")
    monkeypatch.setattr(cost_split, "LEAST_DEPTH", 16 if route == "parts" else 1 << 30)
    rng = np.random.default_rng(2)
    scale = np.float32([1, 1e-30, 1e-22, 1e10, 3e18, 2.5e19, 1e25, 2e37, 1, 0])
    parts = [rng.standard_normal((10 * k, d)) * np.tile(scale, k)[:, None] for k in (2, 3)]
    x, z = (torch.from_numpy(part).float() for part in parts)
    x[10:], z[:10] = z[20:], -x[:10]
    x[3], z[3] = 3e38, 0  # twice the one is infinite, and that times the other NaN
    if precision == "bfloat16":
        x, z = x.bfloat16().float(), z.bfloat16().float()
    labels = (torch.arange(20) % 3, torch.arange(30) % 4)
    options = {"metric": metric, "labels": labels, "label_weight": 1.5, "assignment_only": assignment_only}
    for label_options in (options, options | {"labels": None}):
        expected = pairwise_cost(x, z, precision="float64", backend="cpu", **label_options).double()
        cost = pairwise_cost(
            x, z, precision=precision, backend="triton", out=poisoned(20, 30), **label_options
        )
        assert not cost.isnan().any()
        size = x.double().norm(dim=1)[:, None] + z.double().norm(dim=1)[None, :]
        allowed = 64 * 2.0**-24 * size * size  # of the squares
        if metric == "euclidean":
            bare = pairwise_cost(x, z, metric=metric, precision="float64", backend="cpu").double()
            allowed = torch.minimum(allowed.sqrt(), allowed / bare)
        wrong = (cost.double() - expected).abs() > allowed + 2e-7 * expected.abs() + 1e-42
        wrong &= ~(torch.isinf(cost) & (cost == expected))
        # Where float32 ends either side may have rounded over the edge.
        wrong &= ~(torch.isinf(cost) & (expected.abs() > 3.4e38))
        assert not wrong.any(), (cost[wrong][:4], expected[wrong][:4])


@overflows
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("assignment_only", [False, True])
def test_finite_numbers_of_any_size_from_ids(metric, assignment_only):
    x, ids = items(8, 40, 0, torch.float32), torch.arange(50)
    x *= torch.tensor([1, 1e-30, 1e10, 3e18, 2.5e19, 1e25, 1e36, 1e37])[:, None]
    z = torch.from_numpy(reference.noise_from_ids(ids.numpy(), (40,), seed=3))
    options = {"metric": metric, "assignment_only": assignment_only}
    expected = pairwise_cost(x, z, precision="float64", backend="cpu", **options)
    cost = pairwise_cost_from_ids(x, ids, seed=3, backend="triton", **options)
    assert not cost.isnan().any()
    scale = torch.maximum(x.norm(dim=1), torch.tensor(1.0))[:, None]
    scale = scale if assignment_only or metric == "euclidean" else scale.square()
    assert ((cost - expected).abs() <= 1e-5 * scale + 1e-5 * expected.abs())[~torch.isinf(expected)].all()
    assert torch.equal(torch.isinf(cost), torch.isinf(expected))


def test_from_ids_noise_is_fused_within_one_tile_of_rows_and_made_in_blocks_beyond(monkeypatch):
    assert 16 << 20 <= gpu.NOISE_BYTES <= 25 << 20  # what stays in the second-level cache
    made, fused = [], []
    fill, fuse = gpu.fill_noise, cost_kernels.cost_from_ids
    monkeypatch.setattr(gpu, "fill_noise", lambda ids, spec, z: made.append(z.shape) or fill(ids, spec, z))
    monkeypatch.setattr(cost_kernels, "cost_from_ids", lambda *a, **k: fused.append(a) or fuse(*a, **k))
    monkeypatch.setattr(gpu, "NOISE_BYTES", 4 * 40 * 30)
    rows = cost_kernels.TILES_FROM_IDS[80, "ieee"].rows
    ids, labels = torch.arange(70), torch.arange(70) % 3
    z = reference.noise_from_ids(ids.numpy(), (40,), seed=1)
    for n, drop in itertools.product((rows, rows + 1), (False, True)):
        x, options = items(n, 40, 0, torch.float32), {"label_weight": 2.0, "assignment_only": drop}
        options["labels"] = (torch.arange(n) % 2, labels)
        out = poisoned(n, 70)
        pairwise_cost_from_ids(x, ids, seed=1, backend="triton", out=out, **options)
        assert np.allclose(out, cost_reference.pairwise_cost(x, z, **options), rtol=1e-5, atol=1e-4)
        assert (len(fused), made) == ((1, []) if n == rows else (0, [(30, 40), (30, 40), (10, 40)]))
        made.clear(), fused.clear()


def test_the_product_is_cublas_fused_or_divided(monkeypatch):
    x = {d: torch.empty(1, d) for d in (64, 3072, 8192)}
    monkeypatch.setattr(gpu, "matmul_precision", lambda: "ieee")
    for name in ("ieee", "bf16"):
        assert gpu.takes_cublas(4096, 4096, x[64], name, True)  # nothing is left to fuse
        assert gpu.takes_cublas(512, 512, x[64], name, False)  # few tiles, and no depth to divide
        assert not gpu.is_split(512, 512, x[64], name)
        assert gpu.is_split(512, 512, x[3072], name)  # few tiles
        assert not gpu.is_split(4096, 4096, x[3072], name)
        assert not gpu.takes_cublas(4096, 4096, x[64], name, False)  # the pass would weigh
        assert gpu.takes_cublas(4096, 4096, x[8192], name, False)  # large
    assert gpu.takes_cublas(4096, 4096, x[3072], "ieee", False)
    assert not gpu.takes_cublas(4096, 4096, x[8192], "tf32", False)  # not what torch's switch says
    monkeypatch.setattr(gpu, "matmul_precision", lambda: "tf32")
    assert gpu.takes_cublas(4096, 4096, x[8192], "tf32", False)
    assert not gpu.takes_cublas(4096, 4096, x[8192], "ieee", True)


def test_the_switch_of_torch_is_read_and_never_turned():
    switch = torch.backends.cuda.matmul
    before = switch.fp32_precision
    try:
        for said, meant in (("none", "ieee"), ("ieee", "ieee"), ("tf32", "tf32")):
            switch.fp32_precision = said
            held = switch.fp32_precision
            assert gpu.matmul_precision() == meant
            pairwise_cost(torch.ones(3, 20), torch.ones(4, 20), backend="triton")
            assert switch.fp32_precision == held
    finally:
        switch.fp32_precision = before


def test_a_kernel_that_depends_on_program_order_is_caught():
    """The shuffle above is what finds such kernels: here is one, and it is found."""

    @triton.jit
    def last_program(p_out):
        tl.store(p_out, tl.program_id(0))

    out = torch.zeros(1, dtype=torch.int32)
    last_program[(64,)](out)
    assert out.item() != 63
