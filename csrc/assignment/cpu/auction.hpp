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

// Prices at which every column is free of charge to some row: p_j = -min_i c_ij.
void reduce_columns(Work& work);

// The whole schedule of epsilon phases. Stops early when a row has no second choice, the bids exceed their
// cap or the solve is cancelled: the prices are then merely worse to start the exact part from.
void run_auction(Work& work, const Spread& spread, double start);

}  // namespace loomfast::assignment
