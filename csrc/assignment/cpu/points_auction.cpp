#include <cmath>

#include "assignment/cpu/points_solver.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kFirst = 0.05;      // of the spread: the first epsilon without a sample
constexpr double kLast = 0.1;        // of the spread over n: the last epsilon
constexpr std::int64_t kBidsAPlane = 2;  // for each column, between two refreshments of the source
constexpr std::int64_t kPassed = 4096;  // rows that are passed over between two looks whether to stop

}  // namespace

template <class Source>
PointsSolver<Source>::PointsSolver(Source& source, PointsWatch& watch)
    : source_(source),
      watch_(watch),
      cached_(source.rows()),
      column_(source.rows(), kNobody),
      row_(source.columns(), kNobody),
      least_(source.rows(), 0.0) {
    spare_ = free_spare_ = source.columns() - rows();
}

template <class Source>
void PointsSolver<Source>::tell(
    const std::function<void(std::int64_t, std::int64_t, const std::string&)>& told) const {
    // As many steps as phases, and one of paths; within one, the rows that have a column.
    const std::int64_t free = std::min<std::int64_t>(static_cast<std::int64_t>(free_.size()), rows());
    const std::int64_t step = finishing() ? phases_ : phase_;
    told(step * rows() + rows() - free, (phases_ + 1) * rows(),
         (finishing() ? std::string("paths, ") : "epsilon " + std::to_string(epsilon_) + ", ") +
             std::to_string(free) + " rows left");
}

template <class Source>
void PointsSolver<Source>::scan(const std::vector<std::int32_t>& rows) {
    source_.scan(rows, cached_);
    stats.scans += static_cast<std::int64_t>(rows.size());
}

template <class Source>
Best PointsSolver<Source>::best_cached(const Cached& cached) const {
    Best best{-1, kInf, kInf};
    for (int k = 0; k < cached.count; ++k) {
        const double value = cached.costs[k] + source_.price(cached.columns[k]);
        if (value < best.first) {
            best = {cached.columns[k], value, best.first};
        } else if (value < best.second) {
            best.second = value;
        }
    }
    return best;
}

template <class Source>
bool PointsSolver<Source>::dry(std::int32_t row) const {
    const Best found = best_cached(cached_[row]);
    return found.column < 0 || found.first > cached_[row].bound;
}

template <class Source>
Best PointsSolver<Source>::best(std::int32_t row) {
    Best found = best_cached(cached_[row]);
    if (found.column < 0 || found.first > cached_[row].bound) {
        dry_.assign(1, row);
        scan(dry_);
        found = best_cached(cached_[row]);
    }
    found.second = std::min(found.second, cached_[row].bound);
    return found;
}

// Fills the caches of all rows whose cheapest column is not known, under prices that stay what they are.
template <class Source>
bool PointsSolver<Source>::scan_dry() {
    for (std::int64_t first = 0; first < rows(); first += kPassed) {
        if (watch_.stopped()) return false;
        batch_.clear();
        for (std::int64_t row = first; row < std::min(first + kPassed, rows()); ++row)
            if (dry(static_cast<std::int32_t>(row))) batch_.push_back(static_cast<std::int32_t>(row));
        scan(batch_);
    }
    return true;
}

// Returns who had the column: a row, which is free now, nobody, or a spare, which is counted as free.
template <class Source>
std::int32_t PointsSolver<Source>::give(std::int32_t column, std::int32_t row) {
    const std::int32_t evicted = row_[column];
    if (evicted >= 0) column_[evicted] = kNobody;
    if (evicted == kSpare) ++free_spare_;
    row_[column] = row;
    column_[row] = column;
    return evicted;
}

template <class Source>
void PointsSolver<Source>::release(std::int32_t row) {
    row_[column_[row]] = kNobody;
    column_[row] = kNobody;
}

