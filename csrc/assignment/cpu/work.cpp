// Exact answers from approximate caches. A scan in float32 keeps the columns whose rounded sum lies at or
// below a bound b; every other column's exact value is at least safe_bound(b), see kScanRounding. If a row's
// exact best candidates lie below that, they are its best columns; if not, the row is scanned again, and if
// it is still undecided (many ties), every column is looked at that rounding leaves in doubt.
#include "assignment/cpu/work.hpp"

#include <algorithm>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

float partition_hits(State& s, std::int32_t count, std::int32_t keep) {
    Array<std::pair<float, std::int32_t>> order(static_cast<std::size_t>(count));
    for (std::int32_t k = 0; k < count; k++) order[k] = {s.hit_value[k], s.hit[k]};
    std::nth_element(order.begin(), order.begin() + keep, order.end());
    for (std::int32_t k = 0; k < keep; k++) s.hit[k] = order[k].second;
    return order[keep].first;
}

}  // namespace

Work::Work(const Source& source, const Filter& filter_, const Kernels& kernels_, Cancel* cancel_)
    : State{}, rows(source, filter_), filter(filter_), kernels(kernels_), cancel(cancel_) {
    n = static_cast<std::int32_t>(source.rows());
    m = static_cast<std::int32_t>(source.cols());
    repeats = static_cast<std::int32_t>(source.row_repeats());
    costs = filter.cost;
    stride = filter.stride;
    const std::int64_t columns = std::int64_t{m} + kPadding;
    prices_ = filled(columns, 0.0);
    rounded_prices_ = filled(columns, 0.0f);
    x_ = filled(n, -1);
    y_ = filled(columns, -1);
    mask_ = filled(columns / 64 + 2, std::uint64_t{0});
    hits_ = filled(columns + kPadding, 0);
    hit_values_ = filled(columns + kPadding, 0.0f);
    p = prices_.data();
    pf = rounded_prices_.data();
    x = x_.data();
    y = y_.data();
    mask = mask_.data();
    hit = hits_.data();
    hit_value = hit_values_.data();
    partition = partition_hits;
}

// ---- prices ---------------------------------------------------------------------------------------------

void Work::set_price(std::int32_t j, double price) {
    p[j] = price;
    pf[j] = static_cast<float>(price);
    price_bound = std::max(price_bound, std::fabs(price));
}

// ---- the matching ---------------------------------------------------------------------------------------

void Work::free_row(std::int32_t i) {
    if (x[i] >= 0) y[x[i]] = -1;
    x[i] = -1;
}

void Work::free_all_rows() {
    std::fill(x_.begin(), x_.end(), -1);
    std::fill(y_.begin(), y_.end(), -1);
}

void Work::match(std::int32_t i, std::int32_t j) {
    x[i] = j;
    y[j] = i;
}

Array<std::int32_t> Work::free_rows() const {
    Array<std::int32_t> free;
    for (std::int32_t i = 0; i < n; i++)
        if (x[i] < 0) free.push_back(i);
    return free;
}

// ---- caches ---------------------------------------------------------------------------------------------

void Work::use_caches() {
    if (cached) return;
    cached = true;
    const std::int64_t count = rows.source.storage_rows();
    const auto entries = static_cast<std::size_t>(count * kCacheSize);
    cache_columns_ = std::make_unique_for_overwrite<std::int32_t[]>(entries);
    cache_costs_ = std::make_unique_for_overwrite<float[]>(entries);
    if (!filter.exact) exact_costs_ = std::make_unique_for_overwrite<double[]>(entries);
    cache_sizes_ = filled(count, 0);
    exact_costs_known_ = filled(count, char{0});
    bounds_ = filled(count, -kInf);
    widths_ = filled(count, 0.0f);
    cache_col = cache_columns_.get();
    cache_cost = cache_costs_.get();
    cache_size = cache_sizes_.data();
    bound = bounds_.data();
    width = widths_.data();
    exact_cost = exact_costs_.get();
    exact_known = exact_costs_known_.data();
}

