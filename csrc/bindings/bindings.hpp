// The only folder that knows Python: arrays in, arrays out, C++ errors to Python errors. One file an operation.
#pragma once

#include <pybind11/pybind11.h>

#include "threads/arithmetic.hpp"

namespace py = pybind11;

// How every call enters the engine: without the GIL, in the engine's own arithmetic.
struct Entered {
    py::gil_scoped_release released;
    loomfast::DefaultArithmetic arithmetic;
};

void bind_assignment(py::module_& m);
void bind_assignment_bottleneck(py::module_& m);
void bind_assignment_cuda(py::module_& m);
void bind_assignment_k_best(py::module_& m);
void bind_assignment_points(py::module_& m);
void bind_assignment_sparse(py::module_& m);
void bind_cost(py::module_& m);
void bind_coupling(py::module_& m);
void bind_dlpack(py::module_& m);
void bind_noise(py::module_& m);
