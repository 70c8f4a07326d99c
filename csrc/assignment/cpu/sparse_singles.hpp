// Rows one after the other: bids without epsilon, and a shortest path where they take longer than one.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/cpu/sparse_forest.hpp"
#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38, 1987: augmenting row reduction, twice, then shortest augmenting paths. Here a row's bids may look at as
// many entries as its path would, as far as earlier paths tell; then the path is searched. So neither a price war nor
// a search of half the graph is paid for where the other is cheap.
class SparseSingles {
public:
    SparseSingles(SparseState& state, SparseForest& forest, Cancel* cancel);

    // Matches `rows`, which are free, until none is left or the rest would take longer than phases of an auction; those
    // stay in it. False: no path from a row was found, or `cancel` stopped it.
    bool match(std::vector<std::int32_t>& rows);

private:
    bool worth(std::size_t left) const;
    std::int32_t bid(std::int32_t i);
    bool path(std::int32_t i);

    SparseState& s_;
    SparseForest& forest_;
    Cancel* cancel_;
    const double entries_;
    double spent_ = 0.0;           // in entries that a bid looks at
    double lately_ = 0.0;          // by a row, a moving average
    double paths_ = 0.0, searched_ = 0.0;  // how many there were, what they took
    std::vector<std::int32_t> later_, one_;
};

}  // namespace loomfast::assignment
