"""Noise format 1 in Triton: ids to normals, the bits of ``loomfast.noise.reference``.

Compiled with ``enable_fp_fusion=False`` and ``sqrt_rn``, so that the PTX holds ``add.rn``, ``mul.rn`` and
``sqrt.rn`` only. Prefixes: p_ pointer, o_ offset, m_ mask.
"""

from contextlib import nullcontext

import torch
import triton
import triton.language as tl

BLOCK = 256  # Philox blocks of a program: 1024 normals
NUM_WARPS = 4


@triton.jit
def philox4x32(c0, c1, c2, c3, seed):
    """Philox4x32-10 on uint32 counters; seed is an integer's two's complement. Four uint32 words."""
    seed = seed.to(tl.int64)
    k0 = seed.to(tl.uint32)
    k1 = (seed >> 32).to(tl.uint32)
    m0 = tl.full((), 0xD2511F53, tl.uint32)
    m1 = tl.full((), 0xCD9E8D57, tl.uint32)
    for _ in tl.static_range(10):
        high0 = tl.umulhi(c0, m0)
        high1 = tl.umulhi(c2, m1)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, c2 * m1, high0 ^ c3 ^ k1, c0 * m0
        k0 += tl.full((), 0x9E3779B9, tl.uint32)
        k1 += tl.full((), 0xBB67AE85, tl.uint32)
    return c0, c1, c2, c3


@triton.jit
def log_f32(u):
    """Natural logarithm of normal float32 u > 0 (Cephes, logf)."""
    t = u.to(tl.int32, bitcast=True) - 0x3F3504F3
    e = (t >> 23).to(tl.float32)
    f = ((t & 0x7FFFFF) + 0x3F3504F3).to(tl.float32, bitcast=True) - 1.0
    p = f * 7.0376836292e-2 + -1.1514610310e-1
    p = p * f + 1.1676998740e-1
    p = p * f + -1.2420140846e-1
    p = p * f + 1.4249322787e-1
    p = p * f + -1.6668057665e-1
    p = p * f + 2.0000714765e-1
    p = p * f + -2.4999993993e-1
    p = p * f + 3.3333331174e-1
    z = f * f
    tail = (f * z) * p + e * -2.12194440e-4
    tail = tail + z * -0.5
    return (f + tail) + e * 0.693359375


@triton.jit
def box_muller(x0, x1):
    """Two float32 normals of two uint32 words: r cos(theta), r sin(theta)."""
    u1 = (x0 >> 1).to(tl.int32, bitcast=True).to(tl.float32) * 4.656612873077393e-10 + 2.3283064365386963e-10
    r = tl.sqrt_rn(log_f32(u1) * -2.0)
    w = x1 + tl.full((), 1 << 29, tl.uint32)
    # 0x1.921fb6p-32, float32(pi/2) * 2^-32
    a = (x1 << 2).to(tl.int32, bitcast=True).to(tl.float32) * 3.6572952306899935e-10
    z = a * a
    s = z * -1.9515295891e-4 + 8.3321608736e-3
    s = s * z + -1.6666654611e-1
    s = s * (z * a) + a
    c = z * 2.443315711809948e-5 + -1.388731625493765e-3
    c = c * z + 4.166664568298827e-2
    c = (c * (z * z) + z * -0.5) + 1.0
    odd = ((w >> 30) & 1) != 0
    cosine = tl.where(odd, s, c)
    sine = tl.where(odd, c, s)
    cosine = tl.where(((w ^ (w << 1)) >> 31) != 0, -cosine, cosine)
    sine = tl.where((w >> 31) != 0, -sine, sine)
    return r * cosine, r * sine


@triton.jit
def normals(ids, block, seed, word3):
    """The four normals of each Philox block of each id. ids int64 and block int32 broadcast together."""
    ids, block = tl.broadcast(ids, block)
    c3 = tl.full(block.shape, 0, tl.uint32) + word3.to(tl.uint32)
    x0, x1, x2, x3 = philox4x32(block.to(tl.uint32), ids.to(tl.uint32), (ids >> 32).to(tl.uint32), c3, seed)
    n0, n1 = box_muller(x0, x1)
    n2, n3 = box_muller(x2, x3)
    return n0, n1, n2, n3


