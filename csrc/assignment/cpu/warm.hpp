// Starting from what is known of a previous solution.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// From column prices `v` of the source, a matching `col4row` of the caller's, or both; either may be null, and either may
// be worth nothing, in which case the solve is a cold one and hardly slower.
Status solve_warm(Work& work, const double* v, const std::int64_t* col4row);

}  // namespace loomfast::assignment
