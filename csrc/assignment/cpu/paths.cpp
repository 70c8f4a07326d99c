// Shortest paths over reduced costs c_ij + p_j - u_i >= 0, searched lazily. A row joins Dijkstra's algorithm with the
// few columns of its cache and one more heap entry, at its cache's bound, which stands for all the others; only when
// that entry comes up is the row scanned again, and then relaxed whole. Where a search for one row's path does that
// often, the dense search takes over.
//
// The caller may change the costs meanwhile, against every rule: a search then finds nonsense, but it ends and stays
// within its arrays.
#include <algorithm>
#include <cmath>
#include <limits>

#include "assignment/cpu/finish.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

constexpr std::int32_t kDenseColumns = 512;  // up to here, rows are relaxed whole as fast as from a heap

enum class Outcome { found, infeasible, gave_up, changed };

struct Paths {
    struct Entry {
        double distance;
        std::int32_t node;  // column j, or ~i for row i's uncached columns
        bool operator<(const Entry& other) const { return distance > other.distance; }
    };

    explicit Paths(Work& work)
        : w(work), d(static_cast<std::size_t>(w.m) + kPadding, kInf), price(d.size()), predecessor(d.size(), -1.0),
          done(d.size(), 0), stage(w.x.size(), 0), row_distance(w.x.size()), row_min(w.x.size()) {}

    Work& w;
    std::vector<double> d, price, predecessor;
    std::vector<char> done, stage;
    std::vector<double> row_distance, row_min;
    std::vector<Entry> heap;
    std::vector<std::int32_t> touched, scanned;
    std::int64_t full_relaxations = 0;

    void push(double distance, std::int32_t node) {
        heap.push_back({distance, node});
        std::push_heap(heap.begin(), heap.end());
    }

    Entry pop() {
        std::pop_heap(heap.begin(), heap.end());
        Entry e = heap.back();
        heap.pop_back();
        return e;
    }

    void reach(std::int32_t j, std::int32_t i, double value) {
        auto k = static_cast<std::size_t>(j);
        double distance = row_distance[static_cast<std::size_t>(i)] +
                          std::max(0.0, value - row_min[static_cast<std::size_t>(i)]);
        if (done[k] || !(distance < d[k])) return;
        if (d[k] == kInf) touched.push_back(j);
        d[k] = distance;
        predecessor[k] = i;
        push(distance, j);
    }

    void relax_cache(std::int32_t i) {
        std::int32_t r = w.storage(i);
        const std::int32_t* col = w.s.cache_col + std::int64_t{r} * kCacheSize;
        const float* approximate = w.s.cache_cost + std::int64_t{r} * kCacheSize;
        const double* exact = w.filter.exact ? nullptr : w.exact_cache(r);
        for (std::int32_t k = 0; k < w.s.cache_size[r]; k++) {
            double cost = exact ? exact[k] : approximate[k];
            reach(col[k], i, cost + w.p[static_cast<std::size_t>(col[k])]);
        }
    }

    void relax_whole(std::int32_t i) {
        full_relaxations++;
        const double* exact = w.filter.exact ? nullptr : w.exact_row(i);
        const float* row = w.filter_row(i);
        for (std::int32_t j = 0; j < w.m; j++)
            reach(j, i, (exact ? exact[j] : row[j]) + w.p[static_cast<std::size_t>(j)]);
    }

    void add_row(std::int32_t i, double distance, double least) {
        auto k = static_cast<std::size_t>(i);
        row_distance[k] = distance;
        row_min[k] = least;
        stage[k] = 0;
        relax_cache(i);
        push(distance + std::max(0.0, w.safe_bound(w.storage(i)) - least), ~i);
    }

    // A row's entry came up: more of its columns.
    void look_closer(std::int32_t i, double distance) {
        auto k = static_cast<std::size_t>(i);
        if (stage[k]++ > 0) return relax_whole(i);
        w.rescan(w.storage(i));
        relax_cache(i);
        push(std::max(distance, row_distance[k] + std::max(0.0, w.safe_bound(w.storage(i)) - row_min[k])), ~i);
    }

    void clear() {
        for (std::int32_t j : touched) {
            d[static_cast<std::size_t>(j)] = kInf;
            done[static_cast<std::size_t>(j)] = 0;
        }
        heap.clear();
        touched.clear();
        scanned.clear();
    }

