// The stored pairs as the sparse solver sees them: rows of doubles to be minimised, at most as many rows as columns.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/sparse.hpp"

namespace loomfast::assignment {

struct SparseGraph {
    std::int32_t n = 0, m = 0;        // n <= m
    bool transposed = false;          // the caller's columns are the rows
    double sign = 1.0, factor = 1.0;  // cost = the caller's * sign * factor, a power of two
    double largest = 0.0;             // magnitude of a cost
    bool integral = true;             // every cost is an integer, and so are sums of n of them in float64
    std::vector<std::int64_t> first;  // entries first[i] ... first[i + 1] - 1 are those of row i
    std::vector<std::int32_t> column;
    std::vector<double> cost;
};

// Reads the caller's matrix: one entry a pair, no forbidden ones. False, with the reason in `output`, if it cannot.
bool read_graph(const SparseCost& cost, const Options& options, SparseGraph& graph, SparseOutput& output);

}  // namespace loomfast::assignment
