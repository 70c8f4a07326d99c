// The solver behind its public C++ interface, with the shim in the place of a GPU: what
// csrc/assignment/cuda/assignment.cu does with a stream, done at once. Lets the Python side run as it is.
#include "assignment/cuda/solve.cuh"

#include <cstring>

namespace {

namespace lf = loomfast::cuda;

template <class T, class Quantised>
void solve_grids(const lf::Plan& plan, const lf::Launch& launch) {
    const dim3 grid(static_cast<unsigned>(plan.grid)), block(static_cast<unsigned>(plan.threads));
    for (int64_t k = 0; k < launch.problem.batch; ++k) {
        std::memset(launch.state, 0, sizeof(lf::Board));
        cuda_on_cpu::launch(grid, block, 0, true, [=] { lf::solve_grid<T, Quantised>(launch, k); }, {});
    }
}

template <class T>
void solve(const lf::Plan& plan, const lf::Launch& launch) {
    const dim3 grid(static_cast<unsigned>(plan.grid)), block(static_cast<unsigned>(plan.threads));
    if (plan.held) {
        const auto kernel = [=] { plan.held == 2 ? lf::solve_warp<T, 2>(launch) : lf::solve_warp<T, 4>(launch); };
        cuda_on_cpu::launch(grid, block, plan.shared_bytes, false, kernel, {});
    } else if (plan.blocks) {
        cuda_on_cpu::launch(grid, block, plan.shared_bytes, false, [=] { lf::solve_block<T, uint16_t>(launch); }, {});
    } else if (plan.wide) {
        solve_grids<T, int32_t>(plan, launch);
    } else {
        solve_grids<T, uint16_t>(plan, launch);
    }
}

}  // namespace

extern "C" size_t shim_workspace(const lf::Problem* problem, const lf::DeviceLimits* limits) {
    return lf::make_plan(*problem, *limits).workspace_bytes() + 128;
}

extern "C" void shim_solve(const lf::Problem* problem, const lf::DeviceLimits* limits, void* workspace) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    auto* memory = static_cast<unsigned char*>(workspace);  // at a whole line, as a GPU's allocators give it
    memory += (128 - reinterpret_cast<uintptr_t>(memory) % 128) % 128;
    const lf::Launch launch = lf::make_launch(*problem, plan, memory);
    if (problem->type == lf::CostType::float64) {
        solve<double>(plan, launch);
    } else {
        solve<float>(plan, launch);
    }
}
