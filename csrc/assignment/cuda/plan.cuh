// Which kernel solves a problem, with how many threads and how much memory: host code without CUDA calls.
#pragma once

#include "assignment/cuda/warp.cuh"

namespace loomfast::cuda {

constexpr int kThreads = kLargestBlock;  // of a block of the grid kernel, and at most of the block kernel
constexpr int kBlockColumns = 1024;      // up to here one block may solve an instance
constexpr int kSmallColumns = 256;       // up to here it always does
constexpr int kWarpsPerBlock = 4;      // at most, of the warp kernel
constexpr int kShortColumns = 2048;      // up to here the grid kernel takes 16-bit costs, and a warp a row

// What the kernels are given.
struct Launch {
    Problem problem;
    int label_bits;            // of a path length beside a row in one word; 0: as many as there are
    unsigned char* state;      // of the grid kernel
    unsigned char* quantised;  // null: behind the state in shared memory
    int64_t quantised_entries;  // of an instance
    int64_t warp_bytes;        // of shared memory, for an instance of the warp kernel
    unsigned char* slots;      // of the instances: the costs of a dummy, and a copy of the costs
    int64_t slot_bytes;
    int64_t copy_entries;      // of an instance; 0: costs are read as they are
    int64_t zeros_entries;     // of an instance
};

struct Plan {
    int held;                  // columns a lane, if a warp solves an instance; or 0
    bool blocks;               // a block per instance; otherwise the whole grid on one after the other
    bool wide;                 // 32-bit quantised costs instead of 16, a block a row instead of a warp
    int grid, threads;
    size_t shared_bytes;       // dynamic, per block
    size_t state_bytes;        // in the workspace
    size_t quantised_bytes;    // in the workspace, behind the state
    size_t slots_bytes;        // in the workspace, behind the quantised costs

