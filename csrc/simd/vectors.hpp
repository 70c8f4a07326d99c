// The vectors of the target that the including source is compiled for (see target.hpp): the compiler's own, with its
// operators, and beside them what compilers have no notation for, from a header for each target:
//
//   set_f, set_d                         a number in all lanes
//   load_f, load_d, store_f, store_d     where there is a k, k lanes, the others from `fill`; they convert, too
//   min, max, abs, root, rounded         lane by lane; min and max give b where a lane is NaN
//   choose(mask, a, b)                   a where the bits of the mask are set
//   flip(a, mask)                        a with the bits of the mask turned over
//   select_lt(a, b, yes, no)             yes where a < b
//   le_bits, eq_bits                     comparisons, a bit a lane
//   least                                of all lanes
//   least_two                            of all lanes of two vectors, given those of one that are not above the other's
//   gather, numbers                      doubles at indices; int32 as double
//   product, xor3, join, deal            on 64-bit lanes, for Philox
//   transpose, transpose4                four by four floats
//
// Everything has internal linkage, and kernels use nothing else from headers that has code: a template or inline
// function shared with other translation units could be linked in with instructions that the machine does not have.
#pragma once

#if !defined(LOOMFAST_TARGET)
#error "vectors are for *.simd.cpp, which are compiled once for each target"
#endif

#define LOOMFAST_INLINE __attribute__((always_inline)) inline

#define LOOMFAST_TEXT(words) #words
#define LOOMFAST_HEADER_OF(target) LOOMFAST_TEXT(simd/target.hpp)
#define LOOMFAST_HEADER(target) LOOMFAST_HEADER_OF(target)
#include LOOMFAST_HEADER(LOOMFAST_TARGET)

namespace loomfast::simd {
namespace {

// Four vectors, transposed 4 x 4 within every 128 bits, one behind the other.
inline void store_transposed(VecF a, VecF b, VecF c, VecF d, float* to) {
    transpose(a, b, c, d);
    store_f(to, a);
    store_f(to + kLanesF, b);
    store_f(to + 2 * kLanesF, c);
    store_f(to + 3 * kLanesF, d);
}

// Four numbers of four rows, by number: to[e * stride + r] = rows[r][k + e].
inline void transpose4(const float* const* rows, std::int64_t k, float* to, int stride) {
    Four a, b, c, d;
    __builtin_memcpy(&a, rows[0] + k, sizeof a);
    __builtin_memcpy(&b, rows[1] + k, sizeof b);
    __builtin_memcpy(&c, rows[2] + k, sizeof c);
    __builtin_memcpy(&d, rows[3] + k, sizeof d);
    transpose(a, b, c, d);
    __builtin_memcpy(to, &a, sizeof a);
    __builtin_memcpy(to + stride, &b, sizeof b);
    __builtin_memcpy(to + 2 * stride, &c, sizeof c);
    __builtin_memcpy(to + 3 * stride, &d, sizeof d);
}

}  // namespace
}  // namespace loomfast::simd
