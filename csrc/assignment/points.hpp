// The assignment of points to points in few dimensions, without their cost matrix.
//
// Minimise the sum of c(x_i, z_y(i)) over the matchings of min(n, m) points of x (n, d) and z (m, d). The certificate
// is that of assignment.hpp, for every pair. Memory is O(n + m).
#pragma once

#include <cstdint>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

enum class Metric : std::uint8_t {
    sqeuclidean,  // |x - z|^2
    euclidean,    // |x - z|
    dot,          // -x.z
};

constexpr int kMostDimensions = 16;

// Contiguous rows of d coordinates, of a magnitude of at most 1e150: squares and their sums do not overflow.
struct PointsCost {
    const double *x = nullptr, *z = nullptr;
    std::int64_t rows = 0, cols = 0;
    int d = 0;
    Metric metric = Metric::sqeuclidean;
};

// No array of the output may be null. Of the options, `cancel` alone is used: the answer is exact.
void solve_points(const PointsCost& cost, const Options& options, Output& output);

}  // namespace loomfast::assignment
