"""Pairwise cost in Triton: a fused product of rows of x and rows of z, or of noise that is never stored.

Tiles come from a table, one per architecture and precision; ``tune`` times the candidates where a GPU exists.
Prefixes: p_ pointer, o_ offset, m_ mask.
"""

from functools import partial

import torch
import triton
import triton.language as tl
from loomfast.kernels.cost_passes import (
    Tile,
    finish,
    finished,
    first_of_program,
    label_options,
    launch,
    norms,
    store_cost,
)
from loomfast.kernels.noise import interleave4, normals, round_to

# (least compute capability, precision) -> tile, the newest that fits. None spills (tests/test_triton.py).
TILES = {
    (75, "ieee"): Tile(64, 64, 16, 4, 2),
    (75, "bf16"): Tile(64, 64, 32, 8, 2),
    (80, "ieee"): Tile(64, 64, 32, 4, 3),
    (80, "tf32"): Tile(128, 64, 32, 4, 3),
    (80, "bf16"): Tile(128, 128, 32, 8, 3),
    (90, "ieee"): Tile(64, 64, 32, 8, 3),
    (100, "ieee"): Tile(64, 64, 16, 4, 3),  # 32 deep spills with Triton 3.6
    (120, "ieee"): Tile(64, 64, 32, 8, 3),
    (90, "tf32"): Tile(128, 128, 32, 8, 3),
    (90, "bf16"): Tile(128, 128, 64, 8, 3),
    (120, "tf32"): Tile(128, 64, 32, 4, 3),
    (120, "bf16"): Tile(128, 128, 32, 8, 3),
}
# The noise needs registers and wants its tile of z shared by many rows of x. On 100, Triton 3.7 turns an
# "ieee" product of 64 rows whose operand it made itself into tf32; 32 rows keep it float32.
TILES_FROM_IDS = {
    (75, "ieee"): Tile(64, 32, 16, 4, 1),
    (75, "bf16"): Tile(64, 32, 32, 4, 1),
    (80, "ieee"): Tile(64, 32, 32, 4, 2),
    (80, "tf32"): Tile(128, 32, 32, 4, 2),
    (80, "bf16"): Tile(128, 32, 32, 4, 2),
    (100, "ieee"): Tile(32, 64, 32, 4, 2),
    (120, "ieee"): Tile(64, 32, 32, 4, 2),
}
# Triton compiles a kernel anew for an integer that is 1, or a multiple of 16, unless it is told not to: sizes
# that change from batch to batch are not looked at. The length and the strides of padded rows are always
# multiples of 16, which makes their loads whole vectors; the stride of the result may be.


