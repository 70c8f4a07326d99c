// The inner loops of the auction and of the exact rows.
//
// A bid. Row i finds its least value w1 = c_ij + p_j at column j and the second least w2, takes j and
// raises its price by w2 - w1 + eps, so that j stays within eps of being its best choice; the row that held
// j bids next. Bertsekas 1988, "The auction algorithm".
//
// A scan. The values of a row fall into 8 lanes; the largest of the lanes' minima, T, has about
// 8 (ln 8 + .58) = 22 values at or below it, which become the row's cache. A second scan starts from a
// guess, the row's best cached value plus the width that held 10 to 24 candidates last time, and then
// needs one pass. Comparison masks are written without branches and decoded afterwards: a branch per
// vector costs 1.7 times as much.
#include "assignment/cpu/kernels.hpp"
#include "simd/vectors.hpp"

namespace loomfast::assignment {

namespace {

using namespace simd;

static inline int popcount(std::uint64_t a) { return __builtin_popcountll(a); }

// ---- scans ----------------------------------------------------------------------------------------------

static inline VecF load_row(const float* row, std::int32_t j, std::int32_t m) {
    return j + kLanesF <= m ? load_f(row + j) : load_f(row + j, m - j, kInfF);
}

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

static inline VecI bits_of(VecF a) { return (VecI)a; }
static inline VecL bits_of(VecD a) { return (VecL)a; }

// One more, without overflow.
static inline VecI next(VecI bits) { return (VecI)((VecW)bits + 1u); }
static inline VecL next(VecL bits) { return (VecL)((VecU)bits + 1u); }

static inline VecF as_numbers(VecI bits) { return (VecF)bits; }
static inline VecD as_numbers(VecL bits) { return (VecD)bits; }

template <class Bits>
static inline Bits larger(Bits a, Bits b) { return a > b ? a : b; }
template <class Bits>
static inline Bits smaller(Bits a, Bits b) { return a < b ? a : b; }

static inline VecF set(float a) { return set_f(a); }
static inline VecD set(double a) { return set_d(a); }

static inline float greatest(VecF a) { return -least(-a); }
static inline double greatest(VecD a) { return -least(-a); }

template <class T>
constexpr T kSmallest = sizeof(T) == 8 ? static_cast<T>(__DBL_DENORM_MIN__) : static_cast<T>(__FLT_DENORM_MIN__);
template <class T>
constexpr T kLargest = sizeof(T) == 8 ? static_cast<T>(__DBL_MAX__) : static_cast<T>(__FLT_MAX__);
template <class T>
constexpr unsigned kAllLanes = sizeof(T) == 8 ? (1u << kLanesD) - 1u : (1u << kLanesF) - 1u;

// Marks the magnitudes from `least` to `largest`, if they are so close that it does not matter which of them occur.
template <class T>
static inline bool mark_between(T least, T largest, RowFacts* facts) {
    constexpr int mantissa = sizeof(T) == 8 ? 52 : 23, bits = sizeof(T) == 8 ? 64 : 32;
    std::uint64_t low = 0, high = 0;
    __builtin_memcpy(&low, &least, sizeof(T));
    __builtin_memcpy(&high, &largest, sizeof(T));
    low >>= mantissa + 2;
    high >>= mantissa + 2;
    if (high > low + 3) return false;
    for (; low <= high; low++) {
        facts->fine |= std::uint64_t{1} << (low & (bits - 1));
        facts->coarse |= std::uint64_t{1} << (low >> 3);
    }
    return true;
}

// The facts of a row whose entries are not all finite, entry by entry.
template <class T>
static bool survey_any(const T* row, std::int32_t m, RowFacts* facts) {
    constexpr T infinity = __builtin_inff();
    T low = infinity, smallest = infinity, largest = 0;
    bool numbers = true;
    for (std::int32_t j = 0; j < m; j++) {
        const T c = row[j], a = c < 0 ? -c : c;
        numbers &= c == c;
        facts->forbidden |= c == infinity;
        facts->zero |= c == 0;
        low = c < low ? c : low;
        largest = a < infinity && a > largest ? a : largest;
        smallest = a > 0 && a < smallest ? a : smallest;
    }
    facts->least = low;
    facts->largest = largest;
    if (largest > 0 && !mark_between(smallest, largest, facts)) note_magnitudes(row, m, &facts->fine, &facts->coarse);
    return numbers && facts->least > -kInfD;
}

// The bits of positive numbers, as integers, are in their order; infinity comes after all of them and NaN after it. False,
// with nothing known, if an entry is zero, negative, infinite or NaN.
template <class T>
static inline bool survey_positive(const T* row, std::int32_t m, RowFacts* facts) {
    using Vec = std::conditional_t<sizeof(T) == 4, VecF, VecD>;
    using Bits = decltype(bits_of(Vec{}));
    constexpr int lanes = sizeof(Vec) / sizeof(T);
    const Vec zero = set(T{0});
    if (m < 2 * lanes || (le_bits(load<Vec>(row), zero) | le_bits(load<Vec>(row + lanes), zero))) return false;
    Bits low[2] = {bits_of(load<Vec>(row)), bits_of(load<Vec>(row + lanes))}, high[2] = {low[0], low[1]};
    for (std::int32_t j = 2 * lanes; j < m; j += 2 * lanes) {
        const std::int32_t at = j + 2 * lanes <= m ? j : m - 2 * lanes;
        for (int k = 0; k < 2; k++) {
            const Bits c = bits_of(load<Vec>(row + at + k * lanes));
            low[k] = smaller(c, low[k]);
            high[k] = larger(c, high[k]);
        }
    }
    const Vec lows = as_numbers(smaller(low[0], low[1])), highs = as_numbers(larger(high[0], high[1]));
    if (le_bits(set(kSmallest<T>), lows) != kAllLanes<T> || le_bits(highs, set(kLargest<T>)) != kAllLanes<T>) return false;
    const T least_cost = least(lows), largest = greatest(highs);
    facts->least = least_cost;
    facts->largest = largest;
    if (!mark_between(least_cost, largest, facts)) note_magnitudes(row, m, &facts->fine, &facts->coarse);
    return true;
}

// The same for magnitudes.
template <class T>
static bool survey(const T* row, std::int32_t m, RowFacts* facts) {
    using Vec = std::conditional_t<sizeof(T) == 4, VecF, VecD>;
    using Bits = decltype(bits_of(Vec{}));
    constexpr int lanes = sizeof(Vec) / sizeof(T);
    constexpr T infinity = __builtin_inff();
    *facts = {};
    if (survey_positive(row, m, facts)) return true;
    const Bits magnitude = ~bits_of(set(T{-0.0}));  // all but the sign
    Vec low[2] = {set(infinity), set(infinity)};
    Bits top[2] = {}, smallest[2] = {magnitude, magnitude};  // smallest: less one, so that zero comes last
    Bits nearest[2] = {magnitude, magnitude};                // to zero
    const auto look = [&](Vec c, int k) {
        const Bits a = bits_of(c) & magnitude;
        low[k] = min(c, low[k]);
        top[k] = larger(a, top[k]);
        smallest[k] = smaller((a - 1) & magnitude, smallest[k]);
        if constexpr (sizeof(T) == 8) nearest[k] = smaller(a, nearest[k]);
    };
    std::int32_t j = 0;
    for (; j + 2 * lanes <= m; j += 2 * lanes) {
        look(load<Vec>(row + j), 0);
        look(load<Vec>(row + j + lanes), 1);
    }
    if (m == 0) return survey_any(row, m, facts);
    if (j > 0 && j < m) {  // the last ones, some of them again
        look(load<Vec>(row + m - 2 * lanes), 0);
        look(load<Vec>(row + m - lanes), 1);
    } else if (j < m) {
        T rest[2 * lanes];
        for (int k = 0; k < 2 * lanes; k++) rest[k] = k < m ? row[k] : row[0];
        look(load<Vec>(rest), 0);
        look(load<Vec>(rest + lanes), 1);
    }
    const Vec tops = as_numbers(larger(top[0], top[1])), smalls = as_numbers(next(smaller(smallest[0], smallest[1])));
    if (le_bits(tops, set(kLargest<T>)) != kAllLanes<T>) return survey_any(row, m, facts);
    const Vec zero = set(T{0});
    const T largest = greatest(tops), least_magnitude = least(select_lt(zero, smalls, smalls, set(infinity)));
    facts->zero = eq_bits(as_numbers(smaller(nearest[0], nearest[1])), zero) != 0;
    facts->least = least(min(low[0], low[1]));
    facts->largest = largest;
    if (largest > 0 && !mark_between(least_magnitude, largest, facts))
        note_magnitudes(row, m, &facts->fine, &facts->coarse);
    return true;
}

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define LOOMFAST_SHUFFLES
#endif
#endif

// Columns of memory as rows, four by four.
template <class T>
static void turn(const T* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, T* to,
                 std::int64_t to_stride) {
    std::int64_t j = 0;
#ifdef LOOMFAST_SHUFFLES
    typedef T Quad __attribute__((vector_size(4 * sizeof(T))));
    for (; j + 4 <= cols; j += 4) {
        const T* column = from + j * from_stride;
        std::int64_t i = 0;
        for (; i + 4 <= rows; i += 4) {
            Quad a, b, c, d;
            __builtin_memcpy(&a, column + i, sizeof a);
            __builtin_memcpy(&b, column + from_stride + i, sizeof b);
            __builtin_memcpy(&c, column + 2 * from_stride + i, sizeof c);
            __builtin_memcpy(&d, column + 3 * from_stride + i, sizeof d);
            const Quad ac = __builtin_shufflevector(a, c, 0, 4, 1, 5), bd = __builtin_shufflevector(b, d, 0, 4, 1, 5);
            const Quad ca = __builtin_shufflevector(a, c, 2, 6, 3, 7), db = __builtin_shufflevector(b, d, 2, 6, 3, 7);
            const Quad row[4] = {__builtin_shufflevector(ac, bd, 0, 4, 1, 5), __builtin_shufflevector(ac, bd, 2, 6, 3, 7),
                                 __builtin_shufflevector(ca, db, 0, 4, 1, 5), __builtin_shufflevector(ca, db, 2, 6, 3, 7)};
            for (int k = 0; k < 4; k++) __builtin_memcpy(to + (i + k) * to_stride + j, &row[k], sizeof row[k]);
        }
        for (; i < rows; i++)
            for (int k = 0; k < 4; k++) to[i * to_stride + j + k] = column[k * from_stride + i];
    }
#endif
    for (; j < cols; j++)
        for (std::int64_t i = 0; i < rows; i++) to[i * to_stride + j] = from[j * from_stride + i];
}

static bool convert(const double* row, double shift, const double* column_shift, std::int32_t m, float* out,
                    double* column_min) {
    const VecD s = set_d(shift);
    unsigned same = column_shift ? 0u : ~0u;
    auto shifted = [&](VecD c, std::int32_t j) {
        VecD v = sub(c, s);
        if (column_shift) return sub(v, load_d(column_shift + j));
        same &= eq_bits(rounded(v), v) & eq_bits(add(v, s), c);
        return v;
    };
    std::int32_t j = 0;
    for (; j + kLanesD <= m; j += kLanesD) {
        VecD v = shifted(load_d(row + j), j);
        store_f(out + j, v);
        if (column_min) store_d(column_min + j, min(v, load_d(column_min + j)));
    }
    if (j < m) {
        VecD v = shifted(load_d(row + j, m - j, kInfD), j);
        store_f(out + j, m - j, v);
        if (column_min) store_d(column_min + j, m - j, min(v, load_d(column_min + j)));
    }
    constexpr unsigned all = (1u << kLanesD) - 1u;
    return (same & all) == all;
}

static void fold_min(const float* rows, std::int64_t stride, const double* shifts, std::int32_t count, std::int32_t m,
                     double* column_min) {
    constexpr std::int32_t side = 4;  // rows that are folded together, to store the minima less often
    std::int32_t i = 0;
    for (; i + side <= count; i += side) {
        const float *a = rows + i * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        const VecD s = set_d(shifts[i]), t = set_d(shifts[i + 1]), u = set_d(shifts[i + 2]), v = set_d(shifts[i + 3]);
        std::int32_t j = 0;
        for (; j + kLanesD <= m; j += kLanesD) {
            const VecD first = min(sub(load_d(a + j), s), sub(load_d(b + j), t));
            const VecD second = min(sub(load_d(c + j), u), sub(load_d(d + j), v));
            store_d(column_min + j, min(min(first, second), load_d(column_min + j)));
        }
        for (; j < m; j++)
            for (std::int32_t k = 0; k < side; k++) {
                const double value = a[k * stride + j] - shifts[i + k];
                column_min[j] = value < column_min[j] ? value : column_min[j];
            }
    }
    for (; i < count; i++) {
        const float* row = rows + i * stride;
        const VecD s = set_d(shifts[i]);
        std::int32_t j = 0;
        for (; j + kLanesD <= m; j += kLanesD)
            store_d(column_min + j, min(sub(load_d(row + j), s), load_d(column_min + j)));
        if (j < m) store_d(column_min + j, m - j, min(sub(load_d(row + j, m - j, kInfD), s), load_d(column_min + j)));
    }
}

static std::int32_t first_at(const float* row, float value, std::int32_t m) {
    const VecF target = set_f(value);
    std::int32_t j = 0;
    for (; j + 2 * kLanesF <= m; j += 2 * kLanesF) {
        const unsigned first = eq_bits(load_f(row + j), target), second = eq_bits(load_f(row + j + kLanesF), target);
        if (first | second) return j + (first ? __builtin_ctz(first) : kLanesF + __builtin_ctz(second));
    }
    for (; j < m; j++)
        if (row[j] == value) return j;
    return -1;
}

static std::int32_t first_equal(const float* row, float shift, const float* wanted, std::int32_t m) {
    const VecF s = set_f(shift);
    std::int32_t j = 0;
    for (; j + 4 * kLanesF <= m; j += 4 * kLanesF) {
        unsigned equal = 0;
#pragma GCC unroll 4
        for (int k = 0; k < 4 * kLanesF; k += kLanesF)
            equal |= eq_bits(sub(load_f(row + j + k), s), load_f(wanted + j + k));
        if (equal) break;
    }
    for (; j < m; j += kLanesF) {
        unsigned b = eq_bits(sub(load_row(row, j, m), s), load_f(wanted + j));
        if (b) return j + __builtin_ctz(b) < m ? j + __builtin_ctz(b) : -1;
    }
    return -1;
}

// Masks of c_j + p_j <= threshold, 64 columns a word; returns how many are set.
static inline std::int32_t mask_below(const float* c, const float* pf, std::int32_t m, float threshold,
                                      std::uint64_t* mask) {
    const VecF t = set_f(threshold);
    std::int32_t j = 0, count = 0;
    for (; j + 64 <= m; j += 64) {
        std::uint64_t word = 0;
#pragma GCC unroll 16
        for (int k = 0; k < 64; k += kLanesF)
            word |= std::uint64_t{le_bits(add(load_f(c + j + k), load_f(pf + j + k)), t)} << k;
        *mask++ = word;
        count += popcount(word);
    }
    if (j < m) {
        std::uint64_t word = 0;
        for (int k = 0; j < m; j += kLanesF, k += kLanesF) {
            VecF cost = j + kLanesF <= m ? load_f(c + j) : load_f(c + j, m - j, kInfF);
            word |= std::uint64_t{le_bits(add(cost, load_f(pf + j)), t)} << k;
        }
        *mask = word;
        count += popcount(word);
    }
    return count;
}

// The largest of 8 lanes' minima of c + p; `best` is the least of all.
static inline float threshold_of(const float* c, const float* pf, std::int32_t m, float* best) {
    VecF a[4] = {set_f(kInfF), set_f(kInfF), set_f(kInfF), set_f(kInfF)};
    std::int32_t j = 0;
    for (; j + 4 * kLanesF <= m; j += 4 * kLanesF)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            a[k] = min(a[k], add(load_f(c + j + k * kLanesF), load_f(pf + j + k * kLanesF)));
    for (int k = 0; j < m; j += kLanesF, k = (k + 1) & 3) {
        VecF cost = j + kLanesF <= m ? load_f(c + j) : load_f(c + j, m - j, kInfF);
        a[k] = min(a[k], add(cost, load_f(pf + j)));
    }
    a[0] = min(a[0], a[2]);
    a[1] = min(a[1], a[3]);
    if (kLanesF > 4) a[0] = min(a[0], a[1]);
    float lane[16];
    store_f(lane, a[0]);
    if (kLanesF == 4) store_f(lane + 4, a[1]);
    float least_value = kInfF, threshold = -kInfF;
    for (int k = 0; k < 8; k++) {
        float v = kLanesF == 16 && lane[k + 8] < lane[k] ? lane[k + 8] : lane[k];
        least_value = v < least_value ? v : least_value;
        threshold = v > threshold ? v : threshold;
    }
    *best = least_value;
    return threshold < kInfF ? threshold : __FLT_MAX__;
}

// The second least of the minima of some lanes, which the least two values are rarely both in.
static float second_least(const float* c, const float* pf, std::int32_t m) {
    VecF a[4] = {set_f(kInfF), set_f(kInfF), set_f(kInfF), set_f(kInfF)};
    std::int32_t j = 0;
    for (; j + 4 * kLanesF <= m; j += 4 * kLanesF)
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            a[k] = min(a[k], add(load_f(c + j + k * kLanesF), load_f(pf + j + k * kLanesF)));
    for (int k = 0; j < m; j += kLanesF, k++) a[k] = min(a[k], add(load_row(c, j, m), load_f(pf + j)));
    const VecF first = min(a[0], a[1]), other = min(a[2], a[3]), low = min(first, other);
    const VecF high = min(max(first, other), min(max(a[0], a[1]), max(a[2], a[3])));
    float second;
    least_two(low, high, &second);
    return second;
}

static void decode(const std::uint64_t* mask, std::int32_t m, std::int32_t* out) {
    for (std::int32_t base = 0; base < m; base += 64)
        for (std::uint64_t word = *mask++; word; word &= word - 1) *out++ = base + __builtin_ctzll(word);
}

static std::int32_t columns_below(const float* row, const float* pf, std::int32_t m, float threshold,
                                  std::uint64_t* mask, std::int32_t most, std::int32_t* out) {
    std::int32_t count = mask_below(row, pf, m, threshold, mask);
    if (count > 0 && count <= most) decode(mask, m, out);
    return count;
}

static void scan(State& s, std::int32_t r, float guess) {
    s.scans++;
    const float* c = s.costs + s.stride * r;
    float threshold = guess;
    std::int32_t count = 0;
    bool accepted = false;
    if (guess > -kInfF) {
        count = mask_below(c, s.pf, s.m, threshold, s.mask);
        accepted = count >= 4 && count <= kCacheSize;
        if (accepted)
            s.width[r] *= count < 10 ? 1.4f : count > 24 ? 0.75f : 1.0f;
    }
    if (!accepted) {
        float best;
        threshold = threshold_of(c, s.pf, s.m, &best);
        s.width[r] = threshold - best;
        count = mask_below(c, s.pf, s.m, threshold, s.mask);
    }
    std::int32_t* col = s.cache_col + std::int64_t{r} * kCacheSize;
    float* cost = s.cache_cost + std::int64_t{r} * kCacheSize;
    s.bound[r] = threshold;
    if (count > kCacheSize) {
        decode(s.mask, s.m, s.hit);
        for (std::int32_t k = 0; k < count; k++) {
            float value = c[s.hit[k]] + s.pf[s.hit[k]];
            s.hit_value[k] = value < kInfF ? value : kInfF;  // a NaN would take the sort out of its array
        }
        s.bound[r] = s.partition(s, count, kCacheSize);
        count = kCacheSize;
        for (std::int32_t k = 0; k < count; k++) col[k] = s.hit[k];
    } else {
        decode(s.mask, s.m, col);
    }
    for (std::int32_t k = 0; k < count; k++) cost[k] = c[col[k]];
    for (std::int32_t k = count; k & 7; k++) {
        col[k] = 0;
        cost[k] = kInfF;
    }
    s.cache_size[r] = count;
}

// ---- best and second best -------------------------------------------------------------------------------

// Two running minima per lane with their indices, merged at the end.
struct Lanes {
    VecD w1 = set_d(kInfD), w2 = set_d(kInfD), j1 = set_d(-1.0), j2 = set_d(-1.0);

