// A solve under way: its prices, its matching, its caches of candidates, and exact answers about rows.
#pragma once

#include <cmath>
#include <memory>

#include "assignment/cpu/rows.hpp"
#include "assignment/cpu/stopwatch.hpp"

namespace loomfast::assignment {

// kScanRounding with the threshold of a look rounded too.
constexpr double kLookRounding = 1.9e-7;

// Owns what its State points to.
class Work : public State {
public:
    Work(const Source& source, const Filter& filter, const Kernels& kernels, Cancel* cancel);
    Work(const Work&) = delete;

    Rows rows;
    const Filter& filter;
    const Kernels& kernels;
    Cancel* cancel;
    Stats stats;
    Stopwatch watch;
    double target_gap = 0.0;  // a gap that is small enough; 0: solve exactly

    bool square() const { return n == m; }
    bool cancelled() const { return cancel && cancel->look(); }
    std::int32_t storage(std::int32_t i) const { return repeats == 1 ? i : i / repeats; }
    const float* filter_row(std::int32_t i) const { return costs + stride * storage(i); }

    // ---- prices ----
    void set_price(std::int32_t j, double price);
    // Every price is about to be set: there is no bound yet.
    void forget_prices() { price_bound = 0.0; }
    // The price of a column free of charge: no price is lower where columns are left over.
    double floor(std::int32_t j) const { return n < m ? filter.shift_of_column(j) : 0.0; }
    bool charged(std::int32_t j) const { return p[j] > floor(j); }

    // ---- the matching ----
    void free_row(std::int32_t i);
    void free_all_rows();
    void match(std::int32_t i, std::int32_t j);
    Array<std::int32_t> free_rows() const;

    // ---- caches, which exist from the first use_caches() on ----
    bool cached = false;
    void use_caches();
    void forget_exact_costs();
    // After prices fell: caches hold only as long as they do not,
    void forget_caches();
    // or after they fell by at most `fall`.
    void lower_bounds(double fall);
    void rescan(std::int32_t r);
    // No column outside of the cache has a value below this.
    double safe_bound(std::int32_t r) const;
    const std::int32_t* candidates(std::int32_t r) const { return cache_col + std::int64_t{r} * kCacheSize; }
    RowView candidate_costs(std::int32_t r);

    // ---- exact values: shifted costs and prices ----
    double value(std::int32_t i, std::int32_t j) const { return rows.cost(i, j) + p[j]; }
    // Least, and least two, values of row i; `known` is a value that the least does not exceed.
    double least(std::int32_t i, double known = HUGE_VAL);
    BestTwo best_two(std::int32_t i);
    // How far rounding can take apart the values of a row's tight pairs.
    double rounding(std::int32_t i, std::int32_t j) const;
    // How many columns of a storage row may have a value of at most `value`: every other one's is greater. They are in
    // `hit` unless there are more than `most`.
    std::int32_t columns_within(std::int32_t r, double value, std::int32_t most);
    std::int32_t few() const { return m / 8; }  // entries, one by one, that take as long to read as a row

private:
    BestTwo best_cached(std::int32_t r);

    Array<double> prices_, bounds_;
    Array<float> rounded_prices_, widths_, hit_values_;
    Array<std::int32_t> x_, y_, hits_, cache_sizes_;
    Array<std::uint64_t> mask_;
    Array<char> exact_costs_known_;
    std::unique_ptr<std::int32_t[]> cache_columns_;
    std::unique_ptr<float[]> cache_costs_;
    std::unique_ptr<double[]> exact_costs_;
};

}  // namespace loomfast::assignment
