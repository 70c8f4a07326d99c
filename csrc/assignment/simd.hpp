// Vectors of floats and doubles for the instruction set that the including file is compiled for. Every
// function is static, and the kernels use nothing else from headers: a template or inline function shared
// with other translation units could be linked in with instructions that the machine does not have.
#pragma once

#include <cstdint>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr float kInfF = __builtin_inff();
constexpr double kInfD = __builtin_inf();

#if defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512VL__)

using VecF = __m512;
using VecD = __m512d;
constexpr int kLanesF = 16, kLanesD = 8;

static inline __mmask16 first_f(int k) { return static_cast<__mmask16>((1u << k) - 1); }
static inline __mmask8 first_d(int k) { return static_cast<__mmask8>((1u << k) - 1); }
static inline VecF set_f(float a) { return _mm512_set1_ps(a); }
static inline VecF load_f(const float* a) { return _mm512_loadu_ps(a); }
static inline VecF load_f(const float* a, int k, float fill) { return _mm512_mask_loadu_ps(set_f(fill), first_f(k), a); }
static inline void store_f(float* a, VecF x) { _mm512_storeu_ps(a, x); }
static inline VecF add(VecF a, VecF b) { return _mm512_add_ps(a, b); }
static inline VecF min(VecF a, VecF b) { return _mm512_min_ps(a, b); }
static inline VecF max(VecF a, VecF b) { return _mm512_max_ps(a, b); }
static inline VecF abs(VecF a) { return _mm512_abs_ps(a); }
static inline VecF sub(VecF a, VecF b) { return _mm512_sub_ps(a, b); }
static inline unsigned le_bits(VecF a, VecF b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
static inline unsigned eq_bits(VecF a, VecF b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
static inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), no, yes);
}
static inline float least(VecF a) { return _mm512_reduce_min_ps(a); }

static inline VecD set_d(double a) { return _mm512_set1_pd(a); }
static inline VecD load_d(const double* a) { return _mm512_loadu_pd(a); }
static inline VecD load_d(const double* a, int k, double fill) { return _mm512_mask_loadu_pd(set_d(fill), first_d(k), a); }
static inline VecD load_d(const float* a) { return _mm512_cvtps_pd(_mm256_loadu_ps(a)); }
static inline VecD load_d(const float* a, int k, double fill) {
    return _mm512_mask_cvtps_pd(set_d(fill), first_d(k), _mm256_maskz_loadu_ps(first_d(k), a));
}
static inline void store_d(double* a, VecD x) { _mm512_storeu_pd(a, x); }
static inline void store_d(double* a, int k, VecD x) { _mm512_mask_storeu_pd(a, first_d(k), x); }
static inline VecD add(VecD a, VecD b) { return _mm512_add_pd(a, b); }
static inline VecD min(VecD a, VecD b) { return _mm512_min_pd(a, b); }
static inline VecD max(VecD a, VecD b) { return _mm512_max_pd(a, b); }
static inline VecD abs(VecD a) { return _mm512_abs_pd(a); }
static inline VecD sub(VecD a, VecD b) { return _mm512_sub_pd(a, b); }
static inline VecD rounded(VecD a) { return _mm512_cvtps_pd(_mm512_cvtpd_ps(a)); }
static inline void store_f(float* a, VecD x) { _mm256_storeu_ps(a, _mm512_cvtpd_ps(x)); }
static inline void store_f(float* a, int k, VecD x) { _mm256_mask_storeu_ps(a, first_d(k), _mm512_cvtpd_ps(x)); }
static inline unsigned le_bits(VecD a, VecD b) { return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ); }
static inline unsigned eq_bits(VecD a, VecD b) { return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ); }
static inline unsigned lt_bits(VecD a, VecD b) { return _mm512_cmp_pd_mask(a, b, _CMP_LT_OQ); }
static inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) {
    return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes);
}
static inline VecD gather(const double* a, const std::int32_t* index) {
    return _mm512_i32gather_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(index)), a, 8);
}
static inline VecD numbers(const std::int32_t* a) {
    return _mm512_cvtepi32_pd(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(a)));
}
static inline double least(VecD a) { return _mm512_reduce_min_pd(a); }

#elif defined(__AVX2__)

using VecF = __m256;
using VecD = __m256d;
constexpr int kLanesF = 8, kLanesD = 4;

