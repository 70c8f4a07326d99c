"""A cost of so few tiles that a GPU would stand idle: the depth of its product is divided among programs too.

Each program multiplies a tile of rows of x and rows of z over its part of the depth, and stores that;
``cost_passes.finish`` adds the parts in their order and makes costs of them. The programs at two edges add up
the squares of their rows on the way: two launches in all, as many as cuBLAS's own divided products take.
"""

import torch
import triton
import triton.language as tl
from loomfast.kernels.cost import capability, padded, tile_for
from loomfast.kernels.cost_passes import GROUP, check_lengths, finish, first_of_program
from loomfast.kernels.noise import device_of

LEAST_DEPTH = 128  # of a part: a shorter one is stored and read in more time than it saves
LEAST_PROGRAMS = 132  # the multiprocessors of an H100, which one program each keeps busy


@triton.jit
def squares(p_rows, m_row, begin, end, d, stride, ROWS: tl.constexpr, DEPTH: tl.constexpr):
    """The sums of squares of ROWS rows from ``begin`` to ``end``, of d numbers at most, in float64."""
    o_row, o_depth = tl.arange(0, ROWS), tl.arange(0, DEPTH)
    total = tl.zeros((ROWS, DEPTH), tl.float64)
    for k in tl.range(begin, end, DEPTH, num_stages=1):
        mask = m_row[:, None] & (o_depth < d - k)[None, :]
        values = tl.load(p_rows + k + (o_row[:, None] * stride + o_depth[None, :]), mask=mask, other=0.0)
        total += values.to(tl.float64) * values.to(tl.float64)
    return tl.sum(total, 1)


@triton.jit(do_not_specialize=["n", "m", "part_blocks"])
def split_kernel(
    p_x,
    p_z,
    p_norms,  # float64 (parts, n + m): of the parts of x's rows, then of z's
    p_out,  # float32 (parts, n, m), -2 x.z of each part
    n,
    m,
    d,  # a multiple of 16: rows are padded with zeros
    part_blocks,  # times DEPTH is the depth of a part
    stride_x,
    stride_z,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,  # the interpreter multiplies bfloat16 as if it were integers
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    SQUARES_DEPTH: tl.constexpr,
    GROUP: tl.constexpr,
):
    """A program a tile and a part of the depth, which is the grid's second axis."""
    row, column = first_of_program(n, m, ROWS, COLUMNS, GROUP)
    i_part = tl.program_id(1)
    begin = i_part * part_blocks * DEPTH
    end = tl.minimum(begin + part_blocks * DEPTH, d)
    o_row, o_column, o_depth = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    m_row, m_column = o_row < n - row, o_column < m - column
    p_x += row * stride_x
    p_z += column * stride_z
    p_norms += i_part * (n + m)
    if column == 0:
        of_x = squares(p_x, m_row, begin, end, d, stride_x, ROWS, SQUARES_DEPTH)
        tl.store(p_norms + row + o_row, of_x, mask=m_row)
    if row == 0:
        of_z = squares(p_z, m_column, begin, end, d, stride_z, COLUMNS, SQUARES_DEPTH)
        tl.store(p_norms + n + column + o_column, of_z, mask=m_column)
    o_x = o_row[:, None] * stride_x + o_depth[None, :]
    o_z = o_column[:, None] * stride_z + o_depth[None, :]
    product = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in range(begin, end, DEPTH):
        m_depth = (o_depth < d - k)[None, :]
        x = tl.load(p_x + k + o_x, mask=m_row[:, None] & m_depth, other=0.0)
        z = tl.load(p_z + k + o_z, mask=m_column[:, None] & m_depth, other=0.0)
        if WIDEN:
            x, z = x.to(tl.float32), z.to(tl.float32)
        product = tl.dot(x, tl.trans(z), product, input_precision=PRECISION)
    # All parts together have few numbers: as many programs of a tile each would fit side by side.
    p_out += i_part * n * m + row * m + column
    o_out = o_row[:, None] * m + o_column[None, :]
    tl.store(p_out + o_out, product * -2.0, mask=m_row[:, None] & m_column[None, :])


def parts_of(n, m, d, tile):
    """(How many parts the depth is divided into, the depth of one): one part if that is of no use."""
    tiles = triton.cdiv(n, tile.rows) * triton.cdiv(m, tile.columns)
    most = max(min(LEAST_PROGRAMS // tiles, d // LEAST_DEPTH), 1) if tiles else 1
    depth = triton.cdiv(triton.cdiv(d, most), tile.depth) * tile.depth
    return triton.cdiv(d, depth), depth


def cost(x, z, out, *, metric, labels, label_weight, drop_norms, precision, tile=None):
    """`loomfast.kernels.cost.cost` by parts of the depth: float32 ``out`` (n, m) with contiguous rows."""
    tile = tile or tile_for(capability(x), precision)
    (n, m), x, z = out.shape, padded(x), padded(z)
    d = x.shape[1]
    parts, depth = parts_of(n, m, d, tile)
    check_lengths(max(x.stride(0), z.stride(0)), m, tile)
    product = torch.empty((parts, n, m), dtype=torch.float32, device=x.device)
    lengths = torch.empty((parts, n + m), dtype=torch.float64, device=x.device)
    grid = (triton.cdiv(n, tile.rows) * triton.cdiv(m, tile.columns), parts)
    with device_of(x):
        split_kernel[grid](
            *(x, z, lengths, product, n, m, d, depth // tile.depth, x.stride(0), z.stride(0)),
            **split_options(precision, tile),
            WIDEN=not x.is_cuda,
            num_warps=tile.num_warps,
            num_stages=tile.num_stages,
        )
    options = {"metric": metric, "labels": labels, "label_weight": label_weight, "drop_norms": drop_norms}
    finish(product, x, z, lengths, out, **options)


def split_options(precision, tile):
    """The constants of `split_kernel` that say what is computed, and by which tile."""
    return {
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "SQUARES_DEPTH": min(tile.depth, 8),  # float64 numbers need twice the registers
        "GROUP": GROUP,
    }
