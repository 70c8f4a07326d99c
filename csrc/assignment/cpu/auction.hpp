// The approximate part of a solve: prices that are nearly optimal, and a matching that nearly fits them.
#pragma once

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

// How far apart a row's values are, measured on a few rows.
struct Spread {
    double whole;  // typical mean - min of a row
    double near;   // typical distance from the least to the tenth least value
    double scale;  // magnitude of the prices and of the costs worth having, big-M entries aside
};

Spread measure_spread(const Work& work);

constexpr std::int32_t kDenseRows = 1024;  // up to here, bidding by whole rows is faster than by caches

// The epsilons of an auction's phases: `first`, then each the last one divided by `ratio`, the last of them `last`.
struct Schedule {
    double first, last, ratio;
    double grid;  // epsilons are multiples of it; 0: of nothing
    bool cached;  // whether rows bid by their caches, which do more bids in the time, or by all of their costs
};

// `start` is where a cold solve's first epsilon is 1. Where every cost is the same there is nothing to bid for: `last`
// is 0 then.
Schedule make_schedule(const Work& work, const Spread& spread, double start);

// Prices at which every column is free of charge to some row: p_j = -min_i c_ij.
void reduce_columns(Work& work);

// Runs the schedule. Stops early when a row has no second choice, the bids exceed their cap or the solve is cancelled:
// the prices are then merely worse to start the exact part from.
void run_auction(Work& work, const Schedule& schedule);

}  // namespace loomfast::assignment
