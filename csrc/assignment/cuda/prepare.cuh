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
    int shift;   // quantised costs are the integers that stand for costs, >> shift
    double spread;
    double nearest;
};

template <class Team>
__device__ void clear_board(const Team& team, Board* board) {
    if (team.leads()) {
        board->flags = 0;
        board->top = -(1 << 20);
        board->low = 1 << 20;
        board->cheapest = kForbidden;
    }
}

// What is to be known of the bits of costs.
struct Bits {
    unsigned flags = 0;
    int top = -(1 << 20);
    int low = 1 << 20;

    __device__ void note(int exponent_of_top, int exponent_of_low) {
        top = exponent_of_top > top ? exponent_of_top : top;
        low = exponent_of_low < low ? exponent_of_low : low;
    }

    __device__ void note(const Decoded& d, const Costs& costs, bool integers) {
        if (d.exponent >= kInfinite) {
            flags |= d.exponent == kInvalid ? kSawInvalid : kSawForbidden;
        } else if (d.mantissa) {
            note(d.exponent + 64 - __clzll(static_cast<Int>(d.mantissa)),
                 d.exponent + __ffsll(static_cast<Int>(d.mantissa)) - 1);
            if (integers) {
                const double magnitude = ldexp(static_cast<double>(d.mantissa), d.exponent);
                flags |= magnitude * costs.rows >= 0x1p53 ? unsigned{kSawLargeInteger} : 0u;
            }
        }
    }

    // The same for a float, in 32 bits.
    __device__ void note(float cost, bool negate) {
        const unsigned bits = __float_as_uint(cost);
        const unsigned size = bits & 0x7FFFFFFFu;
        if (size >= 0x7F800000u) {
            flags |= size > 0x7F800000u || (bits >> 31 != 0) != negate ? kSawInvalid : kSawForbidden;
        } else if (size) {
            const bool normal = size >= 0x00800000u;
            const unsigned mantissa = normal ? (size & 0x007FFFFFu) | 0x00800000u : size;
            const int exponent = (normal ? static_cast<int>(size >> 23) : 1) - 150;
            note(exponent + 32 - __clz(static_cast<int>(mantissa)), exponent + __ffs(static_cast<int>(mantissa)) - 1);
        }
    }
};

// Finds invalid and forbidden entries and the range of the bits: top and low of the Board.
template <class Team, class T>
__device__ void survey(const Rounds<Team>& rounds, const Instance<T>& instance) {
    Bits bits;
    const Source<T>& source = instance.source;
    rounds.for_each_by_warps(instance.costs.rows, [&](int row) {
        if (!source.copied) {
            const float* costs = source.template mirror_row<Team>(row);
            const int quads = source.quads;
            const bool negate = instance.costs.negate;
#pragma unroll 4
            for (int quad = lane_id(); quad < quads; quad += 32) {
                const float4 c = load4(costs + quad * 4);
                bits.note(c.x, negate);
                bits.note(c.y, negate);
                bits.note(c.z, negate);
                bits.note(c.w, negate);
            }
        } else {
            for (int j = lane_id(); j < instance.columns; j += 32) {
                bits.note(decode(instance.costs, row, j), instance.costs, instance.integers);
            }
        }
    });
    for (int flip = 16; flip; flip >>= 1) {
        bits.note(__shfl_xor_sync(kWarp, bits.top, flip), __shfl_xor_sync(kWarp, bits.low, flip));
        bits.flags |= __shfl_xor_sync(kWarp, bits.flags, flip);
    }
    if (lane_id() == 0) {
        atomicMax(&rounds.board->top, bits.top);
        atomicMin(&rounds.board->low, bits.low);
        if (bits.flags) {
            atomicOr(&rounds.board->flags, bits.flags);
        }
    }
}

// Fills values and mirror, where they are copies.
template <class Team, class T>
__device__ void copy_costs(Rounds<Team>& rounds, const Instance<T>& instance) {
    const Source<T>& source = instance.source;
    T* values = const_cast<T*>(source.values);
    float* mirror = const_cast<float*>(source.mirror);
    const int stored_rows = instance.costs.rows / instance.costs.row_repeats;
    const int width = source.quads * 4;
    rounds.for_each_by_warps(stored_rows, [&](int stored) {
        const int row = stored * instance.costs.row_repeats;
        for (int j = lane_id(); j < width; j += 32) {
            const double c = j < instance.columns ? exact_cost(instance.costs, row, j) : INFINITY;
            const Int at = stored * source.stride + j;
            values[at] = source.sign() * static_cast<T>(c);
            if constexpr (!Source<T>::exact()) {
                const Int units = source.fixed(c, source.first, source.second);
                mirror[at] = units == kForbidden ? INFINITY : float_below(units);
            }
        }
    });
    rounds.meet();
}

// Fills the rows of the mirror that this block of a cluster has room for.
template <class Team, class T>
__device__ void hold_costs(const Rounds<Team>& rounds, Instance<T>& instance) {
    Source<T>& source = instance.source;
    if (!source.room) {
        return;
    }
    rounds.for_each_by_warps(instance.costs.rows, [&](int row) {
        const float* from = source.template mirror_row<Team>(row);
        float* to = source.room + static_cast<Int>(rounds.team.place(row)) * (source.quads * 4);
        for (int quad = lane_id(); quad < source.quads; quad += 32) {
            float c[4];
            load4(from + quad * 4, c);
            store4(to + quad * 4, c);
        }
    });
    __syncthreads();
    if (threadIdx.x == 0) {
        source.held = source.room;
    }
    __syncthreads();
}

