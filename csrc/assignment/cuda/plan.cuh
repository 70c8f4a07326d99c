// Which kernel solves a problem, with how many threads and how much memory: host code without CUDA calls.
#pragma once

#include "assignment/cuda/warp.cuh"

namespace loomfast::cuda {

constexpr int kThreads = kLargestBlock;  // of a block of the grid and cluster kernels, at most of the block kernel
constexpr int kBlockColumns = 1024;      // up to here one block may solve an instance
constexpr int kWarpsPerBlock = 4;        // at most, of the warp kernel
constexpr int kShortColumns = 2048;      // up to here costs are quantised to 16 bits, and a row is a warp's

// Above that a crew is four warps, so that a block has several rows on their way; of the longest rows, whose bytes are
// what takes time, a block has one.
constexpr int kSquadBits = 2;
constexpr int kBlockBits = 4;
static_assert(32 << kBlockBits == kThreads);
constexpr int kLongColumns = 8192;

// What the kernels are given.
struct Launch {
    Problem problem;
    int label_bits;             // of a path length beside a row in one word; 0: as many as there are
    int crew_bits;              // of the grid kernel, for long rows: 1 << crew_bits warps scan one
    int teams;                  // of that kernel, each with the memory that follows
    GridBarrier* barriers;      // two a team
    unsigned char* state;       // of the grid kernel
    int64_t state_bytes;        // of a team
    unsigned char* lists;       // of the grid kernel, for the longest rows; or null
    int64_t list_bytes;         // of a team
    unsigned char* quantised;   // null: in shared memory
    int64_t quantised_entries;  // of an instance
    int64_t stage_at, quantised_at, held_at;  // in the shared memory of a block of a cluster; 0: not there
    int64_t warp_bytes;         // of shared memory, for an instance of the warp kernel
    unsigned char* slots;       // of the instances: the costs of a dummy, and a copy of the costs
    int64_t slot_bytes;
    int64_t copy_entries;       // of an instance; 0: costs are read as they are
    int64_t zeros_entries;      // of an instance
};

// Who solves an instance: a warp, a block, a team of blocks of a cooperative launch, a cluster of blocks.
enum class Kernel { warp, block, grid, cluster };

struct Plan {
    Kernel kernel;
    int held;                  // columns a lane, if a warp solves an instance; or 0
    bool wide;                 // 32-bit quantised costs instead of 16, several warps a row instead of one
    int crew_bits;             // 1 << that many
    int teams;                 // of the grid kernel
    int cluster;               // blocks of a cluster; or 0
    int grid, threads;
    size_t shared_bytes;       // dynamic, per block
    size_t stage_at, quantised_at, held_at;  // parts of it, of a cluster
    size_t barrier_bytes;      // in the workspace: zero at first
    size_t state_bytes;        // in the workspace, behind that, of each team
    size_t list_bytes;         // in the workspace, behind the states, of each team
    size_t quantised_bytes;    // in the workspace, behind these, of all
    size_t slots_bytes;        // in the workspace, behind the quantised costs