    inline void put(VecD v, VecD j) {
        VecD loser = max(v, w1), loser_j = select_lt(v, w1, j1, j);
        j1 = select_lt(v, w1, j, j1);
        w1 = min(w1, v);
        j2 = select_lt(loser, w2, loser_j, j2);
        w2 = min(w2, loser);
    }

    inline BestTwo merged() const {
        double j[kLanesD];
        store_d(j, j1);
        const double best = least(w1);
        const VecD target = set_d(best);
        unsigned at = eq_bits(w1, target);
        if (!(best < kInfD)) return {kInfD, kInfD, -1, -1};
        BestTwo b{best, best, static_cast<std::int32_t>(j[__builtin_ctz(at)]), -1};
        if (at &= at - 1) {
            b.j2 = static_cast<std::int32_t>(j[__builtin_ctz(at)]);
            return b;
        }
        VecD rest = select_lt(target, w1, w1, w2);  // the winner's lane gives its second, the others their first
        b.w2 = least(rest);
        if (b.w2 < kInfD) {
            store_d(j, select_lt(target, w1, j1, j2));
            b.j2 = static_cast<std::int32_t>(j[__builtin_ctz(eq_bits(rest, set_d(b.w2)))]);
        }
        return b;
    }
};

template <class C>
static BestTwo best_two_cached(const std::int32_t* col, const C* cost, std::int32_t size, const double* p) {
    Lanes lanes;
    for (std::int32_t k = 0; k < size; k += kLanesD)
        lanes.put(add(load_d(cost + k), gather(p, col + k)), numbers(col + k));
    return lanes.merged();
}

// The same without the second column.
template <class C>
static inline BestTwo best_cached(const std::int32_t* col, const C* cost, std::int32_t size, const double* p) {
    VecD w1 = set_d(kInfD), w2 = w1, j1 = set_d(-1.0);
    for (std::int32_t k = 0; k < size; k += kLanesD) {
        const VecD v = add(load_d(cost + k), gather(p, col + k));
        j1 = select_lt(v, w1, numbers(col + k), j1);
        w2 = min(w2, max(v, w1));
        w1 = min(w1, v);
    }
    BestTwo b{kInfD, kInfD, -1, -1};
    const double best = least_two(w1, w2, &b.w2);
    if (!(best < kInfD)) return {kInfD, kInfD, -1, -1};
    double j[kLanesD];
    store_d(j, j1);
    b.w1 = best;
    b.j1 = static_cast<std::int32_t>(j[__builtin_ctz(eq_bits(w1, set_d(best)))]);
    return b;
}

template <class C>
static BestTwo best_two_row(const C* row, const double* p, std::int32_t m) {
    Lanes lanes;
    double first[kLanesD];
    for (int k = 0; k < kLanesD; k++) first[k] = k;
    VecD j_vec = load_d(first);
    const VecD step = set_d(kLanesD);
    for (std::int32_t j = 0; j < m; j += kLanesD) {
        VecD c = j + kLanesD <= m ? load_d(row + j) : load_d(row + j, m - j, kInfD);
        lanes.put(add(c, load_d(p + j)), j_vec);
        j_vec = add(j_vec, step);
    }
    return lanes.merged();
}

// The same in float over a whole row, with column blocks counted in floats: good enough to bid by.
static BestTwo best_two_dense(State& s, std::int32_t i) {
    const float *c = s.costs + s.stride * (s.repeats == 1 ? i : i / s.repeats), *pf = s.pf;
    const std::int32_t m = s.m;
    VecF a1 = set_f(kInfF), a2 = a1, b1 = a1, b2 = a1, ja = set_f(0.0f), jb = ja, block = ja;
    const VecF one = set_f(1.0f);
    std::int32_t j = 0;
    for (; j + 2 * kLanesF <= m; j += 2 * kLanesF) {
        VecF v = add(load_f(c + j), load_f(pf + j)), w = add(load_f(c + j + kLanesF), load_f(pf + j + kLanesF));
        ja = select_lt(v, a1, block, ja);
        jb = select_lt(w, b1, block, jb);
        a2 = min(a2, max(v, a1));
        b2 = min(b2, max(w, b1));
        a1 = min(a1, v);
        b1 = min(b1, w);
        block = add(block, one);
    }
    if (j < m) {
        VecF v = add(j + kLanesF <= m ? load_f(c + j) : load_f(c + j, m - j, kInfF), load_f(pf + j));
        ja = select_lt(v, a1, block, ja);
        a2 = min(a2, max(v, a1));
        a1 = min(a1, v);
        j += kLanesF;
    }
    if (j < m) {
        VecF w = add(load_f(c + j, m - j, kInfF), load_f(pf + j));
        jb = select_lt(w, b1, block, jb);
        b2 = min(b2, max(w, b1));
        b1 = min(b1, w);
    }
    const VecF lane1 = min(a1, b1), lane2 = min(max(a1, b1), min(a2, b2));
    float second;
    const float best = least_two(lane1, lane2, &second);
    if (!(best < kInfF)) return {kInfD, kInfD, -1, -1};
    const int l = __builtin_ctz(eq_bits(lane1, set_f(best)));
    float va[kLanesF], ka[kLanesF], kb[kLanesF];
    store_f(va, a1);
    store_f(ka, ja);
    store_f(kb, jb);
    std::int32_t column = va[l] == best ? static_cast<std::int32_t>(ka[l]) * 2 * kLanesF + l
                                        : (static_cast<std::int32_t>(kb[l]) * 2 + 1) * kLanesF + l;
    return {best, second, column, -1};
}

// ---- bidding --------------------------------------------------------------------------------------------

static BestTwo best_two(State& s, std::int32_t i) {
    std::int32_t r = s.repeats == 1 ? i : i / s.repeats;
    const std::int32_t* col = s.cache_col + std::int64_t{r} * kCacheSize;
    const float* cost = s.cache_cost + std::int64_t{r} * kCacheSize;
    float guess = -kInfF;
    if (s.cache_size[r] >= 2) {
        BestTwo b = best_cached(col, cost, s.cache_size[r], s.p);
        if (b.w2 <= s.bound[r]) return b;
        guess = static_cast<float>(b.w1) + s.width[r];
    }
    scan(s, r, guess);
    BestTwo b = best_cached(col, cost, s.cache_size[r], s.p);
    if (!(b.w2 < kInfD)) b.w2 = b.w1 > s.bound[r] ? b.w1 : s.bound[r];
    return b;
}

// Row i takes column j at a price higher by `rise`; returns the row that lost it, or -1.
static inline std::int32_t take(State& s, std::int32_t i, std::int32_t j, double rise) {
    double price = s.p[j] + rise;
    s.p[j] = price;
    s.pf[j] = static_cast<float>(price);
    if (price > s.price_bound) s.price_bound = price;
    std::int32_t loser = s.y[j];
    s.y[j] = i;
    s.x[i] = j;
    if (loser >= 0) s.x[loser] = -1;
    return loser;
}

template <bool kDense>
static bool bid(State& s, double eps, std::int32_t* stack, std::int32_t& top, std::int64_t& budget) {
    std::int64_t bids = 0;
    bool done = true;
    while (top > 0 && done) {
        for (std::int32_t i = stack[--top]; i >= 0;) {
            BestTwo b;
            if (bids < budget) b = kDense ? best_two_dense(s, i) : best_two(s, i);
            if (bids >= budget || b.j1 < 0 || !(b.w2 < __FLT_MAX__)) {
                stack[top++] = i;
                done = false;
                break;
            }
            bids++;
            i = take(s, i, b.j1, (b.w2 - b.w1) + eps);
        }
    }
    budget -= bids;
    s.bids += bids;
    return done;
}

// ---- exact bids by caches -------------------------------------------------------------------------------

// The best two of row i, if its cache holds them for sure, scanned again if need be.
static inline bool best_two_exactly(State& s, std::int32_t i, BestTwo* b) {
    const std::int32_t r = s.repeats == 1 ? i : i / s.repeats;
    const std::int64_t first = std::int64_t{r} * kCacheSize;
    for (int attempt = 0; attempt < 2; attempt++) {
        if (attempt == 1) {
            scan(s, r, -kInfF);
            if (s.exact_cost) s.exact_known[r] = 0;
        }
        if (s.exact_cost && !s.exact_known[r]) return false;
        if (s.cache_size[r] < 2) continue;
        *b = s.exact_cost ? best_cached(s.cache_col + first, s.exact_cost + first, s.cache_size[r], s.p)
                          : best_cached(s.cache_col + first, s.cache_cost + first, s.cache_size[r], s.p);
        const double bound = s.bound[r], size = bound < 0 ? -bound : bound;
        if (b->w2 <= bound - (s.price_bound + size) * kScanRounding - kDenormal) return true;
    }
    return false;
}

static std::int32_t reduce(State& s, std::int32_t i, std::int64_t& limit) {
    BestTwo b;
    while (limit > 0 && best_two_exactly(s, i, &b)) {
        if (b.j1 < 0 || !(b.w2 < kInfD)) return i;
        const double price = s.p[b.j1], size = price < 0 ? -price : price, value = b.w1 < 0 ? -b.w1 : b.w1;
        if (!(b.w2 - b.w1 > 0x1p-52 * (value + 2.0 * size))) return i;
        limit--;
        i = take(s, i, b.j1, b.w2 - b.w1);
        if (i < 0) return -1;
    }
    return i;
}

template <class C>
static std::int32_t reach(const std::int32_t* col, const C* cost, std::int32_t size, const double* p, const double* d,
                          double least, double base, double limit, std::int32_t* nearer, double* at) {
    const VecD lowest = set_d(least), from = set_d(base), most = set_d(limit), zero = set_d(0.0);
    constexpr unsigned all = (1u << kLanesD) - 1u;
    std::int32_t count = 0;
    for (std::int32_t k = 0; k < size; k += kLanesD) {
        const VecD v = add(from, max(sub(add(load_d(cost + k), gather(p, col + k)), lowest), zero));
        unsigned hits = ~le_bits(min(gather(d, col + k), most), v) & all;
        if (!hits) continue;
        double lane[kLanesD];
        store_d(lane, v);
        for (; hits; hits &= hits - 1) {
            const int l = __builtin_ctz(hits);
            nearer[count] = col[k + l];
            at[count++] = lane[l];
        }
    }
    return count;
}

// ---- exact rows -----------------------------------------------------------------------------------------

template <class C>
static double row_min(const C* row, const double* p, std::int32_t m, bool* below) {
    VecD a = set_d(kInfD);
    const VecD inf = a;
    std::int32_t j = 0;
    if (!below) {
        VecD b = a;
        for (; j + 2 * kLanesD <= m; j += 2 * kLanesD) {
            a = min(a, add(load_d(row + j), load_d(p + j)));
            b = min(b, add(load_d(row + j + kLanesD), load_d(p + j + kLanesD)));
        }
        for (; j < m; j += kLanesD)
            a = min(a, add(j + kLanesD <= m ? load_d(row + j) : load_d(row + j, m - j, kInfD), load_d(p + j)));
        return least(min(a, b));
    }
    unsigned exact = ~0u;  // a sum is if both differences give its terms back
    for (; j < m; j += kLanesD) {
        VecD c = j + kLanesD <= m ? load_d(row + j) : load_d(row + j, m - j, kInfD), q = load_d(p + j), v = add(c, q);
        exact &= (eq_bits(sub(v, c), q) & eq_bits(sub(v, q), c)) | eq_bits(v, inf);
        a = min(a, v);
    }
    const double w = least(a);
    *below = false;
    constexpr unsigned all = (1u << kLanesD) - 1u;
    if ((exact & all) == all) return w;
    const VecD target = set_d(w);
    for (j = 0; j < m; j += kLanesD) {
        VecD c = j + kLanesD <= m ? load_d(row + j) : load_d(row + j, m - j, kInfD);
        for (unsigned at = eq_bits(add(c, load_d(p + j)), target); at; at &= at - 1) {
            std::int32_t l = j + __builtin_ctz(at);
            if (l >= m) break;
            double cost = row[l], price = p[l], virtual_price = w - cost;
            if ((cost - (w - virtual_price)) + (price - virtual_price) < 0) *below = true;
        }
    }
    return w;
}

template <class C>
static double relax(const C* row, const double* p, double* d, double* predecessor, std::int32_t m, double shift,
                    double floor, double row_index) {
    const VecD h = set_d(shift), lowest = set_d(floor), index = set_d(row_index);
    VecD least_d = set_d(kInfD);
    std::int32_t j = 0;
    for (; j + kLanesD <= m; j += kLanesD) {
        VecD v = max(add(add(load_d(row + j), load_d(p + j)), h), lowest), old = load_d(d + j);
        store_d(predecessor + j, select_lt(v, old, index, load_d(predecessor + j)));
        v = min(v, old);
        store_d(d + j, v);
        least_d = min(least_d, v);
    }
    if (j < m) {
        VecD v = max(add(add(load_d(row + j, m - j, kInfD), load_d(p + j)), h), lowest), old = load_d(d + j);
        store_d(predecessor + j, m - j, select_lt(v, old, index, load_d(predecessor + j)));
        v = min(v, old);
        store_d(d + j, m - j, v);
        double lane[kLanesD];
        store_d(lane, v);
        for (std::int32_t k = m - j; k < kLanesD; k++) lane[k] = kInfD;
        least_d = min(least_d, load_d(lane));
    }
    return least(least_d);
}

static std::int32_t find(const double* d, double value, const std::int32_t* y, std::int32_t m, std::int32_t* out) {
    const VecD target = set_d(value);
    std::int32_t count = 0;
    for (std::int32_t j = 0; j < m; j += kLanesD) {
        const unsigned equal = eq_bits(j + kLanesD <= m ? load_d(d + j) : load_d(d + j, m - j, -kInfD), target);
        if (__builtin_expect(!equal, 1)) continue;  // with no branch taken, whose time would depend on its address
        for (unsigned at = equal; at; at &= at - 1) {
            std::int32_t k = j + __builtin_ctz(at);
            if (k >= m) break;
            out[count++] = k;
            if (y[k] < 0) return -count;
        }
    }
    return count;
}

}  // namespace

namespace LOOMFAST_TARGET {
const Kernels kernels = {
    survey<double>, survey<float>, turn<double>, turn<float>, convert, fold_min, first_equal, first_at, second_least, columns_below, scan,
    bid<false>, bid<true>, best_two, best_two_dense, reduce, reach<float>, reach<double>, best_two_cached<float>, best_two_cached<double>,
    best_two_row<float>, best_two_row<double>, row_min<float>, row_min<double>,
    relax<float>, relax<double>, find};
}

}  // namespace loomfast::assignment
