// The end of a reduction that AVX2 and AVX-512 share.
#pragma once

#include <immintrin.h>

namespace loomfast::simd {
namespace {

// The least of all lanes of both, and the next.
inline double least_two_256(__m256d first, __m256d second, double* next) {
    const __m128d a = _mm256_castpd256_pd128(first), b = _mm256_extractf128_pd(first, 1);
    const __m128d c = _mm_min_pd(_mm256_castpd256_pd128(second), _mm256_extractf128_pd(second, 1));
    const __m128d low = _mm_min_pd(a, b), high = _mm_min_pd(_mm_max_pd(a, b), c);
    const __m128d other = _mm_unpackhi_pd(low, low);
    *next = _mm_cvtsd_f64(_mm_min_sd(_mm_max_sd(low, other), _mm_min_sd(high, _mm_unpackhi_pd(high, high))));
    return _mm_cvtsd_f64(_mm_min_sd(low, other));
}

}  // namespace
}  // namespace loomfast::simd
