// Problems that fit a few registers' worth of rows: a whole solve in one kernel.
#pragma once

#include <cstdint>

#include "simd/target.hpp"

namespace loomfast::assignment {

constexpr std::int32_t kTinyColumns = 64;  // at most: a set of columns is a word
constexpr std::int32_t kTinyStride = 8;    // columns are padded to multiples of it

struct TinyKernels {
    // The least magnitude but zero (+inf if all are zero) and the largest of `count` numbers; false if one is not finite.
    bool (*magnitudes)(const double* a, std::int64_t count, double* least, double* largest);
    // Shortest augmenting paths for n <= m rows of costs, `stride` apart, a multiple of kTinyStride, up to which they are
    // padded with +inf. Fills x (row -> column), y (column -> row, else -1) and the prices p of [stride] columns. False if
    // there is no complete matching, or if costs are NaN or -inf.
    bool (*match)(const double* costs, std::int32_t n, std::int32_t m, std::int32_t stride, std::int32_t* x,
                  std::int32_t* y, double* p);
};

LOOMFAST_DECLARE_TABLES(TinyKernels, tiny_kernels)

}  // namespace loomfast::assignment
