// Eight lanes: AVX2.
#include <immintrin.h>

#include "noise/kernel.hpp"

namespace loomfast::noise {
namespace {

struct Avx2 {
    using F = __m256;
    using I = __m256i;
    using U = __m256i;  // 64-bit lanes
    static constexpr int kLanes = 8;

    static F floats(float a) { return _mm256_set1_ps(a); }
    static I ints(int32_t a) { return _mm256_set1_epi32(a); }
    static F add(F a, F b) { return _mm256_add_ps(a, b); }
    static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
    static F root(F a) { return _mm256_sqrt_ps(a); }
    static F to_float(I a) { return _mm256_cvtepi32_ps(a); }
    static I bits(F a) { return _mm256_castps_si256(a); }
    static F floats_of(I a) { return _mm256_castsi256_ps(a); }
    static I add(I a, I b) { return _mm256_add_epi32(a, b); }
    static I sub(I a, I b) { return _mm256_sub_epi32(a, b); }
    static I both(I a, I b) { return _mm256_and_si256(a, b); }
    static I either_not_both(I a, I b) { return _mm256_xor_si256(a, b); }
    static F flip(F a, I sign) { return _mm256_xor_ps(a, floats_of(sign)); }
    static F choose(I mask, F a, F b) { return _mm256_blendv_ps(b, a, floats_of(mask)); }
    template <int k> static I shift_left(I a) { return _mm256_slli_epi32(a, k); }
    template <int k> static I shift_right(I a) { return _mm256_srli_epi32(a, k); }
    template <int k> static I shift_right_signed(I a) { return _mm256_srai_epi32(a, k); }

    static U spread(uint32_t a) { return _mm256_set1_epi64x(a); }
    static U load(const uint64_t* a) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(a)); }
    static I load_words(const uint32_t* a) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(a)); }
    static void store(I a, uint32_t* out) { _mm256_store_si256(reinterpret_cast<__m256i*>(out), a); }
    template <class Pair> static Pair deal(const uint64_t* a) {  // lanes hold blocks 0 2 4 6 1 3 5 7
        const __m256i low = load(a), high = load(a + 4);
        const __m256i even = _mm256_unpacklo_epi64(low, high), odd = _mm256_unpackhi_epi64(low, high);
        return {_mm256_permute2x128_si256(even, odd, 0x20), _mm256_permute2x128_si256(even, odd, 0x31)};
    }
    static U product(U a, U b) { return _mm256_mul_epu32(a, b); }
    static U high(U a) { return _mm256_srli_epi64(a, 32); }
    static U xor3(U a, U b, U c) { return _mm256_xor_si256(_mm256_xor_si256(a, b), c); }
    static U add_wide(U a, U b) { return _mm256_add_epi64(a, b); }
    static I join(U even, U odd) { return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA); }
    static void store_transposed(F n0, F n1, F n2, F n3, float* out) {
        const __m256d low01 = _mm256_castps_pd(_mm256_unpacklo_ps(n0, n1));
        const __m256d high01 = _mm256_castps_pd(_mm256_unpackhi_ps(n0, n1));
        const __m256d low23 = _mm256_castps_pd(_mm256_unpacklo_ps(n2, n3));
        const __m256d high23 = _mm256_castps_pd(_mm256_unpackhi_ps(n2, n3));
        _mm256_storeu_ps(out, _mm256_castpd_ps(_mm256_unpacklo_pd(low01, low23)));
        _mm256_storeu_ps(out + 8, _mm256_castpd_ps(_mm256_unpackhi_pd(low01, low23)));
        _mm256_storeu_ps(out + 16, _mm256_castpd_ps(_mm256_unpacklo_pd(high01, high23)));
        _mm256_storeu_ps(out + 24, _mm256_castpd_ps(_mm256_unpackhi_pd(high01, high23)));
    }
};

}  // namespace

const Level kAvx2 = level_of<Avx2>("avx2");

}  // namespace loomfast::noise
