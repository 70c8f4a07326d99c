#include "assignment/cuda/assignment_cuda.hpp"

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include <pybind11/stl.h>

#include "bindings/bindings.hpp"

#ifdef LOOMFAST_CUDA_BUILT

namespace {

// Addresses travel as integers: the arrays belong to torch or CuPy, and neither is linked here.
template <class T>
T* at(const py::dict& problem, const char* name) {
    return reinterpret_cast<T*>(problem[name].cast<std::uintptr_t>());
}

loomfast::cuda::Problem cuda_problem(const py::dict& problem) {
    const auto whole = [&](const char* name) { return problem[name].cast<std::int64_t>(); };
    return {at<const void>(problem, "cost"), static_cast<loomfast::cuda::CostType>(whole("type")),
            problem["integers"].cast<bool>(),
            whole("batch"), whole("rows"), whole("columns"),
            whole("batch_stride"), whole("row_stride"), whole("column_stride"), whole("row_repeats"),
            problem["maximize"].cast<bool>(), problem["tolerance"].cast<double>(),
            at<const std::int64_t>(problem, "start_col4row"),
            at<const double>(problem, "start_u"), at<const double>(problem, "start_v"),
            at<std::int64_t>(problem, "col4row"), at<std::int64_t>(problem, "row4col"),
            at<double>(problem, "u"), at<double>(problem, "v"),
            at<double>(problem, "total"), at<double>(problem, "gap"),
            at<std::int32_t>(problem, "status"), at<std::int64_t>(problem, "counters"),
            at<const std::int64_t>(problem, "sizes_rows"), at<const std::int64_t>(problem, "sizes_columns")};
}

void raise_if(const loomfast::cuda::Error& error) {
    if (error.code != 0) {
        throw std::runtime_error(std::string("CUDA: ") + error.message);
    }
}

using Limits = std::tuple<int, int, std::array<int, loomfast::cuda::kClusterSizes>, int>;

// Those of the current device, or those that the caller names: so that a check can have every kernel planned.
loomfast::cuda::DeviceLimits cuda_limits(const std::optional<Limits>& named = {}) {
    loomfast::cuda::DeviceLimits limits{};
    if (!named) {
        raise_if(loomfast::cuda::device_limits(&limits));
        return limits;
    }
    const auto& [multiprocessors, shared, clusters, only] = *named;
    limits = {multiprocessors, shared, {}, only};
    std::copy(clusters.begin(), clusters.end(), limits.clusters);
    return limits;
}

}  // namespace

#endif

void bind_assignment_cuda(py::module_& m) {
#ifdef LOOMFAST_CUDA_BUILT
    m.attr("cuda_architectures") = loomfast::cuda::architectures();
    m.def("cuda_device", [] {
        const auto limits = cuda_limits();
        return py::make_tuple(limits.multiprocessors, limits.shared_per_block);
    });
    m.def("cuda_limits", [] {
        const auto limits = cuda_limits();
        std::array<int, loomfast::cuda::kClusterSizes> clusters;
        std::copy(std::begin(limits.clusters), std::end(limits.clusters), clusters.begin());
        return Limits{limits.multiprocessors, limits.shared_per_block, clusters, limits.only};
    }, "(multiprocessors, bytes of shared memory of a block, clusters of 2, 4, 8 and 16 blocks at the same time, 0).");
    m.def("cuda_versions", [] {
        const auto found = loomfast::cuda::versions();
        return py::make_tuple(found.driver, found.runtime);
    }, "CUDA versions of the driver (0: none) and of the runtime in here, as 1000 * major + 10 * minor.");
    m.def("cuda_assignment_workspace", [](const py::dict& problem, const std::optional<Limits>& limits) {
        return loomfast::cuda::workspace_bytes(cuda_problem(problem), cuda_limits(limits));
    }, py::arg("problem"), py::arg("limits") = py::none());
    m.def("cuda_assignment_solve", [](const py::dict& problem, std::uintptr_t workspace, std::uintptr_t stream,
                                      const std::optional<Limits>& limits) {
        raise_if(loomfast::cuda::solve(cuda_problem(problem), cuda_limits(limits), reinterpret_cast<void*>(workspace),
                                       reinterpret_cast<void*>(stream)));
    }, py::arg("problem"), py::arg("workspace"), py::arg("stream"), py::arg("limits") = py::none());
#else
    m.attr("cuda_architectures") = "";
#endif
}
