// Costs of very different magnitude.
#pragma once

#include "assignment/cpu/exact.hpp"

namespace loomfast::assignment {

// `solve_exactly`, where costs fall into clusters of very different magnitude as well: finite costs that stand for
// "forbidden" beside ordinary ones. As few of them as possible are matched, and the rest is optimal on its own scale.
// May change the source's factor.
Answer solve_by_magnitude(Source& source, const Filter& filter, const Kernels& kernels, const Options& options,
                          bool integers);

}  // namespace loomfast::assignment
