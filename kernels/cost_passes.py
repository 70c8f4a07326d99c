"""What precedes and follows the product of a pairwise cost: norms, and the pass that makes costs of it.

``finish_kernel`` turns a product that is stored, of cuBLAS say, into costs, and computes anew what the
product's type could not hold; ``norms_kernel`` is for it and for the fused product of
``loomfast.kernels.cost``; ``direct_kernel`` takes differences in few dimensions. Prefixes: p_ pointer, o_
offset, i_ index, m_ mask.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from loomfast.kernels.noise import device_of


class Tile(NamedTuple):
    """Rows of x, rows of z and depth of a program's tile; its warps and pipeline stages."""

    rows: int
    columns: int
    depth: int
    num_warps: int
    num_stages: int


DIRECT_TILE = Tile(32, 128, 1, 4, 1)
FINISH_TILE = Tile(32, 64, 1, 4, 1)
FINISH_PARTS_TILE = Tile(8, 64, 1, 4, 1)  # there are few costs, and many numbers of each
NORM_BLOCK = 1024  # numbers of a row that a program adds up at a time
NORM_WARPS = 4
# A product of rows of lengths a and b is at most a b: its type holds it, and all sums on the way, up to MOST.
# Below LEAST its squares may be lost among what the type has no digits for. By the product's type. Squares
# whose sum is beyond float32 may leave more than it holds when they cancel: differences are taken of those.
MOST = {torch.float32: 2.0**125, torch.float64: 2.0**1020}
LEAST = {torch.float32: 2.0**-96, torch.float64: 2.0**-900}
GROUP = 8  # tile rows that share columns of z while they are in the second-level cache


@triton.jit
def first_of_program(n, m, ROWS: tl.constexpr, COLUMNS: tl.constexpr, GROUP: tl.constexpr):
    """The program's first row and column, int64: groups of GROUP tile rows at a time."""
    num_rows, num_columns = tl.cdiv(n, ROWS), tl.cdiv(m, COLUMNS)
    i_program = tl.program_id(0)
    first = i_program // (GROUP * num_columns) * GROUP
    height = tl.minimum(num_rows - first, GROUP)
    i_row = first + i_program % (GROUP * num_columns) % height
    i_column = i_program % (GROUP * num_columns) // height
    return i_row.to(tl.int64) * ROWS, i_column.to(tl.int64) * COLUMNS


@triton.jit
def finished(product, norm_x, norm_z, NORMS: tl.constexpr, EUCLIDEAN: tl.constexpr):
    """-2 x.z of a tile as its float32 cost: norms added and the root taken in the product's type."""
    cost = product
    if NORMS:
        cost += norm_x.to(product.dtype)[:, None] + norm_z.to(product.dtype)[None, :]
        cost = tl.where(cost < 0, 0.0, cost)  # keeps NaN, as a maximum would not
    if EUCLIDEAN:
        cost = tl.sqrt_rn(cost) if product.dtype == tl.float32 else tl.sqrt(cost)
    return cost.to(tl.float32)


