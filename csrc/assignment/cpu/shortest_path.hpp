// Shortest augmenting paths in float64: the solver that is never wrong and never runs away.
#pragma once

#include "assignment/cpu/array.hpp"
#include "assignment/cpu/source.hpp"

namespace loomfast::assignment {

// Fills x (row -> column), y (column -> row, -1 where unmatched) and p (column prices, p_j = -v_j >= 0).
// Returns optimal, infeasible or cancelled.
Status shortest_paths(const Source& source, Cancel* cancel, Array<std::int32_t>& x, Array<std::int32_t>& y,
                      Array<double>& p);

}  // namespace loomfast::assignment
