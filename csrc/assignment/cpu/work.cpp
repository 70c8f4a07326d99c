// Exact answers from approximate caches. A scan in float32 keeps the columns whose rounded sum lies at or
// below a bound b. Rounding p_j and the sum, and c_ij where the filter is a copy, moves a sum by at most
// 2^-24 (2 |b| + 2 max |p|), so every other column's exact value is at least safe_bound(b). If a row's
// exact best candidates lie below that, they are its best columns; if not, the row is scanned again, and if
// it is still undecided (many ties), every column is looked at that rounding leaves in doubt.
#include "assignment/cpu/work.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

float partition_hits(State& s, std::int32_t count, std::int32_t keep) {
    std::vector<std::pair<float, std::int32_t>> order(static_cast<std::size_t>(count));
    for (std::int32_t k = 0; k < count; k++) order[static_cast<std::size_t>(k)] = {s.hit_value[k], s.hit[k]};
    std::nth_element(order.begin(), order.begin() + keep, order.end());
    for (std::int32_t k = 0; k < keep; k++) s.hit[k] = order[static_cast<std::size_t>(k)].second;
    return order[static_cast<std::size_t>(keep)].first;
}

}  // namespace

Work::Work(const Source& source_, const Filter& filter_, const Kernels& kernels_,
           Cancel* cancel_)
    : source(source_), filter(filter_), kernels(kernels_), cancel(cancel_),
      n(static_cast<std::int32_t>(source_.rows())), m(static_cast<std::int32_t>(source_.cols())) {
    auto columns = static_cast<std::size_t>(m) + kPadding;
    p.assign(columns, 0.0);
    pf_.assign(columns, 0.0f);
    x.assign(static_cast<std::size_t>(n), -1);
    y.assign(columns, -1);
    s.n = n;
    s.m = m;
    s.repeats = static_cast<std::int32_t>(source.row_repeats());
    s.cost = filter.cost;
    s.stride = filter.stride;
    s.p = p.data();
    s.pf = pf_.data();
    s.x = x.data();
    s.y = y.data();
    s.partition_hits = partition_hits;
    mask_.resize(columns / 64 + 2);
    hit_.resize(columns + kPadding);
    hit_value_.resize(columns + kPadding);
    s.mask = mask_.data();
    s.hit = hit_.data();
    s.hit_value = hit_value_.data();
}

void Work::use_caches() {
    if (cached) return;
    cached = true;
    auto rows = static_cast<std::size_t>(source.storage_rows());
    cache_col_ = std::make_unique_for_overwrite<std::int32_t[]>(rows * kCacheSize);
    cache_cost_ = std::make_unique_for_overwrite<float[]>(rows * kCacheSize);
    if (!filter.exact) exact_cost_ = std::make_unique_for_overwrite<double[]>(rows * kCacheSize);
    cache_size_.assign(rows, 0);
    exact_valid_.assign(rows, 0);
    bound_.assign(rows, -std::numeric_limits<double>::infinity());
    width_.assign(rows, 0.0f);
    s.cache_col = cache_col_.get();
    s.cache_cost = cache_cost_.get();
    s.cache_size = cache_size_.data();
    s.bound = bound_.data();
    s.width = width_.data();
}

void Work::forget_caches() {
    cached = false;
    s.price_bound = 0.0;
    for (std::size_t j = 0; j < static_cast<std::size_t>(m); j++) s.price_bound = std::max(s.price_bound, std::fabs(p[j]));
}

void Work::set_price(std::int32_t j, double price) {
    p[static_cast<std::size_t>(j)] = price;
    pf_[static_cast<std::size_t>(j)] = static_cast<float>(price);
    s.price_bound = std::max(s.price_bound, std::fabs(price));
}

void Work::lower_bounds(double fall) {
    for (double& b : bound_) b -= fall;
}

double Work::cost(std::int32_t i, std::int32_t j) const {
    if (filter.exact) return filter_row(i)[j];
    return source.at(i, j) - filter.shift(storage(i)) - filter.shift_of_column(j);
}

double Work::rounding(std::int32_t i, std::int32_t j) const {
    return 0x1p-52 * (std::fabs(cost(i, j)) + std::fabs(p[static_cast<std::size_t>(j)]));
}

const double* Work::exact_row(std::int32_t i) {
    // A copy of all rows costs about as much as reading all of them, but far less than that where columns lie in memory.
    const std::int64_t rows = source.storage_rows();
    if (rows_read_++ == (source.column_major() ? rows / 16 : rows / 2) && rows > 1) copy_rows();
    if (rows_) return rows_.get() + std::int64_t{storage(i)} * m;
    exact_row_.resize(static_cast<std::size_t>(m));
    shift_row(storage(i), true_row(i), exact_row_.data());
    return exact_row_.data();
}

