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

// Rounded towards -infinity and towards +infinity.
__device__ inline float float_below(Int value) { return __ll2float_rd(value); }
__device__ inline float float_above(Int value) { return __ll2float_ru(value); }

// Says where an address points, so that it is read as such and not as one that could be anywhere.
template <class Value>
__device__ Value* global(Value* address) {
#ifdef __CUDACC__
    __builtin_assume(__isGlobal(address));
#endif
    return address;
}
template <class Value>
__device__ Value* of_block(Value* address) {
#ifdef __CUDACC__
    __builtin_assume(__isShared(address));
#endif
    return address;
}

__device__ inline float4 load4(const float* from) { return *reinterpret_cast<const float4*>(from); }
__device__ inline void load4(const Int* from, Int (&to)[4]) {
    const longlong2 low = *reinterpret_cast<const longlong2*>(from);
    const longlong2 high = *reinterpret_cast<const longlong2*>(from + 2);
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
}
__device__ inline void load4(const Word* from, Word (&to)[4]) {
    const ulonglong2 low = *reinterpret_cast<const ulonglong2*>(from);
    const ulonglong2 high = *reinterpret_cast<const ulonglong2*>(from + 2);
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
}

__device__ inline void load4(const float* from, float (&to)[4]) {
    const float4 quad = load4(from);
    to[0] = quad.x;
    to[1] = quad.y;
    to[2] = quad.z;
    to[3] = quad.w;
}
__device__ inline void load4(const double* from, double (&to)[4]) {
    const double2 low = *reinterpret_cast<const double2*>(from);
    const double2 high = *reinterpret_cast<const double2*>(from + 2);
    to[0] = low.x;
    to[1] = low.y;
    to[2] = high.x;
    to[3] = high.y;
}

__device__ inline void load4(const unsigned* from, unsigned (&to)[4]) {
    const uint4 quad = *reinterpret_cast<const uint4*>(from);
    to[0] = quad.x;
    to[1] = quad.y;
    to[2] = quad.z;
    to[3] = quad.w;
}

__device__ inline void store4(unsigned* to, const unsigned (&from)[4]) {
    *reinterpret_cast<uint4*>(to) = {from[0], from[1], from[2], from[3]};
}
__device__ inline void store4(float* to, const float (&from)[4]) {
    *reinterpret_cast<float4*>(to) = {from[0], from[1], from[2], from[3]};
}
__device__ inline void store4(double* to, const double (&from)[4]) {
    reinterpret_cast<double2*>(to)[0] = {from[0], from[1]};
    reinterpret_cast<double2*>(to)[1] = {from[2], from[3]};
}
__device__ inline void store4(Int* to, const Int (&from)[4]) {
    reinterpret_cast<longlong2*>(to)[0] = {from[0], from[1]};
    reinterpret_cast<longlong2*>(to)[1] = {from[2], from[3]};
}

// What the solver scans: rows of costs, four neighbouring columns (a quad) at a time. T is float where float holds
// every cost exactly (16-bit and 32-bit costs), and double otherwise.
//
// The costs are a matrix of T whose rows begin on 16 bytes and end with forbidden pairs up to a whole quad: the
// caller's own where that is so, and a copy where not. The mirror is the same in floats: the costs themselves, and of
// doubles what is no greater than the cost in units of 2^unit. That is enough to tell which pairs cannot matter.
template <class T>
struct Source {
    Costs costs;
    const T* values;
    const float* mirror;
    T* zeros;             // a row of values for the dummies
    float* mirror_zeros;  // and of the mirror
    float* held;          // in a cluster, rows of the mirror in this block's shared memory; or null
    float* room;          // for them
    int held_bits;        // that block holds every so-manieth quad of rows
    unsigned held_rank;
    Int stride;           // of values and of the mirror
    bool copied;          // both are ours to fill
    int quads;
    int unit;             // the rest is of this unit
    T first, second;      // first * second = +-2^-unit, where one T could not hold it
    float filter_scale;   // of the mirror, to units of 2^(unit + coarser)
    float filter_unit;    // 2^-coarser
    int truncated;        // 1 if whole units are not all there is of a cost

