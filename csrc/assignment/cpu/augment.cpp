// Free rows enter the matching along shortest augmenting paths (Jonker and Volgenant 1987), which are searched lazily
// as long as that needs few whole rows, and otherwise densely: Dijkstra's algorithm with the nearest column found by
// looking at all of them.
//
// The caller may change the costs meanwhile, against every rule: a search then finds nonsense, but it ends and stays
// within its arrays.
#include <algorithm>
#include <optional>

#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/lazy_search.hpp"

namespace loomfast::assignment {

namespace {

constexpr std::int32_t kTiedColumns = 1024;  // up to here too, where many columns are equally far: they are scanned together
constexpr double kFar = LazySearch::kFar;

enum class Outcome { found, infeasible, gave_up, changed };

// Exchanges the matching along the path that ends in `sink`.
template <class Row>
Outcome exchange(Work& w, const Array<Row>& predecessor, std::int32_t free_row, std::int32_t sink) {
    std::int32_t j = sink;
    for (std::int32_t step = 0; step < w.n && j >= 0; step++) {
        const auto i = static_cast<std::int32_t>(predecessor[j]);
        if (i < 0) break;
        const std::int32_t next = w.x[i];
        w.match(i, j);
        if (i == free_row) return Outcome::found;
        j = next;
    }
    return Outcome::changed;
}

struct DenseSearch {
    explicit DenseSearch(Work& work)
        : w(work), distance(filled(std::int64_t{w.m} + kPadding, kFar)), price(distance),
          predecessor(filled(distance.count(), -1.0)), nearest(filled(w.m, 0)) {}

    Work& w;
    Array<double> distance, price;  // +inf once a column is scanned
    Array<double> predecessor;      // rows, in the type of the kernel's lanes
    Array<std::int32_t> nearest;    // columns as near as the nearest
    Array<std::int32_t> scanned;
    Array<double> scanned_distance;

    Outcome run(std::int32_t free_row) {
        std::copy_n(w.p, price.size(), price.begin());
        const Outcome outcome = search(free_row);
        scanned.clear();
        scanned_distance.clear();
        std::fill(distance.begin(), distance.end(), kFar);
        return outcome;
    }

    // All columns at the least distance are scanned before it is asked what the next one is, except that rows bring more to
    // the same distance.
    Outcome search(std::int32_t free_row) {
        std::int32_t i = free_row;
        double length = -kFar, least = 0.0;
        for (std::int64_t next = 0;; next++) {
            const double base = i == free_row ? 0.0 : length - least;
            const double now = relax(w.kernels, w.rows.row(i), price.data(), distance.data(), predecessor.data(), w.m, base,
                                     length, i);
            if (now <= length || next == scanned.count()) {
                if (!(now < kFar)) return Outcome::infeasible;
                length = now;
                const std::int32_t found = w.kernels.find(distance.data(), length, w.y, w.m, nearest.data());
                if (found < 0) return finish(free_row, nearest[-found - 1], length);
                if (found == 0 || scanned.count() + found > w.n) return Outcome::changed;
                for (std::int32_t k = 0; k < found; k++) scan(nearest[k], length);
            }
            const std::int32_t j = scanned[next];
            i = w.y[j];
            least = w.value(i, j);
        }
    }

    void scan(std::int32_t j, double length) {
        scanned.push_back(j);
        scanned_distance.push_back(length);
        price[j] = distance[j] = kFar;
    }

    Outcome finish(std::int32_t free_row, std::int32_t sink, double length) {
        for (std::int64_t k = 0; k < scanned.count(); k++)
            w.set_price(scanned[k], w.p[scanned[k]] + (length - scanned_distance[k]));
        return exchange(w, predecessor, free_row, sink);
    }
};

// The same with a lazy search, which gives up where too many rows have to be relaxed whole.
Outcome search_lazily(Work& w, LazySearch& search, std::int32_t free_row) {
    const std::int64_t most = std::min(search.whole_rows + 8, std::int64_t{w.n} / 4);
    const double nearest = w.least(free_row);
    if (!(nearest < kFar)) return Outcome::infeasible;
    search.to_free = true;
    search.add_row(free_row, 0.0, nearest);
    while (!search.heap.empty()) {
        const LazySearch::Entry e = search.pop();
        if (e.distance >= search.limit) break;
        if (e.node < 0) {
            const std::int32_t i = ~e.node;
            if (search.rescanned[i] && search.whole_rows >= most) return Outcome::gave_up;
            search.look_closer(i, e.distance);
            continue;
        }
        const std::int32_t j = e.node;
        if (!search.settles(e)) continue;
        search.settle(j);
        search.add_row(w.y[j], e.distance, w.value(w.y[j], j));
    }
    const std::int32_t sink = search.free_column;
    if (sink < 0) return Outcome::infeasible;
    for (std::int32_t k : search.scanned) w.set_price(k, w.p[k] + (search.limit - search.distance[k]));
    return exchange(w, search.predecessor, free_row, sink);
}

}  // namespace

Status augment_rows(Work& w, const Array<std::int32_t>& free_rows, bool tied) {
    const Timed timed(w.watch, w.stats.seconds.paths);
    std::optional<LazySearch> lazy;
    std::optional<DenseSearch> dense;
    if (w.cached && w.m > (tied ? kTiedColumns : kDenseColumns) && !free_rows.empty()) lazy.emplace(w);
    for (std::int32_t i : free_rows) {
        if (w.cancelled()) return Status::cancelled;
        w.stats.augmentations++;
        Outcome outcome = Outcome::gave_up;
        if (lazy) {
            outcome = search_lazily(w, *lazy, i);
            lazy->clear();
            if (lazy->whole_rows > w.n / 4) lazy.reset();
        }
        if (outcome == Outcome::gave_up) {
            if (!dense) dense.emplace(w);
            outcome = dense->run(i);
        }
        if (outcome == Outcome::infeasible) return Status::infeasible;
        if (outcome == Outcome::changed) return Status::uncertified;
    }
    return Status::optimal;
}

}  // namespace loomfast::assignment
