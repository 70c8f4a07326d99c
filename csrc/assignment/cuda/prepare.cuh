// Before the auction: flags and range of the costs, first prices, a robust spread, quantised costs.
#pragma once

#include "assignment/cuda/state.cuh"

namespace loomfast::cuda {

// The auction's costs: (c_ij + p_j - min_j(c_ij + p_j)) >> shift, saturated. 16 bits halve the bytes and
// suffice up to a few thousand rows; 28 bits let epsilon fall further. `spreads` is how many spreads fit.
template <class Quantised>
struct QuantisedRange;
template <>
struct QuantisedRange<uint16_t> {
    static constexpr int top = 65535;
    static constexpr double spreads = 4.0;
};
template <>
struct QuantisedRange<int32_t> {
    static constexpr int top = (1 << 28) - 1;
    static constexpr double spreads = 64.0;
};

// What the phases of the auction need to know, in units of the quantised costs.
struct Quantisation {
    int unit;    // costs are integers in units of 2^unit
    int shift;   // quantised costs are those integers >> shift
    double spread;
    double nearest;
};

template <class Team>
__device__ void clear_board(const Team& team, Board* board) {
    if (team.thread() == 0) {
        board->flags = 0;
        board->top = -(1 << 20);
        board->low = 1 << 20;
        board->cheapest = kForbidden;
        for (int k = 0; k < 3; ++k) {
            board->tally[k] = 0;
        }
        for (int k = 0; k < kCounters; ++k) {
            board->counters[k] = 0;
        }
    }
}

// Finds invalid and forbidden entries and the range of the bits: top and low of the Board.
template <class Team>
__device__ void survey(const Rounds<Team>& rounds, const Instance& instance) {
    unsigned flags = 0;
    int top = -(1 << 20);
    int low = 1 << 20;
    const int lane = lane_id();
    for (int row = rounds.team.thread() >> 5; row < instance.costs.rows; row += rounds.team.threads() >> 5) {
        for (int j = lane; j < instance.columns; j += 32) {
            const Decoded d = decode(instance.costs, row, j);
            if (d.exponent >= kInfinite) {
                flags |= d.exponent == kInvalid ? kSawInvalid : kSawForbidden;
            } else if (d.mantissa) {
                const int first = d.exponent + 64 - __clzll(static_cast<Int>(d.mantissa));
                const int last = d.exponent + __ffsll(static_cast<Int>(d.mantissa)) - 1;
                top = first > top ? first : top;
                low = last < low ? last : low;
                if (instance.integers) {
                    const double magnitude = ldexp(static_cast<double>(d.mantissa), d.exponent);
                    flags |= magnitude * instance.costs.rows >= 0x1p53 ? unsigned{kSawLargeInteger} : 0u;
                }
            }
        }
    }
    for (int flip = 16; flip; flip >>= 1) {
        const int other_top = __shfl_xor_sync(kWarp, top, flip);
        const int other_low = __shfl_xor_sync(kWarp, low, flip);
        top = other_top > top ? other_top : top;
        low = other_low < low ? other_low : low;
        flags |= __shfl_xor_sync(kWarp, flags, flip);
    }
    if (lane == 0) {
        atomicMax(&rounds.board->top, top);
        atomicMin(&rounds.board->low, low);
        if (flags) {
            atomicOr(&rounds.board->flags, flags);
        }
    }
}

// The unit that holds every cost in kCostBits bits; that of the lowest bit if it can.
__device__ inline int choose_unit(const Board* board) {
    if (board->top < board->low) {
        return 0;  // all costs are zero or forbidden
    }
    return board->low > board->top - kCostBits ? board->low : board->top - kCostBits;
}

// p_j = -min_i c_ij into price(0), for problems that were square; a tile of 32 columns and up to 32 rows at a time.
template <class Team>
__device__ void reduce_columns(Rounds<Team>& rounds, const Instance& instance, const State& s, int unit) {
    const bool was_square = instance.costs.rows == instance.columns;
    Int* minimum = s.price(0);
    rounds.for_each(instance.columns, [&](int j) { minimum[j] = was_square ? kForbidden : 0; });
    rounds.meet();
    if (!was_square) {
        return;
    }
    const int tiles = (instance.columns + 31) / 32;
    const int strips = (instance.rows + 31) / 32;
    for (int item = rounds.team.thread() >> 5; item < tiles * strips; item += rounds.team.threads() >> 5) {
        const int j = item % tiles * 32 + lane_id();
        const int first = item / tiles * 32;
        const int end = first + 32 < instance.rows ? first + 32 : instance.rows;
        if (j < instance.columns) {
            Int least = kForbidden;
            for (int row = first; row < end; ++row) {
                const Int c = fixed_cost(instance.costs, row, j, unit);
                least = c < least ? c : least;
            }
            atomicMin(&minimum[j], least);
        }
    }
    rounds.meet();
    rounds.for_each(instance.columns, [&](int j) { minimum[j] = minimum[j] == kForbidden ? 0 : -minimum[j]; });
    rounds.meet();
}

// The share of the row's spread and of its near competition, both robust: 1.6 times the lower quartile
// of 32 columns but no more than the mean, and the tenth smallest of the 32 lane minima.
__device__ inline void measure_row(Int lane_min, Int sample, double sum, int columns, double* spread, double* nearest) {
    const int lane = lane_id();
    int rank_min = 0;
    int rank_sample = 0;
    for (int k = 0; k < 32; ++k) {
        const Int other_min = __shfl_sync(kWarp, lane_min, k);
        const Int other_sample = __shfl_sync(kWarp, sample, k);
        rank_min += other_min < lane_min || (other_min == lane_min && k < lane);
        rank_sample += other_sample < sample || (other_sample == sample && k < lane);
    }
    for (int flip = 16; flip; flip >>= 1) {
        sum += __shfl_xor_sync(kWarp, sum, flip);
    }
    const int width = columns < 32 ? columns : 32;
    const int tenth = width < 10 ? width - 1 : 9;
    const unsigned at_tenth = __ballot_sync(kWarp, rank_min == tenth);
    const unsigned at_quartile = __ballot_sync(kWarp, rank_sample == width / 4);
    const Int tenth_value = __shfl_sync(kWarp, lane_min, __ffs(static_cast<int>(at_tenth)) - 1);
    const Int quartile = __shfl_sync(kWarp, sample, __ffs(static_cast<int>(at_quartile)) - 1);
    const double mean = sum / columns;
    const double robust = 1.6 * static_cast<double>(quartile);
    *spread = robust > 0 && robust < mean ? robust : mean;
    *nearest = static_cast<double>(tenth_value);
}

// Row minima of c + p into u, and the spread of 16 rows onto the Board.
template <class Team>
__device__ void reduce_rows(Rounds<Team>& rounds, const Instance& instance, const State& s, int unit) {
    const int lane = lane_id();
    const int stride = instance.costs.rows < 16 ? 1 : instance.costs.rows / 16;
    for (int row = rounds.team.thread() >> 5; row < instance.rows; row += rounds.team.threads() >> 5) {
        Int least = kForbidden;
        for (int j = lane; j < instance.columns; j += 32) {
            const Int c = fixed_cost(instance.costs, row, j, unit);
            const Int reduced = c == kForbidden ? kForbidden : c + s.price(0)[j];
            least = reduced < least ? reduced : least;
        }
        const Int lane_min = least;
        least = warp_min(least);
        least = least == kForbidden ? 0 : least;
        if (lane == 0) {
            s.u[row] = least;
        }
        if (row % stride == 0 && row / stride < 16 && row < instance.costs.rows) {
            double sum = 0.0;
            Int sample = kForbidden;
            for (int j = lane; j < instance.columns; j += 32) {
                const Int c = fixed_cost(instance.costs, row, j, unit);
                if (c != kForbidden) {
                    const Int reduced = c + s.price(0)[j] - least;
                    sum += static_cast<double>(reduced);
                    sample = j / 32 == (row + lane) % ((instance.columns + 31) / 32) || sample == kForbidden ? reduced
                                                                                                             : sample;
                }
            }
            double spread, nearest;
            measure_row(lane_min == kForbidden ? kForbidden : lane_min - least, sample, sum, instance.columns, &spread,
                        &nearest);
            if (lane == 0) {
                rounds.board->spread[row / stride] = spread;
                rounds.board->nearest[row / stride] = nearest;
            }
        }
    }
    rounds.meet();
}

__device__ inline double median(const double* values, int count) {
    for (int k = 0; k < count; ++k) {
        int below = 0;
        for (int other = 0; other < count; ++other) {
            below += values[other] < values[k] || (values[other] == values[k] && other < k);
        }
        if (below == count / 2) {
            return values[k];
        }
    }
    return 0.0;
}

template <class Quantised>
__device__ Quantisation choose_quantisation(const Instance& instance, const Board* board, int unit) {
    const int rows = instance.costs.rows < 16 ? instance.costs.rows : 16;
    Quantisation q;
    q.unit = unit;
    q.shift = 0;
    q.spread = median(board->spread, rows);
    q.nearest = median(board->nearest, rows);
    for (double range = QuantisedRange<Quantised>::spreads * q.spread; range > QuantisedRange<Quantised>::top;
         range *= 0.5) {
        ++q.shift;
    }
    q.spread = ldexp(q.spread, -q.shift);
    q.nearest = ldexp(q.nearest, -q.shift);
    return q;
}

template <class Team, class Quantised>
__device__ void quantise(Rounds<Team>& rounds, const Instance& instance, const State& s, const Quantisation& q,
                         Quantised* quantised) {
    constexpr Int top = QuantisedRange<Quantised>::top;
    for (int row = rounds.team.thread() >> 5; row < instance.rows; row += rounds.team.threads() >> 5) {
        Quantised* out = quantised + static_cast<Int>(row) * instance.columns;
        for (int j = lane_id(); j < instance.columns; j += 32) {
            const Int c = fixed_cost(instance.costs, row, j, q.unit);
            const Int reduced = c == kForbidden ? top : (c + s.price(0)[j] - s.u[row]) >> q.shift;
            out[j] = static_cast<Quantised>(reduced < top ? reduced : top);
        }
    }
}

}  // namespace loomfast::cuda