    size_t workspace_bytes() const {
        return barrier_bytes + static_cast<size_t>(teams) * (state_bytes + list_bytes) + quantised_bytes + slots_bytes;
    }
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
    plan->kernel = Kernel::warp;
    plan->held = held;
    plan->threads = warps * 32;
    plan->grid = static_cast<int>((problem.batch + warps - 1) / warps);
    plan->shared_bytes = bytes * static_cast<size_t>(warps);
    return true;
}

// ---- how long an instance takes, roughly -----------------------------------------------------------------------

// What bench/gpu_model.py says of an H100, in its cycles, in so few words that a launcher can ask for every plan: an
// instance of n rows takes kSteps * sqrt(n) steps, each with a barrier, that scan kScans * n rows between them (both
// fitted to bench/gpu_counts.json, img). What a step does between two barriers takes as long as the rows that a crew
// scans one after the other in it. A test compares the choice with that of the whole model.
constexpr double kSteps = 11.0, kScans = 50.0;
constexpr double kScanInstructions = 150.0;  // of a thread for 16 columns, the mean of the three loops
constexpr double kRowEnd = 400.0;            // what follows the scan of a row, and waits
constexpr double kColumnStep = 280.0;        // what a thread does for a column in a step

struct Means {
    double barrier;      // with what it takes to copy what is scanned against
    double latency;      // of a row's costs
    int crew;            // threads that scan a row
};
constexpr Means kOneBlock{68.0, 200.0, 32};
constexpr Means kCluster{680.0, 300.0, 32};     // the costs that are not quantised come from the L2 cache
constexpr Means kHeldCluster{680.0, 60.0, 32};
// Of teams: costs are in the L2 cache while those of all instances at once are, as they are and quantised.
constexpr double kTeamBarrier = 1620.0, kFromL2 = 300.0, kFromMemory = 680.0;
constexpr double kInL2 = 35e6;
inline Means means_of_teams(const Extent& extent, int teams, bool wide) {
    const double entries = static_cast<double>(extent.solved) * static_cast<double>(extent.longer);
    const bool near = teams * entries * (sizeof(float) + (wide ? sizeof(int32_t) : sizeof(uint16_t))) < kInL2;
    const int crew = !wide ? 32 : extent.longer > kLongColumns ? kThreads : 32 << kSquadBits;
    return {kTeamBarrier, near ? kFromL2 : kFromMemory, crew};
}

inline double estimated_cycles(const Extent& extent, const Means& means, int blocks) {
    const double rows = static_cast<double>(extent.solved);
    const double steps = kSteps * sqrt(rows);
    const double rows_a_step = kScans * rows / steps;
    const double crews = static_cast<double>(blocks) * kThreads / means.crew;
    const double busy_warps = (rows_a_step < crews ? rows_a_step : crews) * (means.crew / 32);
    const double warps_a_scheduler = busy_warps / (4 * blocks);
    const double loops = ceil(static_cast<double>(extent.longer) / (16 * means.crew));
    const double alone = means.latency + 2 * kScanInstructions;  // half of them wait for the one before
    const double together = warps_a_scheduler * kScanInstructions;
    const double row = loops * (alone > together ? alone : together) + kRowEnd;
    const double columns = ceil(static_cast<double>(extent.longer) / (blocks * kThreads)) * kColumnStep;
    return steps * (means.barrier + ceil(rows_a_step / crews) * row + columns);
}

// ---- plans -----------------------------------------------------------------------------------------------------

inline size_t whole_lines(size_t bytes) { return (bytes + 255) / 256 * 256; }

// A block per instance; false where its state does not fit into shared memory.
inline bool plan_blocks(const Problem& problem, const DeviceLimits& limits, Plan* plan) {
    const Extent extent = largest_extent(problem);
    const size_t state = state_bytes(extent.longer);
    const size_t quantised = static_cast<size_t>(extent.solved * padded(extent.longer)) * sizeof(uint16_t);
    const size_t available = dynamic_shared(limits);
    if (state > available || extent.longer > kBlockColumns) {
        return false;
    }
    const bool inside = state + quantised <= available;
    const int64_t warps = (extent.longer + 7) / 8;
    plan->kernel = Kernel::block;
    plan->grid = static_cast<int>(problem.batch);
    plan->threads = warps * 32 < kThreads ? static_cast<int>(warps) * 32 : kThreads;
    plan->shared_bytes = state + (inside ? quantised : 0);
    plan->quantised_bytes = inside ? 0 : whole_lines(static_cast<size_t>(problem.batch) * quantised);
    plan->slots_bytes = static_cast<size_t>(problem.batch) * slot_bytes(problem);
    return true;
}

inline size_t bytes_of_lists(const Extent& extent) {
    return whole_lines(static_cast<size_t>(extent.solved) * sizeof(Candidates));
}

// Teams of so many blocks beside each other.
inline void plan_teams(const Problem& problem, int teams, int blocks, Plan* plan, bool wide) {
    const Extent extent = largest_extent(problem);
    const size_t entries = static_cast<size_t>(extent.solved * padded(extent.longer));
    plan->kernel = Kernel::grid;
    plan->wide = wide;
    plan->list_bytes = extent.longer > kLongColumns ? bytes_of_lists(extent) : 0;
    plan->crew_bits = extent.longer > kLongColumns ? kBlockBits : kSquadBits;
    plan->teams = teams;
    plan->grid = teams * blocks;
    plan->threads = kThreads;
    plan->barrier_bytes = static_cast<size_t>(teams) * 2 * sizeof(GridBarrier);
    plan->state_bytes = whole_lines(state_bytes(extent.longer));
    plan->quantised_bytes =
        whole_lines(static_cast<size_t>(teams) * entries * (wide ? sizeof(int32_t) : sizeof(uint16_t)));
    plan->slots_bytes = static_cast<size_t>(teams) * slot_bytes(problem);
}

// A cluster of `blocks` blocks per instance: its share of the state, eight bytes a column for what rows are scanned
// against, its rows quantised, and its rows themselves where they fit; false where they do not without.
inline bool plan_clusters(const Problem& problem, const DeviceLimits& limits, int blocks, Plan* plan) {
    const Extent extent = largest_extent(problem);
    int bits = 0;
    while (1 << bits < blocks) {
        ++bits;
    }
    const size_t width = static_cast<size_t>(padded(extent.longer));
    const size_t rows = static_cast<size_t>(padded_share(extent.solved, bits));
    const size_t quantised = (state_bytes(extent.longer, bits) + 8 * width + 15) / 16 * 16;
    const size_t held = (quantised + rows * width * sizeof(uint16_t) + 15) / 16 * 16;
    const size_t all = held + rows * width * sizeof(float);
    const size_t available = dynamic_shared(limits);
    if (held > available || extent.longer > kShortColumns) {
        return false;
    }
    plan->kernel = Kernel::cluster;
    plan->cluster = blocks;
    plan->grid = static_cast<int>(problem.batch) * blocks;
    plan->threads = kThreads;
    plan->stage_at = state_bytes(extent.longer, bits);
    plan->quantised_at = quantised;
    plan->held_at = all <= available ? held : 0;
    plan->shared_bytes = all <= available ? all : held;
    plan->slots_bytes = static_cast<size_t>(problem.batch) * slot_bytes(problem);
    return true;
}

// The plan of the least estimated time: all give the same results. A batch takes turns where not all fit at once.
inline Plan make_plan(const Problem& problem, const DeviceLimits& limits) {
    Plan best{};
    const auto may = [&](Way way) { return limits.only == 0 || (limits.only & way) != 0; };
    if (may(kByWarps) && plan_warps(problem, limits, &best)) {
        return best;
    }
    const Extent extent = largest_extent(problem);
    const auto turns = [&](int64_t at_once) { return static_cast<double>((problem.batch + at_once - 1) / at_once); };
    double least = INFINITY;
    const auto consider = [&](const Plan& plan, double cycles) {
        if (cycles < least) {
            least = cycles;
            best = plan;
        }
    };
    Plan plan{};
    if (may(kByBlocks) && plan_blocks(problem, limits, &plan)) {
        consider(plan, turns(limits.multiprocessors) * estimated_cycles(extent, kOneBlock, 1));
    }
    for (int size = 0; size < kClusterSizes; ++size) {
        plan = Plan{};
        if (may(kByClusters) && limits.clusters[size] > 0 && plan_clusters(problem, limits, 2 << size, &plan)) {
            const Means& means = plan.held_at ? kHeldCluster : kCluster;
            consider(plan, turns(limits.clusters[size]) * estimated_cycles(extent, means, 2 << size));
        }
    }
    if (!may(kByTeams) && least < INFINITY) {
        return best;
    }
    const bool wide = extent.longer > kShortColumns;
    const int64_t enough = (extent.solved + 31) / 32;
    for (int blocks = limits.multiprocessors; blocks > 0; blocks = (blocks + 1) / 2 < blocks ? (blocks + 1) / 2 : 0) {
        const int used = static_cast<int>(enough < blocks ? enough : blocks);
        const int64_t most = limits.multiprocessors / used;
        const int teams = static_cast<int>(problem.batch < most ? problem.batch : most);
        plan = Plan{};
        plan_teams(problem, teams, used, &plan, wide);
        consider(plan, turns(teams) * estimated_cycles(extent, means_of_teams(extent, teams, wide), used));
    }
    return best;
}

inline Launch make_launch(const Problem& problem, const Plan& plan, void* workspace) {
    const Extent extent = largest_extent(problem);
    Launch launch{};
    launch.problem = problem;
    if (plan.kernel == Kernel::warp) {
        launch.warp_bytes = static_cast<int64_t>(bytes_of_warp(problem, extent, plan.held));
        return launch;
    }
    unsigned char* bytes = static_cast<unsigned char*>(workspace);
    launch.crew_bits = plan.crew_bits;
    launch.teams = plan.teams;
    launch.barriers = reinterpret_cast<GridBarrier*>(bytes);
    bytes += plan.barrier_bytes;
    launch.state = bytes;
    launch.state_bytes = static_cast<int64_t>(plan.state_bytes);
    bytes += static_cast<size_t>(plan.teams) * plan.state_bytes;
    launch.lists = plan.list_bytes ? bytes : nullptr;
    launch.list_bytes = static_cast<int64_t>(plan.list_bytes);
    bytes += static_cast<size_t>(plan.teams) * plan.list_bytes;
    launch.quantised = plan.quantised_bytes ? bytes : nullptr;
    launch.quantised_entries = extent.solved * padded(extent.longer);
    launch.stage_at = static_cast<int64_t>(plan.stage_at);
    launch.quantised_at = static_cast<int64_t>(plan.quantised_at);
    launch.held_at = static_cast<int64_t>(plan.held_at);
    launch.copy_entries = entries_copied(problem);
    launch.zeros_entries = padded(extent.longer);
    launch.slots = bytes + plan.quantised_bytes;
    launch.slot_bytes = static_cast<int64_t>(slot_bytes(problem));
    return launch;
}

}  // namespace loomfast::cuda
