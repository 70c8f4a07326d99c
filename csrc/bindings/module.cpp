#include "bindings/bindings.hpp"

PYBIND11_MODULE(_engine, m) {
    m.doc() = "loomfast's C++ engine; the public functions are in the package loomfast";
    m.attr("__version__") = LOOMFAST_VERSION;
    m.def("enter_default_arithmetic", &loomfast::arithmetic::enter,
          "Sets this thread's arithmetic to the engine's; what it was, for leave_default_arithmetic.");
    m.def("leave_default_arithmetic", &loomfast::arithmetic::leave);
    bind_assignment(m);
    bind_assignment_cuda(m);
    bind_cost(m);
    bind_dlpack(m);
    bind_noise(m);
}