@triton.jit(do_not_specialize=["n", "m", "item_size", "seed", "word3", "label_weight"])
def cost_kernel(
    p_x,
    p_z,  # the rows z, or their int64 ids
    p_norms,  # float64: those of x, then those of z
    p_labels_x,
    p_labels_z,
    p_out,
    n,
    m,
    d,  # a multiple of 16: rows are padded with zeros
    item_size,
    stride_x,
    stride_z,
    stride_out,
    label_weight,
    seed,
    word3,
    FROM_IDS: tl.constexpr,  # rows of x longer than 2^60 then come divided by 2^64
    NORMS: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    LABELS: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter multiplies bfloat16 as if it were integers
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    # The tile's origin is int64; within the tile offsets are int32, which halves the registers of pointers.
    row, column = first_of_program(n, m, ROWS, COLUMNS, GROUP)
    o_row, o_column, o_depth = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    m_row, m_column = (o_row < n - row)[:, None], (o_column < m - column)[:, None]
    p_x += row * stride_x
    o_x = o_row[:, None] * stride_x + o_depth[None, :]
    if FROM_IDS:
        ids = tl.load(p_z + column + o_column[:, None], mask=m_column, other=0)
        o_block = tl.arange(0, DEPTH // 4)[None, :]
    else:
        p_z += column * stride_z
        o_z = o_column[:, None] * stride_z + o_depth[None, :]
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    norm_z = tl.zeros((COLUMNS,), tl.float32)
    for k in range(0, d, DEPTH):
        m_depth = (o_depth < d - k)[None, :]
        x = tl.load(p_x + k + o_x, mask=m_row & m_depth, other=0.0)
        if FROM_IDS:
            n0, n1, n2, n3 = normals(ids, o_block + k // 4, seed, word3)
            z = interleave4(n0, n1, n2, n3).reshape(COLUMNS, DEPTH)
            z = round_to(tl.where((o_depth < item_size - k)[None, :], z, 0.0), x.dtype)
            if NORMS:  # the noise is made nowhere else
                norm_z += tl.sum(z.to(tl.float32) * z.to(tl.float32), 1)
        else:
            z = tl.load(p_z + k + o_z, mask=m_column & m_depth, other=0.0)
        if WIDEN:
            x, z = x.to(tl.float32), z.to(tl.float32)
        product = tl.dot(x, tl.trans(z), product, input_precision=PRECISION)
    cost = product * -2.0
    norm_x = tl.zeros((ROWS,), tl.float64)
    if NORMS or FROM_IDS:
        norm_x = tl.load(p_norms + row + o_row, mask=o_row < n - row, other=0.0)
    if NORMS and not FROM_IDS:
        norm_z = tl.load(p_norms + n + column + o_column, mask=o_column < m - column, other=0.0)
    if FROM_IDS:
        cost *= tl.where(norm_x > 1.329227995784916e36, 1.8446744073709552e19, 1.0).to(tl.float32)[:, None]
    cost = finished(cost, norm_x, norm_z, NORMS, EUCLIDEAN)
    if FROM_IDS and NORMS:  # noise is nothing beside a row whose square float32 does not hold
        far = tl.sqrt(norm_x).to(tl.float32) if EUCLIDEAN else norm_x.to(tl.float32)
        cost = tl.where((norm_x.to(tl.float32) == float("inf"))[:, None], far[:, None], cost)
    mask = (o_row < n - row)[:, None] & (o_column < m - column)[None, :]
    store_cost(
        cost,
        mask,
        p_out,
        p_labels_x,
        p_labels_z,
        label_weight,
        row,
        column,
        n,
        m,
        stride_out,
        LABELS,
        ROWS,
        COLUMNS,
    )


def tile_for(capability, precision, from_ids=False):
    """The table's tile for a compute capability such as 90: of the newest architecture that is no newer."""
    table = TILES_FROM_IDS if from_ids else TILES
    rows = [least for least, name in table if name == precision and least <= capability]
    if not rows:
        raise RuntimeError(f"precision {precision!r} has no Triton tile for compute capability {capability}")
    return table[max(rows), precision]


def cost(x, z, out, *, metric, labels, label_weight, drop_norms, precision, lengths=None, tile=None):
    """Pairwise cost of x (n, d) and z (m, d), of one dtype, into out (n, m) float32 with contiguous rows.

    precision: "ieee", "tf32" or "bf16" (and then x and z are bfloat16). labels: a pair of tensors or None.
    lengths: ``norms(x, z)`` where they are known.
    """
    tile = tile or tile_for(capability(x), precision)
    x, z = padded(x), padded(z)
    lengths = norms(x, z) if lengths is None else lengths
    sizes = (x.shape[1], x.shape[1], x.stride(0), z.stride(0))
    options = _product_options(x, False, drop_norms, precision, tile)
    options |= label_options(metric, labels)
    arguments = (x, z, lengths, *(labels or (out, out)), out, *out.shape, *sizes, out.stride(0))
    launch(cost_kernel, (*arguments, label_weight, 0, 0), x, out, tile, options)
    options = {"metric": metric, "labels": labels, "label_weight": label_weight, "drop_norms": drop_norms}
    finish(out, x, z, lengths, out, repair=True, **options)


def cost_from_ids(
    x, ids, out, *, seed, word3, metric, labels, label_weight, drop_norms, precision, tile=None
):
    """The same against the noise of int64 ids (m,), rounded to x's dtype. seed: int64's value."""
    tile = tile or tile_for(capability(x), precision, from_ids=True)
    lengths = norms(x if x.stride(1) == 1 else x.contiguous(), x[:0])
    # What `cost_kernel` multiplies by 2^64 again: no sum of products with normals is beyond float32.
    far = (lengths > 2.0**120)[:, None]
    item_size, x = x.shape[1], padded(torch.where(far, x * 2.0**-64, x))
    sizes = (x.shape[1], item_size, x.stride(0), 0)
    options = _product_options(x, True, drop_norms, precision, tile)
    options |= label_options(metric, labels)
    arguments = (x, ids, lengths, *(labels or (out, out)), out, *out.shape, *sizes, out.stride(0))
    launch(cost_kernel, (*arguments, label_weight, seed, word3), x, out, tile, options)


def tune(n, m, d, *, precision="bf16", device="cuda"):
    """Times every candidate tile on a GPU: a list of (milliseconds, Tile), the best first."""
    x, z = (torch.randn(size, d, device=device) for size in (n, m))
    if precision == "bf16":
        x, z = x.bfloat16(), z.bfloat16()
    out = torch.empty(n, m, device=device)
    options = {"metric": "sqeuclidean", "labels": None, "label_weight": 0.0, "drop_norms": True}
    candidates = sorted({tile for (_, name), tile in TILES.items() if name == precision})
    runs = [partial(cost, x, z, out, precision=precision, tile=tile, **options) for tile in candidates]
    return sorted((triton.testing.do_bench(run), tile) for run, tile in zip(runs, candidates, strict=True))


def padded(x):
    """Rows a multiple of 16 long, contiguous and aligned, so that loads are whole vectors."""
    n, d = x.shape
    if d % 16 == 0 and x.stride(1) == 1 and x.stride(0) % 16 == 0 and x.data_ptr() % 16 == 0:
        return x
    padded = x.new_zeros((n, -(-d // 16) * 16))
    padded[:, :d] = x
    return padded


def _product_options(x, from_ids, drop_norms, precision, tile):
    return {
        "FROM_IDS": from_ids,
        "NORMS": not drop_norms,
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "WIDEN": not x.is_cuda,
        "DEPTH": tile.depth,
        "enable_fp_fusion": not from_ids,
    }


def capability(x):
    """Ten times the compute capability of the GPU that x is on; on the CPU what the interpreter acts as."""
    major, minor = torch.cuda.get_device_capability(x.device) if x.is_cuda else (8, 0)
    return 10 * major + minor
