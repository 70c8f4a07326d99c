// Wide problems: brings unmatched columns down to the floor.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// The mirror image of a search from a free row. The price of an unmatched column falls until it stands on the floor
// or a row prefers it; that row's own column then falls as well, and so on, until one of them stands on the floor or a
// free row takes one. (Bertsekas and Castanon, "A forward/reverse auction algorithm for asymmetric assignment
// problems", Computational Optimization and Applications 1, 1992, do the same with bids.)
class SparseLowering {
public:
    explicit SparseLowering(SparseState& state);

    void lower_all();

private:
    struct Item {
        double d;
        std::int32_t i;
        bool operator<(const Item& other) const { return d > other.d; }
    };

    void lower(std::int32_t column);
    void relax(std::int32_t j, double length);
    void shift(std::int32_t row);

    SparseState& s_;
    std::vector<std::int64_t> first_, entry_;  // of each column, where its pairs are stored
    std::vector<std::int32_t> row_;
    std::vector<Item> heap_;
    std::vector<double> d_;          // of a row
    std::vector<std::int64_t> via_;  // the entry by which a row would take the column that reached it
    std::vector<char> settled_;
    struct Reached {
        std::int32_t j;
        double length;
    };
    std::vector<Reached> columns_;
    std::vector<std::int32_t> touched_;
    double bound_ = 0.0;
    std::int32_t last_ = -1;  // the column that comes to the floor at the bound
};

}  // namespace loomfast::assignment