static inline __m256i first_f(int k) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(k), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline __m256i first_d(int k) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(k), _mm256_setr_epi64x(0, 1, 2, 3));
}
static inline VecF set_f(float a) { return _mm256_set1_ps(a); }
static inline VecF load_f(const float* a) { return _mm256_loadu_ps(a); }
static inline VecF load_f(const float* a, int k, float fill) {
    __m256i m = first_f(k);
    return _mm256_blendv_ps(set_f(fill), _mm256_maskload_ps(a, m), _mm256_castsi256_ps(m));
}
static inline void store_f(float* a, VecF x) { _mm256_storeu_ps(a, x); }
static inline VecF add(VecF a, VecF b) { return _mm256_add_ps(a, b); }
static inline VecF min(VecF a, VecF b) { return _mm256_min_ps(a, b); }
static inline VecF max(VecF a, VecF b) { return _mm256_max_ps(a, b); }
static inline VecF abs(VecF a) { return _mm256_andnot_ps(set_f(-0.0f), a); }
static inline VecF sub(VecF a, VecF b) { return _mm256_sub_ps(a, b); }
static inline unsigned bits(VecF mask) { return static_cast<unsigned>(_mm256_movemask_ps(mask)); }
static inline unsigned le_bits(VecF a, VecF b) { return bits(_mm256_cmp_ps(a, b, _CMP_LE_OQ)); }
static inline unsigned eq_bits(VecF a, VecF b) { return bits(_mm256_cmp_ps(a, b, _CMP_EQ_OQ)); }
static inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) {
    return _mm256_blendv_ps(no, yes, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
static inline float least(VecF a) {
    __m128 x = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_min_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_min_ss(x, _mm_shuffle_ps(x, x, 1)));
}

static inline VecD set_d(double a) { return _mm256_set1_pd(a); }
static inline VecD load_d(const double* a) { return _mm256_loadu_pd(a); }
static inline VecD load_d(const double* a, int k, double fill) {
    __m256i m = first_d(k);
    return _mm256_blendv_pd(set_d(fill), _mm256_maskload_pd(a, m), _mm256_castsi256_pd(m));
}
static inline VecD load_d(const float* a) { return _mm256_cvtps_pd(_mm_loadu_ps(a)); }
static inline VecD load_d(const float* a, int k, double fill) {
    __m128i m = _mm_cmpgt_epi32(_mm_set1_epi32(k), _mm_setr_epi32(0, 1, 2, 3));
    return _mm256_blendv_pd(set_d(fill), _mm256_cvtps_pd(_mm_maskload_ps(a, m)), _mm256_castsi256_pd(first_d(k)));
}
static inline void store_d(double* a, VecD x) { _mm256_storeu_pd(a, x); }
static inline void store_d(double* a, int k, VecD x) { _mm256_maskstore_pd(a, first_d(k), x); }
static inline VecD add(VecD a, VecD b) { return _mm256_add_pd(a, b); }
static inline VecD min(VecD a, VecD b) { return _mm256_min_pd(a, b); }
static inline VecD max(VecD a, VecD b) { return _mm256_max_pd(a, b); }
static inline VecD abs(VecD a) { return _mm256_andnot_pd(set_d(-0.0), a); }
static inline VecD sub(VecD a, VecD b) { return _mm256_sub_pd(a, b); }
static inline VecD rounded(VecD a) { return _mm256_cvtps_pd(_mm256_cvtpd_ps(a)); }
static inline void store_f(float* a, VecD x) { _mm_storeu_ps(a, _mm256_cvtpd_ps(x)); }
static inline void store_f(float* a, int k, VecD x) {
    _mm_maskstore_ps(a, _mm_cmpgt_epi32(_mm_set1_epi32(k), _mm_setr_epi32(0, 1, 2, 3)), _mm256_cvtpd_ps(x));
}
static inline unsigned bits(VecD mask) { return static_cast<unsigned>(_mm256_movemask_pd(mask)); }
static inline unsigned le_bits(VecD a, VecD b) { return bits(_mm256_cmp_pd(a, b, _CMP_LE_OQ)); }
static inline unsigned eq_bits(VecD a, VecD b) { return bits(_mm256_cmp_pd(a, b, _CMP_EQ_OQ)); }
static inline unsigned lt_bits(VecD a, VecD b) { return bits(_mm256_cmp_pd(a, b, _CMP_LT_OQ)); }
static inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) {
    return _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}
static inline VecD gather(const double* a, const std::int32_t* index) {
    return _mm256_setr_pd(a[index[0]], a[index[1]], a[index[2]], a[index[3]]);
}
static inline VecD numbers(const std::int32_t* a) {
    return _mm256_cvtepi32_pd(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)));
}
static inline double least(VecD a) {
    __m128d x = _mm_min_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_min_sd(x, _mm_unpackhi_pd(x, x)));
}

#else  // 128-bit vectors in the compiler's own notation: SSE2, NEON, anything

typedef float VecF __attribute__((vector_size(16)));
typedef double VecD __attribute__((vector_size(16)));
typedef std::int32_t VecI __attribute__((vector_size(16)));
typedef std::int64_t VecL __attribute__((vector_size(16)));
typedef float HalfF __attribute__((vector_size(8)));
constexpr int kLanesF = 4, kLanesD = 2;

