#include "bindings/bindings.hpp"

PYBIND11_MODULE(_engine, m) {
    m.doc() = "loomfast's C++ engine; the public functions are in the package loomfast";
    m.attr("__version__") = LOOMFAST_VERSION;
    bind_assignment(m);
    bind_assignment_cuda(m);
    bind_cost(m);
    bind_dlpack(m);
    bind_noise(m);
}
