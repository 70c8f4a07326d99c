// Rows of costs between points of many dimensions: products of rows in blocks, in float32, select the columns that may
// be cheapest for each; what is selected is then computed from the points in float64, like every cost of a tree.
//
// The product is the caller's, of any order of summation. With u = 2^-24 and the points of d coordinates that it is of,
// x' and z', it is off by at most gamma |x'| |z'|, gamma = (d + 2) u / (1 - (d + 2) u) (N. J. Higham, "Accuracy and
// Stability of Numerical Algorithms", 2nd edition, section 3.1); that x' and z' are rounded to float32 moves their
// distance by at most u (|x'| + |z'|). What is selected by is therefore a bound of each cost from below, and the last
// that was selected bounds all that were not.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "assignment/cpu/points_source.hpp"
#include "assignment/points.hpp"
#include "threads/pool.hpp"

namespace loomfast::assignment {

class ProductSource {
  public:
    static constexpr int kCached = 32;
    static constexpr std::int64_t kBatch = 1024;
    using Cached = CachedRow<kCached>;

    ProductSource(const PointsCost& cost, const PointsProduct& product, int threads)
        : cost_(cost),
          space_{cost.d, cost.metric},
          product_(product),
          threads_(threads),
          row_norm_(norms(product.x, cost.rows)),
          column_square_(norms(product.z, cost.cols)),
          price_(cost.cols, 0.0) {
        for (double& norm : column_square_) {
            most_norm_ = std::max(most_norm_, norm);
            norm *= norm;
        }
    }

    std::int64_t rows() const { return cost_.rows; }
    std::int64_t columns() const { return cost_.cols; }
    std::int32_t original_row(std::int64_t i) const { return static_cast<std::int32_t>(i); }
    std::int32_t original_column(std::int64_t j) const { return static_cast<std::int32_t>(j); }
    const Space<0>& space() const { return space_; }
    const double* point(std::int64_t row) const { return cost_.x + row * cost_.d; }
    void copy_column(std::int64_t j, double* to) const { std::copy_n(cost_.z + j * cost_.d, cost_.d, to); }

    double cost(std::int64_t row, std::int64_t column) const {
        return space_.cost(point(row), cost_.z + column * cost_.d);
    }
    double price(std::int64_t column) const { return price_[column]; }
    void raise(std::int32_t column, double price) { price_[column] = price; }
    void lower(std::int32_t column, double price) { price_[column] = price; }
    template <class Price>
    void set_prices(const Price& price) {
        for (std::int64_t j = 0; j < columns(); ++j) price_[j] = price(j);
    }
    void refresh() {}
    template <class Archive>
    void visit(Archive& archive) {
        archive(price_);
    }
    std::vector<std::int32_t> places() const {
        std::vector<std::int32_t> each(rows());
        std::iota(each.begin(), each.end(), 0);
        return each;
    }

    void scan(std::span<const std::int32_t> rows, std::vector<Cached>& cached) const;
    Found search(std::int32_t row, int most, std::int32_t* columns, double* values) const;
    void least(std::vector<double>& u) const;

  private:
    static constexpr std::int64_t kProducts = 1 << 20;  // computed at a time: 4 MB
    static constexpr double kUnit = 0x1p-24;

    std::vector<double> norms(const float* points, std::int64_t count) const;
    double error(std::int64_t row) const;
    template <Metric M>
    void from_below(double own, double error, std::int64_t first, std::int64_t past, const float* products,
                    double* values) const;
    template <class Place>
    void scan_block(std::span<const std::int32_t> rows, const Place& place) const;
    static void insert(Cached& cached, std::int32_t column, double value);
    template <Metric M>
    void select(std::int64_t row, std::int64_t first, std::int64_t past, const float* products, Cached& cached) const;
    void settle(std::int64_t row, Cached& cached) const;
    void scan_exactly(std::int64_t row, Cached& cached) const;

    const PointsCost cost_;
    Space<0> space_;
    const PointsProduct& product_;
    int threads_;
    std::vector<double> row_norm_, column_square_;  // of the points that the product is of
    double most_norm_ = 0.0;
    std::vector<double> price_;
};

}  // namespace loomfast::assignment
