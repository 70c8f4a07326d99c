// The vector form of philox.hpp.
//
// A group is one vector, kLanesF blocks. Philox runs on 64-bit lanes, one vector for the even float lanes and one
// for the odd, because the 32 x 32 -> 64 bit product leaves its result there: the low half is the product itself
// and needs no instruction. simd::deal puts blocks into lanes in such an order that transposing 4 x 4 within 128
// bits, the only shuffle that is cheap everywhere, puts the normals out in order.
//
// Philox and Box-Muller are loops of their own, with a tile of words between them: both are chains of dependent
// instructions, and a processor's window fills better with several turns of one than with one turn of both.
#include <cstdint>

#include "noise/kernels.hpp"
#include "noise/philox.hpp"
#include "simd/vectors.hpp"

namespace loomfast::noise {
namespace {

using namespace simd;
using simd::as_floats, simd::as_ints, simd::choose, simd::flip, simd::root, simd::to_floats;

// Two vectors, or two of these, in step: with the same operators and functions.
template <class T>
struct Two {
    T a, b;
};

#define LOOMFAST_OPERATOR(op)                                     \
    template <class T>                                            \
    LOOMFAST_INLINE Two<T> operator op(Two<T> x, Two<T> y) {      \
        return {x.a op y.a, x.b op y.b};                          \
    }                                                             \
    template <class T, class Number>                              \
    LOOMFAST_INLINE Two<T> operator op(Two<T> x, Number y) {      \
        return {x.a op y, x.b op y};                              \
    }
LOOMFAST_OPERATOR(+)
LOOMFAST_OPERATOR(-)
LOOMFAST_OPERATOR(*)
LOOMFAST_OPERATOR(&)
LOOMFAST_OPERATOR(^)
LOOMFAST_OPERATOR(<<)
LOOMFAST_OPERATOR(>>)

#define LOOMFAST_FUNCTION(name)                                             \
    template <class T>                                                      \
    LOOMFAST_INLINE auto name(Two<T> x) -> Two<decltype(name(x.a))> {       \
        return {name(x.a), name(x.b)};                                      \
    }
LOOMFAST_FUNCTION(as_floats)
LOOMFAST_FUNCTION(as_ints)
LOOMFAST_FUNCTION(root)
LOOMFAST_FUNCTION(to_floats)

template <class Mask, class T>
LOOMFAST_INLINE Two<T> choose(Two<Mask> mask, Two<T> x, Two<T> y) {
    return {choose(mask.a, x.a, y.a), choose(mask.b, x.b, y.b)};
}

template <class T, class Mask>
LOOMFAST_INLINE Two<T> flip(Two<T> x, Two<Mask> mask) {
    return {flip(x.a, mask.a), flip(x.b, mask.b)};
}

template <class Floats>
LOOMFAST_INLINE Floats log_f32(Floats u) {
    constexpr float poly[kLogTerms] = LOOMFAST_LOG_POLY;
    const auto t = as_ints(u) - kSqrtHalfBits;
    const Floats e = to_floats(t >> 23);
    const Floats f = as_floats((t & 0x7FFFFF) + kSqrtHalfBits) + -1.0f;
    Floats p = f * poly[0] + poly[1];
    for (int k = 2; k < kLogTerms; ++k) p = p * f + poly[k];
    const Floats z = f * f;
    const Floats tail = f * z * p + e * kLn2Low + z * -0.5f;
    return f + tail + e * kLn2High;
}

template <class Words, class Floats>
LOOMFAST_INLINE void box_muller(Words x0, Words x1, Floats& normal0, Floats& normal1) {
    const Floats u1 = to_floats(as_ints(x0 >> 1)) * kHalfStep + kTiny;
    const Floats r = root(log_f32(u1) * -2.0f);
    const Floats a = to_floats(as_ints(x1 << 2)) * kAngleUnit;
    const Floats z = a * a;
    const Floats s = ((z * kSin0 + kSin1) * z + kSin2) * (z * a) + a;
    const Floats c = ((z * kCos0 + kCos1) * z + kCos2) * (z * z) + z * -0.5f + 1.0f;
    // The quadrant q is the top two bits of w: q odd swaps, q in {2, 3} negates sine, q in {1, 2} cosine.
    constexpr std::uint32_t sign = 1u << 31;
    const Words w = x1 + (1u << 29), doubled = w << 1;
    const auto odd = as_ints(doubled) >> 31;
    normal0 = r * flip(choose(odd, s, c), (w ^ doubled) & sign);
    normal1 = r * flip(choose(odd, c, s), w & sign);
}

LOOMFAST_INLINE VecU spread(std::uint64_t value) { return VecU{} + value; }

LOOMFAST_INLINE Pair both(std::uint32_t value) { return {spread(value), spread(value)}; }

// The words of one group, word by word: those of the counters c0, c1, c2, c3.
LOOMFAST_INLINE void words_of_group(Pair c0, Pair c1, Pair c2, Pair c3, const Schedule& schedule, std::uint32_t* out) {
    const VecU m0 = spread(kMultiplier0), m1 = spread(kMultiplier1);
#pragma GCC unroll 10
    for (int round = 0; round < kRounds; ++round) {
        const VecU k0 = load<VecU>(schedule.word0[round]), k1 = load<VecU>(schedule.word1[round]);
        const Pair p0{product(c0.even, m0), product(c0.odd, m0)};
        const Pair p1{product(c2.even, m1), product(c2.odd, m1)};
        // The high half comes last, so that the rest is done by the time it is there.
        c0 = {xor3(c1.even, k0, p1.even >> 32), xor3(c1.odd, k0, p1.odd >> 32)};
        c2 = {xor3(c3.even, k1, p0.even >> 32), xor3(c3.odd, k1, p0.odd >> 32)};
        c1 = p1;
        c3 = p0;
    }
    store(out, join(c0.even, c0.odd));
    store(out + kLanesF, join(c1.even, c1.odd));
    store(out + 2 * kLanesF, join(c2.even, c2.odd));
    store(out + 3 * kLanesF, join(c3.even, c3.odd));
}

void words(std::uint32_t first, std::uint64_t id, std::uint32_t word3, const Schedule& schedule, std::int64_t groups,
           std::uint32_t* out) {
    alignas(64) std::uint64_t blocks[kLanesF];
    for (int lane = 0; lane < kLanesF; ++lane) blocks[lane] = static_cast<std::uint64_t>(first) + lane;
    Pair c0 = deal(blocks);
    const Pair c1 = both(static_cast<std::uint32_t>(id)), c2 = both(static_cast<std::uint32_t>(id >> 32));
    const Pair c3 = both(word3);
    for (std::int64_t g = 0; g < groups; ++g, out += 4 * kLanesF) {
        words_of_group(c0, c1, c2, c3, schedule, out);
        c0 = {c0.even + spread(kLanesF), c0.odd + spread(kLanesF)};
    }
}

void mixed_words(const std::uint64_t* blocks, const std::uint64_t* ids, std::uint32_t word3, const Schedule& schedule,
                 std::uint32_t* out) {
    const Pair low = deal(ids);  // what is above 32 bits is not looked at
    words_of_group(deal(blocks), low, {low.even >> 32, low.odd >> 32}, both(word3), schedule, out);
}

struct GroupWords {  // a group's: those of the radii and those of the angles of its two normals a lane
    Two<VecW> radii, angles;

