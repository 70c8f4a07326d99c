"""Noise format 1 in NumPy: the obvious version, whose float32 bits every other backend repeats.

Philox4x32-10 is the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
easy as 1, 2, 3" (SC 2011). Normals are Box and Muller's (1958), computed only with operations that IEEE 754
rounds exactly (float32 add, multiply, square root; integers), never with a fused multiply-add, so that any
machine that follows the standard returns the same bits. The format is frozen: a change of one bit is a new
format.
"""

import numpy as np

from loomfast.noise.format import STEP_BIT

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)

_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_F = np.float32

# log(1 + f) = f - f^2/2 + f^3 * P(f) for 1 + f in [sqrt(1/2), sqrt(2)), and ln 2 in two parts (Cephes, logf).
LOG_POLY = tuple(
    _F(c)
    for c in (
        7.0376836292e-2,
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    )
)
LN2_HIGH, LN2_LOW = _F(0.693359375), _F(-2.12194440e-4)
# sin and cos on [-pi/4, pi/4] (Cephes, sinf and cosf).
SIN_POLY = (_F(-1.9515295891e-4), _F(8.3321608736e-3), _F(-1.6666654611e-1))
COS_POLY = (_F(2.443315711809948e-5), _F(-1.388731625493765e-3), _F(4.166664568298827e-2))
ANGLE_UNIT = _F(np.pi / 2 * 2.0**-32)
SQRT_HALF_BITS = np.int32(0x3F3504F3)


def philox4x32(counter, key):
    """Philox4x32-10: four uint32 arrays from a counter of four arrays and a key of two integers."""
    c = [np.asarray(word, np.uint64) & _LOW for word in np.broadcast_arrays(*counter)]
    k = [int(word) & 0xFFFFFFFF for word in key]
    m0, m1 = (np.uint64(m) for m in MULTIPLIERS)
    for _ in range(10):
        p0, p1 = m0 * c[0], m1 * c[2]
        c = [(p1 >> _32) ^ c[1] ^ np.uint64(k[0]), p1 & _LOW, (p0 >> _32) ^ c[3] ^ np.uint64(k[1]), p0 & _LOW]
        k = [(word + weyl) & 0xFFFFFFFF for word, weyl in zip(k, WEYL, strict=True)]
    return [word.astype(np.uint32) for word in c]


def uniforms(x0, x1):
    """The exact quantities one Box-Muller pair is a function of: (u1, q, y).

    u1 float32 in [2^-32, 1]; the angle is pi/2 * (q + y * 2^-32) with q in 0..3 and y int32 in [-2^31, 2^31).
    """
    u1 = (x0 >> np.uint32(1)).astype(np.int32).astype(_F) * _F(2.0**-31) + _F(2.0**-32)
    q = ((x1 + np.uint32(1 << 29)) >> np.uint32(30)).astype(np.int32)
    y = (x1 << np.uint32(2)).view(np.int32)
    return u1, q, y


def log_f32(u):
    """Natural logarithm of float32 u > 0 (normal numbers), in float32 operations."""
    t = u.view(np.int32) - SQRT_HALF_BITS
    e = (t >> np.int32(23)).astype(_F)
    f = ((t & np.int32(0x7FFFFF)) + SQRT_HALF_BITS).view(_F) - _F(1)
    p = np.full_like(f, LOG_POLY[0])
    for c in LOG_POLY[1:]:
        p = p * f + c
    z = f * f
    tail = (f * z) * p + e * LN2_LOW
    tail = tail - _F(0.5) * z
    return (f + tail) + e * LN2_HIGH


def box_muller(x0, x1):
    """Two float32 standard normals from two uint32 words: r cos(theta), r sin(theta)."""
    u1, q, y = uniforms(np.asarray(x0, np.uint32), np.asarray(x1, np.uint32))
    r = np.sqrt(_F(-2) * log_f32(u1))
    a = y.astype(_F) * ANGLE_UNIT
    z = a * a
    s = ((SIN_POLY[0] * z + SIN_POLY[1]) * z + SIN_POLY[2]) * (z * a) + a
    c = ((COS_POLY[0] * z + COS_POLY[1]) * z + COS_POLY[2]) * (z * z) - _F(0.5) * z + _F(1)
    odd = (q & 1) == 1
    cos, sin = np.where(odd, s, c), np.where(odd, c, s)
    cos = np.where((q == 1) | (q == 2), -cos, cos)
    sin = np.where(q >= 2, -sin, sin)
    return r * cos, r * sin


def bits(word1, word2, word3, num_words, seed):
    """uint32 words (len(word1), num_words) of counters (block, word1, word2, word3) under a 64-bit key."""
    word1 = np.asarray(word1, np.uint64)[:, None]
    word2 = np.asarray(word2, np.uint64).reshape(-1, 1)
    block = np.arange(-(-num_words // 4), dtype=np.uint64)[None, :]
    x = philox4x32((block, word1, word2, np.uint64(word3)), (seed, seed >> 32))
    return np.stack(x, axis=-1).reshape(len(word1), 4 * block.size)[:, :num_words]


def normals(words):
    """float32 normals from words (n, 4*k): words 4j, 4j+1 give normals 4j, 4j+1; 4j+2, 4j+3 the next two."""
    n, count = words.shape
    pairs = words.reshape(n, count // 2, 2)
    cos, sin = box_muller(np.ascontiguousarray(pairs[..., 0]), np.ascontiguousarray(pairs[..., 1]))
    return np.stack((cos, sin), axis=-1).reshape(n, count)


def noise_from_ids(ids, shape, *, seed, domain=0):
    """float32 noise (len(ids), *shape) of int64 ids: element e of an item is normal e % 4 of block e // 4."""
    ids = np.asarray(ids, np.int64).view(np.uint64)
    size = int(np.prod(shape, dtype=np.int64))
    words = bits(ids & _LOW, ids >> _32, domain, 4 * -(-size // 4), seed)
    return normals(words)[:, :size].reshape(len(ids), *shape)


def interpolate_from_ids(x, ids, t, *, seed, domain=0):
    """(t x + (1 - t) z, x - z), float32, z being the noise of ids (LOOM-CFM, eq. 3)."""
    x, z = np.asarray(x, _F), noise_from_ids(ids, np.shape(x)[1:], seed=seed, domain=domain)
    t = np.asarray(t, _F).reshape(-1, *[1] * (x.ndim - 1))
    return t * x + (_F(1) - t) * z, x - z


def step_bits(index, num_words, *, seed, step, domain):
    """uint32 words (len(index), num_words) of a step: counters (block, index, step, 2^31 + domain)."""
    return bits(np.asarray(index), step, STEP_BIT + domain, num_words, seed)


def step_normals(index, shape, *, seed, step, domain):
    """float32 normals (len(index), *shape) of a training step, by the same Box-Muller."""
    size = int(np.prod(shape, dtype=np.int64))
    words = step_bits(index, 4 * -(-size // 4), seed=seed, step=step, domain=domain)
    return normals(words)[:, :size].reshape(len(index), *shape)


def to_bfloat16_bits(values):
    """float32 -> bfloat16, round to nearest even, as uint16 bits. For finite values."""
    b = np.ascontiguousarray(values, _F).view(np.uint32)
    odd = (b >> np.uint32(16)) & np.uint32(1)
    return ((b + np.uint32(0x7FFF) + odd) >> np.uint32(16)).astype(np.uint16)
