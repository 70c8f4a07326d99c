// The inner loops, compiled once for each target and chosen at run time (simd/target.hpp). They work on plain arrays:
// see State. Everything around them (phases, repair, shortest paths) is ordinary C++ in other files.
#pragma once

#include <cstdint>

#include "assignment/assignment.hpp"
#include "simd/target.hpp"

namespace loomfast::assignment {

constexpr int kCacheSize = 48;  // candidates kept per row
constexpr int kPadding = 64;    // readable elements past the end of every working array

// Rounding a price or a sum to float32 moves it by at most 2^-24 of its magnitude. A scan meets two such roundings, of
// the price and of the sum, and a third of the cost where the filter is a copy: 2^-24 (2 |sum| + max |p|) at most, for
// which this times (|sum| + max |p|) has room; float32's denormals are a matter of kDenormal.
constexpr double kScanRounding = 1.3e-7;
constexpr double kDenormal = 0x1p-120;

struct BestTwo {
    double w1, w2;        // least and second least value c_ij + p_j; +inf where there is none
    std::int32_t j1, j2;  // their columns, -1 where there is none
};

struct RowFacts {
    double least;                // +inf where every entry is
    double largest;              // finite magnitude
    bool forbidden;              // whether an entry is +inf
    bool zero;                   // whether one is zero; of float64
    std::uint64_t fine, coarse;  // which magnitudes occur: see note_magnitudes in kernels.simd.cpp
};

// What a solve knows so far, as plain arrays, which Work owns. n rows bid for m columns; value of column j to row i:
// c_ij + p_j.
struct State {
    std::int32_t n, m;
    std::int32_t repeats;    // row i's costs are storage row i / repeats
    const float* costs;      // [n / repeats, m] as the filter has them
    std::int64_t stride;     // elements between rows of `costs`
    double* p;               // [m] prices
    float* pf;               // [m] the same, rounded
    std::int32_t *x, *y;     // row -> column, column -> row; -1 where free
    double price_bound;      // at least max_j |p_j|

    // Candidate cache of each storage row: every column outside it has c_ij + p_j >= bound (up to the
    // rounding that `safe_bound` subtracts), as long as prices do not fall.
    std::int32_t* cache_col;  // [n / repeats, kCacheSize]
    float* cache_cost;        // [n / repeats, kCacheSize]
    std::int32_t* cache_size;
    double* bound;
    float* width;             // how far above a row's best value its candidates reach
    // Where `costs` are rounded, the candidates' own costs, of the storage rows for which they are known.
    double* exact_cost;       // [n / repeats, kCacheSize]; null where `costs` are exact
    char* exact_known;

    std::uint64_t* mask;      // [m / 64 + 2] scratch
    std::int32_t* hit;        // [m + kPadding] scratch
    float* hit_value;         // [m + kPadding] scratch
    // Partitions the first `count` hits so that the `keep` of least value come first; returns the least
    // value of the rest.
    float (*partition)(State&, std::int32_t count, std::int32_t keep);

