// Making the pairs of a previous solution tight.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// The matched rows whose pair is not their best choice.
Array<std::int32_t> loose_rows(Work& work);

// Raises prices until the rows' pairs are tight, freeing rows that come up too often. False if that takes so
// long, or so many rows keep waiting, that the start is not worth keeping.
bool push_prices(Work& work, const Array<std::int32_t>& loose);

}  // namespace loomfast::assignment
