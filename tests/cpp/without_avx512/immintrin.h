// The AVX-512 intrinsics that the engine uses, lane by lane, so that its AVX-512 sources compile and run on a
// processor without them: put this folder before the compiler's own headers and leave -mavx512* out.
#pragma once

// The compiler's header must not believe that the instructions are there.
#pragma push_macro("__AVX512F__")
#pragma push_macro("__AVX512DQ__")
#pragma push_macro("__AVX512VL__")
#undef __AVX512F__
#undef __AVX512DQ__
#undef __AVX512VL__
#include_next <immintrin.h>
#pragma pop_macro("__AVX512VL__")
#pragma pop_macro("__AVX512DQ__")
#pragma pop_macro("__AVX512F__")

#include <cmath>
#include <cstdint>
#include <cstring>

namespace without_avx512 {

template <class T>
struct Lanes {
    static constexpr int count = 64 / sizeof(T);
    T x[count];
};

template <class T, class Vector>
inline Lanes<T> lanes(Vector a) {
    static_assert(sizeof a == 64);
    Lanes<T> result;
    std::memcpy(&result, &a, sizeof a);
    return result;
}

template <class Vector, class T>
inline Vector vector(const Lanes<T>& a) {
    Vector result;
    std::memcpy(&result, &a, sizeof a);
    return result;
}

// A vector whose lane i is of(i).
template <class Vector, class T, class Of>
inline Vector make(const Of& of) {
    Lanes<T> result;
    for (int i = 0; i < Lanes<T>::count; ++i) result.x[i] = of(i);
    return vector<Vector>(result);
}

template <class T, class Vector, class Op>
inline Vector each(Vector a, const Op& op) {
    const auto x = lanes<T>(a);
    return make<Vector, T>([&](int i) { return op(x.x[i]); });
}

template <class T, class Vector, class Op>
inline Vector each(Vector a, Vector b, const Op& op) {
    const auto x = lanes<T>(a), y = lanes<T>(b);
    return make<Vector, T>([&](int i) { return op(x.x[i], y.x[i]); });
}

template <class T>
inline bool compare(T a, T b, int how) {
    if (how == _CMP_EQ_OQ) return a == b;
    if (how == _CMP_LT_OQ) return a < b;
    if (how == _CMP_LE_OQ) return a <= b;
    __builtin_trap();
}

template <class T, class Vector>
inline unsigned mask(Vector a, Vector b, int how) {
    const auto x = lanes<T>(a), y = lanes<T>(b);
    unsigned bits = 0;
    for (int i = 0; i < Lanes<T>::count; ++i) bits |= static_cast<unsigned>(compare(x.x[i], y.x[i], how)) << i;
    return bits;
}

template <class T, class Vector>
inline Vector loaded(const void* from) {
    Lanes<T> a;
    std::memcpy(&a, from, sizeof a);
    return vector<Vector>(a);
}

// Lanes outside the mask are not read.
template <class T, class Vector>
inline Vector loaded(Vector rest, unsigned k, const T* from) {
    const auto fill = lanes<T>(rest);
    return make<Vector, T>([&](int i) { return k >> i & 1 ? from[i] : fill.x[i]; });
}

template <class T, class Vector>
inline Vector blended(unsigned k, Vector no, Vector yes) {
    const auto a = lanes<T>(no), b = lanes<T>(yes);
    return make<Vector, T>([&](int i) { return k >> i & 1 ? b.x[i] : a.x[i]; });
}

template <class T, class Vector>
inline T least(Vector a) {
    const auto x = lanes<T>(a);
    T result = x.x[0];
    for (T value : x.x) result = value < result ? value : result;
    return result;
}

// Within each 128 bits: the low or high halves of a and b in turn.
template <class T, class Vector>
inline Vector unpacked(Vector a, Vector b, bool high) {
    constexpr int width = 16 / sizeof(T);
    const auto x = lanes<T>(a), y = lanes<T>(b);
    return make<Vector, T>([&](int i) {
        const int from = i / width * width + (high ? width / 2 : 0) + i % width / 2;
        return i % 2 ? y.x[from] : x.x[from];
    });
}

inline __m512i ternary(__m512i a, __m512i b, __m512i c, int table) {
    const auto x = lanes<uint64_t>(a), y = lanes<uint64_t>(b), z = lanes<uint64_t>(c);
    return make<__m512i, uint64_t>([&](int i) {
        uint64_t result = 0;
        for (int entry = 0; entry < 8; ++entry) {
            const uint64_t here = (entry & 4 ? x.x[i] : ~x.x[i]) & (entry & 2 ? y.x[i] : ~y.x[i]) &
                                  (entry & 1 ? z.x[i] : ~z.x[i]);
            if (table >> entry & 1) result |= here;
        }
        return result;
    });
}

inline __m512i shuffled(__m512i rest, unsigned k, __m512i a, int order) {
    const auto x = lanes<int32_t>(a), fill = lanes<int32_t>(rest);
    return make<__m512i, int32_t>([&](int i) {
        return k >> i & 1 ? x.x[i / 4 * 4 + (order >> 2 * (i % 4) & 3)] : fill.x[i];
    });
}

inline __m512i permuted(__m512i a, __m512i index, __m512i b) {
    const auto x = lanes<int64_t>(a), y = lanes<int64_t>(b), at = lanes<int64_t>(index);
    return make<__m512i, int64_t>([&](int i) { return (at.x[i] & 8 ? y : x).x[at.x[i] & 7]; });
}

inline __m512 as_floats(__m512i a) {
    const auto x = lanes<int32_t>(a);
    return make<__m512, float>([&](int i) { return static_cast<float>(x.x[i]); });
}

inline __m512d widened(__m256 a) {
    float x[8];
    std::memcpy(x, &a, sizeof x);
    return make<__m512d, double>([&](int i) { return x[i]; });
}

inline __m512d widened(__m256i a) {
    int32_t x[8];
    std::memcpy(x, &a, sizeof x);
    return make<__m512d, double>([&](int i) { return x[i]; });
}

inline __m512d gathered(__m256i index, const double* from) {
    int32_t at[8];
    std::memcpy(at, &index, sizeof at);
    return make<__m512d, double>([&](int i) { return from[at[i]]; });
}

template <class Vector>
inline void stored(void* to, Vector a) {
    std::memcpy(to, &a, sizeof a);
}

inline void stored(double* to, unsigned k, __m512d a) {
    const auto x = lanes<double>(a);
    for (int i = 0; i < 8; ++i)
        if (k >> i & 1) to[i] = x.x[i];
}

inline void stored(float* to, unsigned k, __m256 a) {
    for (int i = 0; i < 8; ++i)
        if (k >> i & 1) to[i] = a[i];
}

inline __m256 narrowed(__m512d a) {
    const auto x = lanes<double>(a);
    __m256 result{};
    for (int i = 0; i < 8; ++i) result[i] = static_cast<float>(x.x[i]);
    return result;
}

inline __m256 loaded_or_zero(unsigned k, const float* from) {
    __m256 result{};
    for (int i = 0; i < 8; ++i)
        if (k >> i & 1) result[i] = from[i];
    return result;
}

}  // namespace without_avx512

