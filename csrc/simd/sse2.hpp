// 128-bit vectors: what every x86-64 has.
#pragma once

#include <emmintrin.h>

#define LOOMFAST_VECTOR_BYTES 16
#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

constexpr int kRegisters = 16;

inline unsigned bits(VecI m) { return static_cast<unsigned>(_mm_movemask_ps((__m128)m)); }
inline unsigned bits(VecL m) { return static_cast<unsigned>(_mm_movemask_pd((__m128d)m)); }
inline VecF root(VecF a) { return _mm_sqrt_ps(a); }
inline VecU product(VecU a, VecU b) { return (VecU)_mm_mul_epu32((__m128i)a, (__m128i)b); }
inline VecW join(VecU even, VecU odd) { return (VecW)((even & 0xFFFFFFFF) | odd << 32); }
inline void transpose(Four& a, Four& b, Four& c, Four& d) { _MM_TRANSPOSE4_PS(a, b, c, d); }

}  // namespace
}  // namespace loomfast::simd

#include "simd/narrow.hpp"
