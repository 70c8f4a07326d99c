// Which algorithm, and in what order.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// Matches the rows and sets the prices: by the fastest way, starting from what the options know of a solution if
// that turns out to be worth something. Status within_tolerance if work.target_gap allowed to stop early.
Status solve(Work& work, const Options& options);

}  // namespace loomfast::assignment