// How much more a row's column costs than its cheapest, which is remembered.
template <class Source>
double PointsSolver<Source>::excess(std::int32_t row) {
    least_[row] = best(row).first;
    const std::int32_t column = column_[row];
    return source_.cost(row, column) + source_.price(column) - least_[row];
}

template <class Source>
double PointsSolver<Source>::mean_excess() {
    if (!scan_dry()) return 0.0;
    double sum = 0.0;
    std::int64_t count = 0;
    for (std::int32_t row = 0; row < rows(); ++row) {
        if (column_[row] < 0) continue;
        sum += excess(row);
        ++count;
    }
    return count > 0 ? sum / static_cast<double>(count) : 0.0;
}

template <class Source>
void PointsSolver<Source>::least(std::vector<double>& values) {
    scan_dry();
    for (std::int32_t row = 0; row < rows(); ++row) values[row] = best(row).first;
}

template <class Source>
void PointsSolver<Source>::match(const std::vector<std::int32_t>& columns) {
    for (std::int32_t row = 0; row < rows(); ++row)
        if (columns[row] >= 0 && row_[columns[row]] == kNobody && column_[row] == kNobody) give(columns[row], row);
    std::vector<std::int32_t> left;
    for (std::int32_t j = 0; j < source_.columns(); ++j)
        if (row_[j] == kNobody) left.push_back(j);
    std::stable_sort(left.begin(), left.end(),
                     [&](std::int32_t a, std::int32_t b) { return source_.price(a) < source_.price(b); });
    for (const std::int32_t j : left) {
        if (free_spare_ == 0) break;
        row_[j] = kSpare;
        --free_spare_;
    }
}

template <class Source>
double PointsSolver<Source>::spread(double& scale) const {
    const std::int64_t columns = source_.columns(), samples = 16, step = std::max<std::int64_t>(1, columns / 2000);
    double sum = 0.0;
    for (std::int64_t k = 0; k < samples; ++k) {
        const auto row = static_cast<std::int32_t>((2 * k + 1) * rows() / (2 * samples));
        double mean = 0.0, least = kInf;
        for (std::int64_t j = 0; j < columns; j += step) {
            const double value = source_.cost(row, j);
            mean += value / static_cast<double>((columns + step - 1) / step);
            least = std::min(least, value);
            scale = std::max(scale, std::fabs(value));
        }
        sum += mean - least;
    }
    return sum / static_cast<double>(samples);
}

template <class Source>
void PointsSolver<Source>::schedule(double epsilon, double last, std::int64_t bids_a_row) {
    double scale = 0.0;
    const double apart = spread(scale);
    least_epsilon_ = std::max(scale * 0x1p-40, 0x1p-1000);  // one that prices do not feel would not end
    last_ = std::max(last > 0.0 ? last : kLast * apart / static_cast<double>(source_.columns()), least_epsilon_);
    epsilon_ = std::max(epsilon > 0.0 ? epsilon : kFirst * apart, last_);
    phases_ = 1 + static_cast<std::int32_t>(std::ceil(std::log(epsilon_ / last_) / std::log(kFactor)));
    phase_ = 0;
    budget_ = bids_a_row > 0 ? stats.bids + bids_a_row * rows() : kNoBudget;
    stage_ = Stage::auction;
    bidding_ = false;
}

template <class Source>
Auction PointsSolver<Source>::phase() {
    if (!bidding_ && !open_phase()) return Auction::stopped;
    while (true) {
        if (const Auction ended = bid(); ended != Auction::ended) return ended;
        if (free_spare_ == 0) break;
        bid_spare();
    }
    bidding_ = false;
    budget_ = kNoBudget;
    ++phase_;
    return Auction::ended;
}

