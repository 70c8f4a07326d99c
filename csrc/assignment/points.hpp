// The assignment of points to points without their cost matrix: in few dimensions by a tree, in any by products.
//
// Minimise the sum of c(x_i, z_y(i)) over the matchings of min(n, m) points of x (n, d) and z (m, d). The certificate
// is that of assignment.hpp, for every pair. Memory is O((n + m) d).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

enum class Metric : std::uint8_t {
    sqeuclidean,  // |x - z|^2
    euclidean,    // |x - z|
    dot,          // -x.z
};

constexpr int kMostDimensions = 16;  // of points in a tree

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

// The points in float32, for products of them: times one number, and for metrics of differences with one point
// subtracted from all, so that none of their squares overflows and products lose little.
struct PointsProduct {
    const float *x = nullptr, *z = nullptr;
    double unscale = 1.0;  // from their products to those of the points: the number's square, inverted
    // Writes x[rows] z[first:past]^T in float32 to (rows, past - first), summed in any order.
    std::function<void(std::span<const std::int32_t> rows, std::int64_t first, std::int64_t past, float* out)> multiply;
};

// No array of the output may be null. Throws std::invalid_argument for a state that is none of this problem. The first
// takes any number of points of up to kMostDimensions; the second any dimension, and no more points of x than of z.
void solve_points(const PointsCost& cost, const PointsOptions& options, Output& output);
void solve_points(const PointsCost& cost, const PointsProduct& product, const PointsOptions& options, Output& output);

}  // namespace loomfast::assignment
