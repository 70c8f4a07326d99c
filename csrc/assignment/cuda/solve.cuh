// The whole solve of one instance by one team, and the two kernels that call it.
//
// Versions: 1. auction on quantised costs, repair, forest on exact integer costs, float64 certificate.
// 2. Labels descend old trees (a third fewer dependent steps), dummy rows, tolerance, repeated rows.
// 3. Costs four at a time; a filter in float32 before what is decided in integers; sums ride on the barrier.
#pragma once

#include "assignment/cuda/auction.cuh"
#include "assignment/cuda/certify.cuh"
#include "assignment/cuda/forest.cuh"
#include "assignment/cuda/plan.cuh"

namespace loomfast::cuda {

// Bits that a stage's costs may take so that sums of 2^6 of them still fit beside a row in a label. Longer
// paths are met by starting over with row_bits fewer bits, which no path can overflow.
template <class T>
__device__ int first_shift(const Instance<T>& instance, const Board* board) {
    const int label_bits = 63 - __clzll(static_cast<Int>(instance.label_limit));
    const int cost_bits = board->top < board->low ? 1 : board->top - instance.source.unit + 2;
    return cost_bits > label_bits - 6 ? cost_bits - (label_bits - 6) : 0;
}

// Gives the dummies the lowest columns that no row holds.
template <class Team, class T>
__device__ void place_dummies(Rounds<Team>& rounds, const Instance<T>& instance, const State& s) {
    const int rows = instance.costs.rows;
    rounds.for_each(instance.columns, [&](int j) { s.y[j] = -1; });
    rounds.meet();
    rounds.for_each(rows, [&](int i) {
        if (s.x[i] >= 0) {
            s.y[s.x[i]] = i;
        }
    });
    rounds.meet();
    for (int j = rounds.team.thread() >> 5; j < instance.columns; j += rounds.team.threads() >> 5) {
        if (s.y[j] >= 0) {
            continue;
        }
        unsigned below = 0;
        for (int k = lane_id(); k < j; k += 32) {
            below += s.y[k] < 0;
        }
        const int dummy = rows + static_cast<int>(warp_sum(below));
        if (lane_id() == 0 && dummy < instance.rows) {
            s.x[dummy] = j;
        }
    }
    rounds.meet();
}

// Prices of an earlier solve into price(0), and its matching into x; without a matching, each row takes
// its cheapest column and the lowest row keeps it. Prices beyond the largest cost are not taken: they would
// cost the certificate its last bits. Returns whether so few rows are loose, by more than what
// rounded prices explain, that the auction would only destroy the start.
template <class Team, class T>
__device__ bool warm_start(Rounds<Team>& rounds, const Instance<T>& instance, const State& s) {
    const int unit = instance.source.unit;
    const bool matched = instance.start_column || instance.start_row;
    const int range = s.board->top - unit;
    const Int rounding = range > 32 ? Int{1} << (range - 32) : 0;
    const double largest = ldexp(1.0, range > 0 ? range : 0);
    rounds.for_each(instance.rows, [&](int i) { s.x[i] = -1; });
    rounds.meet();
    rounds.for_each(instance.columns, [&](int j) {
        const double price = instance.start_price ? ldexp(instance.start_price[j], -unit) : 0.0;
        const double signed_price = instance.costs.negate ? price : -price;
        const bool usable = fabs(signed_price) < largest && (instance.square() || signed_price > 0.0);
        s.price(0)[j] = usable ? static_cast<Int>(rint(signed_price)) : 0;
        s.y[j] = instance.rows;
        if (instance.start_row && instance.start_row[j] >= 0 && instance.start_row[j] < instance.costs.rows) {
            atomicMax(&s.x[instance.start_row[j]], j);
        }
    });
    rounds.meet();
    const auto all = [](int, Word*) { return true; };
    for_rows(rounds.team, instance.costs.rows, all, [&](int row, Word, bool owner) {
        Int least = kForbidden;
        Int column = kForbidden;
        for_costs<Team>(instance.source, row, [&](int j, Int c) {
            if (c + s.price(0)[j] < least) {
                least = c + s.price(0)[j];
                column = j;
            }
        });
        const Int best = crew_min<Team>(least);
        const Int cheapest = crew_min<Team>(least == best ? column : kForbidden);
        if (!owner) {
            return;
        }
        if (instance.start_column) {
            const int64_t wanted = instance.start_column[row];
            s.x[row] = wanted >= 0 && wanted < instance.columns ? static_cast<int>(wanted) : -1;
        } else if (!matched) {
            s.x[row] = cheapest == kForbidden ? -1 : static_cast<int>(cheapest);
        }
        const int held = s.x[row];
        const Int own = held >= 0 ? fixed_cost(instance.costs, row, held, unit) : kForbidden;
        if (held >= 0) {
            atomicMin(&s.y[held], row);
        }
        rounds.add(own == kForbidden || own + s.price(0)[held] - best > rounding);
    });
    const Word loose = rounds.meet();
    rounds.for_each(instance.costs.rows, [&](int i) {
        if (s.x[i] >= 0 && s.y[s.x[i]] != i) {
            s.x[i] = -1;
        }
    });
    rounds.meet();
    if (instance.has_dummies()) {
        place_dummies(rounds, instance, s);
    }
    return loose * 5 <= static_cast<Word>(instance.rows) * 2;
}

// Cold: the auction's prices into price(0), at full precision, and its matching into x.
template <class Team, class T, class Quantised>
__device__ void cold_start(Rounds<Team>& rounds, const Instance<T>& instance, const State& s,
                           QuantisedQuad<Quantised>* quantised) {
    reduce_columns(rounds, instance, s);
    reduce_rows(rounds, instance, s);
    const Quantisation q = choose_quantisation<Quantised>(instance, s.board);
    quantise(rounds, instance, s, q, quantised);
    const int now = auction(rounds, instance, s, q, quantised);
    const Word most = q.shift < 60 ? Word{1} << (60 - q.shift) : 1;
    rounds.for_each(instance.columns, [&](int j) {
        const Word price = bid_price(s.word(now)[j]);
        s.price(0)[j] += static_cast<Int>((price < most ? price : most) << q.shift);
    });
}

// Changes the precision of the prices. A rectangular problem's unmatched columns return to 0.
template <class Team, class T>
__device__ void rescale(Rounds<Team>& rounds, const Instance<T>& instance, const State& s, int from, int to) {
    rounds.for_each(instance.columns, [&](int j) { s.y[j] = -1; });
    rounds.meet();
    rounds.for_each(instance.rows, [&](int i) {
        if (s.x[i] >= 0) {
            s.y[s.x[i]] = i;
        }
    });
    rounds.meet();
    rounds.for_each(instance.columns, [&](int j) {
        const Int price = s.price(0)[j];
        const bool stays = instance.square() || s.y[j] >= 0;
        s.price(0)[j] = !stays ? 0 : from > to ? price << (from - to) : price >> (to - from);
    });
}

// Exact prices and matching, from whatever prices and matching there are: coarse costs first where path
// lengths at full precision would not fit into labels. A square problem fits once it is coarse enough; a
// rectangular one loses the prices of the columns that it drops, and is made square if it does not.
template <class Team, class T>
__device__ Status finish(Rounds<Team>& rounds, Instance<T>& instance, const State& s) {
    const int headroom = 63 - __clzll(static_cast<Int>(instance.label_limit)) - instance.row_bits - 2;
    int shift = first_shift(instance, s.board);
    int scale = 0;
    for (bool widened = false;;) {
        rescale(rounds, instance, s, scale, shift);
        scale = shift;
        repair(rounds, instance, s, shift);
        const float of_mirror = ldexpf(instance.source.filter_scale, -shift);
        Forest<Team, T> forest{rounds, instance, s, shift, of_mirror, 0, 0};
        const Growth growth = forest.run();
        if (growth == Growth::infeasible) {
            return kInfeasible;
        }
        if (growth == Growth::overflow) {
            if (widened && instance.square()) {
                return kOutOfRange;
            }
            if (widened) {
                __syncthreads();
                if (threadIdx.x == 0) {
                    instance.rows = instance.columns;
                }
                __syncthreads();
                place_dummies(rounds, instance, s);
                shift = first_shift(instance, s.board) + instance.row_bits;
            }
            widened = true;
            shift += instance.row_bits;
        } else if (shift == 0) {
            return kOptimal;
        } else {
            shift = shift > headroom ? shift - headroom : 0;
        }
    }
}

template <class Team, class T, class Quantised>
__device__ void solve_instance(const Team& team, Instance<T>& instance, const State& s,
                               QuantisedQuad<Quantised>* quantised) {
    Rounds<Team> rounds{team, s.board, block_board(), 0};
    clear_board(team, s.board);
    rounds.begin();
    rounds.for_each(instance.source.quads * 4, [&](int j) {
        instance.source.zeros[j] = j < instance.columns ? T{0} : instance.source.forbidden();
        if constexpr (!Source<T>::exact()) {
            instance.source.mirror_zeros[j] = j < instance.columns ? 0.0f : INFINITY;
        }
    });
    rounds.meet();
    survey(rounds, instance);
    rounds.meet();
    Status status = kOptimal;
    bool copied = false;
    if (s.board->flags & kSawInvalid) {
        status = kInvalidCost;
    } else if (s.board->flags & kSawLargeInteger) {
        status = kInexactIntegers;
    } else {
        if (threadIdx.x == 0) {
            instance.source.set_unit(choose_unit(s.board->top, s.board->low), s.board->low);
        }
        __syncthreads();
        if (instance.source.copied) {
            copy_costs(rounds, instance);
            copied = true;
        }
        const bool started = instance.start_column || instance.start_row || instance.start_price;
        if (!started || !warm_start(rounds, instance, s)) {
            cold_start(rounds, instance, s, quantised);
        }
        find_allowed_gap(rounds, instance);
        status = finish(rounds, instance, s);
        if (status == kOptimal) {
            certify(rounds, instance, s);
        }
    }
    if (status != kOptimal) {
        report_failure(rounds, instance, status);
    }
    if (team.thread() == 0) {
        // Not that of the copy: the counters of the same costs are the same, wherever they lie.
        rounds.mine->counters[kBarriers] = rounds.tick - (copied ? 1 : 0);
        for (int k = 0; k < kCounters; ++k) {
            instance.counters[k] = rounds.mine->counters[k];
        }
    }
}

// What a kernel knows of its instance. It is in shared memory: there are far more pointers than registers.
template <class T>
struct Task {
    Instance<T> instance;
    State state;
};
static_assert(sizeof(BlockBoard) + sizeof(Task<double>) <= kStaticShared);
static_assert(kWarpsPerBlock * sizeof(Instance<double>) <= kStaticShared);

// Of instance k, which side the caller calls rows; false if there are no such sizes.
struct Sides {
    int64_t rows, columns;
    bool valid;
};
__device__ inline Sides sides_of(const Problem& p, int64_t k) {
    const int64_t rows = p.sizes_rows ? p.sizes_rows[k] : p.rows;
    const int64_t columns = p.sizes_columns ? p.sizes_columns[k] : p.columns;
    return {rows, columns, rows >= 0 && rows <= p.rows && columns >= 0 && columns <= p.columns};
}

template <class T>
__device__ Instance<T> make_instance(const Launch& launch, const Sides& sides, int64_t k, int64_t slot) {
    const Problem& p = launch.problem;
    Instance<T> instance;
    const int64_t width = p.type == CostType::float64 ? 8 : p.type == CostType::float32 ? 4 : 2;
    const bool swapped = sides.rows > sides.columns;
    const int rows = static_cast<int>(swapped ? sides.columns : sides.rows);
    const int columns = static_cast<int>(swapped ? sides.rows : sides.columns);
    instance.costs = {static_cast<const char*>(p.cost) + k * p.batch_stride * width,
                      swapped ? p.column_stride : p.row_stride,
                      swapped ? p.row_stride : p.column_stride,
                      rows,
                      columns,
                      static_cast<int>(swapped ? 1 : p.row_repeats),
                      static_cast<int>(swapped ? p.row_repeats : 1),
                      p.type,
                      p.maximize};
    instance.source.costs = instance.costs;
    instance.source.quads = static_cast<int>(padded(columns) / 4);
    instance.source.copied = launch.copy_entries > 0;
    instance.source.stride = instance.source.copied ? Int{instance.source.quads} * 4 : instance.costs.row_stride;
    // A slot of the workspace: zeros and costs as T, and if that is not float, the same again as floats.
    unsigned char* bytes = launch.slots + slot * launch.slot_bytes;
    T* values = reinterpret_cast<T*>(bytes);
    float* mirror = reinterpret_cast<float*>(values + (Source<T>::exact() ? 0 : launch.copy_entries + launch.zeros_entries));
    instance.source.zeros = values;
    instance.source.mirror_zeros = mirror;
    const auto* own = static_cast<const float*>(instance.costs.data);
    instance.source.mirror = instance.source.copied ? mirror + launch.zeros_entries : own;
    if constexpr (Source<T>::exact()) {
        instance.source.values = instance.source.mirror;
    } else {
        instance.source.values = values + launch.zeros_entries;
    }
    instance.rows = static_cast<int>(rows_solved(rows, columns));
    instance.tolerance = p.tolerance;
    instance.integers = p.integers;
    instance.columns = columns;
    instance.row_bits = 1;
    while (columns >> instance.row_bits) {
        ++instance.row_bits;
    }
    // Less a price, a label fits into Int.
    const int label_bits = launch.label_bits ? launch.label_bits : instance.row_bits > 2 ? 64 - instance.row_bits : 62;
    instance.label_limit = (Word{1} << label_bits) - 1;
    const int64_t* start = p.start_col4row ? p.start_col4row + k * p.rows : nullptr;
    instance.start_column = swapped ? nullptr : start;
    instance.start_row = swapped ? start : nullptr;
    const double* start_u = p.start_u ? p.start_u + k * p.rows : nullptr;
    const double* start_v = p.start_v ? p.start_v + k * p.columns : nullptr;
    instance.start_price = swapped ? start_u : start_v;
    instance.column_of_row = swapped ? p.row4col + k * p.columns : p.col4row + k * p.rows;
    instance.row_of_column = swapped ? p.col4row + k * p.rows : p.row4col + k * p.columns;
    instance.row_dual = swapped ? p.v + k * p.columns : p.u + k * p.rows;
    instance.column_dual = swapped ? p.u + k * p.rows : p.v + k * p.columns;
    instance.total = p.total + k;
    instance.gap = p.gap + k;
    instance.status = p.status + k;
    instance.counters = p.counters + k * kCounters;
    return instance;
}

// What is written where there is no instance: past its sides, and everywhere if it has none. True in that case.
__device__ inline bool fill_outside(const Problem& p, const Sides& sides, int64_t k, int thread, int threads) {
    const bool empty = !sides.valid || sides.rows == 0 || sides.columns == 0;
    const double none = sides.valid ? 0.0 : NAN;
    for (int64_t i = (empty ? 0 : sides.rows) + thread; i < p.rows; i += threads) {
        p.col4row[k * p.rows + i] = -1;
        p.u[k * p.rows + i] = none;
    }
    for (int64_t j = (empty ? 0 : sides.columns) + thread; j < p.columns; j += threads) {
        p.row4col[k * p.columns + j] = -1;
        p.v[k * p.columns + j] = none;
    }
    if (empty && thread == 0) {
        p.total[k] = p.gap[k] = none;
        p.status[k] = sides.valid ? kOptimal : kInvalidSize;
        for (int counter = 0; counter < kCounters; ++counter) {
            p.counters[k * kCounters + counter] = 0;
        }
    }
    return empty;
}

template <class T>
__device__ void begin_task(Task<T>& task, const Launch& launch, const Sides& sides, int64_t k, int64_t slot,
                           unsigned char* state) {
    if (threadIdx.x == 0) {
        task.instance = make_instance<T>(launch, sides, k, slot);
        task.state = lay_out(state, task.instance.columns);
    }
    __syncthreads();
}

// A warp per instance, for those of few columns: everything in shared memory.
template <class T, int kHeld>
__global__ void __launch_bounds__(32 * kWarpsPerBlock) solve_warp(Launch launch) {
    LOOMFAST_DYNAMIC_SHARED(shared);
    const int warp = static_cast<int>(threadIdx.x) >> 5;
    const int64_t k = static_cast<int64_t>(blockIdx.x) * (blockDim.x >> 5) + warp;
    if (k >= launch.problem.batch) {
        return;
    }
    const Sides sides = sides_of(launch.problem, k);
    if (fill_outside(launch.problem, sides, k, lane_id(), 32)) {
        return;
    }
    LOOMFAST_SHARED(Instance<T>, instances, [kWarpsPerBlock]);
    if (lane_id() == 0) {
        instances[warp] = make_instance<T>(launch, sides, k, 0);
    }
    __syncwarp();
    solve_by_warp<T, kHeld>(instances[warp], shared + warp * launch.warp_bytes);
}

// A block per instance: the state in shared memory, and the quantised costs while they fit.
template <class T, class Quantised>
__global__ void __launch_bounds__(kThreads, 1) solve_block(Launch launch) {
    LOOMFAST_DYNAMIC_SHARED(shared);
    using Quad = QuantisedQuad<Quantised>;
    const int64_t k = blockIdx.x;
    const Sides sides = sides_of(launch.problem, k);
    if (fill_outside(launch.problem, sides, k, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x))) {
        return;
    }
    LOOMFAST_SHARED(Task<T>, task, );
    begin_task(task, launch, sides, k, k, shared);
    Quad* quantised = launch.quantised
                          ? reinterpret_cast<Quad*>(launch.quantised) + k * (launch.quantised_entries / 4)
                          : reinterpret_cast<Quad*>(shared + state_bytes(task.instance.columns));
    solve_instance(BlockTeam{}, task.instance, task.state, quantised);
}

// All blocks of a cooperative launch on instance k: everything in the workspace.
// Quantised costs of 32 bits go with a block a row, for long rows.
template <class T, class Quantised>
__global__ void __launch_bounds__(kThreads, 1) solve_grid(Launch launch, int64_t k) {
    using Crew = std::conditional_t<sizeof(Quantised) == 4, BlockCrew, WarpCrew>;
    const GridTeam<Crew> team{};
    const Sides sides = sides_of(launch.problem, k);
    if (fill_outside(launch.problem, sides, k, team.thread(), team.threads())) {
        return;
    }
    LOOMFAST_SHARED(Task<T>, task, );
    begin_task(task, launch, sides, k, 0, launch.state);
    solve_instance(team, task.instance, task.state,
                   reinterpret_cast<QuantisedQuad<Quantised>*>(launch.quantised));
}

}  // namespace loomfast::cuda
