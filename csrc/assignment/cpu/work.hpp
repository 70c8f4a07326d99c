// One problem being solved: its costs, prices and matching, and exact reading of them.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "assignment/cpu/filter.hpp"

namespace loomfast::assignment {

struct Work {
    Work(const Source& source, const Filter& filter, const Kernels& kernels, Cancel* cancel);
    Work(const Work&) = delete;

    const Source& source;
    const Filter& filter;
    const Kernels& kernels;
    Cancel* cancel;
    State s{};
    std::int32_t n, m;
    std::vector<double> p;
    std::vector<std::int32_t> x, y;
    Stats stats;
    double target_gap = 0.0;  // a gap that is small enough; 0: solve exactly

    // Caches exist from the first use of use_caches() on.
    bool cached = false;
    void use_caches();
    void forget_exact_caches() { std::fill(exact_valid_.begin(), exact_valid_.end(), 0); }
    // After prices fell: caches hold only as long as they do not.
    void forget_caches();

    bool cancelled() const { return cancel && cancel->look(); }
    std::int32_t storage(std::int32_t i) const { return s.repeats == 1 ? i : i / s.repeats; }

    void set_price(std::int32_t j, double price);
    // The price of a column free of charge: no price is lower where columns are left over.
    double floor(std::int32_t j) const { return n < m ? filter.shift_of_column(j) : 0.0; }
    bool charged(std::int32_t j) const { return p[static_cast<std::size_t>(j)] > floor(j); }
    // Lowers the caches' bounds after prices fell by at most `fall`.
    void lower_bounds(double fall);

    // Exact costs, less the filter's shifts; prices are those of the costs so shifted.
    double cost(std::int32_t i, std::int32_t j) const;
    double value(std::int32_t i, std::int32_t j) const { return cost(i, j) + p[static_cast<std::size_t>(j)]; }
    const float* filter_row(std::int32_t i) const { return filter.cost + filter.stride * storage(i); }
    const double* exact_row(std::int32_t i);  // where the filter is not exact
    // The source's own costs.
    double true_cost(std::int32_t i, std::int32_t j) const {
        return filter.exact ? filter.shift(storage(i)) + filter_row(i)[j] : source.at(i, j);
    }
    const double* true_row(std::int32_t i) {
        row_buffer_.resize(static_cast<std::size_t>(m));
        return source.row(i, row_buffer_.data());
    }
    // How many columns of a storage row may have a value of at most `value`: every other one's is greater. They are in
    // s.hit unless there are more than `most`.
    std::int32_t columns_within(std::int32_t r, double value, std::int32_t most);
    std::int32_t few() const { return m / 8; }  // entries, one by one, that take as long to read as a row

    // Least, and least two, values of row i, exactly; `known` is a value that the least does not exceed.
    double least(std::int32_t i, double known = HUGE_VAL);
    BestTwo best_two(std::int32_t i);
    // How far rounding can take apart the values of a row's tight pairs.
    double rounding(std::int32_t i, std::int32_t j) const;
    // The cache as exact costs.
    BestTwo evaluate(std::int32_t r);
    void rescan(std::int32_t r);
    double safe_bound(std::int32_t r) const;
    const double* exact_cache(std::int32_t r);

    void free_row(std::int32_t i);
    void match(std::int32_t i, std::int32_t j);

private:
    void shift_row(std::int64_t r, const double* row, double* out) const;
    void copy_rows();

    std::vector<float> pf_, width_, hit_value_;
    std::vector<std::int32_t> cache_size_, hit_;
    std::vector<double> bound_, row_buffer_, exact_row_;
    std::vector<std::uint64_t> mask_;
    std::vector<char> exact_valid_;
    std::unique_ptr<std::int32_t[]> cache_col_;
    std::unique_ptr<float[]> cache_cost_;
    std::unique_ptr<double[]> exact_cost_;
    std::unique_ptr<double[]> rows_;  // all exact rows, where many are needed
    std::int64_t rows_read_ = 0;
};

}  // namespace loomfast::assignment