// The unit that holds every cost in kCostBits bits; that of the lowest bit if it can.
__device__ inline int choose_unit(int top, int low) {
    if (top < low) {
        return 0;  // all costs are zero or forbidden
    }
    return low > top - kCostBits ? low : top - kCostBits;
}

// p_j = -min_i c_ij into price(0), for problems that were square; a tile of 32 quads and up to 8 rows at a time.
template <class Team, class T>
__device__ void reduce_columns(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s) {
    const bool was_square = instance.costs.rows == instance.columns;
    const auto minimum = s.price(0);
    rounds.for_each(instance.source.quads * 4, [&](int j) {
        minimum[j] = was_square && j < instance.columns ? kForbidden : 0;
    });
    rounds.meet();
    if (!was_square) {
        return;
    }
    constexpr int height = 8;
    const int tiles = (instance.source.quads + 31) / 32;
    const int strips = (instance.rows + height - 1) / height;
    rounds.for_each_by_warps(tiles * strips, [&](int item) {
        const int quad = item % tiles * 32 + lane_id();
        const int first = item / tiles * height;
        if (quad >= instance.source.quads) {
            return;
        }
        Int least[4] = {kForbidden, kForbidden, kForbidden, kForbidden};
#pragma unroll
        for (int down = 0; down < height; ++down) {
            if (first + down < instance.rows) {
                Int c[4];
                SourceRow<Team, T>(instance.source, first + down).fixed_quad(quad, c);
                for (int k = 0; k < 4; ++k) {
                    least[k] = c[k] < least[k] ? c[k] : least[k];
                }
            }
        }
        for (int k = 0; k < 4; ++k) {
            if (least[k] != kForbidden) {
                atomicMin(&minimum[quad * 4 + k], least[k]);
            }
        }
    });
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
template <class Team, class T>
__device__ void reduce_rows(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s) {
    const int lane = lane_id();
    const int stride = instance.costs.rows < 16 ? 1 : instance.costs.rows / 16;
    const int turns = (instance.columns + 31) / 32;
    const auto prices = rounds.team.staged(s.price(0), instance.source.quads);
    rounds.for_each_by_warps(instance.rows, [&](int row) {
        Int least = kForbidden;
        for_costs<Team, WarpCrew>(instance.source, row, [&](int j, Int c) {
            const Int reduced = c + prices[j];
            least = reduced < least ? reduced : least;
        });
        const Int lane_min = least;
        least = warp_min(least);
        least = least == kForbidden ? 0 : least;
        if (lane == 0) {
            s.u[row] = least;
        }
        if (row % stride == 0 && row / stride < 16 && row < instance.costs.rows) {
            double sum = 0.0;
            Int sample = kForbidden;
            for_costs<Team, WarpCrew>(instance.source, row, [&](int j, Int c) {
                const Int reduced = c + prices[j] - least;
                sum += static_cast<double>(reduced);
                sample = sample == kForbidden ? reduced : sample;
            });
            const int chosen = (row + lane) % turns * 32 + lane;
            const Int c = chosen < instance.columns ? stage_cost(instance, row, chosen, 0) : kForbidden;
            sample = c == kForbidden ? sample : c + prices[chosen] - least;
            double spread, nearest;
            measure_row(lane_min == kForbidden ? kForbidden : lane_min - least, sample, sum, instance.columns, &spread,
                        &nearest);
            if (lane == 0) {
                rounds.board->spread[row / stride] = spread;
                rounds.board->nearest[row / stride] = nearest;
            }
        }
    });
    rounds.meet();
}

// Of up to 32 values, by a warp.
__device__ inline double median(const double* values, int count) {
    const int lane = lane_id();
    const double mine = lane < count ? values[lane] : 0.0;
    int below = 0;
    for (int other = 0; other < count; ++other) {
        const double value = __shfl_sync(kWarp, mine, other);
        below += value < mine || (value == mine && other < lane);
    }
    const unsigned middle = __ballot_sync(kWarp, lane < count && below == count / 2);
    return __shfl_sync(kWarp, mine, __ffs(static_cast<int>(middle)) - 1);
}

template <class Quantised, class T>
__device__ Quantisation choose_quantisation(const Instance<T>& instance, const Board* board) {
    const int rows = instance.costs.rows < 16 ? instance.costs.rows : 16;
    Quantisation q;
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

// Four of them, side by side as they are loaded.
template <class Quantised>
struct alignas(4 * sizeof(Quantised)) QuantisedQuad {
    Quantised of[4];
};

template <class Team, class T, class Quantised>
__device__ void quantise(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, const Quantisation& q,
                         QuantisedQuad<Quantised>* quantised) {
    constexpr Int top = QuantisedRange<Quantised>::top;
    const Source<T>& source = instance.source;
    const Int* price = Team::local(rounds.team.staged(s.price(0), source.quads));
    rounds.for_each_by_warps(instance.rows, [&](int row) {
        const SourceRow<Team, T> costs(source, row);
        QuantisedQuad<Quantised>* out = quantised + static_cast<Int>(rounds.team.place(row)) * source.quads;
        const Int own = s.u[row];
#pragma unroll 2
        for (int quad = lane_id(); quad < source.quads; quad += 32) {
            Int c[4], p[4];
            costs.fixed_quad(quad, c);
            load4(price + quad * 4, p);
            QuantisedQuad<Quantised> together;
            for (int k = 0; k < 4; ++k) {
                const Int reduced = c[k] == kForbidden ? top : (c[k] + p[k] - own) >> q.shift;
                together.of[k] = static_cast<Quantised>(reduced < top ? reduced : top);
            }
            out[quad] = together;
        }
    });
}

}  // namespace loomfast::cuda
