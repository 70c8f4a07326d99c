#include "assignment/k_best.hpp"

#include <algorithm>
#include <string>

#include "bindings/solving.hpp"

namespace {

// cost (n, m) with any strides. Returns (col4row (k, n), row4col (k, m), totals (k,), u, v, gap, status, bad_row,
// bad_col).
py::tuple assignment_solve_k_best(const py::array& costs, const std::string& dtype, std::int64_t most, bool maximize) {
    const lap::Cost cost = matrix_of(costs, dtype, maximize);
    py::array_t<double> u(cost.rows), v(cost.cols);
    lap::RankedOutput out;
    run_interruptible([&](lap::Cancel* cancel) {
        lap::Options options;
        options.cancel = cancel;
        lap::solve_k_best(cost, most, options, out);
    });
    const auto count = static_cast<py::ssize_t>(out.totals.size());
    py::array_t<std::int64_t> col4row({count, static_cast<py::ssize_t>(cost.rows)});
    py::array_t<std::int64_t> row4col({count, static_cast<py::ssize_t>(cost.cols)});
    std::fill_n(row4col.mutable_data(), row4col.size(), -1);
    for (py::ssize_t k = 0; k < count; k++) {
        const auto& matching = out.matchings[static_cast<std::size_t>(k)];
        std::copy(matching.begin(), matching.end(), col4row.mutable_data() + k * cost.rows);
        for (std::int64_t i = 0; i < cost.rows; i++)
            if (const std::int64_t j = matching[static_cast<std::size_t>(i)]; j >= 0) row4col.mutable_at(k, j) = i;
    }
    std::copy(out.best_u.begin(), out.best_u.end(), u.mutable_data());
    std::copy(out.best_v.begin(), out.best_v.end(), v.mutable_data());
    return py::make_tuple(col4row, row4col, py::array_t<double>(count, out.totals.data()), u, v, out.gap,
                          status_name(out.status), out.bad_row, out.bad_col);
}

}  // namespace

void bind_assignment_k_best(py::module_& m) {
    m.def("assignment_solve_k_best", &assignment_solve_k_best, py::arg("costs"), py::arg("dtype"), py::arg("k"),
          py::arg("maximize"));
}
