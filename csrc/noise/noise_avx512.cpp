// Sixteen lanes: AVX-512 F.
#include <immintrin.h>

#include "noise/kernel.hpp"

namespace loomfast::noise {
namespace {

struct Avx512 {
    using F = __m512;
    using I = __m512i;
    using U = __m512i;  // 64-bit lanes
    static constexpr int kLanes = 16;

    static F floats(float a) { return _mm512_set1_ps(a); }
    static I ints(int32_t a) { return _mm512_set1_epi32(a); }
    static F add(F a, F b) { return _mm512_add_ps(a, b); }
    static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
    static F root(F a) { return _mm512_sqrt_ps(a); }
    static F to_float(I a) { return _mm512_cvtepi32_ps(a); }
    static I bits(F a) { return _mm512_castps_si512(a); }
    static F floats_of(I a) { return _mm512_castsi512_ps(a); }
    static I add(I a, I b) { return _mm512_add_epi32(a, b); }
    static I sub(I a, I b) { return _mm512_sub_epi32(a, b); }
    static I both(I a, I b) { return _mm512_and_si512(a, b); }
    static I either_not_both(I a, I b) { return _mm512_xor_si512(a, b); }
    static F flip(F a, I sign) { return floats_of(_mm512_xor_si512(bits(a), sign)); }
    static F choose(I mask, F a, F b) {
        return floats_of(_mm512_ternarylogic_epi32(mask, bits(a), bits(b), 0xCA));
    }
    template <int k> static I shift_left(I a) { return _mm512_slli_epi32(a, k); }
    template <int k> static I shift_right(I a) { return _mm512_srli_epi32(a, k); }
    template <int k> static I shift_right_signed(I a) { return _mm512_srai_epi32(a, k); }

    static U spread(uint32_t a) { return _mm512_set1_epi64(a); }
    static U load(const uint64_t* a) { return _mm512_load_si512(a); }
    static I load_words(const uint32_t* a) { return _mm512_load_si512(a); }
    static void store(I a, uint32_t* out) { _mm512_store_si512(out, a); }
    template <class Pair> static Pair deal(const uint64_t* a) {  // lanes hold blocks 0 4 8 12 1 5 9 13 ...
        const __m512i low = load(a), high = load(a + 8);
        return {_mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), high),
                _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), high)};
    }
    static U product(U a, U b) { return _mm512_mul_epu32(a, b); }
    static U high(U a) { return _mm512_srli_epi64(a, 32); }
    static U xor3(U a, U b, U c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
    static U add_wide(U a, U b) { return _mm512_add_epi64(a, b); }
    static I join(U even, U odd) { return _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA); }
    static void store_transposed(F n0, F n1, F n2, F n3, float* out) {
        const __m512d low01 = _mm512_castps_pd(_mm512_unpacklo_ps(n0, n1));
        const __m512d high01 = _mm512_castps_pd(_mm512_unpackhi_ps(n0, n1));
        const __m512d low23 = _mm512_castps_pd(_mm512_unpacklo_ps(n2, n3));
        const __m512d high23 = _mm512_castps_pd(_mm512_unpackhi_ps(n2, n3));
        _mm512_storeu_ps(out, _mm512_castpd_ps(_mm512_unpacklo_pd(low01, low23)));
        _mm512_storeu_ps(out + 16, _mm512_castpd_ps(_mm512_unpackhi_pd(low01, low23)));
        _mm512_storeu_ps(out + 32, _mm512_castpd_ps(_mm512_unpacklo_pd(high01, high23)));
        _mm512_storeu_ps(out + 48, _mm512_castpd_ps(_mm512_unpackhi_pd(high01, high23)));
    }
};

}  // namespace

const Level kAvx512 = level_of<Avx512>("avx512");

}  // namespace loomfast::noise
