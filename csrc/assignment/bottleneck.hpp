// The matching whose largest cost is the least.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

struct BottleneckOutput : Output {  // u, v and gap are about the sum and filled if it is asked for
    double bottleneck = 0.0;        // the largest cost matched; the least when maximising
    // The proof, or with status infeasible the proof of that: rows (columns, if there are fewer of them) that have
    // only these neighbours by pairs cheaper than the bottleneck (by allowed pairs), fewer than they are; sorted.
    std::vector<std::int64_t> crowded, neighbours;
};

// `then_sum`: of the matchings with that bottleneck the one with the least sum. Costs are only compared, so that the
// bottleneck is exact; integers beyond 2^53 are refused, for float64 cannot tell them apart.
void solve_bottleneck(const Cost& cost, bool then_sum, const Options& options, BottleneckOutput& output);

}  // namespace loomfast::assignment
