#include "assignment/cpu/cardinality.hpp"

#include <limits>

namespace loomfast::assignment {

namespace {

constexpr std::int32_t kFar = std::numeric_limits<std::int32_t>::max();

struct Search {
    const Adjacency& g;
    std::vector<std::int32_t>&x, &y;
    std::vector<std::int32_t> depth, queue;  // of rows, in breadth-first order
    std::vector<std::int64_t> next;          // the entry of each row that the search in depth goes on from
    std::vector<std::int32_t> path;

    Search(const Adjacency& graph, std::vector<std::int32_t>& columns, std::vector<std::int32_t>& rows)
        : g(graph), x(columns), y(rows), depth(std::size_t(graph.n)), next(std::size_t(graph.n)) {}

    // Rows by their distance from the free ones, up to the first that has a free column. Whether there is one.
    bool levels() {
        queue.clear();
        for (std::int32_t i = 0; i < g.n; i++) {
            depth[std::size_t(i)] = x[std::size_t(i)] < 0 ? 0 : kFar;
            if (x[std::size_t(i)] < 0) queue.push_back(i);
        }
        std::int32_t last = kFar;
        for (std::size_t k = 0; k < queue.size(); k++) {
            const std::int32_t i = queue[k], d = depth[std::size_t(i)];
            next[std::size_t(i)] = g.first[i];
            if (d >= last) continue;
            for (std::int64_t e = g.first[i]; e < g.first[i + 1]; e++) {
                const std::int32_t owner = y[std::size_t(g.column[e])];
                if (owner < 0) {
                    last = d;
                    break;
                }
                if (depth[std::size_t(owner)] != kFar) continue;
                depth[std::size_t(owner)] = d + 1;
                queue.push_back(owner);
            }
        }
        return last != kFar;
    }

    // Depth first from a free row through rows each one level deeper; every entry is looked at once a phase.
    bool augment(std::int32_t row) {
        path.assign(1, row);
        while (!path.empty()) {
            const std::int32_t i = path.back();
            std::int64_t& e = next[std::size_t(i)];
            std::int32_t deeper = kFar;
            for (; e < g.first[i + 1] && deeper == kFar; e++) {
                const std::int32_t owner = y[std::size_t(g.column[e])];
                if (owner < 0 || depth[std::size_t(owner)] == depth[std::size_t(i)] + 1) deeper = owner;
            }
            if (deeper == kFar) {
                depth[std::size_t(i)] = kFar;
                path.pop_back();
            } else if (deeper >= 0) {
                path.push_back(deeper);
            } else {
                for (const std::int32_t k : path) {  // each takes the column it went on by
                    const std::int32_t j = g.column[next[std::size_t(k)] - 1];
                    x[std::size_t(k)] = j;
                    y[std::size_t(j)] = k;
                    depth[std::size_t(k)] = kFar;
                }
                return true;
            }
        }
        return false;
    }
};

}  // namespace

std::int64_t match_most(const Adjacency& graph, std::vector<std::int32_t>& x, std::vector<std::int32_t>& y,
                        std::vector<std::int32_t>& crowded, std::vector<std::int32_t>& neighbours, Cancel* cancel) {
    Search search(graph, x, y);
    std::vector<std::int32_t> free_rows;
    for (std::int32_t i = 0; i < graph.n; i++) {
        for (std::int64_t e = graph.first[i]; e < graph.first[i + 1] && x[std::size_t(i)] < 0; e++)
            if (y[std::size_t(graph.column[e])] < 0) {
                x[std::size_t(i)] = graph.column[e];
                y[std::size_t(graph.column[e])] = i;
            }
        if (x[std::size_t(i)] < 0) free_rows.push_back(i);
    }
    while (!free_rows.empty() && search.levels()) {
        if (cancel && cancel->look()) return -1;
        std::erase_if(free_rows, [&](std::int32_t i) { return search.augment(i); });
    }
    if (free_rows.empty()) return 0;
    // The last search in breadth found no free column: what it reached is the proof.
    crowded = search.queue;
    neighbours.clear();
    for (const std::int32_t i : crowded)
        if (x[std::size_t(i)] >= 0) neighbours.push_back(x[std::size_t(i)]);
    return std::int64_t(free_rows.size());
}

}  // namespace loomfast::assignment