    size_t workspace_bytes() const { return state_bytes + quantised_bytes + slots_bytes; }
};

// What is left of a block's shared memory beside the static part.
constexpr int kStaticShared = 1536;
inline size_t dynamic_shared(const DeviceLimits& limits) {
    return limits.shared_per_block > kStaticShared ? static_cast<size_t>(limits.shared_per_block - kStaticShared) : 0;
}

// A problem that is nearly square becomes square by dummy rows: its unmatched columns then have prices
// during the auction, which lets epsilon be scaled, and the forest augments many trees a pass. Identical rows
// bid against each other, so this is for few of them.
__host__ __device__ inline int64_t rows_solved(int64_t rows, int64_t columns) { return columns <= rows + rows / 16 ? columns : rows; }

// What an instance, or one as large as any, needs room for: its shorter side, its longer one, and the rows solved.
struct Extent {
    int64_t shorter, longer, solved;
};
inline bool ragged(const Problem& problem) { return problem.sizes_rows || problem.sizes_columns; }
inline Extent largest_extent(const Problem& problem) {
    const bool swapped = problem.rows > problem.columns;
    Extent extent{swapped ? problem.columns : problem.rows, swapped ? problem.rows : problem.columns, 0};
    extent.solved = rows_solved(extent.shorter, extent.longer);
    if (ragged(problem)) {  // some instance may be nearly square
        const int64_t most = extent.shorter + extent.shorter / 16;
        extent.solved = most < extent.longer ? most : extent.longer;
    }
    return extent;
}

// Entries of the copy of one instance's costs, 0 where they can be read four at a time as they are.
inline int64_t entries_copied(const Problem& problem) {
    const Extent extent = largest_extent(problem);
    const bool swapped = problem.rows > problem.columns;
    const int64_t row_stride = swapped ? problem.column_stride : problem.row_stride;
    const int64_t column_stride = swapped ? problem.row_stride : problem.column_stride;
    const bool aligned = reinterpret_cast<uintptr_t>(problem.cost) % 16 == 0 && row_stride % 4 == 0 &&
                         (problem.batch == 1 || problem.batch_stride % 4 == 0);
    const bool whole = extent.longer % 4 == 0 && column_stride == 1 && (!swapped || problem.row_repeats == 1);
    if (problem.type == CostType::float32 && aligned && whole && !ragged(problem)) {
        return 0;
    }
    return (swapped ? extent.shorter : extent.shorter / problem.row_repeats) * padded(extent.longer);
}

// Bytes of a slot of the workspace, see make_instance().
inline size_t slot_bytes(const Problem& problem) {
    const int64_t entries = entries_copied(problem) + padded(largest_extent(problem).longer);
    return static_cast<size_t>(entries) * (problem.type == CostType::float64 ? sizeof(double) + sizeof(float) : sizeof(float));
}

// The shared memory of a warp that solves an instance by itself, and how many columns a lane holds; none for those
// that are too large for it.
constexpr int kWarpRows = 64;
constexpr int kWarpColumns = 128;
inline int columns_held(const Extent& extent) {
    return extent.shorter > kWarpRows || extent.longer > kWarpColumns ? 0 : extent.longer > 64 ? 4 : 2;
}
inline size_t bytes_of_warp(const Problem& problem, const Extent& extent, int held) {
    if (problem.type == CostType::float64) {
        return held == 4 ? warp_bytes<double, 4>(extent.shorter) : warp_bytes<double, 2>(extent.shorter);
    }
    return held == 4 ? warp_bytes<float, 4>(extent.shorter) : warp_bytes<float, 2>(extent.shorter);
}

// As many warps a block as leave no multiprocessor without a block, at most four.
inline bool plan_warps(const Problem& problem, const DeviceLimits& limits, Plan* plan) {
    const Extent extent = largest_extent(problem);
    const int held = columns_held(extent);
    const size_t bytes = held ? bytes_of_warp(problem, extent, held) : 0;
    const size_t available = dynamic_shared(limits);
    if (!held || bytes > available) {
        return false;
    }
    int warps = 1;
    while (warps < kWarpsPerBlock && bytes * warps * 2 <= available && problem.batch >= limits.multiprocessors * warps * 2) {
        warps *= 2;
    }
    plan->held = held;
    plan->threads = warps * 32;
    plan->grid = static_cast<int>((problem.batch + warps - 1) / warps);
    plan->shared_bytes = bytes * static_cast<size_t>(warps);
    return true;
}

inline Plan make_plan(const Problem& problem, const DeviceLimits& limits, bool warps = true) {
    Plan plan{};
    if (warps && plan_warps(problem, limits, &plan)) {
        return plan;
    }
    const Extent extent = largest_extent(problem);
    const int64_t columns = extent.longer;
    const int64_t rows = extent.solved;
    const size_t state = state_bytes(columns);
    const size_t entries = static_cast<size_t>(rows) * static_cast<size_t>(padded(columns));
    const size_t available = dynamic_shared(limits);
    const auto whole_lines = [](size_t bytes) { return (bytes + 255) / 256 * 256; };
    // A batch that keeps a quarter of the multiprocessors busy is better off without grid barriers.
    const bool many = problem.batch * 4 >= limits.multiprocessors;
    plan.blocks = state <= available && columns <= (many ? kBlockColumns : kSmallColumns);
    if (plan.blocks) {
        const bool inside = state + entries * sizeof(uint16_t) <= available;
        const int64_t warps = (columns + 7) / 8;
        plan.grid = static_cast<int>(problem.batch);
        plan.threads = warps * 32 < kThreads ? static_cast<int>(warps) * 32 : kThreads;
        plan.shared_bytes = state + (inside ? entries * sizeof(uint16_t) : 0);
        plan.quantised_bytes = inside ? 0 : whole_lines(static_cast<size_t>(problem.batch) * entries * sizeof(uint16_t));
    } else {
        const int64_t enough = (rows + 31) / 32;
        plan.wide = columns > kShortColumns;
        plan.grid = static_cast<int>(enough < limits.multiprocessors ? enough : limits.multiprocessors);
        plan.threads = kThreads;
        plan.state_bytes = whole_lines(state);
        plan.quantised_bytes = whole_lines(entries * (plan.wide ? sizeof(int32_t) : sizeof(uint16_t)));
    }
    const int64_t copies = plan.blocks ? problem.batch : 1;  // those of a grid use the same, one after the other
    plan.slots_bytes = static_cast<size_t>(copies) * slot_bytes(problem);
    return plan;
}

inline Launch make_launch(const Problem& problem, const Plan& plan, void* workspace) {
    const Extent extent = largest_extent(problem);
    Launch launch{};
    launch.problem = problem;
    if (plan.held) {
        launch.warp_bytes = static_cast<int64_t>(bytes_of_warp(problem, extent, plan.held));
        return launch;
    }
    unsigned char* bytes = static_cast<unsigned char*>(workspace);
    launch.state = plan.blocks ? nullptr : bytes;
    launch.quantised = plan.quantised_bytes ? bytes + plan.state_bytes : nullptr;
    launch.quantised_entries = extent.solved * padded(extent.longer);
    launch.copy_entries = entries_copied(problem);
    launch.zeros_entries = padded(extent.longer);
    launch.slots = bytes + plan.state_bytes + plan.quantised_bytes;
    launch.slot_bytes = static_cast<int64_t>(slot_bytes(problem));
    return launch;
}

}  // namespace loomfast::cuda
