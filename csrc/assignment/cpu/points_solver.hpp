// The solver behind solve_points: an auction with epsilon scaling over each row's few cheapest columns, which a tree
// finds, begun from the prices of a sample; then repaired prices and lazy shortest augmenting paths.
//
// The rows that a problem lacks for being square cost nothing anywhere: they are alike, and act together ("spare").
// Prices of columns only rise, but in `repair`, so that a bound that no column outside of a row's cache is below stays
// one.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/cpu/points_tree.hpp"

namespace loomfast::assignment {

constexpr int kCached = 10;
constexpr std::int32_t kNobody = -1, kSpare = -2;  // in the place of a row

struct CachedRow {
    double costs[kCached];
    std::int32_t columns[kCached];
    std::int32_t count = 0;
    double bound = -std::numeric_limits<double>::infinity();  // no other column is below it
};

// The cheapest column of a row, what it costs with its price, and what every other costs at least.
struct Best {
    std::int32_t column;
    double first, second;
};

template <int D>
class PointsSolver {
  public:
    // points: n x d, fewer than or as many as the tree has columns; the tree's prices are the start.
    PointsSolver(const Space<D>& space, std::vector<double> points, PriceTree<D>& tree, Cancel* cancel);

    // Prices near the optimum for points too many to begin with none; the epsilon to go on with.
    double start_from_sample();
    // Scaling from `epsilon`, or from what the costs suggest if it is 0, down to `last` or the same.
    bool auction(double epsilon, double last = 0.0);
    // From any prices and matching to an optimal one, up to rounding.
    bool finish();
    // The tree's prices have been changed.
    void forget() { std::fill(cached_.begin(), cached_.end(), CachedRow{}); }

    std::int32_t column_of(std::int64_t row) const { return column_[row]; }
    std::int32_t row_of(std::int64_t column) const { return row_[column]; }
    const double* point(std::int64_t row) const { return row == kSpare ? nullptr : &points_[row * space_.d()]; }
    std::int64_t rows() const { return static_cast<std::int64_t>(column_.size()); }
    double spacing() const;
    Stats stats;

  private:
    double cost(std::int32_t row, std::int32_t column) const { return tree_.cost(point(row), column); }
    void scan(std::int32_t row);
    Best best_cached(const CachedRow& cached) const;
    Best best(std::int32_t row);
    double excess(std::int32_t row);
    bool tight(double excess, std::int32_t row) const;
    std::int32_t give(std::int32_t column, std::int32_t row);
    void release(std::int32_t row);
    bool phase(double epsilon);
    bool bid(std::vector<std::int32_t>& free, double epsilon);
    void release_spare(double epsilon);
    std::vector<std::int32_t> bid_spare(double epsilon);
    double least_price() const;
    double spread();
    void repair();
    void level_spare();
    std::vector<std::int32_t> release_loose();
    std::vector<std::int32_t> reduce(const std::vector<std::int32_t>& free);
    bool augment(std::int32_t row);
    bool stopped() { return ++looked_ % 256 == 0 && cancel_ && cancel_->look(); }

    struct Path;
    void relax(Path& path, std::int32_t row, std::int32_t column, double value);
    void expand(Path& path, std::int32_t row, double distance);
    void expand_spare(Path& path, std::int32_t column, double distance);
    void look_further(Path& path, std::int32_t row, std::int64_t most);
    std::int32_t search(Path& path);
    void raise_prices(const Path& path, double length);
    void exchange(const Path& path, std::int32_t free, std::int32_t end);

    Space<D> space_;
    std::vector<double> points_;
    PriceTree<D>& tree_;
    Cancel* cancel_;
    std::int64_t spare_ = 0, free_spare_ = 0, looked_ = 0;
    std::vector<CachedRow> cached_;
    std::vector<std::int32_t> column_, row_;
    std::vector<double> least_;  // of each row, its cheapest column with its price, where the finish has looked
    // Of the path under way, by column and by row, where `reached_` is its number.
    std::vector<double> distance_, base_;
    std::vector<std::int32_t> before_, reached_, done_;
    std::int32_t number_ = 0;
    double scale_ = 0.0;
};

extern template class PointsSolver<0>;
extern template class PointsSolver<1>;
extern template class PointsSolver<2>;
extern template class PointsSolver<3>;

}  // namespace loomfast::assignment