void Work::forget_exact_costs() { std::fill(exact_costs_known_.begin(), exact_costs_known_.end(), 0); }

void Work::forget_caches() {
    cached = false;
    price_bound = 0.0;
    for (std::int32_t j = 0; j < m; j++) price_bound = std::max(price_bound, std::fabs(p[j]));
}

void Work::lower_bounds(double fall) {
    for (double& b : bounds_) b -= fall;
}

void Work::rescan(std::int32_t r) {
    kernels.scan(*this, r, -std::numeric_limits<float>::infinity());
    exact_costs_known_[r] = 0;
}

double Work::safe_bound(std::int32_t r) const {
    return bound[r] - (price_bound + std::fabs(bound[r])) * kScanRounding - kDenormal;
}

RowView Work::candidate_costs(std::int32_t r) {
    const std::int64_t first = std::int64_t{r} * kCacheSize;
    if (filter.exact) return {cache_cost + first, nullptr};
    double* exact = exact_costs_.get() + first;
    if (!exact_costs_known_[r]) {
        for (std::int32_t k = 0; k < cache_size[r]; k++) exact[k] = rows.cost(r * repeats, candidates(r)[k]);
        for (std::int32_t k = cache_size[r]; k & 7; k++) exact[k] = kInf;
        exact_costs_known_[r] = 1;
    }
    return {nullptr, exact};
}

// ---- exact values ---------------------------------------------------------------------------------------

double Work::rounding(std::int32_t i, std::int32_t j) const {
    return 0x1p-52 * (std::fabs(rows.cost(i, j)) + std::fabs(p[j]));
}

std::int32_t Work::columns_within(std::int32_t r, double value, std::int32_t most) {
    const double threshold = value + kLookRounding * (std::fabs(value) + price_bound) + kDenormal;
    return kernels.columns_below(costs + stride * r, pf, m, static_cast<float>(threshold), mask, most, hit);
}

BestTwo Work::best_cached(std::int32_t r) {
    return two_least_among(kernels, candidates(r), candidate_costs(r), cache_size[r], p);
}

double Work::least(std::int32_t i, double known) {
    const std::int32_t r = storage(i);
    if (cached) {
        for (int attempt = 0; attempt < 2; attempt++) {
            if (attempt == 1) rescan(r);
            if (cache_size[r] == 0) continue;
            double best = best_cached(r).w1;
            if (best <= safe_bound(r)) return best;
            known = std::min(known, best);
        }
    }
    const std::int32_t count = known < kInf ? columns_within(r, known, few()) : m;
    if (count > few()) return row_min(kernels, rows.row(i), p, m);
    for (std::int32_t k = 0; k < count; k++) known = std::min(known, value(i, hit[k]));
    return known;
}

BestTwo Work::best_two(std::int32_t i) {
    BestTwo b{kInf, kInf, -1, -1};
    const std::int32_t r = storage(i);
    if (cached) {
        for (int attempt = 0; attempt < 2; attempt++) {
            if (attempt == 1) rescan(r);
            if (cache_size[r] < 2) continue;
            b = best_cached(r);
            if (b.w2 <= safe_bound(r)) return b;
        }
    }
    if (!cached) {
        const double second = kernels.second_least(filter_row(i), pf, m);
        b.w2 = second + (price_bound + std::fabs(second)) * kScanRounding + kDenormal;
    }
    const std::int32_t count = b.w2 < kInf && !(cached && filter.exact) ? columns_within(r, b.w2, few()) : m;
    if (count > few()) return two_least(kernels, rows.row(i), p, m);
    b = {kInf, kInf, -1, -1};
    for (std::int32_t k = 0; k < count; k++) {
        double v = value(i, hit[k]);
        const bool freer = b.j1 >= 0 && v == b.w1 && y[hit[k]] < 0 && y[b.j1] >= 0;  // of equal columns, one that is free
        if (v < b.w1 || freer) b = {v, b.w1, hit[k], b.j1};
        else if (v < b.w2) b.w2 = v, b.j2 = hit[k];
    }
    return b;
}

}  // namespace loomfast::assignment
