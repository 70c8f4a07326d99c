// The float32 matrix that the fast solver scans.
#pragma once

#include <algorithm>
#include <memory>

#include "assignment/cpu/array.hpp"
#include "assignment/cpu/kernels.hpp"
#include "assignment/cpu/source.hpp"

namespace loomfast::assignment {

// cost[r, j] is c[r, j] - shift(r) - column_shift(j), rounded to float32 unless `exact`. A float32 matrix is read in place
// and has no shifts; a copy is shifted by its rows' minima, or costs close to them, and, where these leave the columns far
// apart, by the columns'.
struct Filter {
    const float* cost = nullptr;
    std::int64_t stride = 0;
    bool exact = true;
    std::unique_ptr<float[]> copy;
    Array<double> row_min;  // of storage rows; 0 where every entry is forbidden
    Array<std::int32_t> row_min_at;  // the first column with the minimum as it is in `cost`; -1 where it was not looked for
    Array<double> row_shift;  // of storage rows,
    bool shifted = false;           // if they have one
    Array<double> column_shift;  // or empty
    // Column minima of c - shift - column_shift, or of c - row_min where rows have no shift, padded with +inf, and rounded; of
    // square problems. Those of others are known only if `columns_apart`, which tells that they make up most of what the
    // rows' minima leave, and are of c - row_min.
    bool columns_apart = false;
    Array<double> column_min;
    Array<float> column_min_f;
    double largest = 0.0;  // finite magnitude of the source
    std::uint64_t fine = 0, coarse = 0;  // which magnitudes occur before the last factor: see RowFacts
    int fine_bits = 64;
    bool forbidden = false;  // whether an entry is +inf
    bool zero = false;       // whether an entry of float64, times the factor, is zero
    bool valid = true;  // no NaN or -inf; else where
    std::int64_t bad_row = -1, bad_col = -1;

    double shift(std::int32_t r) const { return shifted ? row_shift[r] : 0.0; }
    // The least of a storage row's costs less their shift, before any column_shift.
    double row_low(std::int32_t r) const { return row_min[r] - shift(r); }
    double shift_of_column(std::int32_t j) const {
        return column_shift.empty() ? 0.0 : column_shift[j];
    }
};

// Sets the source's factor where its costs are so large or small that sums of them could overflow or underflow.
Filter make_filter(Source& source, const Kernels& kernels);

// Source::tile, faster where columns are arrays of float64.
void read_tile(const Source& source, const Kernels& kernels, std::int64_t r, std::int64_t height, std::int64_t j,
               std::int64_t width, double* out);

// Calls f(storage row, its costs as doubles) for every storage row until it returns false, reading the matrix along
// its memory in blocks that fit a core's cache.
template <class F>
void for_each_row(const Source& source, F&& f) {
    constexpr std::int64_t kBlockEntries = 1 << 16;
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    std::int64_t block = std::clamp(kBlockEntries / std::max(m, std::int64_t{1}), std::int64_t{16}, std::int64_t{64});
    if (!source.column_major() || rows == 1) block = 1;
    Array<double> buffer = filled(m * std::min(block, rows), 0.0);
    for (std::int64_t r = 0; r < rows; r++) {
        const double* row;
        if (block == 1) {
            row = source.row(r * source.row_repeats(), buffer.data());
        } else {
            if (r % block == 0) read_tile(source, kernels(), r, std::min(block, rows - r), 0, m, buffer.data());
            row = buffer.data() + r % block * m;
        }
        if (!f(r, row)) return;
    }
}

}  // namespace loomfast::assignment
