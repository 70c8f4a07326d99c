#include <cmath>
#include <queue>

#include "assignment/cpu/points_solver.hpp"

namespace loomfast::assignment {

namespace {

constexpr int kRepairs = 12;
constexpr std::int64_t kBidsToReduce = 20;  // for each row released
constexpr std::int64_t kLeft = 32;  // of so many rows one may be left for a path
constexpr double kSmaller = 36.0;  // an epsilon over the one after too many were left
constexpr double kRounding = 0x1p-50;

}  // namespace

// What a search for a path waits for, and what it has passed.
template <class Source>
struct PointsSolver<Source>::Path {
    // A column; or a row (its `column` is none) whose columns beyond the first `known` wait.
    struct Ahead {
        double distance;
        std::int32_t column, row;
        std::int64_t known;
        bool operator<(const Ahead& other) const { return distance > other.distance; }
    };
    std::priority_queue<Ahead> ahead;
    std::vector<std::int32_t> columns, rows;
    std::int32_t entered = kNobody;  // the column by which the spare were reached, if they were
    double spare_base = 0.0, spare_least = 0.0;
    std::vector<std::int32_t> found;
    std::vector<double> values;
};

template <class Source>
bool PointsSolver<Source>::tight(double excess, std::int32_t row) const {
    return excess <= kRounding * (std::fabs(least_[row]) + std::fabs(source_.price(column_[row])));
}

// Prices of columns whose rows could do better are lowered by what they could, while that leaves fewer of them.
template <class Source>
bool PointsSolver<Source>::repair() {
    std::vector<double> excesses(rows());
    std::int64_t before = 2 * rows();
    for (int pass = 0; pass < kRepairs; ++pass) {
        std::int64_t loose = 0;
        double most = 0.0;
        if (!scan_dry()) return false;
        for (std::int32_t row = 0; row < rows(); ++row) {
            const double found = excess(row);
            excesses[row] = tight(found, row) ? 0.0 : found;
            loose += excesses[row] > 0.0;
            most = std::max(most, excesses[row]);
        }
        if (loose == 0 || 10 * loose > 7 * before) return true;
        before = loose;
        for (std::int32_t row = 0; row < rows(); ++row)
            if (excesses[row] > 0.0) source_.lower(column_[row], source_.price(column_[row]) - excesses[row]);
        for (Cached& cached : cached_) cached.bound -= most * (1.0 + kRounding);
    }
    return true;
}

// The spare pay the least price there is, all of them.
template <class Source>
void PointsSolver<Source>::level_spare() {
    if (spare_ == 0) return;
    const double least = least_price();
    double most = 0.0;
    for (std::int32_t j = 0; j < source_.columns(); ++j) {
        if (row_[j] != kSpare) continue;
        most = std::max(most, source_.price(j) - least);
        source_.lower(j, least);
    }
    for (Cached& cached : cached_) cached.bound -= most * (1.0 + kRounding);
}

template <class Source>
bool PointsSolver<Source>::release_loose() {
    if (!scan_dry()) return false;
    free_.clear();
    for (std::int32_t row = 0; row < rows(); ++row) {
        if (column_[row] >= 0 && tight(excess(row), row)) continue;
        if (column_[row] >= 0) release(row);
        free_.push_back(row);
    }
    stats.releases += static_cast<std::int64_t>(free_.size());
    return true;
}

// Bids without an epsilon, while they take a column that is free or leave the one who had it something to gain.
template <class Source>
void PointsSolver<Source>::reduce() {
    std::vector<std::int32_t> left;
    std::int64_t bids = kBidsToReduce * static_cast<std::int64_t>(free_.size());
    for (const std::int32_t first : free_) {
        for (std::int32_t row = first; row >= 0;) {
            const Best found = best(row);
            const std::int32_t owner = row_[found.column];
            least_[row] = found.first;
            if (owner == kSpare || (owner >= 0 && (!(found.second > found.first) || bids-- <= 0))) {
                left.push_back(row);
                break;
            }
            if (found.second < kInf) {
                source_.raise(found.column, source_.price(found.column) + (found.second - found.first));
                least_[row] = found.second;
            }
            row = give(found.column, row);
            ++stats.bids;
        }
    }
    free_ = std::move(left);
}

template <class Source>
void PointsSolver<Source>::relax(Path& path, std::int32_t row, std::int32_t column, double value) {
    if (done_[column] == number_ || (row == kSpare && row_[column] == kSpare)) return;
    const double base = row == kSpare ? path.spare_base : base_[row];
    const double distance = base + std::max(0.0, value - (row == kSpare ? path.spare_least : least_[row]));
    if (reached_[column] == number_ && distance >= distance_[column]) return;
    reached_[column] = number_;
    distance_[column] = distance;
    before_[column] = row;
    path.ahead.push({distance, column, kNobody, 0});
}

template <class Source>
void PointsSolver<Source>::expand(Path& path, std::int32_t row, double distance) {
    base_[row] = distance;
    path.rows.push_back(row);
    if (as_good_as_expanded(row)) return;
    best(row);
    const Cached& cached = cached_[row];
    for (int k = 0; k < cached.count; ++k)
        relax(path, row, cached.columns[k], cached.costs[k] + source_.price(cached.columns[k]));
    if (cached.bound < kInf)
        path.ahead.push({distance + std::max(0.0, cached.bound - least_[row]), kNobody, row, Source::kCached});
}

// Whether a row that is the same leads to every column by a way that is no longer.
template <class Source>
bool PointsSolver<Source>::as_good_as_expanded(std::int32_t row) {
    const std::int32_t place = place_[row];
    const double pays = base_[row] - least_[row];
    if (expanded_[place] == number_ && paid_[place] <= pays) return true;
    expanded_[place] = number_;
    paid_[place] = pays;
    return false;
}

// One of the spare stands for all, which have the columns of the least price: what it reaches, they do.
template <class Source>
void PointsSolver<Source>::expand_spare(Path& path, std::int32_t column, double distance) {
    if (path.entered >= 0) return;
    path.entered = column;
    path.spare_base = distance;
    path.spare_least = source_.price(column);
    look_further(path, kSpare, spare_ + Source::kCached);
}

template <class Source>
void PointsSolver<Source>::look_further(Path& path, std::int32_t row, std::int64_t most) {
    most = std::min(most + 1, source_.columns());
    path.found.resize(most);
    path.values.resize(most);
    const Found found = source_.search(row, static_cast<int>(most), path.found.data(), path.values.data());
    for (int k = 0; k < found.count; ++k) relax(path, row, path.found[k], path.values[k]);
    if (found.bound == kInf) return;
    const double base = row == kSpare ? path.spare_base : base_[row];
    const double least = row == kSpare ? path.spare_least : least_[row];
    path.ahead.push({base + std::max(0.0, found.bound - least), kNobody, row, found.count});
}

// The free column that is nearest to what the path has been expanded from, by Dijkstra's algorithm over what the caches
// hold, and more of a row's columns where the search comes to their bound.
template <class Source>
std::int32_t PointsSolver<Source>::search(Path& path) {
    while (!path.ahead.empty() && !stopped()) {
        const auto next = path.ahead.top();
        path.ahead.pop();
        const std::int32_t column = next.column;
        if (column < 0) {
            look_further(path, next.row, 4 * next.known);
            continue;
        }
        if (done_[column] == number_ || next.distance > distance_[column]) continue;
        done_[column] = number_;
        if (row_[column] == kNobody) return column;
        if (row_[column] == kSpare) {
            expand_spare(path, column, next.distance);
        } else {
            path.columns.push_back(column);
            expand(path, row_[column], next.distance);
        }
    }
    return kNobody;
}

// What the path has passed gets dearer by what was left of its length.
template <class Source>
void PointsSolver<Source>::raise_prices(const Path& path, double length) {
    for (const std::int32_t column : path.columns)
        source_.raise(column, source_.price(column) + (length - distance_[column]));
    for (const std::int32_t row : path.rows) least_[row] += length - base_[row];
    if (path.entered < 0) return;
    const double level = path.spare_least + (length - path.spare_base);
    for (std::int32_t j = 0; j < source_.columns(); ++j)
        if (row_[j] == kSpare) source_.raise(j, level);
}

template <class Source>
void PointsSolver<Source>::exchange(const Path& path, std::int32_t free, std::int32_t end) {
    for (std::int32_t column = end, row = kNobody; row != free;) {
        row = before_[column];
        const std::int32_t next = row == kSpare ? path.entered : column_[row];
        row_[column] = row;
        if (row >= 0) column_[row] = column;
        column = next;
    }
}

template <class Source>
bool PointsSolver<Source>::augment(std::int32_t free) {
    ++number_;
    Path path;
    least_[free] = best(free).first;
    expand(path, free, 0.0);
    const std::int32_t end = search(path);
    if (end < 0) return false;
    raise_prices(path, distance_[end]);
    exchange(path, free, end);
    ++stats.augmentations;
    return true;
}

template <class Source>
Finish PointsSolver<Source>::finish() {
    if (stage_ != Stage::paths) {
        if (watch_.round == 0 && !repair()) return Finish::stopped;
        level_spare();
        if (!release_loose()) return Finish::stopped;
        reduce();
        const bool many = kLeft * static_cast<std::int64_t>(free_.size()) > rows();
        if (watch_.round == 0 && many && epsilon_ > least_epsilon_) {
            last_ = std::max(epsilon_ / kSmaller, least_epsilon_);
            epsilon_ = std::max(epsilon_ / kFactor, last_);
            return Finish::too_early;
        }
        stage_ = Stage::paths;
    }
    if (distance_.empty()) {
        const std::int64_t n = source_.columns();
        distance_.resize(n);
        base_.resize(rows());
        before_.resize(n);
        reached_.assign(n, 0);
        done_.assign(n, 0);
        place_ = source_.places();
        expanded_.assign(rows(), 0);
        paid_.resize(rows());
    }
    for (; !free_.empty(); free_.pop_back()) {
        if (!watch_.go_on(*this)) return Finish::stopped;
        if (augment(free_.back())) continue;
        watch_.keep(*this);
        return Finish::stopped;
    }
    stage_ = Stage::auction;
    return Finish::ended;
}

template class PointsSolver<TreeSource<0>>;
template class PointsSolver<TreeSource<1>>;
template class PointsSolver<TreeSource<2>>;
template class PointsSolver<TreeSource<3>>;
template class PointsSolver<ProductSource>;

}  // namespace loomfast::assignment
