#include "cost/cost.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "threads/pool.hpp"

// The loops below are compiled for several instruction sets and chosen at run time; every operation in them is
// rounded alone, so the result does not depend on the choice.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__)
#define LOOMFAST_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define LOOMFAST_CLONES
#endif
#define LOOMFAST_INLINE __attribute__((always_inline)) inline

namespace loomfast::cost {
namespace {

LOOMFAST_CLONES void finish_row(float* row, int64_t count, float norm_x, const float* norms_z) {
    for (int64_t j = 0; j < count; ++j) {
        const float cost = (norm_x + norms_z[j]) - 2 * row[j];
        row[j] = cost < 0 ? 0 : cost;
    }
}

LOOMFAST_CLONES void finish_row(double* row, int64_t count, double norm_x, const double* norms_z) {
    for (int64_t j = 0; j < count; ++j) {
        const double cost = (norm_x + norms_z[j]) - 2 * row[j];
        row[j] = cost < 0 ? 0 : cost;
    }
}

LOOMFAST_CLONES void scale_row(float* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] *= -2;
}

LOOMFAST_CLONES void scale_row(double* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] *= -2;
}

LOOMFAST_CLONES void add_square(double* row, int64_t count, double x, const double* z) {
    for (int64_t j = 0; j < count; ++j) row[j] += (x - z[j]) * (x - z[j]);
}

// Partial sums in a number of lanes that is the same for every instruction set, and so is their sum.
template <class T>
struct Sums {
    typedef T Vector __attribute__((vector_size(32)));  // wider ones spill where AVX-512 is missing
    static constexpr int64_t kLanes = 32 / sizeof(T), kStep = 4 * kLanes;
    Vector part[4] = {};

    T total() const {
        const Vector sum = (part[0] + part[1]) + (part[2] + part[3]);
        T lane[kLanes];
        std::memcpy(lane, &sum, sizeof sum);
        for (int64_t width = kLanes / 2; width; width /= 2)
            for (int64_t k = 0; k < width; ++k) lane[k] += lane[k + width];
        return lane[0];
    }
};

template <class T>
LOOMFAST_INLINE void add_squares(Sums<T>& sums, const T* x) {
    for (int v = 0; v < 4; ++v) {
        typename Sums<T>::Vector a;
        std::memcpy(&a, x + v * Sums<T>::kLanes, sizeof a);
        sums.part[v] += a * a;
    }
}

template <class T>
LOOMFAST_INLINE void add_square_differences(Sums<double>& sums, const T* x, const T* z) {
    typedef T Part __attribute__((vector_size(Sums<double>::kLanes * sizeof(T))));
    using Wide = Sums<double>::Vector;
    for (int v = 0; v < 4; ++v) {
        Part a, b;
        std::memcpy(&a, x + v * Sums<double>::kLanes, sizeof a);
        std::memcpy(&b, z + v * Sums<double>::kLanes, sizeof b);
        const Wide difference = __builtin_convertvector(a, Wide) - __builtin_convertvector(b, Wide);
        sums.part[v] += difference * difference;
    }
}

template <class T>
LOOMFAST_INLINE T square_norm(const T* x, int64_t d) {
    Sums<T> sums;
    int64_t k = 0;
    for (; k + Sums<T>::kStep <= d; k += Sums<T>::kStep) add_squares(sums, x + k);
    if (k < d) {
        T rest[Sums<T>::kStep] = {};
        std::copy_n(x + k, d - k, rest);
        add_squares(sums, rest);
    }
    return sums.total();
}

template <class T>
LOOMFAST_INLINE double square_distance(const T* x, const T* z, int64_t d) {
    constexpr int64_t step = Sums<double>::kStep;
    Sums<double> sums;
    int64_t k = 0;
    for (; k + step <= d; k += step) add_square_differences(sums, x + k, z + k);
    if (k < d) {
        T rest_x[step] = {}, rest_z[step] = {};
        std::copy_n(x + k, d - k, rest_x);
        std::copy_n(z + k, d - k, rest_z);
        add_square_differences(sums, rest_x, rest_z);
    }
    return sums.total();
}

