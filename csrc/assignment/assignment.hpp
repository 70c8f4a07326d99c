// The public C++ interface of the exact assignment solver. Needs neither Python nor any library.
//
// Minimise (or maximise) sum_i c[i][x(i)] over one-to-one matchings x that match min(n, m) pairs of an
// n x m cost matrix. Every solve carries a certificate, dual prices u (rows) and v (columns):
//
//   n <= m:  u_i + v_j <= c_ij for every pair,  v_j <= 0,  v_j = 0 where column j is unmatched, and somewhere;
//   n >  m:  the mirror image,  u_i <= 0,  u_i = 0 where row i is unmatched;
//   maximize reverses every inequality.
//
// Hence sum(u) + sum(v) bounds the optimum, and `gap` = total - sum(u) - sum(v), rounded upward, proves
// how far from optimal the matching can be.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <vector>

namespace loomfast::assignment {

enum class DType : std::uint8_t {
    boolean, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float16, bfloat16, float32, float64
};

// What lessens costs, as they are minimised, before anything else is done with them: each becomes the lesser of itself
// less its offset and of its cap. Caps and offsets are of storage rows or columns.
struct Clip {
    double cap = std::numeric_limits<double>::infinity();
    const double* caps = nullptr;     // of the shorter side, instead of `cap`
    const double* offsets = nullptr;  // of the longer side
    bool whole = true;                // whether these are integers, so that integers stay what they are

    bool uniform() const { return !caps && !offsets; }
};

// A strided matrix of costs that the caller owns. Strides are in bytes. Row i of the problem is row
// i / row_repeats of the matrix: K identical rows can share storage.
struct Cost {
    const void* data = nullptr;
    DType dtype = DType::float64;
    std::int64_t rows = 0, cols = 0;
    std::int64_t row_stride = 0, col_stride = 0;
    std::int64_t row_repeats = 1;
    bool maximize = false;
    const Clip* clip = nullptr;

    std::int64_t problem_rows() const { return rows * row_repeats; }
};

enum class Status : std::uint8_t {
    optimal,           // gap <= 8 n 2^-53 s, s the largest magnitude of the costs matched and their dual prices;
                       // exactly optimal for integers
    within_tolerance,  // stopped early, as `tolerance` allowed
    infeasible,        // no matching avoids the forbidden pairs (+inf, or -inf when maximising)
    invalid_entry,     // NaN, or an infinity of the wrong sign, at (bad_row, bad_col)
    inexact_integers,  // integers with n max|c| >= 2^53 cannot be summed exactly in float64
    cancelled,
    uncertified,       // no proof was found: the costs were changed during the solve
};

// Asks a solve to stop: set `requested` from any thread. `poll`, if set, is called now and then from the
// solving threads and may set it too.
struct Cancel {
    std::atomic<bool> requested{false};
    void (*poll)(Cancel&) = nullptr;

    bool look() {
        if (poll) poll(*this);
        return requested.load(std::memory_order_relaxed);
    }
};

// What each row and column pays that is left unmatched: any matching is allowed then, also none, and `total` includes
// what the unmatched pay; see unmatched.hpp. Finite numbers, but for a limit that allows every pair (+inf, or -inf when
// maximising), with which the problem is the one above.
struct Unmatched {
    double limit = std::numeric_limits<double>::infinity();  // half of it: no pair that is dearer is matched
    const double *rows = nullptr, *cols = nullptr;  // or these, of storage rows and columns; both or none
};

struct Options {
    const Unmatched* unmatched = nullptr;  // complete matchings only, if null
    double tolerance = 0.0;       // may stop once gap <= tolerance * sum_i (mean_j c_ij - min_j c_ij)
    bool round_integers = false;  // take integers beyond 2^53 as the nearest float64 instead of refusing
    // Where to start from, each of them optional: a matching (-1 where a row is free) and dual prices, of
    // which the longer side's are used. Anything may be in them; it changes the time, never the optimum.
    const std::int64_t* start_col4row = nullptr;
    const double *start_u = nullptr, *start_v = nullptr;
    Cancel* cancel = nullptr;
};

// Where the time went. All zero for small problems, which take no longer than reading the clock now and then.
struct Seconds {
    double read = 0.0;     // entries checked, scaled, rounded to float32
    double reduce = 0.0;   // minima of columns and rows, bids without eps
    double auction = 0.0;  // bids with eps
    double repair = 0.0;   // prices lowered after an auction or a start, loose rows freed
    double paths = 0.0;    // shortest augmenting paths, prices of unmatched columns settled
    double certify = 0.0;  // the proof
    double rest = 0.0;     // anything else: the choice of the way, auxiliary problems, the answer written

    double sum() const { return read + reduce + auction + repair + paths + certify + rest; }
};

struct Stats {
    const char* path = "";  // which algorithm decided
    std::int64_t bids = 0, scans = 0, phases = 0, augmentations = 0, releases = 0;
    std::int64_t loose = -1;  // rows that a start left loose; -1 without one
    Seconds seconds;
};

// Where the answer goes: any pointer may be null. Lengths are those of the problem's rows or columns.
struct Output {
    std::int64_t* col4row = nullptr;  // -1 where a row is unmatched
    std::int64_t* row4col = nullptr;  // -1 where a column is unmatched
    double* u = nullptr;
    double* v = nullptr;
    double total = 0.0, gap = std::numeric_limits<double>::infinity();
    Status status = Status::cancelled;
    std::int64_t bad_row = -1, bad_col = -1;
    Stats stats;
};

void solve(const Cost& cost, const Options& options, Output& output);

// Independent problems over `threads` threads, the largest first; the answers do not depend on their number.
void solve_batch(const std::vector<Cost>& costs, const std::vector<Options>& options,
                 std::vector<Output>& outputs, int threads);

struct Solution {
    std::vector<std::int64_t> col4row, row4col;
    std::vector<double> u, v;
    double total = 0.0, gap = 0.0;
    Status status = Status::cancelled;
    Stats stats;
};

// The same with its own storage: the ten-line way in.
Solution solve(const Cost& cost, const Options& options = {});

}  // namespace loomfast::assignment
