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

// Which pairs a reassignment makes: of x_items[k] and z_order[k]; items null is k.
struct Reassignment {
    const int64_t *items, *order;
};

// The same before and after a reassignment of as many pairs: before[i] as above, after[k] of its pair k.
template <class T>
void paired_again(const T* x, const T* z, Reassignment pairs, int64_t rows, int64_t d, bool euclidean,
                  double* before, double* after, int threads);

// products x_i . z_j to costs, in place: -2 x.z without norms, else max(0, |x_i|^2 + |z_j|^2 - 2 x.z), a NaN
// staying a NaN; the root of that if `euclidean`. norms_x, norms_z: squared norms, or both null.
template <class T>
void finish(Block<T> block, const T* norms_x, const T* norms_z, bool euclidean, int threads);

// |x_i - z_j|^2 of contiguous (rows, d) x and (columns, d) z by direct differences, or its root. In float32 the
// tiles do it.
void direct(const double* x, const double* z, int64_t d, Block<double> block, bool euclidean, int threads);

// What holds every sum of squares of x and z, d numbers an item. In float32 a root of squares that are lost below it
// must not be taken, either. Numbers that are not finite are left to float32, since nothing can hold them.
enum class Range { float32, float64, neither };

template <class T>
Range range_of(const T* x, int64_t count_x, const T* z, int64_t count_z, int64_t d, bool euclidean);

}  // namespace loomfast::cost
