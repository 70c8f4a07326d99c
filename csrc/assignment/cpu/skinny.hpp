// Far more columns than rows.
#pragma once

#include <limits>

#include "assignment/cpu/exact.hpp"

namespace loomfast::assignment {

// Whether `solve_skinny` is the fast way.
bool is_skinny(const Source& source);

// The least `keep` costs of a row so far, the first of equal ones, with their columns, and at most as many others.
struct Nearest {
    std::int64_t keep;
    Array<std::pair<double, std::int64_t>> found;
    double limit = std::numeric_limits<double>::infinity();  // costs from here on are not among them

    void offer(double cost, std::int64_t column);
    void trim();
};

// What an optimal matching needs of every storage row, after one look at every entry: what that tells of them is in
// `filter` as after `make_filter`, but for the copy and the minima.
Array<Nearest> nearest_columns(const Source& source, Filter& filter, const Kernels& kernels, Cancel* cancel);

// `solve_exactly` with these entries alone. Gives the source the factor of the answer.
Answer solve_skinny(Source& source, const Array<Nearest>& nearest, const Kernels& kernels,
                    const Options& options, bool integers);

}  // namespace loomfast::assignment
