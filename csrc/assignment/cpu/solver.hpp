// Which algorithm, and in what order.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// Fill work.x, work.y and work.p: by the fastest way, starting from what the options know of a solution if
// that turns out to be worth something. Status within_tolerance if work.target_gap allowed to stop early.
Status solve(Work& work, const Options& options);

// The same by plain shortest augmenting paths, which never fail.
Status solve_plainly(Work& work);

}  // namespace loomfast::assignment
