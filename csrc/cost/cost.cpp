#include "cost/cost.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "cost/rows.hpp"
#include "threads/pool.hpp"

namespace loomfast::cost {
namespace {

const auto& loops(const float*) { return row_kernels().floats; }
const auto& loops(const double*) { return row_kernels().doubles; }

// task(i) for every row, over the threads.
template <class Task>
void for_rows(int64_t rows, int threads, const Task& task) {
    const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, rows));
    run_parts(parts, [&](int64_t part) {
        for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) task(i);
    });
}

}  // namespace

LOOMFAST_DEFINE_CHOICE(RowKernels, row_kernels)

template <class T>
void norms(const T* x, int64_t rows, int64_t d, T* out, int threads) {
    const auto& row = loops(x);
    for_rows(rows, threads, [&](int64_t i) { out[i] = row.norm(x + i * d, d); });
}

template <class T>
void paired(const T* x, const T* z, int64_t rows, int64_t d, bool euclidean, double* out, int threads) {
    const auto& row = loops(x);
    for_rows(rows, threads, [&](int64_t i) {
        const double square = row.distance(x + i * d, z + i * d, d);
        out[i] = euclidean ? std::sqrt(square) : square;
    });
}

template <class T>
void paired_again(const T* x, const T* z, Reassignment pairs, int64_t rows, int64_t d, bool euclidean,
                  double* before, double* after, int threads) {
    const auto& row = loops(x);
    const auto cost = [&](int64_t i, int64_t j) {
        const double square = row.distance(x + i * d, z + j * d, d);
        return euclidean ? std::sqrt(square) : square;
    };
    const auto [items, order] = pairs;
    for_rows(rows, threads, [&, items = items, order = order](int64_t k) {
        const int64_t item = items ? items[k] : k;
        before[k] = cost(k, k);
        after[k] = item == k && order[k] == k ? before[k] : cost(item, order[k]);
    });
}

template <class T>
void finish(Block<T> block, const T* norms_x, const T* norms_z, bool euclidean, int threads) {
    const auto& row = loops(block.at);
    for_rows(block.rows, threads, [&](int64_t i) {
        T* const at = block.at + i * block.stride;
        if (norms_x) {
            row.finish(at, block.columns, norms_x[i], norms_z);
        } else {
            row.scale(at, block.columns);
        }
        if (euclidean) row.root(at, block.columns);
    });
}

void direct(const double* x, const double* z, int64_t d, Block<double> block, bool euclidean, int threads) {
    std::vector<double> columns(static_cast<std::size_t>(d * block.columns));  // by coordinate
    for (int64_t j = 0; j < block.columns; ++j)
        for (int64_t k = 0; k < d; ++k) columns[k * block.columns + j] = z[j * d + k];
    const RowKernels& kernels = row_kernels();
    for_rows(block.rows, threads, [&](int64_t i) {
        double* const row = block.at + i * block.stride;
        std::fill_n(row, block.columns, 0.0);
        for (int64_t k = 0; k < d; ++k)
            kernels.add_square(row, block.columns, x[i * d + k], columns.data() + k * block.columns);
        if (euclidean) kernels.doubles.root(row, block.columns);
    });
}

template <class T>
Range range_of(const T* x, int64_t count_x, const T* z, int64_t count_z, int64_t d, bool euclidean) {
    const auto& row = loops(x);
    const auto bits = std::max(row.largest_bits(x, count_x), row.largest_bits(z, count_z));
    T value;
    std::memcpy(&value, &bits, sizeof value);
    const double most = value, terms = 4.0 * static_cast<double>(std::max<int64_t>(d, 1));
    if (most == 0 || !std::isfinite(most)) return Range::float32;
    // |x - z|^2 and |x|^2 + |z|^2 are at most 4 d most^2. A lost square is below 2^-149 in float32: its root is small
    // beside the rounding of numbers of 2^-50 and more.
    const bool lost = euclidean && sizeof(T) == 4 && most < 0x1p-50;
    if (!lost && most <= std::sqrt(std::numeric_limits<float>::max() / terms)) return Range::float32;
    return most <= std::sqrt(std::numeric_limits<double>::max() / terms) ? Range::float64 : Range::neither;
}

template Range range_of(const float*, int64_t, const float*, int64_t, int64_t, bool);
template Range range_of(const double*, int64_t, const double*, int64_t, int64_t, bool);
template void norms(const float*, int64_t, int64_t, float*, int);
template void norms(const double*, int64_t, int64_t, double*, int);
template void paired(const float*, const float*, int64_t, int64_t, bool, double*, int);
template void paired(const double*, const double*, int64_t, int64_t, bool, double*, int);
template void paired_again(const float*, const float*, Reassignment, int64_t, int64_t, bool, double*, double*, int);
template void paired_again(const double*, const double*, Reassignment, int64_t, int64_t, bool, double*, double*, int);
template void finish(Block<float>, const float*, const float*, bool, int);
template void finish(Block<double>, const double*, const double*, bool, int);

}  // namespace loomfast::cost
