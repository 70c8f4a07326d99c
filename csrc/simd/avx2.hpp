// 256-bit vectors: AVX2.
#pragma once

#include <immintrin.h>

#include "simd/least_two.hpp"

#define LOOMFAST_VECTOR_BYTES 32
#include "simd/types.hpp"

namespace loomfast::simd {
namespace {

constexpr int kRegisters = 16;

inline __m256i first_f(int k) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(k), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i first_d(int k) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(k), _mm256_setr_epi64x(0, 1, 2, 3));
}
inline __m128i first_four(int k) { return _mm_cmpgt_epi32(_mm_set1_epi32(k), _mm_setr_epi32(0, 1, 2, 3)); }

inline VecF load_f(const float* a, int k, float fill) {
    const __m256i m = first_f(k);
    return _mm256_blendv_ps(set_f(fill), _mm256_maskload_ps(a, m), _mm256_castsi256_ps(m));
}
inline VecF min(VecF a, VecF b) { return _mm256_min_ps(a, b); }
inline VecF max(VecF a, VecF b) { return _mm256_max_ps(a, b); }
inline VecF abs(VecF a) { return _mm256_andnot_ps(set_f(-0.0f), a); }
inline VecF root(VecF a) { return _mm256_sqrt_ps(a); }
inline unsigned bits(__m256 mask) { return static_cast<unsigned>(_mm256_movemask_ps(mask)); }
inline unsigned le_bits(VecF a, VecF b) { return bits(_mm256_cmp_ps(a, b, _CMP_LE_OQ)); }
inline unsigned eq_bits(VecF a, VecF b) { return bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
inline VecF choose(VecI mask, VecF a, VecF b) { return _mm256_blendv_ps(b, a, (__m256)mask); }
inline VecF flip(VecF a, VecW mask) { return _mm256_xor_ps(a, (__m256)mask); }
inline float least(VecF a) {
    __m128 x = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_min_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_min_ss(x, _mm_shuffle_ps(x, x, 1)));
}
// The least of all lanes of both, and the next.
inline float least_two(VecF first, VecF second, float* next) {
    const __m128 a = _mm256_castps256_ps128(first), b = _mm256_extractf128_ps(first, 1);
    __m128 low = _mm_min_ps(a, b);
    __m128 high = _mm_min_ps(_mm256_castps256_ps128(second), _mm256_extractf128_ps(second, 1));
    high = _mm_min_ps(_mm_max_ps(a, b), high);
    __m128 other = _mm_movehl_ps(low, low);
    high = _mm_min_ps(_mm_max_ps(low, other), _mm_min_ps(high, _mm_movehl_ps(high, high)));
    low = _mm_min_ps(low, other);
    other = _mm_shuffle_ps(low, low, 1);
    *next = _mm_cvtss_f32(_mm_min_ss(_mm_max_ss(low, other), _mm_min_ss(high, _mm_shuffle_ps(high, high, 1))));
    return _mm_cvtss_f32(_mm_min_ss(low, other));
}

inline VecD load_d(const double* a, int k, double fill) {
    const __m256i m = first_d(k);
    return _mm256_blendv_pd(set_d(fill), _mm256_maskload_pd(a, m), _mm256_castsi256_pd(m));
}
inline VecD load_d(const float* a) { return _mm256_cvtps_pd(_mm_loadu_ps(a)); }
inline VecD load_d(const float* a, int k, double fill) {
    const __m256d loaded = _mm256_cvtps_pd(_mm_maskload_ps(a, first_four(k)));
    return _mm256_blendv_pd(set_d(fill), loaded, _mm256_castsi256_pd(first_d(k)));
}
inline void store_d(double* a, int k, VecD x) { _mm256_maskstore_pd(a, first_d(k), x); }
inline VecD min(VecD a, VecD b) { return _mm256_min_pd(a, b); }
inline VecD max(VecD a, VecD b) { return _mm256_max_pd(a, b); }
inline VecD abs(VecD a) { return _mm256_andnot_pd(set_d(-0.0), a); }
inline VecD rounded(VecD a) { return _mm256_cvtps_pd(_mm256_cvtpd_ps(a)); }
inline void store_f(float* a, VecD x) { _mm_storeu_ps(a, _mm256_cvtpd_ps(x)); }
inline void store_f(float* a, int k, VecD x) { _mm_maskstore_ps(a, first_four(k), _mm256_cvtpd_ps(x)); }
inline unsigned bits(__m256d mask) { return static_cast<unsigned>(_mm256_movemask_pd(mask)); }
inline unsigned le_bits(VecD a, VecD b) { return bits(_mm256_cmp_pd(a, b, _CMP_LE_OQ)); }
inline unsigned eq_bits(VecD a, VecD b) { return bits(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)); }
inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) {
    return _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}
inline VecD gather(const double* a, const std::int32_t* index) {
    return _mm256_setr_pd(a[index[0]], a[index[1]], a[index[2]], a[index[3]]);
}
inline VecD numbers(const std::int32_t* a) {
    return _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
}
inline double least(VecD a) {
    const __m128d x = _mm_min_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_min_sd(x, _mm_unpackhi_pd(x, x)));
}
inline double least_two(VecD first, VecD second, double* next) { return least_two_256(first, second, next); }

inline VecU product(VecU a, VecU b) { return (VecU)_mm256_mul_epu32((__m256i)a, (__m256i)b); }
inline VecU xor3(VecU a, VecU b, VecU c) { return a ^ b ^ c; }
inline VecW join(VecU even, VecU odd) {
    return (VecW)_mm256_blend_epi32((__m256i)even, _mm256_slli_epi64((__m256i)odd, 32), 0xAA);
}
inline Pair deal(const std::uint64_t* a) {  // lanes hold blocks 0 2 4 6 1 3 5 7
    const __m256i low = load<__m256i>(a), high = load<__m256i>(a + 4);
    const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
    return {(VecU)_mm256_permute2x128_si256(even, odd, 0x20), (VecU)_mm256_permute2x128_si256(even, odd, 0x31)};
}
inline void transpose(Four& a, Four& b, Four& c, Four& d) { _MM_TRANSPOSE4_PS(a, b, c, d); }
inline void transpose(VecF& a, VecF& b, VecF& c, VecF& d) {
    const __m256d low_ab = _mm256_castps_pd(_mm256_unpacklo_ps(a, b));
    const __m256d low_cd = _mm256_castps_pd(_mm256_unpacklo_ps(c, d));
    const __m256d high_ab = _mm256_castps_pd(_mm256_unpackhi_ps(a, b));
    const __m256d high_cd = _mm256_castps_pd(_mm256_unpackhi_ps(c, d));
    a = _mm256_castpd_ps(_mm256_unpacklo_pd(low_ab, low_cd));
    b = _mm256_castpd_ps(_mm256_unpackhi_pd(low_ab, low_cd));
    c = _mm256_castpd_ps(_mm256_unpacklo_pd(high_ab, high_cd));
    d = _mm256_castpd_ps(_mm256_unpackhi_pd(high_ab, high_cd));
}

}  // namespace
}  // namespace loomfast::simd
