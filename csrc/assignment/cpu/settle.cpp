// The least prices that keep a matching tight, by one search from all columns at once: from prices of zero, a column is
// its own price away, and the nearest way may lead through rows and their columns.
#include <algorithm>

#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/lazy_search.hpp"

namespace loomfast::assignment {

namespace {

struct Forest : LazySearch {
    using LazySearch::LazySearch;

    bool needs_release(std::int32_t j) const { return w.y[j] < 0 && w.charged(j); }

    // Distances to all columns, or to the unmatched ones that have a price. Returns how far it went.
    double grow(bool whole) {
        std::int32_t targets = 0;
        for (std::int32_t j = 0; j < w.m; j++) {
            distance[j] = w.p[j] - w.floor(j);
            predecessor[j] = -1;
            touched.push_back(j);
            targets += needs_release(j);
            heap.push_back({distance[j], j});
        }
        std::make_heap(heap.begin(), heap.end());
        if (targets == 0 && !whole) return 0.0;
        while (!heap.empty()) {
            const Entry e = pop();
            if (e.node < 0) {
                look_closer(~e.node, e.distance);
                continue;
            }
            if (!settles(e)) continue;
            settle(e.node);
            const std::int32_t i = w.y[e.node];
            if (i >= 0) add_row(i, e.distance, w.value(i, e.node));
            else if (w.charged(e.node) && --targets == 0 && !whole) return e.distance;
        }
        return kFar;
    }

    // Takes the distances off the prices, which makes the forest's branches tight.
    void lower_prices(double reached) {
        double fall = 0.0;
        for (std::int32_t j = 0; j < w.m; j++) {
            const double lower = std::min(distance[j], reached);
            fall = std::max(fall, lower);
            const bool root = predecessor[j] < 0 && distance[j] <= reached;
            w.set_price(j, root ? w.floor(j) : std::max(w.floor(j), w.p[j] - lower));
        }
        w.lower_bounds(fall);
    }

    // The same for all columns, by adding up along the branches.
    void add_up_prices() {
        for (std::int32_t j : scanned) {
            const std::int32_t i = predecessor[j];
            const double least = i < 0 ? w.floor(j) : w.value(i, w.x[i]) - w.rows.cost(i, j);
            w.set_price(j, std::max(w.floor(j), least));
        }
    }

    // Moves rows along branches that end in unmatched columns with a price, as far as these do not meet: the column
    // at the root, which has none, becomes free instead. Returns how many columns still have one.
    std::int32_t release() {
        Array<char> moved = filled(w.n, char{0});
        std::int32_t left = 0;
        for (std::int32_t target : scanned) {
            if (!needs_release(target)) continue;
            Array<std::int32_t> branch;
            std::int32_t j = target;
            for (std::int32_t i; (i = predecessor[j]) >= 0; j = w.x[i]) {
                if (moved[i] || branch.count() == w.n) break;
                branch.push_back(i);
            }
            if (predecessor[j] >= 0 || branch.empty()) {
                left++;
                continue;
            }
            w.stats.releases++;
            j = target;
            for (std::int32_t i : branch) {
                const std::int32_t next = w.x[i];
                moved[i] = 1;
                w.match(i, j);
                j = next;
            }
            w.y[j] = -1;
            w.set_price(j, w.floor(j));
        }
        return left;
    }
};

}  // namespace

Status settle_prices(Work& w, bool anew) {
    const Timed timed(w.watch, w.stats.seconds.paths);
    std::int32_t first = 0;
    while (first < w.m && !(w.y[first] < 0 && w.charged(first))) first++;
    if (first == w.m && !anew) return Status::optimal;
    if (anew) w.forget_caches();
    w.use_caches();
    Forest forest(w);
    for (std::int32_t left = w.m, before; left > 0;) {
        if (w.cancelled()) return Status::cancelled;
        const double reached = forest.grow(anew);
        if (anew) forest.add_up_prices();
        else forest.lower_prices(reached);
        before = left;
        left = forest.release();
        forest.clear();
        if (anew) break;
        if (left >= before) return Status::uncertified;
    }
    if (anew) w.forget_caches();
    return Status::optimal;
}

}  // namespace loomfast::assignment
