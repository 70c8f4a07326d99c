// Ordinary costs of magnitude up to a, and others, the sentinels, from b >> a on. Float64 sums of the two lose the
// digits of the ordinary ones, and so would prices. Write
//   c = c' + (b - t) D,
// with D = 1 on the sentinels (-1 on negative ones) and 0 elsewhere: c' is c with the gap closed, its sentinels start at
// t, a few times a. A matching that is optimal for c' and matches as few sentinels as can be, optimal for D, is
// optimal for c: if (u', v') and (g, h) are optimal dual prices of the two problems, u' + (b - t) g and v' + (b - t) h
// are feasible for c and prove it. D's problem is only solved if the optimum for c' matches a sentinel at all. If that
// one matches too many, t was too low; n times as much suffices if the sentinels are about the same. If they are not,
// the fewest need not be the cheapest, and c is solved as it is. With several gaps the uppermost is closed first and the
// others in the recursion.
//
// Without gaps, costs can still span more than float64 does with any factor. The total of any matching, T, tells that
// dearer costs are in no optimal one, and c' = min(c, 2 T) brings the factor up; this is repeated while T falls far.
#include "assignment/cpu/sentinels.hpp"

#include <array>
#include <cmath>

namespace loomfast::assignment {

namespace {

constexpr double kGap = 0x1p24;  // b / a from which a gap is closed
constexpr double kFirst = 4.0;   // t / a at first,
constexpr double kSecond = 8.0;  // and then, per row
constexpr std::size_t kSteps = 6;
constexpr int kSpan = 25;  // bits of the coarse mask that are more than one factor is good for
constexpr double kWorthCapping = 0x1p-60;

struct Gap {
    double below = 0.0, above = 0.0;  // the magnitudes on its two sides; none if above is 0
};

// Whether the magnitudes that occur leave a gap of 16 binades at least, and surely if one of kGap is there, as far as the
// filter's two masks tell.
bool has_gap(const Filter& filter) {
    if (!filter.fine) return false;
    std::uint64_t far = filter.coarse >> __builtin_ctzll(filter.coarse);
    if (far & (far + 1)) return true;
    // Runs of at least four empty bits, around the end: one of them is the outside. A set bit reaches the three after it.
    const int bits = filter.fine_bits;
    auto after = [&](std::uint64_t a, int by) { return (a << by | a >> (bits - by)) & (~std::uint64_t{0} >> (64 - bits)); };
    std::uint64_t near = filter.fine;
    for (int by = 1; by <= 3; by++) near |= after(filter.fine, by);
    return __builtin_popcountll(~near & after(near, 1) & (~std::uint64_t{0} >> (64 - bits))) > 1;
}

// The uppermost gap of at least kGap between finite, nonzero magnitudes.
Gap uppermost_gap(const Source& source) {
    constexpr double inf = std::numeric_limits<double>::infinity();
    std::array<double, 2048> least, most;
    least.fill(inf);
    most.fill(0.0);
    for_each_row(source, [&](std::int64_t, const double* row) {
        for (std::int64_t j = 0; j < source.cols(); j++) {
            double magnitude = std::fabs(row[j]);
            if (magnitude == 0.0 || !(magnitude < inf)) continue;
            auto exponent = std::bit_cast<std::uint64_t>(magnitude) >> 52;
            least[exponent] = std::min(least[exponent], magnitude);
            most[exponent] = std::max(most[exponent], magnitude);
        }
        return true;
    });
    double above = 0.0;
    for (std::size_t e = 2048; e-- > 0;) {
        if (most[e] == 0.0) continue;
        if (above >= kGap * most[e]) return {most[e], above};
        above = least[e];
    }
    return {};
}

// D as float16, row by row of storage, forbidden where the source is.
Array<std::uint16_t> sentinel_matrix(const Source& source, double from, bool* negative) {
    constexpr std::uint16_t one = 0x3c00, minus = 0x8000, infinite = 0x7c00;
    const std::int64_t m = source.cols();
    Array<std::uint16_t> matrix = filled(source.storage_rows() * m, std::uint16_t{0});
    *negative = false;
    for_each_row(source, [&](std::int64_t r, const double* row) {
        std::uint16_t* out = matrix.data() + r * m;
        for (std::int64_t j = 0; j < m; j++) {
            bool sentinel = std::fabs(row[j]) >= from;
            std::uint16_t sign = row[j] < 0.0 ? minus : 0;
            *negative |= sentinel && sign;
            out[j] = row[j] == HUGE_VAL ? infinite : sentinel ? one | sign : 0;
        }
        return true;
    });
    return matrix;
}

double count_sentinels(const Source& source, double from, const Array<std::int32_t>& x) {
    double count = 0.0;
    for (std::int64_t i = 0; i < x.count(); i++) {
        double cost = source.at(i, x[i]);
        if (std::fabs(cost) >= from) count += cost < 0.0 ? -1.0 : 1.0;
    }
    return count;
}

// The fewest sentinels, with prices.
Answer solve_counts(const Source& source, const Array<std::uint16_t>& matrix, const Kernels& kernels, Cancel* cancel) {
    Cost cost;
    cost.data = matrix.data();
    cost.dtype = DType::float16;
    cost.rows = source.storage_rows();
    cost.cols = source.cols();
    cost.row_stride = 2 * cost.cols;
    cost.col_stride = 2;
    cost.row_repeats = source.row_repeats();
    Source counts(cost);
    Filter filter = make_filter(counts, kernels);
    Options options;
    options.cancel = cancel;
    return solve_exactly(counts, filter, kernels, options, true);
}

bool spans_too_much(const Filter& filter) {
    return filter.coarse && 63 - __builtin_clzll(filter.coarse) - __builtin_ctzll(filter.coarse) >= kSpan;
}

// Certifies on the source's own costs, with the factor that rounds none of them unless sums would overflow, an answer
// to the same costs lessened: its prices have another factor, and `fewest`, if any, has those of what was taken off.
void recertify(Source& source, const Filter& filter, const Kernels& kernels, double factor, Answer& answer,
               double taken_off = 0.0, const Array<double>* fewest = nullptr) {
    const double largest = filter.largest / source.factor();
    if (largest > 0x1p-900) source.set_factor(largest > 0x1p1000 ? 0x1p-20 : 1.0);
    for (std::size_t j = 0; j < answer.p.size(); j++) {
        answer.p[j] *= source.factor() / factor;
        if (fewest) answer.p[j] += taken_off * source.factor() * (*fewest)[j];
    }
    answer.certificate = certify_plainly(source, kernels, answer.x.data(), answer.p.data(), answer.u);
}

// The optimum of costs that span too much, in which no cost above `cap` can be.
Answer solve_capped(Source& source, const Filter& filter, const Kernels& kernels, const Options& options) {
    Source raw = source;
    raw.set_factor(1.0);
    double least = 0.0, cap = filter.largest / source.factor();
    for_each_row(raw, [&](std::int64_t, const double* row) {
        least = std::min(least, *std::min_element(row, row + raw.cols()));
        return true;
    });
    Source capped = raw;
    Filter capped_filter = make_filter(capped, kernels);
    Answer answer = solve_exactly(capped, capped_filter, kernels, options, false);
    const std::size_t before = raw.steps();
    while (answer.solved() && capped.steps() - before < kSteps) {
        double total = -least * static_cast<double>(raw.rows());
        for (std::int64_t i = 0; i < answer.x.count(); i++) total += std::fabs(raw.at(i, answer.x[i]));
        if (!(total > 0.0 && 2.0 * total < kWorthCapping * cap)) break;
        cap = 2.0 * total;
        capped.add_step({cap, cap, true});
        capped_filter = make_filter(capped, kernels);
        answer = solve_exactly(capped, capped_filter, kernels, options, false);
    }
    if (answer.solved()) recertify(source, filter, kernels, capped.factor(), answer);
    return answer;
}

}  // namespace

Answer solve_by_magnitude(Source& source, const Filter& filter, const Kernels& kernels, const Options& options,
                          bool integers) {
    Source raw = source;
    raw.set_factor(1.0);
    Gap gap;
    if (!integers && raw.steps() < kSteps && has_gap(filter)) gap = uppermost_gap(raw);
    Array<std::uint16_t> matrix;
    Answer fewest;
    bool negative = true;
    for (double share : {kFirst, kSecond * static_cast<double>(source.rows())}) {
        const double to = share * gap.below;
        if (!(kFirst * to < gap.above)) break;
        Source closer = raw;
        closer.add_step({gap.above, to});
        Filter closer_filter = make_filter(closer, kernels);
        Answer answer = solve_by_magnitude(closer, closer_filter, kernels, options, integers);
        if (!answer.solved()) return answer;
        double count = count_sentinels(raw, gap.above, answer.x);
        if (matrix.empty()) matrix = sentinel_matrix(raw, gap.above, &negative);
        const bool counted = negative || count > 0.0;
        if (counted && fewest.x.empty()) fewest = solve_counts(raw, matrix, kernels, options.cancel);
        if (counted && !fewest.solved()) return fewest;
        if (counted && count > fewest.certificate.total) continue;
        recertify(source, filter, kernels, closer.factor(), answer, gap.above - to, counted ? &fewest.p : nullptr);
        return answer;
    }
    if (!integers && spans_too_much(filter)) return solve_capped(source, filter, kernels, options);
    return solve_exactly(source, filter, kernels, options, integers);
}

}  // namespace loomfast::assignment
