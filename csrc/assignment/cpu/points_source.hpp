// Rows of costs that are not stored: where the solver of points gets them from, and with them the columns' prices.
//
// A source offers `rows`, `columns`, `cost` of a pair; `price`, `raise`, `lower`, `set_prices`, `refresh` (prices have
// risen for long); `scan`, which fills the caches of some rows; `search`, the cheapest columns of one of them;
// `least`, what the cheapest costs each row; and `places`, the same number for rows that are the same.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "assignment/cpu/points_tree.hpp"
#include "threads/pool.hpp"

namespace loomfast::assignment {

constexpr std::int32_t kNobody = -1, kSpare = -2;  // in the place of a row

// Some of the cheapest columns of a row, and what every other costs, with its price, at least.
template <int K>
struct CachedRow {
    double costs[K];
    std::int32_t columns[K];
    std::int32_t count = 0;
    double bound = -std::numeric_limits<double>::infinity();
};

// How many columns were found, and what every other costs at least.
struct Found {
    int count;
    double bound;
};

// Rows are points, columns those of a tree.
template <int D>
class TreeSource {
  public:
    static constexpr int kCached = 10;
    static constexpr std::int64_t kBatch = 128;  // rows that are scanned together before any of them bids
    using Cached = CachedRow<kCached>;

    TreeSource(const Space<D>& space, std::vector<double> rows, const double* columns, std::int64_t count, int threads)
        : space_(space), points_(std::move(rows)), tree_(space, columns, count), threads_(threads) {}

    std::int64_t rows() const { return static_cast<std::int64_t>(points_.size()) / space_.d(); }
    std::int64_t columns() const { return tree_.count(); }
    const double* point(std::int64_t row) const { return row == kSpare ? nullptr : &points_[row * space_.d()]; }
    const Space<D>& space() const { return space_; }
    const PriceTree<D>& tree() const { return tree_; }
    std::int32_t original_column(std::int64_t j) const { return tree_.original(j); }
    void copy_column(std::int64_t j, double* to) const { tree_.copy_point(j, to); }
    int threads() const { return threads_; }

    double cost(std::int64_t row, std::int64_t column) const { return tree_.cost(point(row), column); }
    double price(std::int64_t column) const { return tree_.price(column); }
    void raise(std::int32_t column, double price) { tree_.raise(column, price); }
    void lower(std::int32_t column, double price) { tree_.lower(column, price); }
    template <class Price>
    void set_prices(const Price& price) {
        tree_.set_prices(price);
    }
    void refresh() { tree_.fit_planes(); }

    void scan(std::span<const std::int32_t> rows, std::vector<Cached>& cached) const {
        run_chunks(static_cast<std::int64_t>(rows.size()), kGrain, threads_, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t k = begin; k < end; ++k) scan(rows[k], cached[rows[k]]);
        });
    }

    // The `most` cheapest of a row, ascending, of which the last is but the bound of the rest, if there is a rest.
    Found search(std::int32_t row, int most, std::int32_t* columns, double* values) const {
        if (row == kSpare) return cheapest(most, columns, values);
        const int found = tree_.search(point(row), most, columns, values);
        return found < columns_int() ? Found{found - 1, values[found - 1]} : Found{found, PriceTree<D>::kInf};
    }

    // What the cheapest column costs, for every row.
    void least(std::vector<double>& u) const {
        run_chunks(rows(), 8 * kGrain, threads_, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t i = begin; i < end; ++i) {
                std::int32_t column = kNobody;
                tree_.search(point(i), 1, &column, &u[i]);
            }
        });
    }

    // Rows that are the same point have the same number.
    std::vector<std::int32_t> places() const {
        const int d = space_.d();
        std::vector<std::int32_t> order(rows()), places(rows());
        std::iota(order.begin(), order.end(), 0);
        const auto compare = [&](std::int32_t a, std::int32_t b) {
            return std::lexicographical_compare(point(a), point(a) + d, point(b), point(b) + d);
        };
        std::sort(order.begin(), order.end(), compare);
        for (std::size_t k = 1; k < order.size(); ++k)
            places[order[k]] = places[order[k - 1]] + (compare(order[k - 1], order[k]) ? 1 : 0);
        return places;
    }

    template <class Archive>
    void visit(Archive& archive) {
        tree_.visit(archive);
    }

  private:
    static constexpr std::int64_t kGrain = 32;

    // The same of a row whose costs are all zero.
    Found cheapest(int most, std::int32_t* columns, double* values) const {
        std::vector<std::int32_t> order(tree_.count());
        std::iota(order.begin(), order.end(), 0);
        const auto cheaper = [&](std::int32_t a, std::int32_t b) {
            return price(a) < price(b) || (price(a) == price(b) && a < b);
        };
        std::partial_sort(order.begin(), order.begin() + most, order.end(), cheaper);
        for (int k = 0; k < most; ++k) {
            columns[k] = order[k];
            values[k] = price(order[k]);
        }
        return most < columns_int() ? Found{most - 1, values[most - 1]} : Found{most, PriceTree<D>::kInf};
    }

    int columns_int() const { return static_cast<int>(tree_.count()); }

    void scan(std::int32_t row, Cached& cached) const {
        std::int32_t columns[kCached + 1];
        double values[kCached + 1];
        // What was among the cheapest may be so no longer, but its dearest is above as many.
        double most = PriceTree<D>::kInf;
        if (cached.count == kCached) {
            most = -most;
            for (int k = 0; k < kCached; ++k) most = std::max(most, cached.costs[k] + price(cached.columns[k]));
            most = std::nextafter(most, PriceTree<D>::kInf);
        }
        int found = tree_.search(point(row), kCached + 1, columns, values, most);
        if (found == 0) {
            most = PriceTree<D>::kInf;
            found = tree_.search(point(row), kCached + 1, columns, values);
        }
        cached.count = std::min(found, kCached);
        for (int k = 0; k < cached.count; ++k) {
            cached.columns[k] = columns[k];
            cached.costs[k] = cost(row, columns[k]);
        }
        cached.bound = found > kCached ? values[kCached] : most;
    }

    Space<D> space_;
    std::vector<double> points_;
    PriceTree<D> tree_;
    int threads_;
};

}  // namespace loomfast::assignment
