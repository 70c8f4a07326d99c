// 128-bit vectors for any processor.
#pragma once

#define LOOMFAST_VECTOR_BYTES 16
#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

constexpr int kRegisters = 16;

inline unsigned bits(VecI m) { return (m[0] & 1u) | (m[1] & 2u) | (m[2] & 4u) | (m[3] & 8u); }
inline unsigned bits(VecL m) { return (m[0] & 1u) | (m[1] & 2u); }
inline VecF root(VecF a) {
    return VecF{__builtin_sqrtf(a[0]), __builtin_sqrtf(a[1]), __builtin_sqrtf(a[2]), __builtin_sqrtf(a[3])};
}
inline VecU product(VecU a, VecU b) { return (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF); }
inline VecW join(VecU even, VecU odd) { return (VecW)((even & 0xFFFFFFFF) | odd << 32); }
inline void transpose(VecF& a, VecF& b, VecF& c, VecF& d) {
    const VecF a0 = a, b0 = b, c0 = c, d0 = d;
    a = VecF{a0[0], b0[0], c0[0], d0[0]};
    b = VecF{a0[1], b0[1], c0[1], d0[1]};
    c = VecF{a0[2], b0[2], c0[2], d0[2]};
    d = VecF{a0[3], b0[3], c0[3], d0[3]};
}

}  // namespace
}  // namespace loomfast::simd

#include "simd/narrow.hpp"