    explicit GroupWords(const std::uint32_t* words)
        : radii{load<VecW>(words), load<VecW>(words + 2 * kLanesF)},
          angles{load<VecW>(words + kLanesF), load<VecW>(words + 3 * kLanesF)} {}
};

void normals_of_groups(const std::uint32_t* words, std::int64_t groups, float* out) {
    constexpr int size = 4 * kLanesF;
    for (; groups >= 2; groups -= 2, words += 2 * size, out += 2 * size) {
        const GroupWords first(words), second(words + size);
        Two<Two<VecF>> n0, n1;
        box_muller(Two<Two<VecW>>{first.radii, second.radii}, Two<Two<VecW>>{first.angles, second.angles}, n0, n1);
        store_transposed(n0.a.a, n1.a.a, n0.a.b, n1.a.b, out);
        store_transposed(n0.b.a, n1.b.a, n0.b.b, n1.b.b, out + size);
    }
    if (groups) {
        const GroupWords last(words);
        Two<VecF> n0, n1;
        box_muller(last.radii, last.angles, n0, n1);
        store_transposed(n0.a, n1.a, n0.b, n1.b, out);
    }
}

void to_doubles(const float* from, double* to, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) to[k] = from[k];
}

void to_bfloat16s(const float* from, std::uint16_t* to, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) {
        std::uint32_t b;
        __builtin_memcpy(&b, from + k, sizeof b);
        to[k] = static_cast<std::uint16_t>((b + 0x7FFFu + ((b >> 16) & 1u)) >> 16);
    }
}

