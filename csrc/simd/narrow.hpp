// The operations of the 128-bit targets in the compiler's own notation, on what their headers have defined before:
// bits, the highest bit of every lane.
#pragma once

#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

typedef float HalfF __attribute__((vector_size(8)));

inline VecF load_f(const float* a, int k, float fill) {
    return VecF{k > 0 ? a[0] : fill, k > 1 ? a[1] : fill, k > 2 ? a[2] : fill, fill};
}
inline VecF min(VecF a, VecF b) { return a < b ? a : b; }
inline VecF max(VecF a, VecF b) { return a > b ? a : b; }
inline VecF abs(VecF a) { return a < 0.0f ? -a : a; }
inline unsigned le_bits(VecF a, VecF b) { return bits(VecI(a <= b)); }
inline unsigned eq_bits(VecF a, VecF b) { return bits(VecI(a == b)); }
inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) { return a < b ? yes : no; }
inline VecF choose(VecI mask, VecF a, VecF b) { return (VecF)((mask & (VecI)a) | (~mask & (VecI)b)); }
inline VecF flip(VecF a, VecW mask) { return (VecF)((VecW)a ^ mask); }
inline float least(VecF a) {
    const float x = a[0] < a[1] ? a[0] : a[1], y = a[2] < a[3] ? a[2] : a[3];
    return x < y ? x : y;
}
inline float least_two(VecF first, VecF second, float* next) {
    float low = first[0];
    *next = kInfF;
    for (int k = 1; k < 4; k++) {
        const float high = first[k] < low ? low : first[k];
        low = first[k] < low ? first[k] : low;
        *next = high < *next ? high : *next;
    }
    const float other = least(second);
    *next = other < *next ? other : *next;
    return low;
}

inline VecD load_d(const double* a, int k, double fill) { return VecD{k > 0 ? a[0] : fill, fill}; }
inline VecD load_d(const float* a) { return VecD{a[0], a[1]}; }
inline VecD load_d(const float* a, int k, double fill) { return VecD{k > 0 ? a[0] : fill, fill}; }
inline void store_d(double* a, int k, VecD x) {
    if (k > 0) a[0] = x[0];
}
inline VecD min(VecD a, VecD b) { return a < b ? a : b; }
inline VecD max(VecD a, VecD b) { return a > b ? a : b; }
inline VecD abs(VecD a) { return a < 0.0 ? -a : a; }
// Not VecD{float(a[0]), float(a[1])}: GCC 12 makes a vector of that and forgets to round.
inline VecD rounded(VecD a) { return __builtin_convertvector(__builtin_convertvector(a, HalfF), VecD); }
inline void store_f(float* a, VecD x) { store(a, __builtin_convertvector(x, HalfF)); }
inline void store_f(float* a, int k, VecD x) {
    if (k > 0) a[0] = static_cast<float>(x[0]);
}
inline unsigned le_bits(VecD a, VecD b) { return bits(VecL(a <= b)); }
inline unsigned eq_bits(VecD a, VecD b) { return bits(VecL(a == b)); }
inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) { return a < b ? yes : no; }
inline VecD gather(const double* a, const std::int32_t* index) { return VecD{a[index[0]], a[index[1]]}; }
inline VecD numbers(const std::int32_t* a) { return VecD{double(a[0]), double(a[1])}; }
inline double least(VecD a) { return a[0] < a[1] ? a[0] : a[1]; }
inline double least_two(VecD first, VecD second, double* next) {
    const double low = least(first), high = first[0] < first[1] ? first[1] : first[0], other = least(second);
    *next = high < other ? high : other;
    return low;
}

inline VecU xor3(VecU a, VecU b, VecU c) { return a ^ b ^ c; }
inline Pair deal(const std::uint64_t* a) { return {VecU{a[0], a[2]}, VecU{a[1], a[3]}}; }  // lanes hold blocks 0 1 2 3

}  // namespace
}  // namespace loomfast::simd
