// The public C++ interface of the CUDA assignment solver: raw device pointers, a stream, and
// workspace that the caller owns. Needs no CUDA header, no torch, no Python.
//
// The certificate is that of assignment.hpp: minimising with rows <= columns, u_i + v_j <= c_ij for
// every pair, v_j <= 0, and v_j = 0 on unmatched columns; mirrored for rows > columns, reversed for
// maximize. `gap` bounds total - optimum and stays on the device with the status.
#pragma once

#include <cstddef>
#include <cstdint>

namespace loomfast::cuda {

enum class CostType : int { float16, bfloat16, float32, float64 };

// What solve() leaves in `status`.
enum Status : int {
    kOptimal = 0,
    kInvalidCost = 1,   // NaN, or an infinity of the wrong sign
    kInfeasible = 2,    // the forbidden pairs leave no complete matching
    kOutOfRange = 3,    // path lengths beyond 64-bit labels: not known to be possible
    kWithinTolerance = 4,
    kInexactIntegers = 5,  // integers with min(rows, columns) * max|c| >= 2^53 cannot be summed exactly
    kInvalidSize = 6,      // rows or columns of an instance that are negative or more than there are
};

// Counters of one solve, in this order, as int64.
enum Counter : int {
    kBarriers, kRounds, kBids, kRepairPasses, kForestPasses, kForestSteps, kRowsRelaxed, kCounters
};

// A batch of problems of one shape. Strides are in elements; row i is row i / row_repeats of the costs. Every
// pointer is a device pointer; the start_* pointers may be null. Outputs are (batch, ...) and contiguous.
struct Problem {
    const void* cost;              // (batch, rows / row_repeats, columns)
    CostType type;
    bool integers;                 // float64 that holds integers: refused where their sums could be inexact
    int64_t batch;
    int64_t rows, columns;         // at most 2^20 each
    int64_t batch_stride, row_stride, column_stride;
    int64_t row_repeats;           // divides rows
    bool maximize;                 // +inf forbids a pair, -inf when maximising
    double tolerance;              // may stop once gap <= tolerance * sum_i (mean_j c_ij - min_j c_ij); square only
    const int64_t* start_col4row;  // (batch, rows); -1 where a row is free; need not be a matching
    const double* start_u;         // (batch, rows), used where rows > columns
    const double* start_v;         // (batch, columns), used elsewhere
    int64_t* col4row;              // (batch, rows), -1 where a row is unmatched
    int64_t* row4col;              // (batch, columns)
    double* u;                     // (batch, rows)
    double* v;                     // (batch, columns)
    double* total;                 // (batch,)
    double* gap;                   // (batch,)
    int32_t* status;               // (batch,) of Status
    int64_t* counters;             // (batch, kCounters)
    const int64_t* sizes_rows;     // (batch,) or null: rows of each problem, at the top left of its costs
    const int64_t* sizes_columns;  // (batch,) or null; outputs past the sizes are -1 and 0
};  // with sizes, row_repeats is 1

// What the launcher must know of the device; device_limits() asks the driver for the current one.
constexpr int kClusterSizes = 4;  // 2, 4, 8 and 16 blocks
struct DeviceLimits {
    int multiprocessors;
    int shared_per_block;         // with opt-in, in bytes
    int clusters[kClusterSizes];  // how many clusters of each size run at the same time, with all of that
    int only;                     // bits of Way that may be planned where they can be, for checks; 0: all
};
enum Way : int { kByWarps = 1, kByBlocks = 2, kByTeams = 4, kByClusters = 8 };

struct Error {
    int code;              // a cudaError_t; 0 is success
    const char* message;
};

// Bytes of device memory that solve() needs for such a problem: by its shape, and by whether its costs are float32 in
// rows that begin on 16 bytes. Others are copied.
size_t workspace_bytes(const Problem& problem, const DeviceLimits& limits);

// Enqueues the solve on `stream` (a cudaStream_t) and returns: no synchronisation, no allocation,
// capturable in a CUDA graph. Nothing in `problem` or `workspace` may be freed before the stream is done.
Error solve(const Problem& problem, const DeviceLimits& limits, void* workspace, void* stream);

Error device_limits(DeviceLimits* limits);

// CUDA versions as 1000 * major + 10 * minor: the newest that the driver here can run (0: there is no driver), and
// that of the runtime in this library.
struct Versions {
    int driver, runtime;
};

Versions versions();

// "75 80 86 89 90 100 120": the architectures whose code this library holds.
const char* architectures();

}  // namespace loomfast::cuda
