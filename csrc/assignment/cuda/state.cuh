// The arrays of one instance, and how they are laid out in shared memory or in the workspace.
#pragma once

#include "assignment/cuda/team.cuh"

namespace loomfast::cuda {

constexpr Word kEmpty = ~Word{0};  // no label

// Steps of one relaxation along the trees of earlier passes, see forest.cuh.
constexpr int kAncestors = 8;

// Rows are the shorter side here, whatever the caller calls them: rows <= columns. Rows from costs.rows on
// are dummies, which make a problem square: whoever is matched to one is unmatched.
template <class T>
struct Instance {
    Costs costs;
    Source<T> source;
    int rows, columns;
    double tolerance;
    bool integers;
    int row_bits;                  // columns < 2^row_bits
    Word label_limit;              // labels at or above it do not fit beside a row
    const int64_t* start_column;   // (rows,) or null
    const int64_t* start_row;      // (columns,) or null: the same matching, seen from the other side
    const double* start_price;     // (columns,) or null; prices are -v
    int64_t* column_of_row;        // outputs
    int64_t* row_of_column;
    double* row_dual;
    double* column_dual;
    double* total;
    double* gap;
    int32_t* status;
    int64_t* counters;

    __device__ bool square() const { return rows == columns; }
    __device__ bool has_dummies() const { return rows > costs.rows; }
};

// c_ij at the precision of this stage.
template <class T>
__device__ Int stage_cost(const Instance<T>& instance, int row, int column, int shift) {
    const Int c = fixed_cost(instance.costs, row, column, instance.source.unit);
    return c == kForbidden ? kForbidden : c >> shift;
}

struct State {
    Board* board;
    int width;       // of every array
    Word* words;     // three of (columns,): bids in the auction, labels in the forest
    Int* prices;     // two of (columns,)
    Int* u;          // (rows,) row duals; row minima before the auction
    Word* label;     // (rows,) the label a row was last relaxed with
    Word* best;      // (rows,) the best free column of a root
    int* x;          // (rows,) column of a row, or negative
    int* y;          // (columns,) row of a column, or negative
    int* root;       // (columns,) root of a labelled column; in the auction (rows,) "won last round"
    int* free_lists; // two of (columns,)
    int* hold;       // (columns,) the row of a tight edge to a column, from an earlier pass; or negative
    int* ancestors;  // (columns, kAncestors): the column of that row, the column of its row, ...
    float* limits;   // three of (columns,), one for each of the words: what a path to a column must stay below, see forest.cuh

    // By arithmetic, not from an array of pointers, which would live in local memory.
    __device__ Word* word(int k) const { return words + static_cast<Int>(k) * width; }
    __device__ Int* price(int k) const { return prices + static_cast<Int>(k) * width; }
    __device__ int* free_list(int k) const { return free_lists + static_cast<Int>(k) * width; }
    __device__ float* limit(int k) const { return limits + static_cast<Int>(k) * width; }
};

constexpr size_t kBytesPerColumn = 8 * 8 + (6 + kAncestors) * 4 + 3 * 4;
constexpr size_t kBoardBytes = (sizeof(Board) + 127) / 128 * 128;

// Columns in whole quads: every array has so many entries, so that all begin on 16 bytes.
__host__ __device__ inline int64_t padded(int64_t columns) { return (columns + 3) / 4 * 4; }

__host__ __device__ inline size_t state_bytes(int64_t columns) {
    return kBoardBytes + static_cast<size_t>(padded(columns)) * kBytesPerColumn;
}

__device__ inline State lay_out(unsigned char* base, int columns) {
    const Int width = padded(columns);
    State s;
    s.width = static_cast<int>(width);
    s.board = reinterpret_cast<Board*>(base);
    Word* words = reinterpret_cast<Word*>(base + kBoardBytes);
    s.words = words;
    s.prices = reinterpret_cast<Int*>(words + 3 * width);
    s.u = reinterpret_cast<Int*>(words + 5 * width);
    s.label = words + 6 * width;
    s.best = words + 7 * width;
    int* ints = reinterpret_cast<int*>(words + 8 * width);
    s.x = ints;
    s.y = ints + width;
    s.root = ints + 2 * width;
    s.free_lists = ints + 3 * width;
    s.hold = ints + 5 * width;
    s.ancestors = ints + 6 * width;
    s.limits = reinterpret_cast<float*>(ints + (6 + kAncestors) * width);
    return s;
}

}  // namespace loomfast::cuda
