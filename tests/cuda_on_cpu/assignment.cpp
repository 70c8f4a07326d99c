// Runs the assignment kernels on problems from a file.
//
//   assignment INPUT OUTPUT SEED ORDER     ORDER: forward, backward or random
//
// INPUT: for each problem a Header, the costs, the start's matching and prices where it has them.
// OUTPUT: for each problem col4row, row4col, u, v, total, gap, status, counters, and the shim's counters.
// tests/test_assignment_cuda.py writes and reads them.
#include "carry_out.hpp"

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace lf = loomfast::cuda;

enum Named : int64_t { block16, grid16, grid32, planned, warp, cluster };

struct Header {
    int64_t kernel, threads, blocks;  // blocks: of a team or a cluster, or the multiprocessors of a planned launch
    int64_t teams, clusters;          // clusters: the most blocks of one that a planned launch may have
    int64_t crew_warps;               // of grid32: a power of two that divides the warps of a block
    int64_t lists;                    // of grid32: rows have lists of columns, however short they are
    int64_t type, batch, rows, columns;
    int64_t batch_stride, row_stride, column_stride, elements;  // of the costs, in elements
    int64_t maximize, has_matching, has_u, has_v;
    int64_t row_repeats, integers, has_sizes;
    int64_t label_bits;           // 0: as many as there are
    int64_t shared_limit;         // bytes a block may have
    double tolerance;
};

template <class T>
std::vector<T> read(std::istream& in, int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    in.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count * sizeof(T)));
    if (!in) {
        throw std::runtime_error("the input ends early");
    }
    return values;
}

template <class T>
void write(std::ostream& out, const std::vector<T>& values) {
    out.write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * sizeof(T)));
}

// Outputs start as garbage that no solve could have written.
template <class T>
std::vector<T> poisoned(int64_t count) {
    std::vector<T> values(static_cast<size_t>(count));
    std::fill_n(reinterpret_cast<unsigned char*>(values.data()), values.size() * sizeof(T), 0xA5);
    return values;
}

// What a planned launch finds: so many multiprocessors, and room for as many clusters as they make up.
lf::DeviceLimits limits_of(const Header& h) {
    lf::DeviceLimits limits{static_cast<int>(h.blocks), static_cast<int>(h.shared_limit), {}};
    for (int size = 0; size < lf::kClusterSizes; ++size) {
        limits.clusters[size] = 2 << size <= h.clusters ? limits.multiprocessors / (2 << size) : 0;
    }
    return limits;
}

// The plan of the launcher, or the kernel that the header names with its own shape.
lf::Plan plan_for(const Header& h, const lf::Problem& problem) {
    const lf::DeviceLimits limits = limits_of(h);
    if (h.kernel == planned || h.kernel == warp) {
        return lf::make_plan(problem, limits);
    }
    lf::Plan plan{};
    bool fits = true;
    if (h.kernel == block16) {
        fits = lf::plan_blocks(problem, limits, &plan);
    } else if (h.kernel == cluster) {
        fits = lf::plan_clusters(problem, limits, static_cast<int>(h.blocks), &plan);
    } else {
        lf::plan_teams(problem, static_cast<int>(h.teams), static_cast<int>(h.blocks), &plan, h.kernel == grid32);
    }
    if (!fits) {
        throw std::runtime_error("the kernel does not take this problem with so much shared memory");
    }
    plan.threads = static_cast<int>(h.threads);
    if (h.kernel == grid32 && h.lists) {
        plan.list_bytes = lf::bytes_of_lists(lf::largest_extent(problem));
    }
    plan.crew_bits = 0;
    while (1 << plan.crew_bits < h.crew_warps) {
        ++plan.crew_bits;
    }
    return plan;
}

void solve(std::istream& in, std::ostream& out, const cuda_on_cpu::Schedule& schedule) {
    const Header h = read<Header>(in, 1)[0];
    const int64_t width = h.type == 3 ? 8 : h.type == 2 ? 4 : 2;
    const auto costs = read<char>(in, h.elements * width);
    const auto matching = read<int64_t>(in, h.has_matching ? h.batch * h.rows : 0);
    const auto start_u = read<double>(in, h.has_u ? h.batch * h.rows : 0);
    const auto start_v = read<double>(in, h.has_v ? h.batch * h.columns : 0);
    const auto sizes = read<int64_t>(in, h.has_sizes ? 2 * h.batch : 0);
    auto col4row = poisoned<int64_t>(h.batch * h.rows);
    auto row4col = poisoned<int64_t>(h.batch * h.columns);
    auto u = poisoned<double>(h.batch * h.rows);
    auto v = poisoned<double>(h.batch * h.columns);
    auto total = poisoned<double>(h.batch);
    auto gap = poisoned<double>(h.batch);
    auto status = poisoned<int32_t>(h.batch);
    auto counters = poisoned<int64_t>(h.batch * lf::kCounters);
    const lf::Problem problem = {costs.data(), static_cast<lf::CostType>(h.type), h.integers != 0,
                                 h.batch, h.rows, h.columns, h.batch_stride, h.row_stride, h.column_stride,
                                 h.row_repeats, h.maximize != 0, h.tolerance,
                                 h.has_matching ? matching.data() : nullptr,
                                 h.has_u ? start_u.data() : nullptr, h.has_v ? start_v.data() : nullptr,
                                 col4row.data(), row4col.data(), u.data(), v.data(), total.data(), gap.data(),
                                 status.data(), counters.data(),
                                 h.has_sizes ? sizes.data() : nullptr,
                                 h.has_sizes ? sizes.data() + h.batch : nullptr};
    const lf::Plan plan = plan_for(h, problem);
    auto workspace = poisoned<unsigned char>(static_cast<int64_t>(plan.workspace_bytes()) + 128);
    lf::Launch launch = lf::make_launch(problem, plan, lf::aligned(workspace.data()));
    if (h.label_bits) {
        launch.label_bits = static_cast<int>(h.label_bits);
    }
    const cuda_on_cpu::Counters shim = lf::carry_out(plan, launch, schedule);
    write(out, col4row);
    write(out, row4col);
    write(out, u);
    write(out, v);
    write(out, total);
    write(out, gap);
    write(out, status);
    write(out, counters);
    write(out, std::vector<uint64_t>{shim.switches, shim.block_barriers, shim.grid_barriers, shim.cluster_barriers,
                                     shim.warp_collectives, shim.atomics, shim.shared_bytes});
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 5) {
        std::puts("usage: assignment INPUT OUTPUT SEED ORDER");
        return 3;
    }
    cuda_on_cpu::Schedule schedule;
    schedule.seed = static_cast<unsigned>(std::stoul(arguments[3]));
    const std::string order = arguments[4];
    schedule.order = order == "forward"    ? cuda_on_cpu::Order::forward
                     : order == "backward" ? cuda_on_cpu::Order::backward
                                           : cuda_on_cpu::Order::random;
    schedule.max_switches = uint64_t{1} << 34;
    try {
        std::ifstream in(arguments[1], std::ios::binary);
        std::ofstream out(arguments[2], std::ios::binary);
        while (in.peek() != std::char_traits<char>::eof()) {
            solve(in, out, schedule);
        }
    } catch (const std::exception& error) {
        std::puts(error.what());
        return 1;
    }
    return 0;
}