    __device__ static constexpr bool exact() { return sizeof(T) == sizeof(float); }

    // The copies of doubles have the sign for minimising, floats are as the caller has them.
    __device__ T sign() const { return exact() && costs.negate ? T{-1} : T{1}; }
    __device__ T forbidden() const { return sign() * T{INFINITY}; }

    // A power of two that is a float: costs of 2^-149 are not scaled by 2^149.
    __device__ void set_unit(int new_unit, int low) {
        unit = new_unit;
        truncated = new_unit > low;
        split_unit(new_unit, &first, &second);
        first = sign() * first;
        const int coarser = exact() && new_unit < -126 ? -126 - new_unit : 0;
        filter_unit = static_cast<float>(ldexp(1.0, -coarser));
        filter_scale = exact() ? static_cast<float>(ldexp(static_cast<double>(sign()), -(new_unit + coarser))) : 1.0f;
    }

    __device__ static void split_unit(int unit, T* first, T* second) {
        *first = static_cast<T>(ldexp(1.0, -unit / 2));
        *second = static_cast<T>(ldexp(1.0, -unit - -unit / 2));
    }

    // As fixed_cost: towards zero. No step of it rounds, but for what is less than one unit.
    __device__ static Int fixed(T cost, T first, T second) {
        const T units = cost * first * second;
        return units < T{INFINITY} ? static_cast<Int>(units) : kForbidden;
    }

    __device__ bool is_held(int row) const {
        return held && (static_cast<unsigned>(row >> 2) & ((1u << held_bits) - 1)) == held_rank;
    }
    __device__ const float* held_row(int row) const {
        return held + static_cast<Int>((row >> (held_bits + 2)) * 4 + (row & 3)) * (quads * 4);
    }
    __device__ Int offset(int row) const { return (costs.row_repeats == 1 ? row : row / costs.row_repeats) * stride; }
    // A row where a member of the team finds it soonest.
    template <class Team>
    __device__ const float* mirror_row(int row) const {
        if constexpr (Team::kHoldsCosts) {
            if (row < costs.rows && is_held(row)) {
                return held_row(row);
            }
        }
        return Team::costs(row < costs.rows ? mirror + offset(row) : mirror_zeros);
    }
    template <class Team>
    __device__ const T* values_row(int row) const {
        if constexpr (Team::kHoldsCosts && exact()) {
            return mirror_row<Team>(row);
        } else {
            return Team::costs(row < costs.rows ? values + offset(row) : zeros);
        }
    }
};

// One row of a Source, with all that a loop over its quads needs at hand.
template <class Team, class T>
struct SourceRow {
    const T* values;
    T first, second;
    int quads;

    __device__ SourceRow(const Source<T>& from, int row)
        : values(from.template values_row<Team>(row)), first(from.first), second(from.second), quads(from.quads) {}

    __device__ Int fixed(T cost) const { return Source<T>::fixed(cost, first, second); }

    // The costs of a quad in units of 2^unit; forbidden past the last column.
    __device__ void fixed_quad(int quad, Int (&out)[4]) const {
        T c[4];
        load4(values + quad * 4, c);
        for (int k = 0; k < 4; ++k) {
            out[k] = fixed(c[k]);
        }
    }

    // That of one column.
    __device__ Int fixed_at(int column) const { return fixed(values[column]); }
};

// Calls body(column, cost) for the columns of this member of a crew of the team whose pair is not forbidden.
template <class Team, class Crew, class T, class Body>
__device__ void for_costs(const Source<T>& source, int row, Body body) {
    const SourceRow<Team, T> costs(source, row);
#pragma unroll 1
    for (int quad = Crew::member(); quad < costs.quads; quad += Crew::members()) {
        Int c[4];
        costs.fixed_quad(quad, c);
        for (int k = 0; k < 4; ++k) {
            if (c[k] != kForbidden) {
                body(quad * 4 + k, c[k]);
            }
        }
    }
}

}  // namespace loomfast::cuda