void interpolate(const float* z, const float* x, float t, float* point, float* velocity, std::int64_t count) {
    const float rest = 1.0f - t;
    for (std::int64_t k = 0; k < count; ++k) {
        point[k] = t * x[k] + rest * z[k];
        velocity[k] = x[k] - z[k];
    }
}

// In so many lanes whatever the target has, so that all have the same bits: float32 sums of pieces, added in float64.
constexpr int kSumLanes = 16;
constexpr int kSumVectors = kSumLanes / kLanesF;
constexpr std::int64_t kSumPiece = 1024;
constexpr std::int64_t kFewDots = 16;  // numbers up to which all is float64: differences of these sums are small

void dots(const float* x, const float* z, std::int64_t count, double* sums) {
    double xx = 0, xz = 0, zz = 0;
    for (std::int64_t k = 0; count <= kFewDots && k < count; ++k) {
        const double a = x[k], b = z[k];
        xx += a * a, xz += a * b, zz += b * b;
    }
    for (std::int64_t begin = 0; count > kFewDots && begin < count; begin += kSumPiece) {
        const std::int64_t end = begin + kSumPiece < count ? begin + kSumPiece : count;
        VecF parts[3][kSumVectors] = {};
        std::int64_t k = begin;
        for (; k + kSumLanes <= end; k += kSumLanes) {
#pragma GCC unroll 4
            for (int v = 0; v < kSumVectors; ++v) {
                const VecF a = load<VecF>(x + k + v * kLanesF), b = load<VecF>(z + k + v * kLanesF);
                parts[0][v] += a * a, parts[1][v] += a * b, parts[2][v] += b * b;
            }
        }
        alignas(64) float lanes[3][kSumLanes];
        for (int part = 0; part < 3; ++part)
            for (int v = 0; v < kSumVectors; ++v) store(lanes[part] + v * kLanesF, parts[part][v]);
        for (int lane = 0; k < end; ++k, ++lane)
            lanes[0][lane] += x[k] * x[k], lanes[1][lane] += x[k] * z[k], lanes[2][lane] += z[k] * z[k];
        for (int lane = 0; lane < kSumLanes; ++lane) xx += lanes[0][lane], xz += lanes[1][lane], zz += lanes[2][lane];
    }
    sums[0] = xx, sums[1] = xz, sums[2] = zz;
}

void blend(float a, float b, const float* x, float* z, std::int64_t count) {
    for (std::int64_t k = 0; k < count; ++k) z[k] = a * z[k] + b * x[k];
}

}  // namespace

namespace LOOMFAST_TARGET {
const Kernels kernels = {kLanesF,      words,       mixed_words, normals_of_groups, to_doubles,
                         to_bfloat16s, interpolate, dots,        blend};
}

}  // namespace loomfast::noise