void Work::shift_row(std::int64_t r, const double* row, double* out) const {
    const double shift = filter.shift(static_cast<std::int32_t>(r));
    const auto columns = static_cast<std::size_t>(m);
    for (std::size_t j = 0; j < columns; j++) out[j] = row[j] - shift;
    for (std::size_t j = 0; j < columns && !filter.column_shift.empty(); j++) out[j] -= filter.column_shift[j];
}

void Work::copy_rows() {
    constexpr std::int64_t most = std::int64_t{1} << 26;  // entries: 512 MB
    if (source.storage_rows() * m > most) return;
    rows_ = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(source.storage_rows() * m));
    for_each_row(source, [&](std::int64_t r, const double* row) {
        shift_row(r, row, rows_.get() + r * m);
        return true;
    });
}

std::int32_t Work::columns_within(std::int32_t r, double value, std::int32_t most) {
    // The sum of two rounded numbers, rounded, and the threshold itself: 2^-24 each, and float32's denormals.
    double threshold = value + 1.9e-7 * (std::fabs(value) + s.price_bound) + 0x1p-120;
    return kernels.columns_below(s.cost + s.stride * r, s.pf, m, static_cast<float>(threshold), s.mask, most, s.hit);
}

double Work::safe_bound(std::int32_t r) const {
    double b = s.bound[r];
    return b - (s.price_bound + std::fabs(b)) * 1.3e-7 - 0x1p-120;
}

void Work::rescan(std::int32_t r) {
    kernels.scan(s, r, -std::numeric_limits<float>::infinity());
    exact_valid_[static_cast<std::size_t>(r)] = 0;
}

const double* Work::exact_cache(std::int32_t r) {
    double* exact = exact_cost_.get() + std::int64_t{r} * kCacheSize;
    char& valid = exact_valid_[static_cast<std::size_t>(r)];
    if (!valid) {
        const std::int32_t* col = s.cache_col + std::int64_t{r} * kCacheSize;
        for (std::int32_t k = 0; k < s.cache_size[r]; k++) exact[k] = cost(r * s.repeats, col[k]);
        for (std::int32_t k = s.cache_size[r]; k & 7; k++) exact[k] = std::numeric_limits<double>::infinity();
        valid = 1;
    }
    return exact;
}

BestTwo Work::evaluate(std::int32_t r) {
    const std::int32_t* col = s.cache_col + std::int64_t{r} * kCacheSize;
    if (filter.exact)
        return kernels.best_two_cached(col, s.cache_cost + std::int64_t{r} * kCacheSize, s.cache_size[r], p.data());
    return kernels.best_two_cached_d(col, exact_cache(r), s.cache_size[r], p.data());
}

double Work::least(std::int32_t i, double known) {
    const std::int32_t r = storage(i);
    if (cached) {
        for (int attempt = 0; attempt < 2; attempt++) {
            if (attempt == 1) rescan(r);
            if (s.cache_size[r] == 0) continue;
            double best = evaluate(r).w1;
            if (best <= safe_bound(r)) return best;
            known = std::min(known, best);
        }
    }
    const std::int32_t count = known < kInf ? columns_within(r, known, few()) : m;
    if (count > few())
        return filter.exact ? kernels.row_min_f(filter_row(i), p.data(), m, nullptr)
                            : kernels.row_min_d(exact_row(i), p.data(), m, nullptr);
    for (std::int32_t k = 0; k < count; k++) known = std::min(known, value(i, s.hit[k]));
    return known;
}

BestTwo Work::best_two(std::int32_t i) {
    BestTwo b{kInf, kInf, -1, -1};
    const std::int32_t r = storage(i);
    if (cached) {
        for (int attempt = 0; attempt < 2; attempt++) {
            if (attempt == 1) rescan(r);
            if (s.cache_size[r] < 2) continue;
            b = evaluate(r);
            if (b.w2 <= safe_bound(r)) return b;
        }
    }
    if (filter.exact) return kernels.best_two_f(filter_row(i), p.data(), m);
    const std::int32_t count = b.w2 < kInf ? columns_within(r, b.w2, few()) : m;
    if (count > few()) return kernels.best_two_d(exact_row(i), p.data(), m);
    b = {kInf, kInf, -1, -1};
    for (std::int32_t k = 0; k < count; k++) {
        double v = value(i, s.hit[k]);
        if (v < b.w1) b = {v, b.w1, s.hit[k], b.j1};
        else if (v < b.w2) b.w2 = v, b.j2 = s.hit[k];
    }
    return b;
}

void Work::free_row(std::int32_t i) {
    std::int32_t& j = x[static_cast<std::size_t>(i)];
    if (j >= 0) y[static_cast<std::size_t>(j)] = -1;
    j = -1;
}

void Work::match(std::int32_t i, std::int32_t j) {
    x[static_cast<std::size_t>(i)] = j;
    y[static_cast<std::size_t>(j)] = i;
}

}  // namespace loomfast::assignment
