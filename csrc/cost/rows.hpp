// The loops over one row that pairwise cost needs beside a matrix product, compiled once for each target.
#pragma once

#include <cstdint>

#include "simd/target.hpp"

namespace loomfast::cost {

// On T, float or double; Bits is the integer of its size.
template <class T, class Bits>
struct RowLoops {
    // max(0, norm_x + norms_z - 2 row), a NaN staying a NaN; -2 row; the root of a row.
    void (*finish)(T* row, int64_t count, T norm_x, const T* norms_z);
    void (*scale)(T* row, int64_t count);
    void (*root)(T* row, int64_t count);
    // The squared norm of x, the squared distance of x and z, of d numbers each.
    T (*norm)(const T* x, int64_t d);
    double (*distance)(const T* x, const T* z, int64_t d);
    // The bits of the largest magnitude, which order as integers: infinity above all numbers, NaN above that.
    Bits (*largest_bits)(const T* x, int64_t count);
};

// One target's. Every operation is rounded alone and sums have the same lanes everywhere, so that all targets give the
// same bits.
struct RowKernels {
    RowLoops<float, std::int32_t> floats;
    RowLoops<double, std::int64_t> doubles;
    void (*add_square)(double* row, int64_t count, double x, const double* z);  // row += (x - z)^2
};

LOOMFAST_DECLARE_TABLES(RowKernels, row_kernels)

}  // namespace loomfast::cost