@triton.jit
def interleave4(n0, n1, n2, n3):
    """Four (..., k) as (..., k, 2, 2): reshaped to (..., 4 k), n0[0], n1[0], n2[0], n3[0], n0[1], ..."""
    return tl.join(tl.join(n0, n2), tl.join(n1, n3))


@triton.jit
def round_to(values, dtype: tl.constexpr):
    """float32 to dtype. bfloat16 to nearest even in integers, which the interpreter's own cast is not."""
    if dtype == tl.bfloat16:
        b = values.to(tl.uint32, bitcast=True)
        b = (b + 0x7FFF + ((b >> 16) & 1)) >> 16
        return b.to(tl.uint16).to(tl.bfloat16, bitcast=True)
    return values.to(dtype)


@triton.jit
def quotient(n, multiplier, shift):
    """int32 n below 2^31 over what `divisor` was asked for: a GPU has no instruction for a division."""
    n = n.to(tl.uint32)
    high = tl.umulhi(n, tl.full(n.shape, 0, tl.uint32) + multiplier.to(tl.uint32))
    return ((high + n) >> shift.to(tl.uint32)).to(tl.int32)


@triton.jit
def place(num_blocks, blocks_per_item, multiplier, shift, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    """The program's blocks, counted through all items so that small items fill it too: item, block, mask."""
    i_program = tl.program_id(0)
    if WIDE:
        o_flat = i_program.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
        o_item = o_flat // blocks_per_item
    else:
        o_flat = i_program * BLOCK + tl.arange(0, BLOCK)
        o_item = quotient(o_flat, multiplier, shift)
    return o_item.to(tl.int64), o_flat - o_item * blocks_per_item, o_flat < num_blocks


@triton.jit
def elements(offset, block, m_flat, item_size, WHOLE: tl.constexpr, BLOCK: tl.constexpr):
    """Where the elements of each block are, (BLOCK, 4), and a mask; ``offset`` is that of the block's item.

    WHOLE: items end with a whole block and begin at multiples of 4, which makes loads and stores of four.
    """
    begin = offset + 4 * block
    if WHOLE:
        o_element = tl.multiple_of(begin, 4)[:, None] + tl.arange(0, 4)[None, :]
        return o_element, m_flat[:, None] & tl.full((BLOCK, 4), True, tl.int1)
    o_within = (4 * block)[:, None] + tl.arange(0, 4)[None, :]
    return begin[:, None] + tl.arange(0, 4)[None, :], m_flat[:, None] & (o_within < item_size)


# Sizes change from batch to batch and are worth no kernel of their own.
SIZES = ["num_blocks", "blocks_per_item", "multiplier", "shift", "item_size"]


@triton.jit(do_not_specialize=[*SIZES, "stride_out", "seed", "word3"])
def noise_kernel(
    p_ids,
    p_out,
    num_blocks,
    blocks_per_item,
    multiplier,
    shift,
    item_size,
    stride_out,
    seed,
    word3,
    WHOLE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    o_item, block, m_flat = place(num_blocks, blocks_per_item, multiplier, shift, WIDE, BLOCK)
    ids = tl.load(p_ids + o_item, mask=m_flat, other=0)
    n0, n1, n2, n3 = normals(ids, block.to(tl.int32), seed, word3)
    values = interleave4(n0, n1, n2, n3).reshape(BLOCK, 4)
    o_out, m_out = elements(o_item * stride_out, block, m_flat, item_size, WHOLE, BLOCK)
    tl.store(p_out + o_out, round_to(values, p_out.dtype.element_ty), mask=m_out)


@triton.jit(do_not_specialize=[*SIZES, "seed", "word3"])
def interpolate_kernel(
    p_ids,
    p_x,
    p_t,
    p_point,
    p_velocity,
    num_blocks,
    blocks_per_item,
    multiplier,
    shift,
    item_size,
    seed,
    word3,
    WHOLE: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """point = t x + (1 - t) z and velocity = x - z, contiguous float32, z made here and kept nowhere."""
    o_item, block, m_flat = place(num_blocks, blocks_per_item, multiplier, shift, WIDE, BLOCK)
    ids = tl.load(p_ids + o_item, mask=m_flat, other=0)
    t = tl.load(p_t + o_item, mask=m_flat, other=0.0)[:, None]
    n0, n1, n2, n3 = normals(ids, block.to(tl.int32), seed, word3)
    z = interleave4(n0, n1, n2, n3).reshape(BLOCK, 4)
    o_out, m_out = elements(o_item * item_size, block, m_flat, item_size, WHOLE, BLOCK)
    x = tl.load(p_x + o_out, mask=m_out, other=0.0)
    tl.store(p_point + o_out, t * x + (1.0 - t) * z, mask=m_out)
    tl.store(p_velocity + o_out, x - z, mask=m_out)


@triton.jit(do_not_specialize=["n", "seed", "word3"])
def words_kernel(p_ids, p_out, n, seed, word3, BLOCK: tl.constexpr):
    """The first word of each id's block 0, an int64 in [0, 2^32): what the draws of a step are made of."""
    o_item = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ids = tl.load(p_ids + o_item, mask=o_item < n, other=0)
    zero = tl.full((BLOCK,), 0, tl.uint32)
    low, high, c3 = ids.to(tl.uint32), (ids >> 32).to(tl.uint32), zero + word3.to(tl.uint32)
    word, _, _, _ = philox4x32(zero, low, high, c3, seed)
    tl.store(p_out + o_item, word.to(tl.int64), mask=o_item < n)


def fill(ids, out, seed, word3):
    """Noise of int64 ids (n,) into out (n, ...): contiguous items at any item stride. seed: int64's value."""
    if out.numel():
        _launch(noise_kernel, ids, (out,), out[0].numel(), (out.stride(0), seed, word3), out.stride(0))


def fill_interpolated(ids, x, t, point, velocity, seed, word3):
    """t x + (1 - t) z and x - z of float32 x (n, ...), t (n,) and the noise z of ids; all contiguous."""
    if x.numel():
        _launch(interpolate_kernel, ids, (x, t, point, velocity), x[0].numel(), (seed, word3))


def fill_words(ids, out, seed, word3):
    """The first word of block 0 of int64 ids (n,) into int64 out (n,)."""
    if len(ids):
        with device_of(ids):
            words_kernel[(triton.cdiv(len(ids), BLOCK),)](ids, out, len(ids), seed, word3, BLOCK=BLOCK)


def device_of(tensor):
    """A context in which the tensor's GPU is the current one, for launches; nothing for other devices."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def divisor(value):
    """(multiplier, shift) with which `quotient` divides by 1 <= value < 2^31 (see csrc/noise/noise.cuh)."""
    shift = (value - 1).bit_length()
    return (((1 << shift) - value) << 32) // value + 1, shift


def _launch(kernel, ids, tensors, item_size, tail, stride=0):
    blocks = triton.cdiv(item_size, 4)
    num_blocks = len(ids) * blocks
    wide = num_blocks >= 1 << 30
    multiplier, shift = (0, 0) if wide else divisor(blocks)
    # As an int32, which Triton takes it for where it fits one.
    multiplier -= (multiplier >> 31) << 32
    options = {
        "WHOLE": item_size % 4 == 0 and stride % 4 == 0,
        "WIDE": wide,
        "BLOCK": BLOCK,
        "num_warps": NUM_WARPS,
        "enable_fp_fusion": False,
    }
    with device_of(ids):
        kernel[(triton.cdiv(num_blocks, BLOCK),)](
            ids, *tensors, num_blocks, blocks, multiplier, shift, item_size, *tail, **options
        )