static inline VecF set_f(float a) { return VecF{a, a, a, a}; }
static inline VecF load_f(const float* a) { return VecF{a[0], a[1], a[2], a[3]}; }
static inline VecF load_f(const float* a, int k, float fill) {
    return VecF{k > 0 ? a[0] : fill, k > 1 ? a[1] : fill, k > 2 ? a[2] : fill, fill};
}
static inline void store_f(float* a, VecF x) { __builtin_memcpy(a, &x, 16); }
static inline VecF add(VecF a, VecF b) { return a + b; }
static inline VecF min(VecF a, VecF b) { return a < b ? a : b; }
static inline VecF max(VecF a, VecF b) { return a > b ? a : b; }
static inline VecF abs(VecF a) { return a < 0.0f ? -a : a; }
static inline VecF sub(VecF a, VecF b) { return a - b; }
static inline unsigned bits(VecI m) {
    return (m[0] & 1u) | (m[1] & 2u) | (m[2] & 4u) | (m[3] & 8u);
}
static inline unsigned le_bits(VecF a, VecF b) { return bits(a <= b); }
static inline unsigned eq_bits(VecF a, VecF b) { return bits(a == b); }
static inline VecF select_lt(VecF a, VecF b, VecF yes, VecF no) { return a < b ? yes : no; }
static inline float least(VecF a) {
    float x = a[0] < a[1] ? a[0] : a[1], y = a[2] < a[3] ? a[2] : a[3];
    return x < y ? x : y;
}

static inline VecD set_d(double a) { return VecD{a, a}; }
static inline VecD load_d(const double* a) { return VecD{a[0], a[1]}; }
static inline VecD load_d(const double* a, int k, double fill) { return VecD{k > 0 ? a[0] : fill, fill}; }
static inline VecD load_d(const float* a) { return VecD{a[0], a[1]}; }
static inline VecD load_d(const float* a, int k, double fill) { return VecD{k > 0 ? a[0] : fill, fill}; }
static inline void store_d(double* a, VecD x) { __builtin_memcpy(a, &x, 16); }
static inline void store_d(double* a, int k, VecD x) {
    if (k > 0) a[0] = x[0];
}
static inline VecD add(VecD a, VecD b) { return a + b; }
static inline VecD min(VecD a, VecD b) { return a < b ? a : b; }
static inline VecD max(VecD a, VecD b) { return a > b ? a : b; }
static inline VecD abs(VecD a) { return a < 0.0 ? -a : a; }
static inline VecD sub(VecD a, VecD b) { return a - b; }
// Not VecD{float(a[0]), float(a[1])}: GCC 12 makes a vector of that and forgets to round.
static inline VecD rounded(VecD a) { return __builtin_convertvector(__builtin_convertvector(a, HalfF), VecD); }
static inline void store_f(float* a, VecD x) {
    HalfF narrow = __builtin_convertvector(x, HalfF);
    __builtin_memcpy(a, &narrow, 8);
}
static inline void store_f(float* a, int k, VecD x) {
    if (k > 0) a[0] = static_cast<float>(x[0]);
}
static inline unsigned bits(VecL m) { return (m[0] & 1u) | (m[1] & 2u); }
static inline unsigned le_bits(VecD a, VecD b) { return bits(a <= b); }
static inline unsigned eq_bits(VecD a, VecD b) { return bits(a == b); }
static inline unsigned lt_bits(VecD a, VecD b) { return bits(a < b); }
static inline VecD select_lt(VecD a, VecD b, VecD yes, VecD no) { return a < b ? yes : no; }
static inline VecD gather(const double* a, const std::int32_t* index) { return VecD{a[index[0]], a[index[1]]}; }
static inline VecD numbers(const std::int32_t* a) { return VecD{double(a[0]), double(a[1])}; }
static inline double least(VecD a) { return a[0] < a[1] ? a[0] : a[1]; }

#endif

// Which magnitudes occur among `count` numbers, zeros and infinities aside: a bit of `coarse` for every 32 binades and
// of `fine` for every four, modulo 128 for float32 and 256 for float64. Plain loops, which the compiler makes vectors of.
static inline void note_magnitudes(const float* a, int count, std::uint64_t* fine, std::uint64_t* coarse) {
    std::uint32_t near = 0, far = 0;
    for (int k = 0; k < count; k++) {
        std::uint32_t word;
        __builtin_memcpy(&word, a + k, 4);
        word &= 0x7fffffffu;
        std::uint32_t one = word != 0 && word < 0x7f800000u ? 1u : 0u;
        near |= one << (word >> 25 & 31);
        far |= one << (word >> 28);
    }
    *fine = near;
    *coarse = far;
}

static inline void note_magnitudes(const double* a, int count, std::uint64_t* fine, std::uint64_t* coarse) {
    std::uint64_t near = 0, far = 0;
    for (int k = 0; k < count; k++) {
        std::uint64_t word;
        __builtin_memcpy(&word, a + k, 8);
        word &= 0x7fffffffffffffffu;
        std::uint64_t one = word != 0 && word < 0x7ff0000000000000u ? 1u : 0u;
        near |= one << (word >> 54 & 63);
        far |= one << (word >> 57);
    }
    *fine = near;
    *coarse = far;
}

}  // namespace
