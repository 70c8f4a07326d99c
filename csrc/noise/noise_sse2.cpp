// Four lanes: what every x86-64 has.
#include <emmintrin.h>

#include "noise/kernel.hpp"

namespace loomfast::noise {
namespace {

struct Sse2 {
    using F = __m128;
    using I = __m128i;
    using U = __m128i;  // 64-bit lanes
    static constexpr int kLanes = 4;

    static F floats(float a) { return _mm_set1_ps(a); }
    static I ints(int32_t a) { return _mm_set1_epi32(a); }
    static F add(F a, F b) { return _mm_add_ps(a, b); }
    static F mul(F a, F b) { return _mm_mul_ps(a, b); }
    static F root(F a) { return _mm_sqrt_ps(a); }
    static F to_float(I a) { return _mm_cvtepi32_ps(a); }
    static I bits(F a) { return _mm_castps_si128(a); }
    static F floats_of(I a) { return _mm_castsi128_ps(a); }
    static I add(I a, I b) { return _mm_add_epi32(a, b); }
    static I sub(I a, I b) { return _mm_sub_epi32(a, b); }
    static I both(I a, I b) { return _mm_and_si128(a, b); }
    static I either_not_both(I a, I b) { return _mm_xor_si128(a, b); }
    static F flip(F a, I sign) { return _mm_xor_ps(a, floats_of(sign)); }
    static F choose(I mask, F a, F b) {
        return _mm_or_ps(_mm_and_ps(floats_of(mask), a), _mm_andnot_ps(floats_of(mask), b));
    }
    template <int k> static I shift_left(I a) { return _mm_slli_epi32(a, k); }
    template <int k> static I shift_right(I a) { return _mm_srli_epi32(a, k); }
    template <int k> static I shift_right_signed(I a) { return _mm_srai_epi32(a, k); }

    static U spread(uint32_t a) { return _mm_set1_epi64x(a); }
    static U load(const uint64_t* a) { return _mm_load_si128(reinterpret_cast<const __m128i*>(a)); }
    static I load_words(const uint32_t* a) { return _mm_load_si128(reinterpret_cast<const __m128i*>(a)); }
    static void store(I a, uint32_t* out) { _mm_store_si128(reinterpret_cast<__m128i*>(out), a); }
    template <class Pair> static Pair deal(const uint64_t* a) {  // lanes hold blocks 0 1 2 3
        const __m128i low = load(a), high = load(a + 2);
        return {_mm_unpacklo_epi64(low, high), _mm_unpackhi_epi64(low, high)};
    }
    static U product(U a, U b) { return _mm_mul_epu32(a, b); }
    static U high(U a) { return _mm_srli_epi64(a, 32); }
    static U xor3(U a, U b, U c) { return _mm_xor_si128(_mm_xor_si128(a, b), c); }
    static U add_wide(U a, U b) { return _mm_add_epi64(a, b); }
    static I join(U even, U odd) {
        return _mm_or_si128(_mm_and_si128(even, _mm_set1_epi64x(0xFFFFFFFF)), _mm_slli_epi64(odd, 32));
    }
    static void store_transposed(F n0, F n1, F n2, F n3, float* out) {
        _MM_TRANSPOSE4_PS(n0, n1, n2, n3);
        _mm_storeu_ps(out, n0);
        _mm_storeu_ps(out + 4, n1);
        _mm_storeu_ps(out + 8, n2);
        _mm_storeu_ps(out + 12, n3);
    }
};

}  // namespace

const Level kSse2 = level_of<Sse2>("sse2");

}  // namespace loomfast::noise