LOOMFAST_CLONES void norm_of(const float* x, int64_t d, float* out) { *out = square_norm(x, d); }
LOOMFAST_CLONES void norm_of(const double* x, int64_t d, double* out) { *out = square_norm(x, d); }
LOOMFAST_CLONES void distance_of(const float* x, const float* z, int64_t d, double* out) {
    *out = square_distance(x, z, d);
}
LOOMFAST_CLONES void distance_of(const double* x, const double* z, int64_t d, double* out) {
    *out = square_distance(x, z, d);
}

// The bits of the largest magnitude, which order as integers: infinity above all numbers, NaN above that.
LOOMFAST_CLONES int32_t largest_bits(const float* x, int64_t count) {
    int32_t most = 0;
    for (int64_t k = 0; k < count; ++k) {
        int32_t bits;
        std::memcpy(&bits, x + k, sizeof bits);
        most = std::max(most, bits & 0x7fffffff);
    }
    return most;
}

LOOMFAST_CLONES int64_t largest_bits(const double* x, int64_t count) {
    int64_t most = 0;
    for (int64_t k = 0; k < count; ++k) {
        int64_t bits;
        std::memcpy(&bits, x + k, sizeof bits);
        most = std::max(most, bits & 0x7fffffffffffffff);
    }
    return most;
}

template <class T>
void root_row(T* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] = std::sqrt(row[j]);
}

// work(i) for every row, over the threads.
template <class Work>
void for_rows(int64_t rows, int threads, const Work& work) {
    const int64_t parts = std::clamp<int64_t>(threads, 1, std::max<int64_t>(1, rows));
    run_parts(parts, [&](int64_t part) {
        for (int64_t i = rows * part / parts; i < rows * (part + 1) / parts; ++i) work(i);
    });
}

}  // namespace

template <class T>
void norms(const T* x, int64_t rows, int64_t d, T* out, int threads) {
    for_rows(rows, threads, [&](int64_t i) { norm_of(x + i * d, d, out + i); });
}

template <class T>
void paired(const T* x, const T* z, int64_t rows, int64_t d, bool euclidean, double* out, int threads) {
    for_rows(rows, threads, [&](int64_t i) {
        distance_of(x + i * d, z + i * d, d, out + i);
        if (euclidean) out[i] = std::sqrt(out[i]);
    });
}

template <class T>
void finish(Block<T> block, const T* norms_x, const T* norms_z, bool euclidean, int threads) {
    for_rows(block.rows, threads, [&](int64_t i) {
        T* const row = block.at + i * block.stride;
        if (norms_x) {
            finish_row(row, block.columns, norms_x[i], norms_z);
        } else {
            scale_row(row, block.columns);
        }
        if (euclidean) root_row(row, block.columns);
    });
}

void direct(const double* x, const double* z, int64_t d, Block<double> block, bool euclidean, int threads) {
    std::vector<double> columns(static_cast<std::size_t>(d * block.columns));  // by coordinate
    for (int64_t j = 0; j < block.columns; ++j)
        for (int64_t k = 0; k < d; ++k) columns[k * block.columns + j] = z[j * d + k];
    for_rows(block.rows, threads, [&](int64_t i) {
        double* const row = block.at + i * block.stride;
        std::fill_n(row, block.columns, 0.0);
        for (int64_t k = 0; k < d; ++k)
            add_square(row, block.columns, x[i * d + k], columns.data() + k * block.columns);
        if (euclidean) root_row(row, block.columns);
    });
}

template <class T>
Range range_of(const T* x, int64_t count_x, const T* z, int64_t count_z, int64_t d, bool euclidean) {
    const auto bits = std::max(largest_bits(x, count_x), largest_bits(z, count_z));
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
template void finish(Block<float>, const float*, const float*, bool, int);
template void finish(Block<double>, const double*, const double*, bool, int);

}  // namespace loomfast::cost
