// Noise format 1: four float32 normals from one Philox4x32-10 counter, on the host and in CUDA kernels.
//
// Random123's known answers (kat_vectors, philox4x32 10), asserted on every backend:
//   counter 00000000 00000000 00000000 00000000, key 00000000 00000000
//        -> 6627e8d5 e169c58d bc57ac4c 9b00dbd8
//   counter ffffffff ffffffff ffffffff ffffffff, key ffffffff ffffffff
//        -> 408f276d 41c83b0e a20bc7c6 6d5451fd
//   counter 243f6a88 85a308d3 13198a2e 03707344, key a4093822 299f31d0
//        -> d16cfe09 94fdcceb 5001e420 24126ea1
//
// Counters: (block, id low, id high, domain) for the noise of an id and (block, item, step, 2^31 + domain) for
// the draws of a training step. Only operations that IEEE 754 rounds exactly, in a fixed order and without
// fused multiply-add: the bits are those of loomfast/reference/noise.py.
//
// C++17, so that nvcc compiles it as well.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define LOOMFAST_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define LOOMFAST_HOST_DEVICE inline
#endif

namespace loomfast::noise {

constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr uint32_t kStepBit = 0x80000000u;
constexpr int kRounds = 10;

// Cephes: log(1 + f) = f - f^2/2 + f^3 P(f) on [sqrt(1/2), sqrt(2)); sin and cos on [-pi/4, pi/4].
constexpr int kLogTerms = 9;
#define LOOMFAST_LOG_POLY                                                                                    \
    {7.0376836292e-2f,  -1.1514610310e-1f, 1.1676998740e-1f,  -1.2420140846e-1f, 1.4249322787e-1f,           \
     -1.6668057665e-1f, 2.0000714765e-1f,  -2.4999993993e-1f, 3.3333331174e-1f}
constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
constexpr float kSin0 = -1.9515295891e-4f, kSin1 = 8.3321608736e-3f, kSin2 = -1.6666654611e-1f;
constexpr float kCos0 = 2.443315711809948e-5f, kCos1 = -1.388731625493765e-3f, kCos2 = 4.166664568298827e-2f;
constexpr float kAngleUnit = 0x1.921fb6p-32f;  // float32(pi/2) * 2^-32
constexpr float kHalfStep = 0x1p-31f, kTiny = 0x1p-32f;
constexpr int32_t kSqrtHalfBits = 0x3F3504F3;

struct Key {
    uint32_t word0, word1;
};
struct RoundKeys {
    uint32_t word0[kRounds], word1[kRounds];
};
struct Words {
    uint32_t x[4];
};
struct Normals {
    float x[4];
};

// One name per exactly rounded operation: CUDA's intrinsics cannot be contracted, and the host is compiled with
// -ffp-contract=off.
#ifdef __CUDA_ARCH__
LOOMFAST_HOST_DEVICE float add(float a, float b) { return __fadd_rn(a, b); }
LOOMFAST_HOST_DEVICE float mul(float a, float b) { return __fmul_rn(a, b); }
LOOMFAST_HOST_DEVICE float root(float a) { return __fsqrt_rn(a); }
LOOMFAST_HOST_DEVICE float to_float(int32_t a) { return __int2float_rn(a); }
LOOMFAST_HOST_DEVICE int32_t as_int(float a) { return __float_as_int(a); }
LOOMFAST_HOST_DEVICE float as_float(int32_t a) { return __int_as_float(a); }
LOOMFAST_HOST_DEVICE uint32_t high_product(uint32_t a, uint32_t b) { return __umulhi(a, b); }
#else
LOOMFAST_HOST_DEVICE float add(float a, float b) { return a + b; }
LOOMFAST_HOST_DEVICE float mul(float a, float b) { return a * b; }
LOOMFAST_HOST_DEVICE float root(float a) { return std::sqrt(a); }
LOOMFAST_HOST_DEVICE float to_float(int32_t a) { return static_cast<float>(a); }
LOOMFAST_HOST_DEVICE int32_t as_int(float a) {
    int32_t i;
    std::memcpy(&i, &a, sizeof i);
    return i;
}
LOOMFAST_HOST_DEVICE float as_float(int32_t a) {
    float f;
    std::memcpy(&f, &a, sizeof f);
    return f;
}
LOOMFAST_HOST_DEVICE uint32_t high_product(uint32_t a, uint32_t b) {
    return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
}
#endif
LOOMFAST_HOST_DEVICE float muladd(float a, float b, float c) { return add(mul(a, b), c); }  // two roundings

LOOMFAST_HOST_DEVICE RoundKeys round_keys(Key key) {
    RoundKeys keys;
    for (int round = 0; round < kRounds; ++round) {
        keys.word0[round] = key.word0 + round * kWeyl0;
        keys.word1[round] = key.word1 + round * kWeyl1;
    }
    return keys;
}

LOOMFAST_HOST_DEVICE Words philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, const RoundKeys& keys) {
    for (int round = 0; round < kRounds; ++round) {
        const uint32_t low0 = kMultiplier0 * c0, high0 = high_product(kMultiplier0, c0);
        const uint32_t low1 = kMultiplier1 * c2, high1 = high_product(kMultiplier1, c2);
        c0 = high1 ^ c1 ^ keys.word0[round];
        c1 = low1;
        c2 = high0 ^ c3 ^ keys.word1[round];
        c3 = low0;
    }
    return {{c0, c1, c2, c3}};
}

