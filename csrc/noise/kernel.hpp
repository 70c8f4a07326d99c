// The vector form of philox.hpp, written once over a set of lanes V and compiled once per instruction set.
//
// A group is one vector, V::kLanes blocks. Philox runs on 64-bit lanes, one vector for the even float lanes and one
// for the odd, because the 32 x 32 -> 64 bit product leaves its result there: the low half is the product itself
// and needs no instruction. V::deal puts blocks into lanes in such an order that transposing 4 x 4 within 128
// bits, the only shuffle that is cheap everywhere, puts the normals out in order.
//
// Philox and Box-Muller are loops of their own, with a tile of words between them: both are chains of dependent
// instructions, and a processor's window fills better with several turns of one than with one turn of both.
//
// Everything is in an unnamed namespace: code for one instruction set must not be linked in for another.
#pragma once

#include <cstdint>

#include "noise/levels.hpp"
#include "noise/philox.hpp"

#define LOOMFAST_INLINE __attribute__((always_inline)) inline

namespace loomfast::noise {
namespace {

// Two of V's vectors in step.
template <class V>
struct Twice {
    struct F {
        typename V::F a, b;
    };
    struct I {
        typename V::I a, b;
    };

    static F floats(float x) { return {V::floats(x), V::floats(x)}; }
    static I ints(int32_t x) { return {V::ints(x), V::ints(x)}; }
    static F add(F x, F y) { return {V::add(x.a, y.a), V::add(x.b, y.b)}; }
    static F mul(F x, F y) { return {V::mul(x.a, y.a), V::mul(x.b, y.b)}; }
    static F root(F x) { return {V::root(x.a), V::root(x.b)}; }
    static F to_float(I x) { return {V::to_float(x.a), V::to_float(x.b)}; }
    static I bits(F x) { return {V::bits(x.a), V::bits(x.b)}; }
    static F floats_of(I x) { return {V::floats_of(x.a), V::floats_of(x.b)}; }
    static I add(I x, I y) { return {V::add(x.a, y.a), V::add(x.b, y.b)}; }
    static I sub(I x, I y) { return {V::sub(x.a, y.a), V::sub(x.b, y.b)}; }
    static I both(I x, I y) { return {V::both(x.a, y.a), V::both(x.b, y.b)}; }
    static I either_not_both(I x, I y) {
        return {V::either_not_both(x.a, y.a), V::either_not_both(x.b, y.b)};
    }
    static F flip(F x, I y) { return {V::flip(x.a, y.a), V::flip(x.b, y.b)}; }
    static F choose(I m, F x, F y) { return {V::choose(m.a, x.a, y.a), V::choose(m.b, x.b, y.b)}; }
    template <int k> static I shift_left(I x) {
        return {V::template shift_left<k>(x.a), V::template shift_left<k>(x.b)};
    }
    template <int k> static I shift_right(I x) {
        return {V::template shift_right<k>(x.a), V::template shift_right<k>(x.b)};
    }
    template <int k> static I shift_right_signed(I x) {
        return {V::template shift_right_signed<k>(x.a), V::template shift_right_signed<k>(x.b)};
    }
};

template <class V>
struct Pair {  // the same word of all counters of a group
    typename V::U even, odd;

