#include "assignment/cpu/points_solver.hpp"

#include <queue>

namespace loomfast::assignment {

namespace {

constexpr double kFirst = 0.05;      // of the spread: the first epsilon without a sample
constexpr double kFactor = 6.0;      // an epsilon over the next
constexpr double kLast = 0.1;        // of the spread over n: the last epsilon
constexpr std::int64_t kSampled = 8;  // a point of so many is in the sample
constexpr std::int64_t kLeast = 8000;  // fewer points begin without prices
constexpr double kSpacings = 5.0;    // the epsilon after a sample, in what neighbours cost
constexpr int kRepairs = 12;
constexpr std::int64_t kBidsToReduce = 20;  // for each row released
constexpr std::int64_t kBidsAPlane = 2;  // for each column, between fits of the tree's planes
constexpr double kRounding = 0x1p-50;

}  // namespace

// What a search for a path waits for, and what it has passed.
template <int D>
struct PointsSolver<D>::Path {
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

template <int D>
PointsSolver<D>::PointsSolver(const Space<D>& space, std::vector<double> points, PriceTree<D>& tree, Cancel* cancel)
    : space_(space),
      points_(std::move(points)),
      tree_(tree),
      cancel_(cancel),
      cached_(points_.size() / space.d()),
      column_(cached_.size(), kNobody),
      row_(tree.count(), kNobody),
      least_(cached_.size(), 0.0) {
    spare_ = free_spare_ = tree.count() - rows();
}

template <int D>
void PointsSolver<D>::scan(std::int32_t row) {
    std::int32_t columns[kCached + 1];
    double values[kCached + 1];
    CachedRow& cached = cached_[row];
    // What was among the cheapest may be so no longer, but its dearest is above as many.
    double most = PriceTree<D>::kInf;
    if (cached.count == kCached) {
        most = -most;
        for (int k = 0; k < kCached; ++k) most = std::max(most, cached.costs[k] + tree_.price(cached.columns[k]));
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
    ++stats.scans;
}

template <int D>
Best PointsSolver<D>::best_cached(const CachedRow& cached) const {
    Best best{-1, PriceTree<D>::kInf, PriceTree<D>::kInf};
    for (int k = 0; k < cached.count; ++k) {
        const double value = cached.costs[k] + tree_.price(cached.columns[k]);
        if (value < best.first) {
            best = {cached.columns[k], value, best.first};
        } else if (value < best.second) {
            best.second = value;
        }
    }
    return best;
}

template <int D>
Best PointsSolver<D>::best(std::int32_t row) {
    Best found = best_cached(cached_[row]);
    if (found.column < 0 || found.first > cached_[row].bound) {
        scan(row);
        found = best_cached(cached_[row]);
    }
    found.second = std::min(found.second, cached_[row].bound);
    return found;
}

// Returns who had the column: a row, which is free now, nobody, or a spare, which is counted as free.
template <int D>
std::int32_t PointsSolver<D>::give(std::int32_t column, std::int32_t row) {
    const std::int32_t evicted = row_[column];
    if (evicted >= 0) column_[evicted] = kNobody;
    if (evicted == kSpare) ++free_spare_;
    row_[column] = row;
    column_[row] = column;
    return evicted;
}

template <int D>
void PointsSolver<D>::release(std::int32_t row) {
    row_[column_[row]] = kNobody;
    column_[row] = kNobody;
}

// How much more a row's column costs than its cheapest, which is remembered.
template <int D>
double PointsSolver<D>::excess(std::int32_t row) {
    least_[row] = best(row).first;
    const std::int32_t column = column_[row];
    return cost(row, column) + tree_.price(column) - least_[row];
}

template <int D>
bool PointsSolver<D>::tight(double excess, std::int32_t row) const {
    return excess <= kRounding * (std::fabs(least_[row]) + std::fabs(tree_.price(column_[row])));
}

template <int D>
double PointsSolver<D>::spread() {
    const std::int64_t columns = tree_.count(), samples = 16, step = std::max<std::int64_t>(1, columns / 2000);
    double sum = 0.0;
    for (std::int64_t k = 0; k < samples; ++k) {
        const auto row = static_cast<std::int32_t>((2 * k + 1) * rows() / (2 * samples));
        double mean = 0.0, least = PriceTree<D>::kInf;
        for (std::int64_t j = 0; j < columns; j += step) {
            const double value = tree_.cost(point(row), j);
            mean += value / static_cast<double>((columns + step - 1) / step);
            least = std::min(least, value);
            scale_ = std::max(scale_, std::fabs(value));
        }
        sum += mean - least;
    }
    return sum / static_cast<double>(samples);
}

// What a column costs from the nearest near it in the tree, on average.
template <int D>
double PointsSolver<D>::spacing() const {
    const std::int64_t columns = tree_.count(), samples = 200;
    Space<D> plain = space_;
    if (plain.metric == Metric::dot) plain.metric = Metric::sqeuclidean;  // twice its differences
    std::vector<double> point(space_.d()), other(space_.d());
    double sum = 0.0;
    for (std::int64_t k = 0; k < samples; ++k) {
        const std::int64_t j = k * (columns - 1) / (samples - 1);
        tree_.copy_point(j, point.data());
        double least = PriceTree<D>::kInf;
        for (std::int64_t i = std::max<std::int64_t>(0, j - 64); i < std::min(columns, j + 64); ++i) {
            if (i == j) continue;
            tree_.copy_point(i, other.data());
            least = std::min(least, plain.cost(point.data(), other.data()));
        }
        sum += least;
    }
    return sum / static_cast<double>(samples) * (space_.metric == Metric::dot ? 0.5 : 1.0);
}

template <int D>
double PointsSolver<D>::start_from_sample() {
    const std::int64_t columns = tree_.count(), few = rows() / kSampled, d = space_.d();
    if (columns < kLeast || few == 0) return 0.0;
    std::vector<double> x(few * d), z(columns / kSampled * d), other(d);
    for (std::int64_t i = 0; i < few; ++i) std::copy_n(point(i * kSampled + kSampled / 2), d, &x[i * d]);
    for (std::int64_t j = 0; j < columns / kSampled; ++j) tree_.copy_point(j * kSampled + kSampled / 2, &z[j * d]);
    PriceTree<D> coarse(space_, z.data(), columns / kSampled);
    PointsSolver sample(space_, x, coarse, cancel_);
    const double near = sample.spacing();
    if (!sample.auction(sample.start_from_sample(), near)) return 0.0;
    stats.bids += sample.stats.bids;
    // The columns' prices are the highest that leave every row of the sample what it pays.
    PriceTree<D> paid(space_, x.data(), few);
    paid.set_prices([&](std::int64_t j) { return -sample.best(paid.original(j)).first; });
    const double spare = sample.spare_ > 0 ? -sample.least_price() : PriceTree<D>::kInf;
    tree_.set_prices([&](std::int64_t j) {
        std::int32_t row = kNobody;
        double value = PriceTree<D>::kInf;
        tree_.copy_point(j, other.data());
        paid.search(other.data(), 1, &row, &value);
        return -std::min(value, spare);
    });
    return kSpacings * near;
}

template <int D>
bool PointsSolver<D>::phase(double epsilon) {
    std::vector<std::int32_t> free;
    ++stats.phases;
    tree_.fit_planes();
    for (std::int32_t row = 0; row < rows(); ++row) {
        if (stopped()) return false;
        if (column_[row] >= 0 && excess(row) <= epsilon) continue;
        if (column_[row] >= 0) release(row);
        free.push_back(row);
    }
    release_spare(epsilon);
    while (true) {
        if (!bid(free, epsilon)) return false;
        if (free_spare_ == 0) return true;
        free = bid_spare(epsilon);
    }
}

template <int D>
bool PointsSolver<D>::bid(std::vector<std::int32_t>& free, double epsilon) {
    for (; !free.empty(); free.pop_back()) {
        for (std::int32_t row = free.back(); row >= 0;) {
            if (stopped()) return false;
            const Best found = best(row);
            const double second = found.second < PriceTree<D>::kInf ? found.second : found.first;
            tree_.raise(found.column, tree_.price(found.column) + (second - found.first) + epsilon);
            row = give(found.column, row);
            if (++stats.bids % (kBidsAPlane * tree_.count()) == 0) tree_.fit_planes();
        }
    }
    return true;
}

template <int D>
double PointsSolver<D>::least_price() const {
    double least = PriceTree<D>::kInf;
    for (std::int32_t j = 0; j < tree_.count(); ++j) least = std::min(least, tree_.price(j));
    return least;
}

template <int D>
void PointsSolver<D>::release_spare(double epsilon) {
    if (spare_ == 0) return;
    const double least = least_price();
    for (std::int32_t j = 0; j < tree_.count(); ++j) {
        if (row_[j] != kSpare || tree_.price(j) - least <= epsilon) continue;
        row_[j] = kNobody;
        ++free_spare_;
    }
}

// The spare that are free take the columns of the least prices that no spare has, and all pay for theirs what the next
// costs, and epsilon more: what bids of one after the other come to, which would raise each other for long. (D. P.
// Bertsekas and D. A. Castanon, "The auction algorithm for the transportation problem", Annals of Operations Research
// 20, 1989.) Returns the rows evicted.
template <int D>
std::vector<std::int32_t> PointsSolver<D>::bid_spare(double epsilon) {
    std::vector<std::int32_t> others, evicted;
    for (std::int32_t j = 0; j < tree_.count(); ++j)
        if (row_[j] != kSpare) others.push_back(j);
    const auto cheaper = [&](std::int32_t a, std::int32_t b) {
        return tree_.price(a) < tree_.price(b) || (tree_.price(a) == tree_.price(b) && a < b);
    };
    const auto next = others.begin() + free_spare_;
    std::nth_element(others.begin(), next, others.end(), cheaper);
    const double level = tree_.price(*next) + epsilon;
    for (auto taken = others.begin(); taken != next; ++taken) {
        if (row_[*taken] >= 0) {
            evicted.push_back(row_[*taken]);
            column_[row_[*taken]] = kNobody;
        }
        row_[*taken] = kSpare;
    }
    free_spare_ = 0;
    for (std::int32_t j = 0; j < tree_.count(); ++j)
        if (row_[j] == kSpare && tree_.price(j) < level) tree_.raise(j, level);
    ++stats.bids;
    return evicted;
}

template <int D>
bool PointsSolver<D>::auction(double epsilon, double last) {
    const double apart = spread();
    // An epsilon that prices do not feel would not end.
    const double least = std::max(scale_ * 0x1p-40, 0x1p-1000);
    if (last <= 0.0) last = kLast * apart / static_cast<double>(tree_.count());
    last = std::max(last, least);
    if (epsilon <= 0.0) epsilon = kFirst * apart;
    for (epsilon = std::max(epsilon, last);; epsilon = std::max(epsilon / kFactor, last)) {
        if (!phase(epsilon)) return false;
        if (epsilon <= last) return true;
    }
}

// Prices of columns whose rows could do better are lowered by what they could, while that leaves fewer of them.
template <int D>
void PointsSolver<D>::repair() {
    std::vector<double> excesses(rows());
    std::int64_t before = 2 * rows();
    for (int pass = 0; pass < kRepairs; ++pass) {
        std::int64_t loose = 0;
        double most = 0.0;
        for (std::int32_t row = 0; row < rows(); ++row) {
            const double found = excess(row);
            excesses[row] = tight(found, row) ? 0.0 : found;
            loose += excesses[row] > 0.0;
            most = std::max(most, excesses[row]);
        }
        if (loose == 0 || 10 * loose > 7 * before) return;
        before = loose;
        for (std::int32_t row = 0; row < rows(); ++row)
            if (excesses[row] > 0.0) tree_.lower(column_[row], tree_.price(column_[row]) - excesses[row]);
        for (CachedRow& cached : cached_) cached.bound -= most * (1.0 + kRounding);
    }
}

// The spare pay the least price there is, all of them.
template <int D>
void PointsSolver<D>::level_spare() {
    if (spare_ == 0) return;
    const double least = least_price();
    double most = 0.0;
    for (std::int32_t j = 0; j < tree_.count(); ++j) {
        if (row_[j] != kSpare) continue;
        most = std::max(most, tree_.price(j) - least);
        tree_.lower(j, least);
    }
    for (CachedRow& cached : cached_) cached.bound -= most * (1.0 + kRounding);
}

template <int D>
std::vector<std::int32_t> PointsSolver<D>::release_loose() {
    std::vector<std::int32_t> free;
    for (std::int32_t row = 0; row < rows(); ++row) {
        if (column_[row] >= 0 && tight(excess(row), row)) continue;
        if (column_[row] >= 0) release(row);
        free.push_back(row);
    }
    stats.releases += static_cast<std::int64_t>(free.size());
    return free;
}

// Bids without an epsilon, while they take a column that is free or leave the one who had it something to gain.
template <int D>
std::vector<std::int32_t> PointsSolver<D>::reduce(const std::vector<std::int32_t>& free) {
    std::vector<std::int32_t> left;
    std::int64_t bids = kBidsToReduce * static_cast<std::int64_t>(free.size());
    for (const std::int32_t first : free) {
        for (std::int32_t row = first; row >= 0;) {
            const Best found = best(row);
            const std::int32_t owner = row_[found.column];
            least_[row] = found.first;
            if (owner == kSpare || (owner >= 0 && (!(found.second > found.first) || bids-- <= 0))) {
                left.push_back(row);
                break;
            }
            if (found.second < PriceTree<D>::kInf) {
                tree_.raise(found.column, tree_.price(found.column) + (found.second - found.first));
                least_[row] = found.second;
            }
            row = give(found.column, row);
            ++stats.bids;
        }
    }
    return left;
}

template <int D>
void PointsSolver<D>::relax(Path& path, std::int32_t row, std::int32_t column, double value) {
    if (done_[column] == number_ || (row == kSpare && row_[column] == kSpare)) return;
    const double base = row == kSpare ? path.spare_base : base_[row];
    const double distance = base + std::max(0.0, value - (row == kSpare ? path.spare_least : least_[row]));
    if (reached_[column] == number_ && distance >= distance_[column]) return;
    reached_[column] = number_;
    distance_[column] = distance;
    before_[column] = row;
    path.ahead.push({distance, column, kNobody, 0});
}

template <int D>
void PointsSolver<D>::expand(Path& path, std::int32_t row, double distance) {
    base_[row] = distance;
    path.rows.push_back(row);
    best(row);
    const CachedRow& cached = cached_[row];
    for (int k = 0; k < cached.count; ++k)
        relax(path, row, cached.columns[k], cached.costs[k] + tree_.price(cached.columns[k]));
    if (cached.bound < PriceTree<D>::kInf)
        path.ahead.push({distance + std::max(0.0, cached.bound - least_[row]), kNobody, row, kCached});
}

// One of the spare stands for all, which have the columns of the least price: what it reaches, they do.
template <int D>
void PointsSolver<D>::expand_spare(Path& path, std::int32_t column, double distance) {
    if (path.entered >= 0) return;
    path.entered = column;
    path.spare_base = distance;
    path.spare_least = tree_.price(column);
    look_further(path, kSpare, spare_ + kCached);
}

template <int D>
void PointsSolver<D>::look_further(Path& path, std::int32_t row, std::int64_t most) {
    most = std::min(most + 1, tree_.count());
    path.found.resize(most);
    path.values.resize(most);
    const int found = tree_.search(point(row), static_cast<int>(most), path.found.data(), path.values.data());
    const int last = found < tree_.count() ? found - 1 : found;
    for (int k = 0; k < last; ++k) relax(path, row, path.found[k], path.values[k]);
    if (last == found) return;
    const double base = row == kSpare ? path.spare_base : base_[row];
    const double least = row == kSpare ? path.spare_least : least_[row];
    path.ahead.push({base + std::max(0.0, path.values[last] - least), kNobody, row, last});
}

// The free column that is nearest to what the path has been expanded from, by Dijkstra's algorithm over what the caches
// hold, and more of a row's columns where the search comes to their bound.
template <int D>
std::int32_t PointsSolver<D>::search(Path& path) {
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
template <int D>
void PointsSolver<D>::raise_prices(const Path& path, double length) {
    for (const std::int32_t column : path.columns)
        tree_.raise(column, tree_.price(column) + (length - distance_[column]));
    for (const std::int32_t row : path.rows) least_[row] += length - base_[row];
    if (path.entered < 0) return;
    const double level = path.spare_least + (length - path.spare_base);
    for (std::int32_t j = 0; j < tree_.count(); ++j)
        if (row_[j] == kSpare) tree_.raise(j, level);
}

template <int D>
void PointsSolver<D>::exchange(const Path& path, std::int32_t free, std::int32_t end) {
    for (std::int32_t column = end, row = kNobody; row != free;) {
        row = before_[column];
        const std::int32_t next = row == kSpare ? path.entered : column_[row];
        row_[column] = row;
        if (row >= 0) column_[row] = column;
        column = next;
    }
}

template <int D>
bool PointsSolver<D>::augment(std::int32_t free) {
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

template <int D>
bool PointsSolver<D>::finish() {
    if (distance_.empty()) {
        const std::int64_t n = tree_.count();
        distance_.resize(n);
        base_.resize(rows());
        before_.resize(n);
        reached_.assign(n, 0);
        done_.assign(n, 0);
        repair();
    }
    level_spare();
    for (const std::int32_t row : reduce(release_loose()))
        if (!augment(row)) return false;
    return true;
}

template class PointsSolver<0>;
template class PointsSolver<1>;
template class PointsSolver<2>;
template class PointsSolver<3>;

}  // namespace loomfast::assignment
