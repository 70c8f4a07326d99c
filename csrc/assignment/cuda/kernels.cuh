// The kernels: what they are given, made into instances, and teams to solve these.
#pragma once

#include "assignment/cuda/plan.cuh"
#include "assignment/cuda/solve.cuh"

namespace loomfast::cuda {

// What a kernel knows of its instance. It is in shared memory: there are far more pointers than registers.
template <class T, class Team>
struct Task {
    Instance<T> instance;
    State<Team> state;
};
static_assert(sizeof(BlockBoard) + sizeof(Task<double, ClusterTeam>) <= kStaticShared);
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
    instance.candidates = launch.lists ? reinterpret_cast<Candidates*>(launch.lists + slot * launch.list_bytes) : nullptr;
    instance.source.held = instance.source.room = nullptr;
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

template <class T, class Team>
__device__ void begin_task(const Team& team, Task<T, Team>& task, const Launch& launch, const Sides& sides, int64_t k,
                           int64_t slot, unsigned char* state) {
    if (threadIdx.x == 0) {
        task.instance = make_instance<T>(launch, sides, k, slot);
        task.state = lay_out(team, state, task.instance.columns);
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
    using Work = Task<T, BlockTeam>;
    LOOMFAST_SHARED(Work, task, );
    begin_task(BlockTeam{}, task, launch, sides, k, k, shared);
    Quad* quantised = launch.quantised
                          ? reinterpret_cast<Quad*>(launch.quantised) + k * (launch.quantised_entries / 4)
                          : reinterpret_cast<Quad*>(shared + state_bytes(task.instance.columns));
    solve_instance(BlockTeam{}, task.instance, task.state, quantised);
}

// A cooperative launch of teams, each of so many blocks: everything in the workspace. A team solves one instance after
// the other. Quantised costs of 32 bits go with crews of several warps, for long rows.
template <class T, class Quantised>
__global__ void __launch_bounds__(kThreads, 1) solve_grid(Launch launch) {
    using Crew = std::conditional_t<sizeof(Quantised) == 4, SquadCrew, WarpCrew>;
    using Team = GridTeam<Crew>;
    const int number = static_cast<int>(blockIdx.x) % launch.teams;
    Team team{{}, {}, launch.barriers + 2 * number, static_cast<int>(blockIdx.x) / launch.teams,
              static_cast<int>(gridDim.x) / launch.teams, 0};
    using Work = Task<T, Team>;
    LOOMFAST_SHARED(Work, task, );
    if (threadIdx.x == 0) {
        block_board()->crew_bits = launch.crew_bits;
    }
    for (int64_t k = number; k < launch.problem.batch; k += launch.teams) {
        const Sides sides = sides_of(launch.problem, k);
        const int thread = team.first();
        if (fill_outside(launch.problem, sides, k, thread, team.stride())) {
            continue;
        }
        begin_task(team, task, launch, sides, k, number, launch.state + number * launch.state_bytes);
        solve_instance(team, task.instance, task.state,
                       reinterpret_cast<QuantisedQuad<Quantised>*>(launch.quantised) +
                           number * (launch.quantised_entries / 4));
        ++team.turn;
    }
}

// A cluster per instance: in its shared memory are the state, the quantised costs, and the costs where they fit.
template <class T>
__global__ void __launch_bounds__(kThreads, 1) solve_cluster(Launch launch) {
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    LOOMFAST_DYNAMIC_SHARED(shared);
    using Quad = QuantisedQuad<uint16_t>;
    meet_cluster();  // all blocks are there before anyone reads their shared memory
    const int blocks = static_cast<int>(cluster_blocks());
    const int rank = static_cast<int>(cluster_rank());
    const int bits = __ffs(blocks) - 1;
    const int64_t k = blockIdx.x / static_cast<unsigned>(blocks);
    const Sides sides = sides_of(launch.problem, k);
    const int threads = static_cast<int>(blockDim.x);
    if (fill_outside(launch.problem, sides, k, rank * threads + static_cast<int>(threadIdx.x), blocks * threads)) {
        return;
    }
    using Work = Task<T, ClusterTeam>;
    LOOMFAST_SHARED(Work, task, );
    const ClusterTeam team{{}, static_cast<unsigned>(rank), bits, shared + launch.stage_at};
    begin_task(team, task, launch, sides, k, k, shared);
    if (threadIdx.x == 0) {
        Source<T>& source = task.instance.source;
        source.held_bits = bits;
        source.held_rank = team.rank;
        source.room = launch.held_at ? reinterpret_cast<float*>(shared + launch.held_at) : nullptr;
    }
    __syncthreads();
    solve_instance(team, task.instance, task.state, reinterpret_cast<Quad*>(shared + launch.quantised_at));
#endif
}

}  // namespace loomfast::cuda
