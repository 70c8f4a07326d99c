// The solver behind solve_points: an auction with epsilon scaling over each row's few cheapest columns, which a source
// finds; then repaired prices and lazy shortest augmenting paths.
//
// The rows that a problem lacks for being square cost nothing anywhere: they are alike, and act together ("spare").
// Prices of columns only rise, but in `repair`, so that a bound that no column outside of a row's cache is below stays
// one. Free rows bid by the batch: what their caches lack is found for all of them at once, under the prices before
// any of them bids.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "assignment/cpu/points_product.hpp"
#include "assignment/cpu/points_source.hpp"
#include "assignment/cpu/points_watch.hpp"

namespace loomfast::assignment {

// The cheapest column of a row, what it costs with its price, and what every other costs at least.
struct Best {
    std::int32_t column;
    double first, second;
};

enum class Auction : std::uint8_t { ended, stopped, over_budget, exhausted };
enum class Finish : std::uint8_t { ended, stopped, too_early };

template <class Source>
class PointsSolver {
  public:
    // No more rows than columns; the source's prices are the start.
    PointsSolver(Source& source, PointsWatch& watch);

    // The epsilons to come, from `epsilon`, or from what the costs suggest if it is 0, down to `last` or the same. The
    // first may take so many bids a row.
    void schedule(double epsilon, double last = 0.0, std::int64_t bids_a_row = 0);
    double epsilon() const { return epsilon_; }
    // A matching to begin with, where it is one: of every row its column or kNobody. The spare take what is cheapest of
    // the rest.
    void match(const std::vector<std::int32_t>& columns);
    // How much more the columns of matched rows cost than their cheapest, on average.
    double mean_excess();
    // Goes on with the schedule; after each of its phases asks whether that is enough.
    template <class Enough>
    Auction auction(const Enough& enough) {
        while (true) {
            if (const Auction ended = phase(); ended != Auction::ended) return ended;
            if (epsilon_ <= last_ || enough(epsilon_)) return Auction::ended;
            epsilon_ = std::max(epsilon_ / kFactor, last_);
        }
    }
    // From any prices and matching to an optimal one, up to rounding; or back to the auction, with smaller epsilons,
    // while too many rows are left for paths.
    Finish finish();
    // The source's prices have been changed otherwise than by this.
    void forget() { std::fill(cached_.begin(), cached_.end(), Cached{}); }

    // The cheapest that each row can have, under the prices now.
    void least(std::vector<double>& values);
    double least_price() const;
    bool finishing() const { return stage_ == Stage::paths; }
    std::int32_t column_of(std::int64_t row) const { return column_[row]; }
    std::int32_t row_of(std::int64_t column) const { return row_[column]; }
    bool has_spare() const { return spare_ > 0; }

    void tell(const std::function<void(std::int64_t, std::int64_t, const std::string&)>& told) const;
    template <class Archive>
    void visit(Archive& archive);

    std::int64_t most_scans = std::numeric_limits<std::int64_t>::max();  // more exhaust it
    Stats stats;

  private:
    static constexpr double kFactor = 6.0;  // an epsilon over the next
    using Cached = typename Source::Cached;
    static constexpr double kInf = std::numeric_limits<double>::infinity();
    static constexpr std::int64_t kNoBudget = std::numeric_limits<std::int64_t>::max();
    enum class Stage : std::uint8_t { auction, paths };

    std::int64_t rows() const { return source_.rows(); }
    double excess(std::int32_t row);
    Best best_cached(const Cached& cached) const;
    Best best(std::int32_t row);
    bool dry(std::int32_t row) const;
    void scan(const std::vector<std::int32_t>& rows);
    bool scan_dry();
    bool tight(double excess, std::int32_t row) const;
    std::int32_t give(std::int32_t column, std::int32_t row);
    void release(std::int32_t row);
    Auction phase();
    bool open_phase();
    Auction bid();
    void bid_batch();
    void release_spare();
    void bid_spare();
    double spread(double& scale) const;
    bool repair();
    void level_spare();
    bool release_loose();
    void reduce();
    bool augment(std::int32_t row);
    bool stopped() { return ++looked_ % 256 == 0 && watch_.stopped(); }

    struct Path;
    void relax(Path& path, std::int32_t row, std::int32_t column, double value);
    void expand(Path& path, std::int32_t row, double distance);
    void expand_spare(Path& path, std::int32_t column, double distance);
    bool as_good_as_expanded(std::int32_t row);
    void look_further(Path& path, std::int32_t row, std::int64_t most);
    std::int32_t search(Path& path);
    void raise_prices(const Path& path, double length);
    void exchange(const Path& path, std::int32_t free, std::int32_t end);

    Source& source_;
    PointsWatch& watch_;
    std::int64_t spare_ = 0, free_spare_ = 0, looked_ = 0;
    std::vector<Cached> cached_;
    std::vector<std::int32_t> column_, row_;
    std::vector<double> least_;  // of each row, its cheapest column with its price, where the finish has looked
    // The phase under way, if its rows have begun to bid, and the rows that have no column.
    Stage stage_ = Stage::auction;
    bool bidding_ = false;
    double epsilon_ = 0.0, last_ = 0.0, least_epsilon_ = 0.0;
    std::int64_t budget_ = kNoBudget;
    std::int32_t phases_ = 0, phase_ = 0;
    std::vector<std::int32_t> free_, batch_, dry_;
    // Of the path under way, by column and by row, where `reached_` is its number.
    std::vector<double> distance_, base_;
    std::vector<std::int32_t> before_, reached_, done_;
    // Of rows that are the same: the first that the path has been expanded from, and what it pays for that.
    std::vector<std::int32_t> place_, expanded_;
    std::vector<double> paid_;
    std::int32_t number_ = 0;
};

template <class Source>
template <class Archive>
void PointsSolver<Source>::visit(Archive& archive) {
    source_.visit(archive);
    archive(stage_), archive(bidding_), archive(epsilon_), archive(last_), archive(least_epsilon_), archive(budget_);
    archive(phases_), archive(phase_), archive(spare_), archive(free_spare_);
    archive(column_), archive(row_), archive(least_);
    archive(stats.bids), archive(stats.scans), archive(stats.phases), archive(stats.augmentations);
    archive(stats.releases), archive(stats.loose);
    if constexpr (Archive::kReads) {
        archive.list(free_, rows());
    } else {
        archive(free_);
    }
    for (std::int64_t i = 0; i < rows(); ++i) {
        Cached& cached = cached_[i];
        archive(cached.count), archive(cached.bound), archive(cached.columns);
        if constexpr (Archive::kReads)
            for (int k = 0; k < cached.count; ++k) cached.costs[k] = source_.cost(i, cached.columns[k]);
    }
}

extern template class PointsSolver<TreeSource<0>>;
extern template class PointsSolver<TreeSource<1>>;
extern template class PointsSolver<TreeSource<2>>;
extern template class PointsSolver<TreeSource<3>>;
extern template class PointsSolver<ProductSource>;

}  // namespace loomfast::assignment