@triton.jit
def store_cost(
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
    stride,
    LABELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The label term and the store of the float32 tile that begins at (row, column), where ``mask`` is."""
    o_row, o_column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    if LABELS:
        label_x = tl.load(p_labels_x + row + o_row, mask=o_row < n - row, other=0)
        label_z = tl.load(p_labels_z + column + o_column, mask=o_column < m - column, other=0)
        cost += tl.where(label_x[:, None] != label_z[None, :], label_weight, 0.0)
    p_out += row * stride + column
    tl.store(p_out + (o_row[:, None] * stride + o_column[None, :]), cost, mask=mask)


@triton.jit(do_not_specialize=["n", "d", "stride_x", "stride_z"])
def norms_kernel(p_x, p_z, p_out, n, d, stride_x, stride_z, BLOCK: tl.constexpr):
    """A program a row: the sum of squares of row i of x, or of row i - n of z, in float64."""
    i_row = tl.program_id(0).to(tl.int64)
    if i_row < n:  # noqa: SIM108  (Triton has no conditional expression of pointers)
        p_row = p_x + i_row * stride_x
    else:
        p_row = p_z + (i_row - n) * stride_z
    total = tl.zeros((BLOCK,), tl.float64)
    for k in range(0, d, BLOCK):
        o_depth = k + tl.arange(0, BLOCK)
        values = tl.load(p_row + o_depth, mask=o_depth < d, other=0.0).to(tl.float64)
        total += values * values
    tl.store(p_out + i_row, tl.sum(total, 0))


@triton.jit
def costs_of_rows(
    p_x,
    p_z,
    norm_x,
    norm_z,
    row,
    column,
    n,
    m,
    d,
    stride_x,
    stride_z,
    NORMS: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """The float32 costs of a tile from x and z themselves, in float64: whatever float32 holds is right."""
    o_row, o_column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    total = tl.zeros((ROWS, COLUMNS), tl.float64)
    # Products of float64 rows too long for their squares are taken of rows divided by 2^600.
    scale_x = tl.where(norm_x == float("inf"), 2.409919865102884e-181, 1.0)
    scale_z = tl.where(norm_z == float("inf"), 2.409919865102884e-181, 1.0)
    for k in range(d):
        x = tl.load(p_x + k + (row + o_row) * stride_x, mask=o_row < n - row, other=0.0).to(tl.float64)
        z = tl.load(p_z + k + (column + o_column) * stride_z, mask=o_column < m - column, other=0.0)
        if NORMS:
            difference = x[:, None] - z.to(tl.float64)[None, :]
            total += difference * difference
        else:
            total += (x * scale_x)[:, None] * (z.to(tl.float64) * scale_z)[None, :]
    if NORMS:
        if EUCLIDEAN:
            total = tl.sqrt(total)
    else:
        total = -2.0 * total / scale_x[:, None] / scale_z[None, :]
    return total.to(tl.float32)


@triton.jit
def added(pointers, mask, parts, stride, SPLIT: tl.constexpr):
    """The sum of ``parts`` loads, ``stride`` apart, in their order; of one unless SPLIT."""
    total = tl.load(pointers, mask=mask, other=0.0)
    if SPLIT:
        for _ in tl.range(1, parts, loop_unroll_factor=4):  # four loads on their way at a time
            pointers += stride
            total += tl.load(pointers, mask=mask, other=0.0)
    return total


@triton.jit(
    do_not_specialize=[
        "n",
        "m",
        "d",
        "stride_x",
        "stride_z",
        "stride_product",
        "parts",
        "stride_part",
        "label_weight",
    ]
)
def finish_kernel(
    p_product,  # -2 x.z, float32 or float64, its parts ``stride_part`` apart; may be p_out
    p_x,
    p_z,
    p_norms,  # float64: those of x, then those of z, by parts; not looked at with REPAIR and without NORMS
    p_labels_x,
    p_labels_z,
    p_out,
    n,
    m,
    d,
    stride_x,
    stride_z,
    stride_product,
    parts,
    stride_part,
    stride_out,
    label_weight,
    MOST: tl.constexpr,  # an argument would be float32
    LEAST: tl.constexpr,
    REPAIR: tl.constexpr,  # out holds costs already: nothing but what was lost is touched
    SPLIT: tl.constexpr,  # whether there are several parts, which add up to the product
    NORMS: tl.constexpr,
    EUCLIDEAN: tl.constexpr,
    LABELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
):
    row, column = first_of_program(n, m, ROWS, COLUMNS, GROUP)
    o_row, o_column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    p_product += row * stride_product + column
    if REPAIR and not NORMS:
        # What a product could not hold on the way it ends without, as an infinity or NaN.
        mask = (o_row < n - row)[:, None] & (o_column < m - column)[None, :]
        o_product = o_row[:, None] * stride_product + o_column[None, :]
        lost = ~(tl.abs(tl.load(p_product + o_product, mask=mask, other=0.0)) < float("inf"))
        norm_x = tl.zeros((1,), tl.float64)
        norm_z = norm_x
    else:
        norm_x = added(p_norms + row + o_row, o_row < n - row, parts, n + m, SPLIT)
        norm_z = added(p_norms + n + column + o_column, o_column < m - column, parts, n + m, SPLIT)
        length_x, length_z = tl.sqrt(norm_x)[:, None], tl.sqrt(norm_z)[None, :]
        # A row that is too long by itself may have lost numbers before it met one of zeros.
        lost = (length_x * length_z > MOST) | (length_x > MOST) | (length_z > MOST)
        if NORMS:
            both = norm_x[:, None] + norm_z[None, :]
            lost = lost | (both > 4.253529586511731e37) | ((both < LEAST) & (both > 0))  # 2^125
    some = tl.max(tl.max(lost.to(tl.int32), 1), 0) > 0
    if not REPAIR or some:
        mask = (o_row < n - row)[:, None] & (o_column < m - column)[None, :]
        o_product = o_row[:, None] * stride_product + o_column[None, :]
        product = added(p_product + o_product, mask, parts, stride_part, SPLIT)
        cost = product.to(tl.float32) if REPAIR else finished(product, norm_x, norm_z, NORMS, EUCLIDEAN)
        if some:
            whole = costs_of_rows(
                p_x,
                p_z,
                norm_x,
                norm_z,
                row,
                column,
                n,
                m,
                d,
                stride_x,
                stride_z,
                NORMS,
                EUCLIDEAN,
                ROWS,
                COLUMNS,
            )
            cost = tl.where(lost, whole, cost)
            if REPAIR:
                mask = mask & lost
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


@triton.jit(do_not_specialize=["n", "m", "d", "stride_x", "stride_z", "label_weight"])
def direct_kernel(
    p_x,
    p_z,
    p_labels_x,
    p_labels_z,
    p_out,
    n,
    m,
    d,
    stride_x,
    stride_z,
    stride_out,
    label_weight,
    DOUBLE: tl.constexpr,  # x and z are float64, and so are their differences
    EUCLIDEAN: tl.constexpr,
    LABELS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    GROUP: tl.constexpr,
):
    row, column = first_of_program(n, m, ROWS, COLUMNS, GROUP)
    o_row, o_column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    mask = (o_row < n - row)[:, None] & (o_column < m - column)[None, :]
    none = tl.zeros((1,), tl.float64)
    if DOUBLE:
        cost = costs_of_rows(
            p_x,
            p_z,
            none,
            none,
            row,
            column,
            n,
            m,
            d,
            stride_x,
            stride_z,
            True,
            EUCLIDEAN,
            ROWS,
            COLUMNS,
        )
    else:
        total = tl.zeros((ROWS, COLUMNS), tl.float32)
        for k in range(d):
            x = tl.load(p_x + k + (row + o_row) * stride_x, mask=o_row < n - row, other=0.0)
            z = tl.load(p_z + k + (column + o_column) * stride_z, mask=o_column < m - column, other=0.0)
            difference = x[:, None] - z[None, :]
            total += difference * difference
        lost = mask & ((total == float("inf")) | (total < 1.2621774483536189e-29))  # 2^-96
        cost = tl.sqrt_rn(total) if EUCLIDEAN else total
        if tl.max(tl.max(lost.to(tl.int32), 1), 0) > 0:
            whole = costs_of_rows(
                p_x,
                p_z,
                none,
                none,
                row,
                column,
                n,
                m,
                d,
                stride_x,
                stride_z,
                True,
                EUCLIDEAN,
                ROWS,
                COLUMNS,
            )
            cost = tl.where(lost, whole, cost)
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


def norms(x, z):
    """Sums of squares of the rows of x (n, d) and z (m, d), float64 (n + m,); contiguous rows."""
    out = torch.empty(len(x) + len(z), dtype=torch.float64, device=x.device)
    if len(out):
        with device_of(x):
            norms_kernel[(len(out),)](
                *(x, z, out, len(x), x.shape[1], x.stride(0), z.stride(0)),
                BLOCK=NORM_BLOCK,
                num_warps=NORM_WARPS,
            )
    return out


def finish(product, x, z, lengths, out, *, metric, labels, label_weight, drop_norms, repair=False):
    """The costs of -2 x z^T, float32 or float64 (n, m), into out (n, m) float32: norms, root, labels.

    What the product's type could not hold is computed anew from x and z. Product and out may be one, and
    their rows are contiguous; lengths are ``norms(x, z)``, or None to repair float32 products without norms.
    A contiguous product (parts, n, m) is the sum of its parts, and so are then lengths (parts, n + m).

    Args:
        repair: ``out`` holds the costs, and only what was lost is to be mended.
    """
    options = {"MOST": MOST[product.dtype], "LEAST": LEAST[product.dtype]}
    split = product.ndim == 3
    options |= {"REPAIR": repair, "SPLIT": split, "NORMS": not drop_norms, **label_options(metric, labels)}
    parts = (len(product), product.stride(0)) if split else (1, 0)
    sizes = (*out.shape, x.shape[1], x.stride(0), z.stride(0), product.stride(-2), *parts, out.stride(0))
    lengths = out if lengths is None else lengths
    arguments = (product, x, z, lengths, *(labels or (out, out)), out, *sizes, label_weight)
    tile = FINISH_PARTS_TILE if split else FINISH_TILE
    launch(finish_kernel, arguments, x, out, tile, options)


def direct(x, z, out, *, metric, labels, label_weight, tile=DIRECT_TILE):
    """The same as ``cost`` by direct differences, for few dimensions, of float32 or float64 x and z."""
    x, z = (item if item.stride(1) == 1 else item.contiguous() for item in (x, z))
    sizes = (x.shape[1], x.stride(0), z.stride(0), out.stride(0))
    options = {"DOUBLE": x.dtype is torch.float64, **label_options(metric, labels)}
    arguments = (x, z, *(labels or (out, out)), out, *out.shape, *sizes, label_weight)
    launch(direct_kernel, arguments, x, out, tile, options)


def label_options(metric, labels):
    return {"EUCLIDEAN": metric == "euclidean", "LABELS": labels is not None}


def launch(kernel, arguments, x, out, tile, options):
    """A program a tile of ``out``."""
    n, m = out.shape
    if not n or not m:
        return
    check_lengths(x.stride(0), out.stride(0), tile)
    grid = (triton.cdiv(n, tile.rows) * triton.cdiv(m, tile.columns),)
    shape = {"ROWS": tile.rows, "COLUMNS": tile.columns, "GROUP": GROUP}
    with device_of(x):
        kernel[grid](*arguments, **shape, num_warps=tile.num_warps, num_stages=tile.num_stages, **options)


def check_lengths(stride_x, stride_out, tile):
    longest, most = (1 << 31) // max(tile.rows, tile.columns), max(stride_x, stride_out)
    if most >= longest:
        raise ValueError(
            f"rows {most} numbers apart are too long for the Triton kernel, which takes {longest}"
        )
