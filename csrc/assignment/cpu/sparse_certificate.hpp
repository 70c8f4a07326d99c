// The certificate of a matching of a sparse graph, with its roundings: see certificate.cpp.
#pragma once

#include <vector>

#include "assignment/cpu/certificate.hpp"
#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Given a matching of all rows, fills `price` with prices p_j >= 0 of the graph's costs (0 where unmatched), u with
// the largest doubles that satisfy u_i - p_j <= c_ij, and bounds the gap from above.
Certificate certify_sparse(const SparseState& state, std::vector<double>& price, std::vector<double>& u);

}  // namespace loomfast::assignment
