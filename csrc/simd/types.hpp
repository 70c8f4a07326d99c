// What the vectors of all targets share, once the target's header has said how long they are: LOOMFAST_VECTOR_BYTES.
#pragma once

#include <cstdint>

namespace loomfast::simd {
namespace {

constexpr int kLanesF = LOOMFAST_VECTOR_BYTES / 4, kLanesD = LOOMFAST_VECTOR_BYTES / 8;

typedef float VecF __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef double VecD __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef std::int32_t VecI __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef std::uint32_t VecW __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef std::int64_t VecL __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef std::uint64_t VecU __attribute__((vector_size(LOOMFAST_VECTOR_BYTES)));
typedef float Four __attribute__((vector_size(16)));

struct Pair {  // of 64-bit lanes, for the even and the odd ones of 32 bits
    VecU even, odd;
};

constexpr float kInfF = __builtin_inff();
constexpr double kInfD = __builtin_inf();

template <class Vector, class T>
inline Vector load(const T* from) {
    Vector a;
    __builtin_memcpy(&a, from, sizeof a);
    return a;
}

template <class T, class Vector>
inline void store(T* to, Vector a) {
    __builtin_memcpy(to, &a, sizeof a);
}

// Not a + 0, which would lose the sign of -0.
inline VecF set_f(float a) { return a - VecF{}; }
inline VecD set_d(double a) { return a - VecD{}; }

inline VecF load_f(const float* a) { return load<VecF>(a); }
inline VecD load_d(const double* a) { return load<VecD>(a); }
inline void store_f(float* a, VecF x) { store(a, x); }
inline void store_d(double* a, VecD x) { store(a, x); }

inline VecF add(VecF a, VecF b) { return a + b; }
inline VecD add(VecD a, VecD b) { return a + b; }
inline VecF sub(VecF a, VecF b) { return a - b; }
inline VecD sub(VecD a, VecD b) { return a - b; }

// The bits of a as another type.
inline VecI as_ints(VecF a) { return (VecI)a; }
inline VecI as_ints(VecW a) { return (VecI)a; }
inline VecF as_floats(VecI a) { return (VecF)a; }

inline VecF to_floats(VecI a) { return __builtin_convertvector(a, VecF); }

}  // namespace
}  // namespace loomfast::simd
