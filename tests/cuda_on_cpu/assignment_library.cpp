// The solver behind its public C++ interface, with the shim in the place of a GPU. Lets the Python side run as it is.
#include "launch_plan.hpp"

namespace lf = loomfast::cuda;

extern "C" size_t shim_workspace(const lf::Problem* problem, const lf::DeviceLimits* limits) {
    return lf::make_plan(*problem, *limits).workspace_bytes() + 128;
}

extern "C" void shim_solve(const lf::Problem* problem, const lf::DeviceLimits* limits, void* workspace) {
    const lf::Plan plan = lf::make_plan(*problem, *limits);
    lf::carry_out(plan, lf::make_launch(*problem, plan, lf::aligned(static_cast<unsigned char*>(workspace))), {});
}
