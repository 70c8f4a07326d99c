// What the stages of the sparse solver share: prices and a matching, and the floor that stands for the columns
// left over.
//
// Prices p are minus the duals v: the value of column j to row i is c_ij + p_j, and rows want the least. With
// more columns than rows, m - n columns stay unmatched, and theirs must be the least prices. Instead of m - n rows
// without costs that compete for them there is one number, the floor: no price counts as less than it, and at
// least m - n unmatched columns stand on it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "assignment/cpu/sparse_graph.hpp"

namespace loomfast::assignment {

class SparseState {
public:
    static constexpr std::int32_t kFree = -1;
    static constexpr double kInf = std::numeric_limits<double>::infinity();

    explicit SparseState(const SparseGraph& graph)
        : g(graph), p(std::size_t(graph.m), 0.0), x(std::size_t(graph.n), kFree), entry(std::size_t(graph.n), -1),
          y(std::size_t(graph.m), kFree), floor(graph.n < graph.m ? 0.0 : -kInf),
          spare(graph.n < graph.m ? graph.n : 0) {}

    const SparseGraph& g;
    std::vector<double> p;
    std::vector<std::int32_t> x;
    std::vector<std::int64_t> entry;  // of a matched row, where its pair is stored
    std::vector<std::int32_t> y;
    double floor;
    double rounding = 0.0;
    std::int64_t spare;  // unmatched columns on the floor beyond the m - n that have to be
    Stats stats;

    bool wide() const { return g.n < g.m; }
    double price(std::int32_t j) const { return std::max(p[std::size_t(j)], floor); }
    bool on_floor(std::int32_t j) const { return p[std::size_t(j)] <= floor; }
    double cost(std::int64_t e) const { return g.cost[std::size_t(e)]; }
    std::int32_t column(std::int64_t e) const { return g.column[std::size_t(e)]; }
    double value(std::int64_t e) const { return cost(e) + price(column(e)); }
    double level(std::int32_t i) const { return value(entry[std::size_t(i)]); }  // of a matched row

    void match(std::int32_t i, std::int64_t e) {
        const std::int32_t j = column(e);
        x[std::size_t(i)] = j;
        entry[std::size_t(i)] = e;
        y[std::size_t(j)] = i;
    }
    void release(std::int32_t i) {
        const std::int32_t j = x[std::size_t(i)];
        y[std::size_t(j)] = x[std::size_t(i)] = kFree;
        if (wide() && on_floor(j)) spare++;
    }

    void count_spare() {
        if (!wide()) return;
        spare = std::int64_t{g.n} - g.m;
        for (std::int32_t j = 0; j < g.m; j++) spare += y[std::size_t(j)] < 0 && on_floor(j);
    }

    struct Best {
        std::int64_t entry = -1;
        double first = kInf, second = kInf;
    };
    Best best(std::int32_t i) const {
        Best b;
        const double *cost = g.cost.data(), *prices = p.data();
        const std::int32_t* columns = g.column.data();
        const std::int64_t end = g.first[std::size_t(i) + 1];
        for (std::int64_t e = g.first[std::size_t(i)]; e < end; e++) {  // without branches, which nobody foresees
            const double w = cost[e] + std::max(prices[columns[e]], floor);
            b.entry = w < b.first ? e : b.entry;
            b.second = std::min(b.second, std::max(b.first, w));
            b.first = std::min(b.first, w);
        }
        return b;
    }

    // By how much a matched row's column is dearer than its best one; 0 where that is rounding.
    double looseness(std::int32_t i) const {
        const double above = level(i) - best(i).first;
        return above <= rounding ? 0.0 : above;
    }

    // Half of what exactness allows a row; sums of integral costs are exact.
    void set_rounding() {
        double largest = 0.0, least = kInf, most = -kInf;
        for (std::int32_t i = 0; i < g.n; i++)
            if (x[std::size_t(i)] >= 0) largest = std::max(largest, std::fabs(cost(entry[std::size_t(i)])));
        for (std::int32_t j = 0; j < g.m; j++) {
            least = std::min(least, price(j));
            most = std::max(most, price(j));
        }
        rounding = g.integral ? 0.0 : 0x1p-51 * std::max(largest, most - least);
    }

    std::vector<std::int32_t> free_rows() const {
        std::vector<std::int32_t> rows;
        for (std::int32_t i = 0; i < g.n; i++)
            if (x[std::size_t(i)] == kFree) rows.push_back(i);
        return rows;
    }
};

}  // namespace loomfast::assignment
