// 512-bit vectors: AVX-512 F, DQ and VL.
#pragma once

#include <immintrin.h>

#include "simd/least_two.hpp"

#define LOOMFAST_VECTOR_BYTES 64
#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

constexpr int kRegisters = 32;

inline __mmask16 first_f(int k) { return static_cast<__mmask16>((1u << k) - 1); }
inline __mmask8 first_d(int k) { return static_cast<__mmask8>((1u << k) - 1); }

inline VecF load_f(const float* a, int k, float fill) { return _mm512_mask_loadu_ps(set_f(fill), first_f(k), a); }
inline VecF min(VecF a, VecF b) { return _mm512_min_ps(a, b); }
inline VecF max(VecF a, VecF b) { return _mm512_max_ps(a, b); }
inline VecF abs(VecF a) { return _mm512_abs_ps(a); }
inline VecF root(VecF a) { return _mm512_sqrt_ps(a); }
inline unsigned le_bits(VecF a, VecF b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
inline unsigned eq_bits(VecF a, VecF b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
inline VecF choose(VecI mask, VecF a, VecF b) {
    return (VecF)_mm512_ternarylogic_epi32((__m512i)mask, (__m512i)a, (__m512i)b, 0xCA);
}
inline VecF flip(VecF a, VecW mask) { return (VecF)((VecW)a ^ mask); }
inline float least(VecF a) { return _mm512_reduce_min_ps(a); }

// The least of all lanes of both, and the next.
inline float least_two_128(__m128 low, __m128 high, float* next) {
    __m128 other = _mm_movehl_ps(low, low);
    high = _mm_min_ps(_mm_max_ps(low, other), _mm_min_ps(high, _mm_movehl_ps(high, high)));
    low = _mm_min_ps(low, other);
    other = _mm_shuffle_ps(low, low, 1);
    *next = _mm_cvtss_f32(_mm_min_ss(_mm_max_ss(low, other), _mm_min_ss(high, _mm_shuffle_ps(high, high, 1))));
    return _mm_cvtss_f32(_mm_min_ss(low, other));
}
inline float least_two_256(__m256 first, __m256 second, float* next) {
    const __m128 a = _mm256_castps256_ps128(first), b = _mm256_extractf128_ps(first, 1);
    const __m128 c = _mm_min_ps(_mm256_castps256_ps128(second), _mm256_extractf128_ps(second, 1));
    return least_two_128(_mm_min_ps(a, b), _mm_min_ps(_mm_max_ps(a, b), c), next);
}
inline float least_two(VecF first, VecF second, float* next) {
    const __m256 a = _mm512_castps512_ps256(first), b = _mm512_extractf32x8_ps(first, 1);
    const __m256 c = _mm256_min_ps(_mm512_castps512_ps256(second), _mm512_extractf32x8_ps(second, 1));
    return least_two_256(_mm256_min_ps(a, b), _mm256_min_ps(_mm256_max_ps(a, b), c), next);
}

inline VecD load_d(const double* a, int k, double fill) { return _mm512_mask_loadu_pd(set_d(fill), first_d(k), a); }
inline VecD load_d(const float* a) { return _mm512_cvtps_pd(_mm256_loadu_ps(a)); }
inline VecD load_d(const float* a, int k, double fill) {
    return _mm512_mask_cvtps_pd(set_d(fill), first_d(k), _mm256_maskz_loadu_ps(first_d(k), a));
}
inline void store_d(double* a, int k, VecD x) { _mm512_mask_storeu_pd(a, first_d(k), x); }
inline VecD min(VecD a, VecD b) { return _mm512_min_pd(a, b); }
inline VecD max(VecD a, VecD b) { return _mm512_max_pd(a, b); }
inline VecD abs(VecD a) { return _mm512_abs_pd(a); }
inline VecD rounded(VecD a) { return _mm512_cvtps_pd(_mm512_cvtpd_ps(a)); }
inline void store_f(float* a, VecD x) { _mm256_storeu_ps(a, _mm512_cvtpd_ps(x)); }
inline void store_f(float* a, int k, VecD x) { _mm256_mask_storeu_ps(a, first_d(k), _mm512_cvtpd_ps(x)); }
inline unsigned le_bits(VecD a, VecD b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
inline unsigned eq_bits(VecD a, VecD b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes);
}
// Eight loads take less time than the instruction for it, on Zen 4 and on whatever has been patched against Downfall.
inline VecD gather(const double* a, const std::int32_t* index) {
    return _mm512_setr_pd(a[index[0]], a[index[1]], a[index[2]], a[index[3]], a[index[4]], a[index[5]], a[index[6]],
                          a[index[7]]);
}
inline VecD numbers(const std::int32_t* a) {
    return _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
}
inline double least(VecD a) { return _mm512_reduce_min_pd(a); }
inline double least_two(VecD first, VecD second, double* next) {
    const __m256d a = _mm512_castpd512_pd256(first), b = _mm512_extractf64x4_pd(first, 1);
    const __m256d c = _mm256_min_pd(_mm512_castpd512_pd256(second), _mm512_extractf64x4_pd(second, 1));
    return least_two_256(_mm256_min_pd(a, b), _mm256_min_pd(_mm256_max_pd(a, b), c), next);
}

inline VecU product(VecU a, VecU b) { return (VecU)_mm512_mul_epu32((__m512i)a, (__m512i)b); }
inline VecU xor3(VecU a, VecU b, VecU c) {
    return (VecU)_mm512_ternarylogic_epi64((__m512i)a, (__m512i)b, (__m512i)c, 0x96);
}
inline VecW join(VecU even, VecU odd) {
    return (VecW)_mm512_mask_shuffle_epi32((__m512i)even, 0xAAAA, (__m512i)odd, _MM_PERM_CCAA);
}
inline Pair deal(const std::uint64_t* a) {  // lanes hold blocks 0 4 8 12 1 5 9 13 ...
    const __m512i low = load<__m512i>(a), high = load<__m512i>(a + 8);
    return {(VecU)_mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high),
            (VecU)_mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), high)};
}
inline void transpose(Four& a, Four& b, Four& c, Four& d) { _MM_TRANSPOSE4_PS(a, b, c, d); }
inline void transpose(VecF& a, VecF& b, VecF& c, VecF& d) {
    const __m512d low_ab = _mm512_castps_pd(_mm512_unpacklo_ps(a, b));
    const __m512d low_cd = _mm512_castps_pd(_mm512_unpacklo_ps(c, d));
    const __m512d high_ab = _mm512_castps_pd(_mm512_unpackhi_ps(a, b));
    const __m512d high_cd = _mm512_castps_pd(_mm512_unpackhi_ps(c, d));
    a = _mm512_castpd_ps(_mm512_unpacklo_pd(low_ab, low_cd));
    b = _mm512_castpd_ps(_mm512_unpackhi_pd(low_ab, low_cd));
    c = _mm512_castpd_ps(_mm512_unpacklo_pd(high_ab, high_cd));
    d = _mm512_castpd_ps(_mm512_unpackhi_pd(high_ab, high_cd));
}

}  // namespace
}  // namespace loomfast::simd
