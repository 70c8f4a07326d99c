// The k cheapest matchings, cheapest first.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

struct RankedOutput : Output {  // what Output holds is about the cheapest matching
    // min(n, m) pairs each, as the column of each row (-1 where it is unmatched); as many as there are, at most k.
    std::vector<std::vector<std::int64_t>> matchings;
    std::vector<double> totals;  // by them they are in order
    std::vector<double> best_u, best_v;
};

// Of the options `round_integers` and `cancel` are used.
void solve_k_best(const Cost& cost, std::int64_t k, const Options& options, RankedOutput& output);

}  // namespace loomfast::assignment
