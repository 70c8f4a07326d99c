#include "assignment/bottleneck.hpp"

#include <string>

#include "bindings/solving.hpp"

namespace {

// cost (n, m) with any strides. Returns a dict.
py::dict assignment_solve_bottleneck(const py::array& costs, const std::string& dtype, bool maximize, bool then_sum) {
    const lap::Cost cost = matrix_of(costs, dtype, maximize);
    py::array_t<std::int64_t> col4row(cost.rows), row4col(cost.cols);
    py::array_t<double> u(cost.rows), v(cost.cols);
    lap::BottleneckOutput out;
    out.col4row = col4row.mutable_data();
    out.row4col = row4col.mutable_data();
    out.u = u.mutable_data();
    out.v = v.mutable_data();
    std::fill_n(out.col4row, cost.rows, -1);
    std::fill_n(out.row4col, cost.cols, -1);
    std::fill_n(out.u, cost.rows, 0.0);
    std::fill_n(out.v, cost.cols, 0.0);
    run_interruptible([&](lap::Cancel* cancel) {
        lap::Options options;
        options.cancel = cancel;
        lap::solve_bottleneck(cost, then_sum, options, out);
    });
    py::dict found;
    found["arrays"] = py::make_tuple(col4row, row4col, u, v);
    found["total"] = out.total;
    found["gap"] = out.gap;
    found["bottleneck"] = out.bottleneck;
    found["status"] = status_name(out.status);
    found["bad"] = py::make_tuple(out.bad_row, out.bad_col);
    found["crowded"] = as_array(out.crowded);
    found["neighbours"] = as_array(out.neighbours);
    found["path"] = out.stats.path;
    return found;
}

}  // namespace

void bind_assignment_bottleneck(py::module_& m) {
    m.def("assignment_solve_bottleneck", &assignment_solve_bottleneck, py::arg("costs"), py::arg("dtype"),
          py::arg("maximize"), py::arg("then_sum"));
}