LOOMFAST_HOST_DEVICE Words philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, Key key) {
    return philox4x32(c0, c1, c2, c3, round_keys(key));
}

LOOMFAST_HOST_DEVICE float log_f32(float u) {
    const float poly[kLogTerms] = LOOMFAST_LOG_POLY;
    const int32_t t = as_int(u) - kSqrtHalfBits;
    const float e = to_float(t >> 23);
    const float f = add(as_float((t & 0x7FFFFF) + kSqrtHalfBits), -1.0f);
    float p = poly[0];
    for (int k = 1; k < kLogTerms; ++k) p = muladd(p, f, poly[k]);
    const float z = mul(f, f);
    float tail = add(mul(mul(f, z), p), mul(e, kLn2Low));
    tail = add(tail, mul(-0.5f, z));
    return add(add(f, tail), mul(e, kLn2High));
}

// Box and Muller (1958): two words to r cos(theta), r sin(theta).
LOOMFAST_HOST_DEVICE void box_muller(uint32_t x0, uint32_t x1, float* normal0, float* normal1) {
    const float u1 = muladd(to_float(static_cast<int32_t>(x0 >> 1)), kHalfStep, kTiny);
    const float r = root(mul(-2.0f, log_f32(u1)));
    // theta = pi/2 (q + y 2^-32) with y the signed remainder: exact integer range reduction.
    const uint32_t q = (x1 + (1u << 29)) >> 30;
    const float a = mul(to_float(static_cast<int32_t>(x1 << 2)), kAngleUnit);
    const float z = mul(a, a);
    const float s = muladd(muladd(muladd(kSin0, z, kSin1), z, kSin2), mul(z, a), a);
    const float c = add(add(mul(muladd(muladd(kCos0, z, kCos1), z, kCos2), mul(z, z)), mul(-0.5f, z)), 1.0f);
    const float cosine = (q & 1) ? s : c, sine = (q & 1) ? c : s;
    *normal0 = mul(r, (q == 1 || q == 2) ? -cosine : cosine);
    *normal1 = mul(r, q >= 2 ? -sine : sine);
}

LOOMFAST_HOST_DEVICE Normals normals(Words words) {
    Normals n;
    box_muller(words.x[0], words.x[1], &n.x[0], &n.x[1]);
    box_muller(words.x[2], words.x[3], &n.x[2], &n.x[3]);
    return n;
}

// float32 -> bfloat16 bits, round to nearest even; the value is finite.
LOOMFAST_HOST_DEVICE uint16_t to_bfloat16(float a) {
    const uint32_t b = static_cast<uint32_t>(as_int(a));
    return static_cast<uint16_t>((b + 0x7FFFu + ((b >> 16) & 1u)) >> 16);
}

}  // namespace loomfast::noise