// Some are macros in the compiler's header, those with an immediate where it does not optimise.
#undef _mm512_setr_epi64
#undef _mm512_slli_epi32
#undef _mm512_srli_epi32
#undef _mm512_srai_epi32
#undef _mm512_srli_epi64
#undef _mm512_ternarylogic_epi32
#undef _mm512_ternarylogic_epi64
#undef _mm512_mask_shuffle_epi32
#undef _mm512_i32gather_pd
#undef _mm512_cmp_ps_mask
#undef _mm512_cmp_pd_mask

#define EMULATED without_avx512
#define OF_TWO(T, a, b, expression) EMULATED::each<T>(a, b, [](T x, T y) -> T { return expression; })
#define OF_ONE(T, a, expression) EMULATED::each<T>(a, [&](T x) -> T { return expression; })

#define _mm512_set1_ps(a) (EMULATED::make<__m512, float>([&](int) { return a; }))
#define _mm512_set1_pd(a) (EMULATED::make<__m512d, double>([&](int) { return a; }))
#define _mm512_set1_epi32(a) (EMULATED::make<__m512i, int32_t>([&](int) { return a; }))
#define _mm512_set1_epi64(a) (EMULATED::make<__m512i, int64_t>([&](int) { return a; }))
#define _mm512_setr_epi64(...) (EMULATED::vector<__m512i>(EMULATED::Lanes<int64_t>{{__VA_ARGS__}}))

#define _mm512_castps_si512(a) ((__m512i)(a))
#define _mm512_castsi512_ps(a) ((__m512)(a))
#define _mm512_castps_pd(a) ((__m512d)(a))
#define _mm512_castpd_ps(a) ((__m512)(a))

