// The solver behind its public C++ interface, with the shim in the place of a GPU: what
// csrc/assignment/cuda/assignment.cu does with a stream, done at once. Lets the Python side run as it is.
#include "assignment/cuda/solve.cuh"

#include <cstring>

namespace {

namespace lf = loomfast::cuda;

template <class Quantised>
void solve_grids(const lf::Plan& plan, const lf::Launch& launch) {
    const dim3 grid(static_cast<unsigned>(plan.grid)), block(static_cast<unsigned>(plan.threads));
    for (int64_t k = 0; k < launch.problem.batch; ++k) {
        std::memset(launch.state, 0, sizeof(lf::Board));
        cuda_on_cpu::launch(grid, block, 0, true, [=] { lf::solve_grid<Quantised>(launch, k); }, {});
    }
}

}  // namespace

extern "C" size_t shim_workspace(const lf::Problem* problem, const lf::DeviceLimits* limits) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    return plan.state_bytes + plan.quantised_bytes;
}

extern "C" void shim_solve(const lf::Problem* problem, const lf::DeviceLimits* limits, void* workspace) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    const lf::Launch launch = lf::make_launch(*problem, plan, workspace);
    const dim3 grid(static_cast<unsigned>(plan.grid)), block(static_cast<unsigned>(plan.threads));
    if (plan.blocks) {
        cuda_on_cpu::launch(grid, block, plan.shared_bytes, false, [=] { lf::solve_block<uint16_t>(launch); }, {});
    } else if (plan.wide) {
        solve_grids<int32_t>(plan, launch);
    } else {
        solve_grids<uint16_t>(plan, launch);
    }
}
