// The assignment problem on a sparse graph: pairs that are not stored are forbidden.
//
// Minimise (or maximise) the sum of c_ij over the matchings of min(n, m) stored pairs of an n x m matrix. The
// certificate is that of assignment.hpp, with its inequalities on the stored pairs alone. Where there is no
// such matching, the proof is Hall's: lines of the shorter side that have too few neighbours together.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

enum class Layout : std::uint8_t { compressed_rows, compressed_columns, coordinates };

// Indices of the caller's, of 32 or 64 bits.
struct Indices {
    const void* data = nullptr;
    bool wide = true;

    std::int64_t operator[](std::int64_t k) const {
        return wide ? static_cast<const std::int64_t*>(data)[k] : static_cast<const std::int32_t*>(data)[k];
    }
};

// A sparse matrix of costs that the caller owns, contiguous arrays that nobody changes during a call. Stored zeros are
// costs; +inf (-inf when maximising) forbids a pair as its absence does; pairs that are stored more than once cost the
// sum, in float64.
struct SparseCost {
    Layout layout = Layout::compressed_rows;
    const void* data = nullptr;
    DType dtype = DType::float64;
    Indices major;  // where each row (compressed_rows) or column (compressed_columns) begins; or the row of each entry
    Indices minor;  // the column, for compressed_columns the row, of each entry
    std::int64_t rows = 0, cols = 0, entries = 0;
    bool maximize = false;
};

struct SparseOutput : Output {
    // What is wrong with the indices, with status invalid_entry, else "".
    const char* fault = "";
    std::int64_t fault_at = -1;
    // With status infeasible: rows (columns, if there are fewer of them) which have only these neighbours, of
    // which there are fewer than of them.
    std::vector<std::int64_t> crowded, neighbours;
};

// Of the options, `tolerance` is not used: the answer is exact.
void solve_sparse(const SparseCost& cost, const Options& options, SparseOutput& output);

}  // namespace loomfast::assignment
