// Matchings that leave rows and columns unmatched, at a price.
#pragma once

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

// Minimises (or maximises) sum c_ij over the pairs matched, plus r_i for each unmatched row and k_j for each unmatched
// column, which `options.unmatched` says. The dual prices are of this problem:
//
//   u_i + v_j <= c_ij for every pair,  u_i <= r_i,  v_j <= k_j;  maximize reverses every inequality.
void solve_unmatched(const Cost& cost, const Options& options, Output& output);

}  // namespace loomfast::assignment
