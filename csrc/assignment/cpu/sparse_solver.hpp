// From a graph to a matching of all its rows and exact prices.
#pragma once

#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Leaves the best matching and its prices in `state`, status optimal, infeasible (with its proof, in rows and columns
// of the graph) or cancelled in `output`.
void solve_graph(SparseState& state, const Options& options, SparseOutput& output);

// Matches again, exactly, what the roundings of a search among other, larger prices left loose.
void refine_graph(SparseState& state, const Options& options, SparseOutput& output);

}  // namespace loomfast::assignment
