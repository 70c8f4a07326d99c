// The kernels, compiled once a build for all programs that run them.
#include "carry_out.hpp"

#include <cstring>

namespace loomfast::cuda {

template <class T>
static cuda_on_cpu::Counters carry_out_with(const Plan& plan, const Launch& launch,
                                            const cuda_on_cpu::Schedule& schedule) {
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

cuda_on_cpu::Counters carry_out(const Plan& plan, const Launch& launch, const cuda_on_cpu::Schedule& schedule) {
    return launch.problem.type == CostType::float64 ? carry_out_with<double>(plan, launch, schedule)
                                                    : carry_out_with<float>(plan, launch, schedule);
}

}  // namespace loomfast::cuda
