// The whole cost of a small float32 problem in one pass: products or differences in a tile of registers, the
// norms, the clamp and the root put on the tile before it is stored.
#pragma once

#include <cstdint>

#include "simd/target.hpp"

namespace loomfast::cost {

enum class Form {
    products,     // -2 x.z
    full,         // max(0, |x|^2 + |z|^2 - 2 x.z), a NaN staying a NaN
    differences,  // |x - z|^2 by direct differences
};

// Costs of contiguous (n, d) x and (m, d) z into out: element (i, j) at i * stride + j.
struct Problem {
    const float *x, *z;
    float* out;
    int64_t n, m, d, stride;
    Form form;
    bool euclidean;  // the root of the above
};

// One target's kernel: how many units of work a problem has, and those from `first` up to `last`.
struct TileKernels {
    int64_t (*units)(const Problem& problem);
    void (*run)(const Problem& problem, int64_t first, int64_t last);
};

LOOMFAST_DECLARE_TABLES(TileKernels, tile_kernels)

// Whether out shares memory with x or z.
bool overlaps(const Problem& problem);

// For a problem that does not overlap. An entry has the same bits for any number of threads and in any larger
// problem; targets differ by rounding.
void tiled(const Problem& problem, int threads);

}  // namespace loomfast::cost
