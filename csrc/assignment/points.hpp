// The assignment of points to points in few dimensions, without their cost matrix.
//
// Minimise the sum of c(x_i, z_y(i)) over the matchings of min(n, m) points of x (n, d) and z (m, d). The certificate
// is that of assignment.hpp, for every pair. Memory is O(n + m).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

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

// Of the options of a solve, those for integers and for what is unmatched have no meaning here. With a tolerance, the
// sum that it is a share of is over the fewer points: of x, if there are as many.
struct PointsOptions : Options {
    int threads = 1;  // the answer does not depend on them
    // Told now and then how much of the work is done, on the calling thread.
    std::function<void(std::int64_t done, std::int64_t total, const std::string& note)> tell;
    // Given what a call with the same costs and options needs as `state` to go on from here, and to end with the same
    // bits: every `keep_every` seconds, and when it is cancelled or `tell` throws.
    std::function<void(const std::string& state)> keep;
    double keep_every = 30.0;
    std::string_view state;
};

// No array of the output may be null. Throws std::invalid_argument for a state that is none of this problem.
void solve_points(const PointsCost& cost, const PointsOptions& options, Output& output);

}  // namespace loomfast::assignment
