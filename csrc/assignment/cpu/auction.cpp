// An auction at level eps keeps every matched row within eps of its best choice, so a complete matching is
// within n eps of the optimum (Bertsekas 1988). Bidding at a small eps from bad prices can take forever;
// eps starts at a fraction of the spread of a row's values and falls by a constant factor from phase to
// phase, each of which starts from the last one's prices and keeps the pairs that still fit. Gauss-Seidel:
// one row bids at a time and the row it displaces bids next, so the working set stays small.
//
// Big-M entries must not inflate the spread: it is the lesser of the mean and of a quantile, and the last
// eps also follows the distances between a row's best candidates.
#include "assignment/cpu/auction.hpp"

#include <algorithm>
#include <cmath>

namespace loomfast::assignment {

namespace {

// ---- how long an auction may take ----
constexpr std::int64_t kBudget = 1 << 14;  // bids between two looks at the cancel flag: about a millisecond
constexpr std::int64_t kCap = 64;  // bids per row in a phase; img and geo2d take 2 to 9, and paths do better from here on

// ---- what a spread is ----
constexpr std::int32_t kFewRows = 1024;                  // problems below have their spread taken from
constexpr std::int32_t kFewSamples = 5, kSamples = 16;   // so many rows, others from so many
// The distance from the least to the lower quartile, times this, is about the distance to the mean for rows that are
// uniform or normal (.25 of .5; 2.5 of 3.2 at n = 1000), and does not see entries of a big M.
constexpr double kQuartersInMean = 1.6;
constexpr std::size_t kNear = 9;  // rank of the value that `near` is the distance of

// ---- the schedule: best on img, geo2d and unif of 256 to 4096 rows (bench/assignment.py), where it is a flat optimum ----
constexpr double kFirst = 0.1, kFirstCached = 0.05;  // first eps in spreads
constexpr double kRatio = 8.0, kRatioCached = 6.0;   // from one phase's eps to the next
// A matching complete at eps is within n eps of the optimum: this many spreads leave a few percent of rows loose.
constexpr double kLast = 0.1;
constexpr double kLastNear = 0.02;  // the same by the distances of candidates, where these are closer than a spread / n
constexpr double kDenseEps = 0x1p-21;  // of the scale: eight times the rounding of bids by whole rows, which are in float32
constexpr double kLeastScale = 1e-14;  // of the scale: prices near it have no digits left for less,
constexpr double kSpreadScale = 1e-13;  // and spreads below this are rounding;
constexpr double kInstead = 1e-6;       // the scale times this stands for them
constexpr int kGridBits = 50;  // on a grid of so many bits below the scale, sums of costs and prices are exact, unless
                               // costs are tiny
constexpr double kFits = 0.999;  // of eps: a pair at eps exactly was just bid for, and fits

double median(Array<double>& a) {
    auto middle = a.begin() + static_cast<std::ptrdiff_t>(a.size() / 2);
    std::nth_element(a.begin(), middle, a.end());
    return *middle;
}

// Frees the rows whose pair is no longer within eps of their best choice; stacks every free row.
std::int32_t keep_fitting_pairs(Work& w, double eps, Array<std::int32_t>& stack) {
    std::int32_t top = 0;
    auto bidding = w.cached ? w.kernels.bidding_cached : w.kernels.bidding_dense;
    for (std::int32_t i = w.n - 1; i >= 0; i--) {
        const std::int32_t j = w.x[i];
        if (j >= 0) {
            const double value = w.filter_row(i)[j] + w.p[j];
            if (value <= bidding(w, i).w1 + kFits * eps) continue;
            w.free_row(i);
        }
        stack[top++] = i;
    }
    return top;
}

bool run_phase(Work& w, double eps, Array<std::int32_t>& stack) {
    std::int32_t top = keep_fitting_pairs(w, eps, stack);
    auto bid = w.cached ? w.kernels.bid_cached : w.kernels.bid_dense;
    for (std::int64_t left = kCap * w.n + 1000; left > 0;) {
        std::int64_t budget = std::min(left, kBudget);
        left -= budget;
        if (bid(w, eps, stack.data(), top, budget)) return true;
        if (budget > 0 || w.cancelled()) return false;
    }
    return false;
}

}  // namespace

Spread measure_spread(const Work& w) {
    const std::int32_t samples = std::min(w.n, w.n < kFewRows ? kFewSamples : kSamples);
    Array<double> v = filled(w.m, 0.0), quarters, tenths;
    double mean_total = 0.0, largest_least = 0.0;
    for (std::int32_t k = 0; k < samples; k++) {
        auto i = static_cast<std::int32_t>(std::int64_t{k} * w.n / samples);
        const float* c = w.filter_row(i);
        std::size_t count = 0;
        double least = HUGE_VAL, mean = 0.0;
        for (std::int32_t j = 0; j < w.m; j++) {
            double value = c[j] + w.p[j];
            if (!(value < HUGE_VAL)) continue;
            v[count++] = value;
            least = std::min(least, value);
            mean += value;
        }
        if (count == 0) continue;
        mean_total += mean / static_cast<double>(count) - least;
        largest_least = std::max(largest_least, std::fabs(least));
        auto nth = [&](std::size_t rank) {
            auto end = v.begin() + static_cast<std::ptrdiff_t>(count);
            auto at = v.begin() + static_cast<std::ptrdiff_t>(std::min(rank, count - 1));
            std::nth_element(v.begin(), at, end);
            return *at - least;
        };
        quarters.push_back(kQuartersInMean * nth(count / 4));
        tenths.push_back(nth(kNear));
    }
    if (quarters.empty()) return {0.0, 0.0, 0.0};
    Spread spread{mean_total / static_cast<double>(quarters.size()), median(tenths), w.price_bound};
    double quarter = median(quarters);
    if (quarter > 0) spread.whole = std::min(spread.whole, quarter);
    spread.scale = std::max(spread.scale, largest_least) + spread.whole;
    return spread;
}

Schedule make_schedule(const Work& w, const Spread& spread, double start) {
    double whole = spread.whole;
    if (!(whole > spread.scale * kSpreadScale)) whole = std::max(spread.scale, w.filter.largest) * kInstead;
    double last = kLast * whole / w.n;
    if (spread.near > 0) last = std::min(last, kLastNear * spread.near);
    Schedule s{};
    s.cached = w.cached || w.n > kDenseRows || last <= kDenseEps * spread.scale;
    if (!(whole > 0.0)) return s;
    // A complete matching at `last` then has a gap of half of what is allowed.
    s.last = std::max({last, spread.scale * kLeastScale, 0.5 * w.target_gap / w.n});
    s.first = std::max(s.last, start * (s.cached ? kFirstCached : kFirst) * whole);
    s.ratio = s.cached ? kRatioCached : kRatio;
    s.grid = spread.scale > 0 ? std::ldexp(1.0, std::ilogb(spread.scale) - kGridBits) : 0.0;
    return s;
}

void reduce_columns(Work& w) {
    const Timed timed(w.watch, w.stats.seconds.reduce);
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, -w.filter.column_min[j]);
}

void run_auction(Work& w, const Schedule& s) {
    const Timed timed(w.watch, w.stats.seconds.auction);
    if (s.last == 0.0) return;
    w.forget_exact_costs();
    Array<std::int32_t> stack = filled(w.n + 1, 0);
    for (double eps = s.first;; eps = std::max(s.last, eps / s.ratio)) {
        w.stats.phases++;
        if (!run_phase(w, s.grid > 0 ? std::max(s.grid, std::round(eps / s.grid) * s.grid) : eps, stack)) return;
        if (eps <= s.last) return;
    }
}

}  // namespace loomfast::assignment
