// Matchings of the most rows: which problems have an answer, and why others have none.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

// A graph whose row i has the columns column[first[i]] ... column[first[i + 1] - 1].
struct Adjacency {
    std::int32_t n, m;
    const std::int64_t* first;
    const std::int32_t* column;
};

// Hopcroft and Karp's algorithm ("An n^{5/2} algorithm for maximum matchings in bipartite graphs", SIAM J. Comput.
// 2(4), 1973), from any matching on: x and y, -1 where a row and a column are free. How many rows stay free. If there
// are any, `crowded` are rows, they among them, whose only neighbours are `neighbours`, fewer than they by as many.
// -1: cancelled.
std::int64_t match_most(const Adjacency& graph, std::vector<std::int32_t>& x, std::vector<std::int32_t>& y,
                        std::vector<std::int32_t>& crowded, std::vector<std::int32_t>& neighbours, Cancel* cancel);

}  // namespace loomfast::assignment
