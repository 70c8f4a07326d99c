// Far more columns than rows.
#pragma once

#include "assignment/exact.hpp"

namespace loomfast::assignment {

// Whether `solve_skinny` is the fast way.
bool is_skinny(const Source& source);

// The columns, in order, that an optimal matching needs, after one look at every entry: what it tells of them is in
// `filter` as after `make_filter`, but for the copy and the minima. None where cancelled.
std::vector<std::int64_t> nearest_columns(const Source& source, Filter& filter, const Kernels& kernels, Cancel* cancel);

// `solve_exactly` with these columns alone. Gives the source the factor of the answer.
Answer solve_skinny(Source& source, const std::vector<std::int64_t>& columns, const Kernels& kernels,
                    const Options& options, bool integers);

}  // namespace loomfast::assignment
