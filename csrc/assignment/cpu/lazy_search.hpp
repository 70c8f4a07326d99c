// Shortest paths over reduced costs c_ij + p_j - u_i >= 0, searched lazily. A row joins Dijkstra's algorithm with the
// few columns of its cache and one more heap entry, at its cache's bound, which stands for all the others; only when
// that entry comes up is the row scanned again, and then relaxed whole.
#pragma once

#include <algorithm>
#include <limits>

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

struct LazySearch {
    static constexpr double kFar = std::numeric_limits<double>::infinity();

    struct Entry {
        double distance;
        std::int32_t node;  // column j, or ~i for row i's columns outside of its cache
        bool operator<(const Entry& other) const { return distance > other.distance; }
    };

    explicit LazySearch(Work& work)
        : w(work), distance(filled(w.m, kFar)), predecessor(filled(w.m, -1)), done(filled(w.m, char{0})),
          rescanned(filled(w.n, char{0})), row_distance(filled(w.n, 0.0)), row_least(filled(w.n, 0.0)) {}

    Work& w;
    Array<double> distance;            // of columns
    Array<std::int32_t> predecessor;   // rows
    Array<char> done, rescanned;       // columns whose distance is final; rows scanned again in this search
    Array<double> row_distance, row_least;
    Array<Entry> heap;
    Array<std::int32_t> touched, scanned;  // columns with a distance, and in order those that are done
    std::int64_t whole_rows = 0;       // relaxed so far
    // A search for the nearest free column knows one so far, or -1, and is not interested in anything as far as it.
    bool to_free = false;
    std::int32_t free_column = -1;
    double limit = kFar;

    void push(double at, std::int32_t node) {
        heap.push_back({at, node});
        std::push_heap(heap.begin(), heap.end());
    }

    Entry pop() {
        std::pop_heap(heap.begin(), heap.end());
        Entry e = heap.back();
        heap.pop_back();
        return e;
    }

    // Whether the entry tells a column's distance, for the first time.
    bool settles(const Entry& e) const { return !done[e.node] && e.distance <= distance[e.node]; }

    void settle(std::int32_t j) {
        done[j] = 1;
        scanned.push_back(j);
    }

    void reach(std::int32_t j, std::int32_t i, double value) {
        reach_at(j, i, row_distance[i] + std::max(0.0, value - row_least[i]));
    }

    void reach_at(std::int32_t j, std::int32_t i, double at) {
        if (done[j] || !(at < distance[j]) || !(at < limit)) return;
        if (distance[j] == kFar) touched.push_back(j);
        distance[j] = at;
        predecessor[j] = i;
        if (to_free && w.y[j] < 0) {
            free_column = j;
            limit = at;
        } else {
            push(at, j);
        }
    }

    void relax_candidates(std::int32_t i) {
        const std::int32_t r = w.storage(i);
        const RowView costs = w.candidate_costs(r);
        std::int32_t nearer[kCacheSize];
        double at[kCacheSize];
        const std::int32_t count =
            costs.wide ? w.kernels.reach_d(w.candidates(r), costs.wide, w.cache_size[r], w.p, distance.data(), row_least[i],
                                           row_distance[i], limit, nearer, at)
                       : w.kernels.reach_f(w.candidates(r), costs.narrow, w.cache_size[r], w.p, distance.data(), row_least[i],
                                           row_distance[i], limit, nearer, at);
        for (std::int32_t k = 0; k < count; k++) reach_at(nearer[k], i, at[k]);
    }

    void relax_whole(std::int32_t i) {
        whole_rows++;
        const RowView row = w.rows.row(i);
        for (std::int32_t j = 0; j < w.m; j++) reach(j, i, row[j] + w.p[j]);
    }

    double distance_of_others(std::int32_t i) const {
        return row_distance[i] + std::max(0.0, w.safe_bound(w.storage(i)) - row_least[i]);
    }

    void push_others(std::int32_t i, double at) {
        if (at < limit) push(at, ~i);
    }

    void add_row(std::int32_t i, double at, double least) {
        row_distance[i] = at;
        row_least[i] = least;
        rescanned[i] = 0;
        relax_candidates(i);
        push_others(i, distance_of_others(i));
    }

    // A row's entry came up: more of its columns.
    void look_closer(std::int32_t i, double at) {
        if (rescanned[i]) return relax_whole(i);
        rescanned[i] = 1;
        w.rescan(w.storage(i));
        relax_candidates(i);
        push_others(i, std::max(at, distance_of_others(i)));
    }

    void clear() {
        for (std::int32_t j : touched) {
            distance[j] = kFar;
            done[j] = 0;
        }
        free_column = -1;
        limit = kFar;
        heap.clear();
        touched.clear();
        scanned.clear();
    }
};

}  // namespace loomfast::assignment
