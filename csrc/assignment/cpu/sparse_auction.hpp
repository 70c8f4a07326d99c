// Epsilon-scaling auction over the stored pairs.
#pragma once

#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Lets the floor rise where a row took one of the last columns that stand on it.
class SparseFloor {
public:
    explicit SparseFloor(SparseState& state) : s_(state) {}
    void forget() { built_ = false; }  // prices may have fallen
    void left_by(std::int32_t j);      // a row took column j off the floor
    // Puts one more column on the floor; the row that had it, or -1.
    std::int32_t rise();

private:
    SparseState& s_;
    bool built_ = false;
    std::vector<std::pair<double, std::int32_t>> heap_;  // least price first, as prices were when they were pushed
};

// Bids until no row is free, `most` entries were looked at or `patience` since a row last found a free column; free
// rows of before and after in `rows`. (Bertsekas, "The auction algorithm", Annals of
// Operations Research 14, 1988.)
void sparse_auction(SparseState& state, SparseFloor& floor, std::vector<std::int32_t>& rows, double epsilon,
                    std::int64_t most, std::int64_t patience);

// Releases matched rows whose column is dearer than their best one by more than `slack` and rounding.
void release_loose(SparseState& state, double slack);

}  // namespace loomfast::assignment
