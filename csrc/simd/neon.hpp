// 128-bit vectors: what every aarch64 has.
#pragma once

#include <arm_neon.h>

#define LOOMFAST_VECTOR_BYTES 16
#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

constexpr int kRegisters = 32;

inline unsigned bits(VecI m) {
    const uint32x4_t weights = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32((uint32x4_t)m, weights));
}
inline unsigned bits(VecL m) { return (m[0] & 1u) | (m[1] & 2u); }
inline VecF root(VecF a) { return (VecF)vsqrtq_f32((float32x4_t)a); }
inline VecU product(VecU a, VecU b) { return (VecU)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b)); }
inline VecW join(VecU even, VecU odd) { return (VecW)vsliq_n_u64((uint64x2_t)even, (uint64x2_t)odd, 32); }
inline void transpose(Four& a, Four& b, Four& c, Four& d) {
    const float32x4x2_t ab = vtrnq_f32((float32x4_t)a, (float32x4_t)b), cd = vtrnq_f32((float32x4_t)c, (float32x4_t)d);
    a = (Four)vcombine_f32(vget_low_f32(ab.val[0]), vget_low_f32(cd.val[0]));
    b = (Four)vcombine_f32(vget_low_f32(ab.val[1]), vget_low_f32(cd.val[1]));
    c = (Four)vcombine_f32(vget_high_f32(ab.val[0]), vget_high_f32(cd.val[0]));
    d = (Four)vcombine_f32(vget_high_f32(ab.val[1]), vget_high_f32(cd.val[1]));
}

}  // namespace
}  // namespace loomfast::simd

#include "simd/narrow.hpp"