    std::int64_t bids, scans;
};

struct Kernels {
    // What a row holds; false if that includes NaN or -inf.
    bool (*survey_d)(const double* row, std::int32_t m, RowFacts* facts);
    bool (*survey_f)(const float* row, std::int32_t m, RowFacts* facts);
    // to[i * to_stride + j] = from[j * from_stride + i] for `rows` i and `cols` j.
    void (*turn_d)(const double* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, double* to,
                   std::int64_t to_stride);
    void (*turn_f)(const float* from, std::int64_t from_stride, std::int64_t rows, std::int64_t cols, float* to,
                   std::int64_t to_stride);
    // row - shift - column_shift as floats in `out`; folds these, before they are rounded, into the columns' minima. False
    // if `out` was rounded, or where there is a column_shift. Both arrays of columns may be null, and are padded.
    bool (*convert)(const double* row, double shift, const double* column_shift, std::int32_t m, float* out,
                    double* column_min);
    // Folds `count` rows, each less its shift, into the columns' minima, which are padded.
    void (*fold_min)(const float* rows, std::int64_t stride, const double* shifts, std::int32_t count, std::int32_t m,
                     double* column_min);
    // The first column with row[j] - shift == wanted[j], or -1. `wanted` is padded with anything but +inf.
    std::int32_t (*first_equal)(const float* row, float shift, const float* wanted, std::int32_t m);
    // The first column with row[j] == value, or -1.
    std::int32_t (*first_at)(const float* row, float value, std::int32_t m);
    // At least the second least fl(c_j + pf_j), and nearly always that; +inf where it is, or if in doubt.
    float (*second_least)(const float* row, const float* pf, std::int32_t m);
    // How many columns have fl(c_j + pf_j) <= threshold; `out` gets them, in order, if there are at most `most`. `mask`
    // as in State.
    std::int32_t (*columns_below)(const float* row, const float* pf, std::int32_t m, float threshold,
                                  std::uint64_t* mask, std::int32_t most, std::int32_t* out);
    // Rebuilds the cache of a storage row; `guess` > -inf is tried as its threshold first.
    void (*scan)(State&, std::int32_t storage_row, float guess);
    // One phase of the auction at `eps`: rows on the stack bid until it is empty, `budget` bids are made
    // (returns false, with the rows still free on the stack) or a row has no candidate (returns false).
    bool (*bid_cached)(State&, double eps, std::int32_t* stack, std::int32_t& top, std::int64_t& budget);
    bool (*bid_dense)(State&, double eps, std::int32_t* stack, std::int32_t& top, std::int64_t& budget);
    // One row's best two as the auction sees them: from its cache, rebuilt if need be, or from all of it.
    BestTwo (*bidding_cached)(State&, std::int32_t row);
    BestTwo (*bidding_dense)(State&, std::int32_t row);
    // Augmenting row reduction from row i along the rows that lose their columns, by exact values of caches and without
    // eps, until a free column is taken (returns -1). Returns a row, which has no column, for which caches do not decide,
    // which would have to take a column for nothing, or at which `limit` bids are made.
    std::int32_t (*reduce)(State&, std::int32_t i, std::int64_t& limit);
    // Dijkstra's step over a cache: the columns, and in `at` their distances base + max(0, c_j + p_j - least), that are
    // nearer than d_j and than `limit`. Returns how many.
    std::int32_t (*reach_f)(const std::int32_t* col, const float* cost, std::int32_t size, const double* p, const double* d,
                            double least, double base, double limit, std::int32_t* nearer, double* at);
    std::int32_t (*reach_d)(const std::int32_t* col, const double* cost, std::int32_t size, const double* p, const double* d,
                            double least, double base, double limit, std::int32_t* nearer, double* at);
    // Exact, in double: over a cache, over a whole row.
    BestTwo (*best_two_cached)(const std::int32_t* col, const float* cost, std::int32_t size, const double* p);
    BestTwo (*best_two_cached_d)(const std::int32_t* col, const double* cost, std::int32_t size, const double* p);
    BestTwo (*best_two_f)(const float* row, const double* p, std::int32_t m);
    BestTwo (*best_two_d)(const double* row, const double* p, std::int32_t m);
    // min_j fl(c_j + p_j); `below` tells whether an exact sum lies under it.
    double (*row_min_f)(const float* row, const double* p, std::int32_t m, bool* below);
    double (*row_min_d)(const double* row, const double* p, std::int32_t m, bool* below);
    // Dijkstra's step: d_j = min(d_j, max(c_j + p_j + shift, floor)), predecessor where it fell; returns
    // the least d.
    double (*relax_f)(const float* row, const double* p, double* d, double* predecessor, std::int32_t m,
                      double shift, double floor, double row_index);
    double (*relax_d)(const double* row, const double* p, double* d, double* predecessor, std::int32_t m,
                      double shift, double floor, double row_index);
    // The columns with d_j == value, in order, up to the first free one (y_j < 0). Returns how many; less than 0 if the last
    // one is free.
    std::int32_t (*find)(const double* d, double value, const std::int32_t* y, std::int32_t m, std::int32_t* out);
};

LOOMFAST_DECLARE_TABLES(Kernels, kernels)

}  // namespace loomfast::assignment