#define _mm512_add_ps(a, b) OF_TWO(float, a, b, x + y)
#define _mm512_sub_ps(a, b) OF_TWO(float, a, b, x - y)
#define _mm512_mul_ps(a, b) OF_TWO(float, a, b, x * y)
#define _mm512_min_ps(a, b) OF_TWO(float, a, b, x < y ? x : y)
#define _mm512_max_ps(a, b) OF_TWO(float, a, b, x > y ? x : y)
#define _mm512_sqrt_ps(a) OF_ONE(float, a, std::sqrt(x))
#define _mm512_abs_ps(a) OF_ONE(float, a, std::fabs(x))
#define _mm512_add_pd(a, b) OF_TWO(double, a, b, x + y)
#define _mm512_sub_pd(a, b) OF_TWO(double, a, b, x - y)
#define _mm512_abs_pd(a) OF_ONE(double, a, std::fabs(x))
#define _mm512_min_pd(a, b) OF_TWO(double, a, b, x < y ? x : y)
#define _mm512_max_pd(a, b) OF_TWO(double, a, b, x > y ? x : y)
#define _mm512_add_epi32(a, b) OF_TWO(uint32_t, a, b, x + y)
#define _mm512_sub_epi32(a, b) OF_TWO(uint32_t, a, b, x - y)
#define _mm512_add_epi64(a, b) OF_TWO(uint64_t, a, b, x + y)
#define _mm512_mul_epu32(a, b) OF_TWO(uint64_t, a, b, (x & 0xFFFFFFFF) * (y & 0xFFFFFFFF))
#define _mm512_and_si512(a, b) OF_TWO(uint64_t, a, b, x & y)
#define _mm512_xor_si512(a, b) OF_TWO(uint64_t, a, b, x ^ y)
#define _mm512_slli_epi32(a, k) OF_ONE(uint32_t, a, x << (k))
#define _mm512_srli_epi32(a, k) OF_ONE(uint32_t, a, x >> (k))
#define _mm512_srai_epi32(a, k) OF_ONE(int32_t, a, x >> (k))
#define _mm512_srli_epi64(a, k) OF_ONE(uint64_t, a, x >> (k))
#define _mm512_ternarylogic_epi32(a, b, c, table) EMULATED::ternary(a, b, c, table)
#define _mm512_ternarylogic_epi64(a, b, c, table) EMULATED::ternary(a, b, c, table)

#define _mm512_cvtepi32_ps(a) EMULATED::as_floats(a)
#define _mm512_cvtps_pd(a) EMULATED::widened(a)
#define _mm512_cvtpd_ps(a) EMULATED::narrowed(a)
#define _mm512_cvtepi32_pd(a) EMULATED::widened(a)
#define _mm512_mask_cvtps_pd(rest, k, a) EMULATED::blended<double>(k, rest, EMULATED::widened(a))

#define _mm512_unpacklo_ps(a, b) EMULATED::unpacked<float>(a, b, false)
#define _mm512_unpackhi_ps(a, b) EMULATED::unpacked<float>(a, b, true)
#define _mm512_unpacklo_pd(a, b) EMULATED::unpacked<double>(a, b, false)
#define _mm512_unpackhi_pd(a, b) EMULATED::unpacked<double>(a, b, true)
#define _mm512_mask_shuffle_epi32(rest, k, a, order) EMULATED::shuffled(rest, k, a, order)
#define _mm512_permutex2var_epi64(a, index, b) EMULATED::permuted(a, index, b)

#define _mm512_loadu_ps(from) (EMULATED::loaded<float, __m512>(from))
#define _mm512_loadu_pd(from) (EMULATED::loaded<double, __m512d>(from))
#define _mm512_load_si512(from) (EMULATED::loaded<int64_t, __m512i>(from))
#define _mm512_mask_loadu_ps(rest, k, from) EMULATED::loaded<float>(rest, k, from)
#define _mm512_mask_loadu_pd(rest, k, from) EMULATED::loaded<double>(rest, k, from)
#define _mm256_maskz_loadu_ps(k, from) EMULATED::loaded_or_zero(k, from)
#define _mm512_i32gather_pd(index, from, scale) EMULATED::gathered(index, from)
#define _mm512_storeu_ps(to, a) EMULATED::stored(to, a)
#define _mm512_storeu_pd(to, a) EMULATED::stored(to, a)
#define _mm512_store_si512(to, a) EMULATED::stored(to, a)
#define _mm512_mask_storeu_pd(to, k, a) EMULATED::stored(to, k, a)
#define _mm256_mask_storeu_ps(to, k, a) EMULATED::stored(to, k, a)

#define _mm512_cmp_ps_mask(a, b, how) static_cast<__mmask16>(EMULATED::mask<float>(a, b, how))
#define _mm512_cmp_pd_mask(a, b, how) static_cast<__mmask8>(EMULATED::mask<double>(a, b, how))
#define _mm512_mask_blend_ps(k, no, yes) EMULATED::blended<float>(k, no, yes)
#define _mm512_mask_blend_pd(k, no, yes) EMULATED::blended<double>(k, no, yes)
#define _mm512_reduce_min_ps(a) EMULATED::least<float>(a)
#define _mm512_reduce_min_pd(a) EMULATED::least<double>(a)