    static Pair all(uint32_t value) { return {V::spread(value), V::spread(value)}; }
};

template <class V>
LOOMFAST_INLINE typename V::F log_f32(typename V::F u) {
    constexpr float poly[kLogTerms] = LOOMFAST_LOG_POLY;
    const auto t = V::sub(V::bits(u), V::ints(kSqrtHalfBits));
    const auto e = V::to_float(V::template shift_right_signed<23>(t));
    const auto m = V::floats_of(V::add(V::both(t, V::ints(0x7FFFFF)), V::ints(kSqrtHalfBits)));
    const auto f = V::add(m, V::floats(-1.0f));
    auto p = V::floats(poly[0]);
    for (int k = 1; k < kLogTerms; ++k) p = V::add(V::mul(p, f), V::floats(poly[k]));
    const auto z = V::mul(f, f);
    auto tail = V::add(V::mul(V::mul(f, z), p), V::mul(e, V::floats(kLn2Low)));
    tail = V::add(tail, V::mul(V::floats(-0.5f), z));
    return V::add(V::add(f, tail), V::mul(e, V::floats(kLn2High)));
}

template <class V>
LOOMFAST_INLINE void box_muller(typename V::I x0, typename V::I x1, typename V::F& normal0,
                                typename V::F& normal1) {
    const auto half = V::to_float(V::template shift_right<1>(x0));
    const auto u1 = V::add(V::mul(half, V::floats(kHalfStep)), V::floats(kTiny));
    const auto r = V::root(V::mul(V::floats(-2.0f), log_f32<V>(u1)));
    const auto a = V::mul(V::to_float(V::template shift_left<2>(x1)), V::floats(kAngleUnit));
    const auto z = V::mul(a, a);
    auto s = V::add(V::mul(V::floats(kSin0), z), V::floats(kSin1));
    s = V::add(V::mul(s, z), V::floats(kSin2));
    s = V::add(V::mul(s, V::mul(z, a)), a);
    auto c = V::add(V::mul(V::floats(kCos0), z), V::floats(kCos1));
    c = V::add(V::mul(c, z), V::floats(kCos2));
    c = V::add(V::mul(c, V::mul(z, z)), V::mul(V::floats(-0.5f), z));
    c = V::add(c, V::floats(1.0f));
    // The quadrant q is the top two bits of w: q odd swaps, q in {2, 3} negates sine, q in {1, 2} cosine.
    const auto w = V::add(x1, V::ints(1 << 29));
    const auto doubled = V::template shift_left<1>(w);
    const auto odd = V::template shift_right_signed<31>(doubled);
    const auto sign = V::ints(INT32_MIN);
    const auto cosine = V::flip(V::choose(odd, s, c), V::both(V::either_not_both(w, doubled), sign));
    const auto sine = V::flip(V::choose(odd, c, s), V::both(w, sign));
    normal0 = V::mul(r, cosine);
    normal1 = V::mul(r, sine);
}

template <class V>
LOOMFAST_INLINE void words_of_group(Pair<V> c0, Pair<V> c1, Pair<V> c2, Pair<V> c3, const Schedule& schedule,
                                    uint32_t* words) {
    const auto m0 = V::spread(kMultiplier0), m1 = V::spread(kMultiplier1);
#pragma GCC unroll 10
    for (int round = 0; round < kRounds; ++round) {
        const auto k0 = V::load(schedule.word0[round]), k1 = V::load(schedule.word1[round]);
        const Pair<V> p0{V::product(c0.even, m0), V::product(c0.odd, m0)};
        const Pair<V> p1{V::product(c2.even, m1), V::product(c2.odd, m1)};
        // The high half comes last, so that the rest is done by the time it is there.
        c0 = {V::xor3(c1.even, k0, V::high(p1.even)), V::xor3(c1.odd, k0, V::high(p1.odd))};
        c2 = {V::xor3(c3.even, k1, V::high(p0.even)), V::xor3(c3.odd, k1, V::high(p0.odd))};
        c1 = p1;
        c3 = p0;
    }
    V::store(V::join(c0.even, c0.odd), words);
    V::store(V::join(c1.even, c1.odd), words + V::kLanes);
    V::store(V::join(c2.even, c2.odd), words + 2 * V::kLanes);
    V::store(V::join(c3.even, c3.odd), words + 3 * V::kLanes);
}

template <class V>
void words(uint32_t first, uint64_t id, uint32_t word3, const Schedule& schedule, int64_t groups, uint32_t* out) {
    alignas(64) uint64_t blocks[V::kLanes];
    for (int lane = 0; lane < V::kLanes; ++lane) blocks[lane] = static_cast<uint64_t>(first) + lane;
    Pair<V> c0 = V::template deal<Pair<V>>(blocks);
    const auto c1 = Pair<V>::all(static_cast<uint32_t>(id)), c2 = Pair<V>::all(static_cast<uint32_t>(id >> 32));
    const auto c3 = Pair<V>::all(word3);
    const auto step = V::spread(V::kLanes);
    for (int64_t g = 0; g < groups; ++g, out += 4 * V::kLanes) {
        words_of_group<V>(c0, c1, c2, c3, schedule, out);
        c0 = {V::add_wide(c0.even, step), V::add_wide(c0.odd, step)};
    }
}

template <class V>
void mixed_words(const uint64_t* blocks, const uint64_t* ids, uint32_t word3, const Schedule& schedule,
                 uint32_t* out) {
    const Pair<V> low = V::template deal<Pair<V>>(ids);  // what is above 32 bits is not looked at
    const Pair<V> high{V::high(low.even), V::high(low.odd)};
    words_of_group<V>(V::template deal<Pair<V>>(blocks), low, high, Pair<V>::all(word3), schedule, out);
}

template <class V>
struct GroupWords {  // a group's: those of the radii and those of the angles of its two normals a lane
    typename Twice<V>::I radii, angles;

    explicit GroupWords(const uint32_t* words)
        : radii{V::load_words(words), V::load_words(words + 2 * V::kLanes)},
          angles{V::load_words(words + V::kLanes), V::load_words(words + 3 * V::kLanes)} {}
};

template <class V>
void normals_of_groups(const uint32_t* words, int64_t groups, float* out) {
    constexpr int size = 4 * V::kLanes;
    using Group = Twice<V>;
    using Groups = Twice<Group>;
    for (; groups >= 2; groups -= 2, words += 2 * size, out += 2 * size) {
        const GroupWords<V> first(words), second(words + size);
        typename Groups::F n0, n1;
        box_muller<Groups>({first.radii, second.radii}, {first.angles, second.angles}, n0, n1);
        V::store_transposed(n0.a.a, n1.a.a, n0.a.b, n1.a.b, out);
        V::store_transposed(n0.b.a, n1.b.a, n0.b.b, n1.b.b, out + size);
    }
    if (groups) {
        const GroupWords<V> last(words);
        typename Group::F n0, n1;
        box_muller<Group>(last.radii, last.angles, n0, n1);
        V::store_transposed(n0.a, n1.a, n0.b, n1.b, out);
    }
}

void to_doubles(const float* from, double* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) to[k] = from[k];
}

void to_bfloat16s(const float* from, uint16_t* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
        uint32_t b;
        __builtin_memcpy(&b, from + k, sizeof b);
        to[k] = static_cast<uint16_t>((b + 0x7FFFu + ((b >> 16) & 1u)) >> 16);
    }
}

void interpolate(const float* z, const float* x, float t, float* point, float* velocity, int64_t count) {
    const float rest = 1.0f - t;
    for (int64_t k = 0; k < count; ++k) {
        point[k] = t * x[k] + rest * z[k];
        velocity[k] = x[k] - z[k];
    }
}

template <class V>
constexpr Level level_of(const char* name) {
    return {name,         V::kLanes,  words<V>,    mixed_words<V>, normals_of_groups<V>,
            to_doubles, to_bfloat16s, interpolate};
}

}  // namespace
}  // namespace loomfast::noise
