// What pairwise cost needs beside a matrix product, on the CPU: squared norms and one pass over a block of the
// result, rows shared out over the threads.
#pragma once

#include <cstdint>

namespace loomfast::cost {

// A block of the result: element (i, j) at i * stride + j.
template <class T>
struct Block {
    T* at;
    int64_t rows, columns, stride;
};

// |x_i|^2 of contiguous (rows, d) x.
template <class T>
void norms(const T* x, int64_t rows, int64_t d, T* out, int threads);

// |x_i - z_i|^2 of contiguous (rows, d) x and z by differences in double, or its root.
template <class T>
void paired(const T* x, const T* z, int64_t rows, int64_t d, bool euclidean, double* out, int threads);

// products x_i . z_j to costs, in place: -2 x.z without norms, else max(0, |x_i|^2 + |z_j|^2 - 2 x.z), a NaN
// staying a NaN; the root of that if `euclidean`. norms_x, norms_z: squared norms, or both null.
template <class T>
void finish(Block<T> block, const T* norms_x, const T* norms_z, bool euclidean, int threads);

// |x_i - z_j|^2 of contiguous (rows, d) x and (columns, d) z by direct differences, or its root. In float32 the
// tiles do it.
void direct(const double* x, const double* z, int64_t d, Block<double> block, bool euclidean, int threads);

// Whether every cost of x and z of d numbers an item can be computed in T: no sum of squares overflows, and no
// root is taken of squares that are lost below it. True where a number is not finite, which no T can help.
template <class T>
bool in_range(const T* x, int64_t count_x, const T* z, int64_t count_z, int64_t d, bool euclidean);

}  // namespace loomfast::cost
