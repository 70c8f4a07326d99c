// The arrays of one instance, and how they are laid out in shared memory or in the workspace.
#pragma once

#include "assignment/cuda/team.cuh"

namespace loomfast::cuda {

constexpr Word kEmpty = ~Word{0};  // no label

// Steps of one relaxation along the trees of earlier passes, see forest.cuh.
constexpr int kAncestors = 8;

// Columns of a row that are cheap for it, in the auction: every other costs it `bound` or more, with prices that only
// rise.
constexpr int kCandidates = 64;
struct alignas(16) Candidates {
    unsigned bound;  // 0: no list
    int count;
    int column[kCandidates];
    unsigned cost[kCandidates];
};

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
    Candidates* candidates;        // (rows,) or null, where rows are scanned by several warps
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

struct alignas(16) Ancestors {
    int of[kAncestors];
};

template <class Team>
struct State {
    template <class Value>
    using Array = typename Team::template Array<Value>;

    Board* board;
    int width;                 // of every array, in one place
    Array<Word> words;         // three of (columns,): bids in the auction, labels in the forest
    Array<Int> prices;         // two of (columns,)
    Array<Int> u;              // (rows,) row duals; row minima before the auction
    Array<Word> label;         // (rows,) the label a row was last relaxed with
    Array<Word> best;          // (rows,) the best free column of a root
    Array<int> x;              // (rows,) column of a row, or negative
    Array<int> y;              // (columns,) row of a column, or negative
    Array<int> root;           // (columns,) root of a labelled column; in the auction (rows,) "won last round"
    Array<int> free_lists;     // two of (columns,)
    Array<int> hold;           // (columns,) the row of a tight edge to a column, from an earlier pass; or negative
    Array<Ancestors> ancestors;  // (columns,): the column of that row, the column of its row, ...
    Array<float> limits;       // three of (columns,), one for each of the words: what a path to a column must stay
                               // below, see forest.cuh

    // By arithmetic, not from an array of pointers, which would live in local memory.
    __device__ Array<Word> word(int k) const { return moved(words, static_cast<Int>(k) * width); }
    __device__ Array<Int> price(int k) const { return moved(prices, static_cast<Int>(k) * width); }
    __device__ Array<int> free_list(int k) const { return moved(free_lists, static_cast<Int>(k) * width); }
    __device__ Array<float> limit(int k) const { return moved(limits, static_cast<Int>(k) * width); }
};

constexpr size_t kBytesPerColumn = 8 * 8 + (6 + kAncestors) * 4 + 3 * 4;
constexpr size_t kBoardBytes = (sizeof(Board) + 127) / 128 * 128;

// Columns in whole quads: every array has so many entries, so that all begin on 16 bytes.
__host__ __device__ inline int64_t padded(int64_t columns) { return (columns + 3) / 4 * 4; }

// The part of them that each of 1 << bits blocks holds.
__host__ __device__ inline int64_t padded_share(int64_t columns, int bits) {
    return (((padded(columns) / 4 - 1) >> bits) + 1) * 4;
}

__host__ __device__ inline size_t state_bytes(int64_t columns, int bits = 0) {
    return kBoardBytes + static_cast<size_t>(padded_share(columns, bits)) * kBytesPerColumn;
}

// Where each array begins, in memory of state_bytes().
struct Layout {
    unsigned char* base;
    Int width;

    template <class Value>
    __device__ Value* array(int bytes_before) const {
        return reinterpret_cast<Value*>(base + kBoardBytes + bytes_before * width);
    }
};

template <class Team>
__device__ State<Team> lay_out(const Team& team, unsigned char* base, int columns) {
    const Layout at{base, padded_share(columns, team.spread_bits())};
    State<Team> s;
    s.width = static_cast<int>(at.width);
    s.board = team.of_leader(reinterpret_cast<Board*>(base));
    s.words = team.array(at.template array<Word>(0));
    s.prices = team.array(at.template array<Int>(24));
    s.u = team.array(at.template array<Int>(40));
    s.label = team.array(at.template array<Word>(48));
    s.best = team.array(at.template array<Word>(56));
    s.x = team.array(at.template array<int>(64));
    s.y = team.array(at.template array<int>(68));
    s.root = team.array(at.template array<int>(72));
    s.free_lists = team.array(at.template array<int>(76));
    s.hold = team.array(at.template array<int>(84));
    s.ancestors = team.array(at.template array<Ancestors>(88));
    s.limits = team.array(at.template array<float>(88 + 4 * kAncestors));
    return s;
}

}  // namespace loomfast::cuda
