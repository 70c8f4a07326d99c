// A plan carried out by the shim: what csrc/assignment/cuda/assignment.cu does on a stream, done at once.
#pragma once

#include "assignment/cuda/kernels.cuh"

#include <cstring>

namespace loomfast::cuda {

inline void add(cuda_on_cpu::Counters& sum, const cuda_on_cpu::Counters& more) {
    sum.switches += more.switches;
    sum.block_barriers += more.block_barriers;
    sum.grid_barriers += more.grid_barriers;
    sum.cluster_barriers += more.cluster_barriers;
    sum.warp_collectives += more.warp_collectives;
    sum.atomics += more.atomics;
    sum.shared_bytes = std::max(sum.shared_bytes, more.shared_bytes);
}

template <class T>
cuda_on_cpu::Counters carry_out(const Plan& plan, const Launch& launch, const cuda_on_cpu::Schedule& schedule) {
    const bool grid = plan.kernel == Kernel::grid;
    if (grid) {
        std::memset(static_cast<void*>(launch.barriers), 0, plan.barrier_bytes);
    }
    const auto kernel = [&] {
        switch (plan.kernel) {
            case Kernel::warp: return plan.held == 2 ? solve_warp<T, 2>(launch) : solve_warp<T, 4>(launch);
            case Kernel::block: return solve_block<T, uint16_t>(launch);
            case Kernel::cluster: return solve_cluster<T>(launch);
            case Kernel::grid: return plan.wide ? solve_grid<T, int32_t>(launch) : solve_grid<T, uint16_t>(launch);
        }
    };
    return cuda_on_cpu::launch(dim3(static_cast<unsigned>(plan.grid)), dim3(static_cast<unsigned>(plan.threads)),
                               plan.shared_bytes, grid, kernel, schedule,
                               plan.kernel == Kernel::cluster ? static_cast<unsigned>(plan.cluster) : 1);
}

inline cuda_on_cpu::Counters carry_out(const Plan& plan, const Launch& launch, const cuda_on_cpu::Schedule& schedule) {
    return launch.problem.type == CostType::float64 ? carry_out<double>(plan, launch, schedule)
                                                    : carry_out<float>(plan, launch, schedule);
}

// As device memory is.
inline unsigned char* aligned(unsigned char* memory) {
    return memory + (128 - reinterpret_cast<uintptr_t>(memory) % 128) % 128;
}

}  // namespace loomfast::cuda