// Rows keep the columns that are within epsilon of their cheapest.
template <class Source>
bool PointsSolver<Source>::open_phase() {
    source_.refresh();
    if (!scan_dry()) {
        watch_.keep(*this);
        return false;
    }
    ++stats.phases;
    free_.clear();
    for (std::int32_t row = 0; row < rows(); ++row) {
        if (column_[row] >= 0 && excess(row) <= epsilon_) continue;
        if (column_[row] >= 0) release(row);
        free_.push_back(row);
    }
    release_spare();
    bidding_ = true;
    return true;
}

template <class Source>
Auction PointsSolver<Source>::bid() {
    while (!free_.empty()) {
        if (stats.scans > most_scans) return Auction::exhausted;
        if (stats.bids > budget_) {
            bidding_ = false;
            return Auction::over_budget;
        }
        if (++looked_ % 16 == 0 && !watch_.go_on(*this)) return Auction::stopped;
        bid_batch();
    }
    return Auction::ended;
}

template <class Source>
void PointsSolver<Source>::bid_batch() {
    const std::int64_t most = std::min<std::int64_t>(static_cast<std::int64_t>(free_.size()), Source::kBatch);
    batch_.assign(free_.end() - most, free_.end());
    free_.resize(free_.size() - most);
    if (most > 1) {
        dry_.clear();
        for (const std::int32_t row : batch_)
            if (dry(row)) dry_.push_back(row);
        scan(dry_);
    }
    for (const std::int32_t row : batch_) {
        const Best found = best(row);
        const double second = found.second < kInf ? found.second : found.first;
        source_.raise(found.column, source_.price(found.column) + (second - found.first) + epsilon_);
        if (const std::int32_t evicted = give(found.column, row); evicted >= 0) free_.push_back(evicted);
        if (++stats.bids % (kBidsAPlane * source_.columns()) == 0) source_.refresh();
    }
}

template <class Source>
double PointsSolver<Source>::least_price() const {
    double least = kInf;
    for (std::int64_t j = 0; j < source_.columns(); ++j) least = std::min(least, source_.price(j));
    return least;
}

template <class Source>
void PointsSolver<Source>::release_spare() {
    if (spare_ == 0) return;
    const double least = least_price();
    for (std::int64_t j = 0; j < source_.columns(); ++j) {
        if (row_[j] != kSpare || source_.price(j) - least <= epsilon_) continue;
        row_[j] = kNobody;
        ++free_spare_;
    }
}

// The spare that are free take the columns of the least prices that no spare has, and all pay for theirs what the next
// costs, and epsilon more: what bids of one after the other come to, which would raise each other for long. (D. P.
// Bertsekas and D. A. Castanon, "The auction algorithm for the transportation problem", Annals of Operations Research
// 20, 1989.) The rows evicted are free.
template <class Source>
void PointsSolver<Source>::bid_spare() {
    std::vector<std::int32_t> others;
    for (std::int32_t j = 0; j < source_.columns(); ++j)
        if (row_[j] != kSpare) others.push_back(j);
    const auto cheaper = [&](std::int32_t a, std::int32_t b) {
        return source_.price(a) < source_.price(b) || (source_.price(a) == source_.price(b) && a < b);
    };
    const auto next = others.begin() + free_spare_;
    std::nth_element(others.begin(), next, others.end(), cheaper);
    const double level = source_.price(*next) + epsilon_;
    for (auto taken = others.begin(); taken != next; ++taken) {
        if (row_[*taken] >= 0) {
            free_.push_back(row_[*taken]);
            column_[row_[*taken]] = kNobody;
        }
        row_[*taken] = kSpare;
    }
    free_spare_ = 0;
    for (std::int32_t j = 0; j < source_.columns(); ++j)
        if (row_[j] == kSpare && source_.price(j) < level) source_.raise(j, level);
    ++stats.bids;
}

template class PointsSolver<TreeSource<0>>;
template class PointsSolver<TreeSource<1>>;
template class PointsSolver<TreeSource<2>>;
template class PointsSolver<TreeSource<3>>;
template class PointsSolver<ProductSource>;

}  // namespace loomfast::assignment
