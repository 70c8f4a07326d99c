// CPU noise of format 1 (philox.hpp), into a buffer the caller owns.
#pragma once

#include <cstdint>

namespace loomfast::noise {

enum class Element { float32, float64, bfloat16 };

// What all items share: counters are (block, low, high, word3) with (low, high) from each item's 64 bits.
struct Stream {
    uint64_t seed;
    uint32_t word3;
};

// out: num_items x item_size, contiguous; normal e of item i is normal e % 4 of block e / 4 of the counters
// (block, items[i] low, items[i] high, word3). The bits do not depend on target or threads.
void fill_normals(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, Element element,
                  void* out, int threads);

// point = t x + (1 - t) z and velocity = x - z, with z the float32 normals above, which are not kept.
// x, point, velocity: num_items x item_size; t: num_items.
void fill_interpolated(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, const float* x,
                       const float* t, float* point, float* velocity, int threads);

// Of each item's normals z and of `others` candidates known by two numbers alone, their component g along x and the
// squared length q of the rest (num_items x others), the one that is nearest to x: out = a z + b x, with z itself,
// (1, 0), where it is. a and b are NaN where x is not finite. Why two numbers do: loomfast/coupling/nearest.py.
void fill_nearest(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, const float* x,
                  const double* g, const double* q, int64_t others, float* out, float* a, float* b, int threads);

// The raw words behind them: out is num_items x item_size uint32.
void fill_bits(Stream stream, const uint64_t* items, int64_t num_items, int64_t item_size, uint32_t* out);

}  // namespace loomfast::noise
