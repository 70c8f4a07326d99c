// The solver behind its public C++ interface, with the shim in the place of a GPU. Lets the Python side run as it is.
#include "carry_out.hpp"

namespace lf = loomfast::cuda;

extern "C" size_t shim_workspace(const lf::Problem* problem, const lf::DeviceLimits* limits) {
    return lf::make_plan(*problem, *limits).workspace_bytes() + 128;
}

// Which kernel, its blocks an instance, and how many instances at once.
extern "C" void shim_plan(const lf::Problem* problem, const lf::DeviceLimits* limits, int* found) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    const bool grid = plan.kernel == lf::Kernel::grid;
    found[0] = static_cast<int>(plan.kernel);
    found[1] = plan.cluster ? plan.cluster : grid ? plan.grid / plan.teams : 1;
    found[2] = plan.wide;
}

extern "C" void shim_solve(const lf::Problem* problem, const lf::DeviceLimits* limits, void* workspace) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    lf::carry_out(plan, lf::make_launch(*problem, plan, lf::aligned(static_cast<unsigned char*>(workspace))), {});
}
