// Pairs that are in every complete matching, because a row or a column has no other: what is left without them.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Takes rows, and columns of square problems, that have one pair left, with that pair, until there are none; a triangle
// is taken whole. Prices of what was taken follow from those of the rest, in the opposite order, in one look at each
// pair. (Singletons, as in I. S. Duff, "On algorithms for obtaining a maximum transversal", ACM Transactions on
// Mathematical Software 7(3), 1981.)
class SparsePeel {
public:
    explicit SparsePeel(const SparseGraph& graph);

    // Whether a line has at most one pair: most problems without an answer have such.
    bool doubtful() const { return empty_ || !single_rows_.empty() || !single_cols_.empty(); }

    // Whether that leaves much less to solve. False also where a line is left without pairs: there is no answer then.
    bool peel();

    const SparseGraph& rest() const { return rest_; }

    // The matching and the prices of the whole graph, from those of the rest.
    void lift(const SparseState& rest, SparseState& whole) const;

private:
    struct Step {
        std::int32_t row;
        bool by_row;         // the row had one pair left, not the column
        std::int64_t entry;  // that pair
    };

    void turn();
    bool take_row(std::int32_t i);
    bool take_column(std::int32_t j);
    void keep_rest();
    double price_of(const SparseState& whole, const Step& step) const;

    const SparseGraph& g_;
    bool empty_ = false;  // a line has no pair
    SparseGraph rest_;
    std::vector<std::int32_t> rows_, columns_;         // of the rest, by their numbers in the whole
    std::vector<Step> steps_;
    std::vector<std::int32_t> row_pairs_, col_pairs_;  // how many each has left; 0: taken
    std::vector<std::int32_t> single_rows_, single_cols_;
    std::vector<std::int64_t> first_, entry_;          // of each column, where its pairs are stored
    std::vector<std::int32_t> row_;
};

}  // namespace loomfast::assignment
