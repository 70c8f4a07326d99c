// Solving without a start.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// ---- sizes ----
// Where one kind of solve becomes faster than the next, by bench/assignment.py and bench/families.py.
constexpr std::int32_t kTinyRows = 16;         // up to here, plain shortest paths
constexpr std::int32_t kSmallRows = 40;        // up to here too, unless column minima settle most rows
constexpr std::int32_t kMiddleRows = 256;      // up to here, whole float64 rows are read as fast as caches are made,
constexpr std::int32_t kReductionRows = 1024;  // and up to here shortest paths after reductions are short enough

// By the fastest way; nothing is matched, and prices are whatever they are.
Status solve_cold(Work& work);

// By plain shortest augmenting paths, which never fail.
Status solve_plainly(Work& work);

// ---- the parts of it, which solves with a start use too ----

// The prices that a cold solve begins with: of a square problem, those that make every column free of charge to some
// row; zero of others.
void set_cold_prices(Work& work);

// Whether every column has an allowed pair, as reduction needs.
bool columns_feasible(const Work& work);

// Whether most rows have few cheap columns and then many of one and the same cost: caches cannot tell these apart and
// the auction would raise their prices one by one, where a path needs any one that is free.
bool has_plateaus(const Work& work);

// Gives rows, in order, the first free column that is a best choice of theirs at cold prices, as long as at least `share`
// of them find one; a constant matrix gets the identity. Returns whether enough did; if not, nothing is matched.
bool match_minima(Work& work, double share);

// Bids without eps and shortest paths, for a problem whose free rows are few or find columns soon.
Status finish(Work& work, const char* path);

// Rows bid from prices of zero. False if they compete too much for that; `status` is set where they do not.
bool solve_uncontended(Work& work, Status* status);

// The auction and everything after it, from the prices and the matching as they are; see make_schedule for `start`.
Status compete(Work& work, double start);

}  // namespace loomfast::assignment
