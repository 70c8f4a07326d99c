// The exact part of a solve: from any prices and any partial matching to an optimal one.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

constexpr std::int32_t kDenseColumns = 256;  // up to here, paths relax rows whole as fast as from a heap

// Lowers prices of matched columns, in at most `passes` passes, so that more pairs become tight.
void repair_prices(Work& work, int passes);

// Whether row i's pair with column j is further from its best choice than rounding explains.
bool is_loose(Work& work, std::int32_t i, std::int32_t j);

// Frees the rows whose pair is not their best choice; returns every free row.
Array<std::int32_t> free_loose_rows(Work& work);

// Augmenting row reduction: free rows bid with eps = 0, at most `limit` times together. Returns the rows
// left free, by ties or, if `exhausted`, by the limit.
Array<std::int32_t> reduce_rows(Work& work, Array<std::int32_t> free_rows, std::int64_t limit,
                                bool* exhausted = nullptr);

// Matches the free rows along shortest augmenting paths. `tied`: these rows, or many others, have several best choices.
Status augment_rows(Work& work, const Array<std::int32_t>& free_rows, bool tied = false);

// For a complete matching with tight pairs: the least prices p_j >= 0 that keep them tight. Where columns are left
// over (n < m), changes the matching so that these have none: think of m - n more rows with zero cost everywhere,
// which hold the unmatched columns; those must then be the cheapest. With `anew`, prices are not lowered but added up
// anew from differences of costs, so that they are as accurate as costs are, however large they were.
Status settle_prices(Work& work, bool anew);

}  // namespace loomfast::assignment
