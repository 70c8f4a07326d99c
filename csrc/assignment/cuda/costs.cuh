// Reading costs: any floating type, decoded exactly, in double or in 64-bit fixed point.
//
// The solver computes in integers. A cost is mantissa * 2^exponent; in units of 2^unit it is an
// integer below 2^54, exact when the matrix spans at most 54 bits (every float32 matrix of ordinary
// range does) and truncated by less than one unit otherwise, which keeps the final gap below
// 2 n 2^-54 times the power of two above max|c|: inside the contract's 8 n 2^-53 max|c|.
#pragma once

#include <cmath>
#include <type_traits>

#include "assignment/cuda/assignment_cuda.hpp"
#include "cuda_compat.cuh"

namespace loomfast::cuda {

using Int = long long;            // CUDA's 64-bit atomics are declared for these two names
using Word = unsigned long long;

constexpr int kCostBits = 54;
constexpr Int kForbidden = Int{1} << 62;  // a price, below 2^61 in magnitude, may be added to it

// |value| = mantissa * 2^exponent; an exponent of kInfinite or kInvalid instead marks the pair.
struct Decoded {
    Word mantissa;
    int exponent;
    bool negative;
};
constexpr int kInfinite = 1 << 20;
constexpr int kInvalid = 1 << 21;

struct Costs {
    const void* data;
    Int row_stride, column_stride;
    int rows, columns;
    int row_repeats, column_repeats;  // so many rows, or columns, share storage
    CostType type;
    bool negate;
};

// Splits IEEE bits with the given field widths.
__device__ inline Decoded decode_bits(Word bits, int exponent_bits, int mantissa_bits, bool negate) {
    const Word fraction = bits & ((Word{1} << mantissa_bits) - 1);
    const int biased = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
    const bool negative = ((bits >> (mantissa_bits + exponent_bits)) & 1) != static_cast<Word>(negate);
    const int bias = (1 << (exponent_bits - 1)) - 1 + mantissa_bits;
    if (biased == (1 << exponent_bits) - 1) {
        return {0, fraction || negative ? kInvalid : kInfinite, negative};
    }
    if (biased == 0) {
        return {fraction, 1 - bias, negative};
    }
    return {fraction | Word{1} << mantissa_bits, biased - bias, negative};
}

__device__ inline Decoded decode(const Costs& costs, int row, int column) {
    const int stored_row = costs.row_repeats == 1 ? row : row / costs.row_repeats;
    const int stored_column = costs.column_repeats == 1 ? column : column / costs.column_repeats;
    const Int at = stored_row * costs.row_stride + stored_column * costs.column_stride;
    switch (costs.type) {
        case CostType::float16:
            return decode_bits(static_cast<const uint16_t*>(costs.data)[at], 5, 10, costs.negate);
        case CostType::bfloat16:
            return decode_bits(static_cast<const uint16_t*>(costs.data)[at], 8, 7, costs.negate);
        case CostType::float32:
            return decode_bits(static_cast<const uint32_t*>(costs.data)[at], 8, 23, costs.negate);
        default:
            return decode_bits(static_cast<const uint64_t*>(costs.data)[at], 11, 52, costs.negate);
    }
}

// In units of 2^unit, or kForbidden. Rows past the last stand for leaving a column unmatched, which is free.
__device__ inline Int fixed_cost(const Costs& costs, int row, int column, int unit) {
    if (row >= costs.rows) {
        return 0;
    }
    const Decoded d = decode(costs, row, column);
    if (d.exponent >= kInfinite) {
        return kForbidden;
    }
    const int shift = d.exponent - unit;
    const Word magnitude = shift >= 0 ? d.mantissa << (shift & 63) : -shift > 63 ? 0 : d.mantissa >> -shift;
    return d.negative ? -static_cast<Int>(magnitude) : static_cast<Int>(magnitude);
}

// As a double, exactly; a forbidden pair is +inf.
__device__ inline double exact_cost(const Costs& costs, int row, int column) {
    const Decoded d = decode(costs, row, column);
    if (d.exponent >= kInfinite) {
        return INFINITY;
    }
    const double magnitude = ldexp(static_cast<double>(d.mantissa), d.exponent);
    return d.negative ? -magnitude : magnitude;
}

}  // namespace loomfast::cuda
