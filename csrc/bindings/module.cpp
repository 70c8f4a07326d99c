#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/bindings.hpp"
#include "simd/target.hpp"

namespace {

namespace simd = loomfast::simd;

std::vector<std::string> instruction_sets() {
    std::vector<std::string> names;
    for (const simd::Target target : simd::targets()) names.emplace_back(simd::name_of(target));
    return names;
}

void use_instruction_set(const std::string& name) {
    const std::vector<simd::Target> targets = simd::targets();
    if (name == "auto") return simd::use(targets.back());
    for (const simd::Target target : targets)
        if (name == simd::name_of(target)) return simd::use(target);
    throw py::value_error("name must be auto or one of instruction_sets(), got " + name);
}

}  // namespace

// The engine's own state is atomic or under a lock, and calls of one Python object at a time are left to their callers.
PYBIND11_MODULE(_engine, m, py::mod_gil_not_used()) {
    m.doc() = "loomfast's C++ engine; the public functions are in the package loomfast";
    m.attr("__version__") = LOOMFAST_VERSION;
    m.def("enter_default_arithmetic", &loomfast::arithmetic::enter,
          "Sets this thread's arithmetic to the engine's; what it was, for leave_default_arithmetic.");
    m.def("leave_default_arithmetic", &loomfast::arithmetic::leave,
          "Sets this thread's arithmetic to what enter_default_arithmetic returned.");
    m.def("instruction_sets", &instruction_sets,
          "Names of the instruction sets that the engine has kernels for and this processor runs, the fastest last.");
    m.def("use_instruction_set", &use_instruction_set, py::arg("name"),
          "For tests and benchmarks: all operations use the named instruction set from now on, in the whole process; "
          "auto is the fastest.");
    bind_assignment(m);
    bind_assignment_bottleneck(m);
    bind_assignment_cuda(m);
    bind_assignment_k_best(m);
    bind_assignment_points(m);
    bind_assignment_sparse(m);
    bind_cost(m);
    bind_coupling(m);
    bind_dlpack(m);
    bind_noise(m);
}