    Outcome lazy(std::int32_t free_row) {
        const std::int64_t most = std::min(full_relaxations + 8, std::int64_t{w.n} / 4);
        const double nearest = w.least(free_row);
        if (!(nearest < kInf)) return Outcome::infeasible;
        add_row(free_row, 0.0, nearest);
        Outcome outcome = Outcome::infeasible;
        while (!heap.empty()) {
            Entry e = pop();
            if (e.node < 0) {
                if (stage[static_cast<std::size_t>(~e.node)] > 0 && full_relaxations >= most) {
                    outcome = Outcome::gave_up;
                    break;
                }
                look_closer(~e.node, e.distance);
                continue;
            }
            auto j = static_cast<std::size_t>(e.node);
            if (done[j] || e.distance > d[j]) continue;
            if (w.y[j] < 0) {
                for (std::int32_t k : scanned)
                    w.set_price(k, w.p[static_cast<std::size_t>(k)] + (e.distance - d[static_cast<std::size_t>(k)]));
                outcome = exchange(free_row, e.node);
                break;
            }
            done[j] = 1;
            scanned.push_back(e.node);
            add_row(w.y[j], e.distance, w.value(w.y[j], e.node));
        }
        clear();
        return outcome;
    }

    double relax(std::int32_t i, double shift, double floor) {
        return w.filter.exact ? w.kernels.relax_f(w.filter_row(i), price.data(), d.data(), predecessor.data(), w.m,
                                                  shift, floor, i)
                              : w.kernels.relax_d(w.exact_row(i), price.data(), d.data(), predecessor.data(), w.m,
                                                  shift, floor, i);
    }

    Outcome dense(std::int32_t free_row) {
        std::copy(w.p.begin(), w.p.end(), price.begin());
        std::vector<double>& scanned_distance = row_distance;
        std::int32_t i = free_row;
        double length = 0.0, least = 0.0, floor = -kInf;
        Outcome outcome = Outcome::infeasible;
        while ((length = relax(i, length - least, floor)) < kInf) {
            floor = length;
            std::int32_t j = w.kernels.find(d.data(), length, w.y.data(), w.m);
            auto k = static_cast<std::size_t>(j);
            if (j < 0 || (w.y[k] >= 0 && scanned.size() == w.x.size())) {
                outcome = Outcome::changed;
                break;
            }
            if (w.y[k] < 0) {
                for (std::size_t s = 0; s < scanned.size(); s++)
                    w.set_price(scanned[s], w.p[static_cast<std::size_t>(scanned[s])] + (length - scanned_distance[s]));
                outcome = exchange(free_row, j);
                break;
            }
            scanned_distance[scanned.size()] = length;
            scanned.push_back(j);
            i = w.y[k];
            least = w.value(i, j);
            price[k] = d[k] = kInf;
        }
        scanned.clear();
        std::fill(d.begin(), d.end(), kInf);
        return outcome;
    }

    Outcome exchange(std::int32_t free_row, std::int32_t sink) {
        std::int32_t j = sink;
        for (std::int32_t step = 0; step < w.n && j >= 0; step++) {
            auto i = static_cast<std::int32_t>(predecessor[static_cast<std::size_t>(j)]);
            if (i < 0) break;
            std::int32_t next = w.x[static_cast<std::size_t>(i)];
            w.match(i, j);
            if (i == free_row) return Outcome::found;
            j = next;
        }
        return Outcome::changed;
    }

    // Distances to all columns, or to the unmatched ones that have a price, from prices of zero: a column is its own
    // price away from there, and the nearest way may lead through other rows. Returns how far it went.
    double grow_forest(bool whole) {
        std::int32_t targets = 0;
        for (std::int32_t j = 0; j < w.m; j++) {
            auto k = static_cast<std::size_t>(j);
            d[k] = w.p[k] - w.floor(j);
            predecessor[k] = -1.0;
            touched.push_back(j);
            targets += w.y[k] < 0 && w.charged(j);
            heap.push_back({d[k], j});
        }
        std::make_heap(heap.begin(), heap.end());
        if (targets == 0 && !whole) return 0.0;
        while (!heap.empty()) {
            Entry e = pop();
            if (e.node < 0) {
                look_closer(~e.node, e.distance);
                continue;
            }
            auto j = static_cast<std::size_t>(e.node);
            if (done[j] || e.distance > d[j]) continue;
            done[j] = 1;
            scanned.push_back(e.node);
            if (w.y[j] >= 0) add_row(w.y[j], e.distance, w.value(w.y[j], e.node));
            else if (w.charged(e.node) && --targets == 0 && !whole) return e.distance;
        }
        return kInf;
    }

