// The cheap beginning: column reduction and reduction transfer.
#pragma once

#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Prices as high as the least cost of each column allows; of square problems only.
void reduce_columns(SparseState& state);

// R. Jonker and A. Volgenant, "A shortest augmenting path algorithm for dense and sparse linear assignment problems",
// Computing 38, 1987: what precedes its bids and paths. Columns are given to the rows that their least costs are in; a
// row that was not wanted twice raises the price of its column as far as that stays its best. Leaves tight pairs and no
// price that is too high. Of square problems.
void reduce_and_transfer(SparseState& state);

// Gives every free row a best column of its own that is free, where there is one.
void take_free(SparseState& state);

}  // namespace loomfast::assignment
