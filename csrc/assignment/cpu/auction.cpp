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

constexpr std::int64_t kBudget = 1 << 14;  // bids between two looks at the cancel flag
constexpr std::int64_t kCap = 64;          // bids per row and phase before the auction gives up

double median(std::vector<double>& a) {
    auto middle = a.begin() + static_cast<std::ptrdiff_t>(a.size() / 2);
    std::nth_element(a.begin(), middle, a.end());
    return *middle;
}

// Frees the rows whose pair is no longer within eps of their best choice; stacks every free row.
std::int32_t keep_fitting_pairs(Work& w, double eps, std::vector<std::int32_t>& stack) {
    std::int32_t top = 0;
    auto bidding = w.cached ? w.kernels.bidding_cached : w.kernels.bidding_dense;
    for (std::int32_t i = w.n - 1; i >= 0; i--) {
        std::int32_t j = w.x[static_cast<std::size_t>(i)];
        if (j >= 0) {
            double value = w.filter_row(i)[j] + w.p[static_cast<std::size_t>(j)];
            if (value <= bidding(w.s, i).w1 + eps * 0.999) continue;
            w.free_row(i);
        }
        stack[static_cast<std::size_t>(top++)] = i;
    }
    return top;
}

bool run_phase(Work& w, double eps, std::vector<std::int32_t>& stack) {
    std::int32_t top = keep_fitting_pairs(w, eps, stack);
    auto bid = w.cached ? w.kernels.bid_cached : w.kernels.bid_dense;
    for (std::int64_t left = kCap * w.n + 1000; left > 0;) {
        std::int64_t budget = std::min(left, kBudget);
        left -= budget;
        if (bid(w.s, eps, stack.data(), top, budget)) return true;
        if (budget > 0 || w.cancelled()) return false;
    }
    return false;
}

}  // namespace

Spread measure_spread(const Work& w) {
    std::int32_t samples = std::min(w.n, w.n < 1024 ? 5 : 16);
    std::vector<double> v(static_cast<std::size_t>(w.m)), quarters, tenths;
    double mean_total = 0.0, largest_least = 0.0;
    for (std::int32_t k = 0; k < samples; k++) {
        auto i = static_cast<std::int32_t>(std::int64_t{k} * w.n / samples);
        const float* c = w.filter_row(i);
        std::size_t count = 0;
        double least = HUGE_VAL, mean = 0.0;
        for (std::size_t j = 0; j < v.size(); j++) {
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
        quarters.push_back(1.6 * nth(count / 4));
        tenths.push_back(nth(9));
    }
    if (quarters.empty()) return {0.0, 0.0, 0.0};
    Spread spread{mean_total / static_cast<double>(quarters.size()), median(tenths), w.s.price_bound};
    double quarter = median(quarters);
    if (quarter > 0) spread.whole = std::min(spread.whole, quarter);
    spread.scale = std::max(spread.scale, largest_least) + spread.whole;
    return spread;
}

void reduce_columns(Work& w) {
    for (std::int32_t j = 0; j < w.m; j++) {
        auto k = static_cast<std::size_t>(j);
        w.set_price(j, -w.filter.column_min[k]);
    }
}

void run_auction(Work& w, const Spread& spread, double start) {
    double whole = spread.whole;
    if (!(whole > spread.scale * 1e-13)) whole = std::max(spread.scale, w.filter.largest) * 1e-6;
    if (!(whole > 0.0)) return;  // every cost is the same
    double last = 0.1 * whole / w.n;
    if (spread.near > 0) last = std::min(last, 0.02 * spread.near);
    last = std::max({last, spread.scale * 1e-14, 0.5 * w.target_gap / w.n});
    double eps = std::max(last, start * (w.cached ? 0.05 : 0.1) * whole), ratio = w.cached ? 6.0 : 8.0;
    // On a grid of 2^-50 of the scale, sums of costs and prices are exact unless costs are tiny.
    double grid = spread.scale > 0 ? std::ldexp(1.0, std::ilogb(spread.scale) - 50) : 0.0;
    w.forget_exact_caches();
    std::vector<std::int32_t> stack(static_cast<std::size_t>(w.n) + 1);
    while (true) {
        w.stats.phases++;
        if (!run_phase(w, grid > 0 ? std::max(grid, std::round(eps / grid) * grid) : eps, stack)) return;
        if (eps <= last * 1.0001) return;
        eps = std::max(last, eps / ratio);
    }
}

}  // namespace loomfast::assignment
