// Rows of costs, whatever they are stored in.
#pragma once

#include <memory>

#include "assignment/cpu/array.hpp"
#include "assignment/cpu/filter.hpp"

namespace loomfast::assignment {

// Costs of one row, or of its candidates, for all or some columns: float32 where these are the costs themselves, else
// float64.
struct RowView {
    const float* narrow = nullptr;
    const double* wide = nullptr;

    double operator[](std::int64_t j) const { return wide ? wide[j] : narrow[j]; }
};

inline BestTwo two_least(const Kernels& k, RowView row, const double* p, std::int32_t m) {
    return row.wide ? k.best_two_d(row.wide, p, m) : k.best_two_f(row.narrow, p, m);
}

inline BestTwo two_least_among(const Kernels& k, const std::int32_t* columns, RowView costs, std::int32_t size,
                               const double* p) {
    return costs.wide ? k.best_two_cached_d(columns, costs.wide, size, p)
                      : k.best_two_cached(columns, costs.narrow, size, p);
}

inline double row_min(const Kernels& k, RowView row, const double* p, std::int32_t m, bool* below = nullptr) {
    return row.wide ? k.row_min_d(row.wide, p, m, below) : k.row_min_f(row.narrow, p, m, below);
}

inline double relax(const Kernels& k, RowView row, const double* p, double* d, double* predecessor, std::int32_t m,
                    double shift, double floor, std::int32_t i) {
    return row.wide ? k.relax_d(row.wide, p, d, predecessor, m, shift, floor, i)
                    : k.relax_f(row.narrow, p, d, predecessor, m, shift, floor, i);
}

// The rows of a problem, exactly. All but `true_cost` and `true_row` are less the filter's shifts, as prices are those of
// costs so shifted.
class Rows {
public:
    Rows(const Source& source_, const Filter& filter_) : source(source_), filter(filter_) {}

    const Source& source;
    const Filter& filter;

    std::int32_t storage(std::int32_t i) const {
        return source.row_repeats() == 1 ? i : i / static_cast<std::int32_t>(source.row_repeats());
    }
    // The filter's row: its costs rounded, unless the filter is exact.
    const float* approximate(std::int32_t i) const { return filter.cost + filter.stride * storage(i); }

    double cost(std::int32_t i, std::int32_t j) const {
        if (filter.exact) return approximate(i)[j];
        return source.at(i, j) - filter.shift(storage(i)) - filter.shift_of_column(j);
    }
    // The view holds until the next call.
    RowView row(std::int32_t i) { return filter.exact ? RowView{approximate(i), nullptr} : RowView{nullptr, shifted(i)}; }

    // The source's own costs.
    double true_cost(std::int32_t i, std::int32_t j) const {
        return filter.exact ? filter.shift(storage(i)) + approximate(i)[j] : source.at(i, j);
    }
    const double* true_row(std::int32_t i);

private:
    const double* shifted(std::int32_t i);
    void shift_row(std::int32_t r, const double* row, double* out) const;
    void copy();

    Array<double> buffer_, shifted_;
    std::unique_ptr<double[]> copy_;  // of all shifted rows, where many are needed
    std::int64_t shifted_reads_ = 0;
};

}  // namespace loomfast::assignment