    // Takes the distances off the prices, which makes the forest's branches tight.
    void lower_prices(double reached) {
        double fall = 0.0;
        for (std::int32_t j = 0; j < w.m; j++) {
            auto k = static_cast<std::size_t>(j);
            double lower = std::min(d[k], reached);
            fall = std::max(fall, lower);
            bool root = predecessor[k] < 0 && d[k] <= reached;
            w.set_price(j, root ? w.floor(j) : std::max(w.floor(j), w.p[k] - lower));
        }
        w.lower_bounds(fall);
    }

    // The same for all columns, by adding up along the branches.
    void add_up_prices() {
        for (std::int32_t j : scanned) {
            auto k = static_cast<std::size_t>(j);
            auto i = static_cast<std::int32_t>(predecessor[k]);
            const double least = i < 0 ? w.floor(j) : w.value(i, w.x[static_cast<std::size_t>(i)]) - w.cost(i, j);
            w.set_price(j, std::max(w.floor(j), least));
        }
    }

    // Moves rows along branches that end in unmatched columns with a price, as far as these do not meet: the column
    // at the root, which has none, becomes free instead. Returns how many columns still have one.
    std::int32_t release() {
        std::vector<char> moved(w.x.size(), 0);
        std::int32_t left = 0;
        for (std::int32_t target : scanned) {
            if (w.y[static_cast<std::size_t>(target)] >= 0 || !w.charged(target)) continue;
            std::vector<std::int32_t> branch;
            std::int32_t j = target;
            for (double i; (i = predecessor[static_cast<std::size_t>(j)]) >= 0; j = w.x[static_cast<std::size_t>(i)]) {
                if (moved[static_cast<std::size_t>(i)] || branch.size() == w.x.size()) break;
                branch.push_back(static_cast<std::int32_t>(i));
            }
            if (predecessor[static_cast<std::size_t>(j)] >= 0 || branch.empty()) {
                left++;
                continue;
            }
            w.stats.releases++;
            j = target;
            for (std::int32_t i : branch) {
                std::int32_t next = w.x[static_cast<std::size_t>(i)];
                moved[static_cast<std::size_t>(i)] = 1;
                w.match(i, j);
                j = next;
            }
            w.y[static_cast<std::size_t>(j)] = -1;
            w.set_price(j, w.floor(j));
        }
        return left;
    }
};

}  // namespace

Status settle_prices(Work& w, bool anew) {
    auto needless = [&](std::int32_t j) { return w.y[static_cast<std::size_t>(j)] >= 0 || !w.charged(j); };
    std::int32_t first = 0;
    while (first < w.m && needless(first)) first++;
    if (first == w.m && !anew) return Status::optimal;
    if (anew) w.forget_caches();
    w.use_caches();
    Paths paths(w);
    for (std::int32_t left = w.m, before; left > 0;) {
        if (w.cancelled()) return Status::cancelled;
        double reached = paths.grow_forest(anew);
        if (anew) paths.add_up_prices();
        else paths.lower_prices(reached);
        before = left;
        left = paths.release();
        paths.clear();
        if (anew) break;
        if (left >= before) return Status::uncertified;
    }
    if (anew) w.forget_caches();
    return Status::optimal;
}

Status augment_rows(Work& w, const std::vector<std::int32_t>& free_rows) {
    if (free_rows.empty()) return Status::optimal;
    Paths paths(w);
    bool lazy = w.cached && w.m > kDenseColumns;
    for (std::int32_t i : free_rows) {
        if (w.cancelled()) return Status::cancelled;
        w.stats.augmentations++;
        Outcome outcome = lazy ? paths.lazy(i) : Outcome::gave_up;
        lazy = lazy && paths.full_relaxations <= w.n / 4;
        if (outcome == Outcome::gave_up) outcome = paths.dense(i);
        if (outcome == Outcome::infeasible) return Status::infeasible;
        if (outcome == Outcome::changed) return Status::uncertified;
    }
    return Status::optimal;
}

}  // namespace loomfast::assignment
