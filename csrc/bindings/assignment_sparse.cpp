#include "assignment/sparse.hpp"

#include <pybind11/stl.h>

#include <string>

#include "bindings/solving.hpp"

namespace {

using OptionalInts = std::optional<py::array_t<std::int64_t, py::array::c_style>>;
using OptionalReals = std::optional<py::array_t<double, py::array::c_style>>;

lap::Layout layout_of(const std::string& name) {
    if (name == "csr") return lap::Layout::compressed_rows;
    if (name == "csc") return lap::Layout::compressed_columns;
    if (name == "coo") return lap::Layout::coordinates;
    throw py::value_error("layout must be csr, csc or coo, got " + name);
}

lap::Indices indices_of(const py::array& array) { return {array.data(), array.itemsize() == 8}; }

// Contiguous arrays: data (e,) of a dtype that the engine reads, major and minor of int32 or int64, start_* of the
// shape of the problem. Returns a dict.
py::dict assignment_solve_sparse(const std::string& layout, const py::array& data, const std::string& dtype,
                                 const py::array& major, const py::array& minor, std::int64_t rows, std::int64_t cols,
                                 bool maximize, bool round_integers, const OptionalInts& start_col4row,
                                 const OptionalReals& start_u, const OptionalReals& start_v) {
    const auto plain = dtype_of(data.dtype().num());
    if (!plain) throw py::type_error("data must be of a dtype that the engine reads, got " + dtype);
    lap::SparseCost cost;
    cost.layout = layout_of(layout);
    cost.data = data.data();
    cost.dtype = dtype == "bfloat16" ? lap::DType::bfloat16 : *plain;
    cost.major = indices_of(major);
    cost.minor = indices_of(minor);
    cost.rows = rows;
    cost.cols = cols;
    cost.entries = data.size();
    cost.maximize = maximize;
    lap::Options options;
    options.round_integers = round_integers;
    if (start_col4row) options.start_col4row = start_col4row->data();
    if (start_u) options.start_u = start_u->data();
    if (start_v) options.start_v = start_v->data();
    py::array_t<std::int64_t> col4row(rows), row4col(cols);
    py::array_t<double> u(rows), v(cols);
    lap::SparseOutput out;
    out.col4row = col4row.mutable_data();
    out.row4col = row4col.mutable_data();
    out.u = u.mutable_data();
    out.v = v.mutable_data();
    run_interruptible([&](lap::Cancel* cancel) {
        options.cancel = cancel;
        lap::solve_sparse(cost, options, out);
    });
    py::dict found, stats;
    stats["path"] = out.stats.path;
    stats["bids"] = out.stats.bids;
    stats["phases"] = out.stats.phases;
    stats["augmentations"] = out.stats.augmentations;
    stats["loose"] = out.stats.loose;
    found["arrays"] = py::make_tuple(col4row, row4col, u, v);
    found["total"] = out.total;
    found["gap"] = out.gap;
    found["status"] = status_name(out.status);
    found["bad"] = py::make_tuple(out.bad_row, out.bad_col);
    found["fault"] = py::make_tuple(out.fault, out.fault_at);
    found["crowded"] = as_array(out.crowded);
    found["neighbours"] = as_array(out.neighbours);
    found["stats"] = stats;
    return found;
}

}  // namespace

void bind_assignment_sparse(py::module_& m) {
    m.def("assignment_solve_sparse", &assignment_solve_sparse, py::arg("layout"), py::arg("data"), py::arg("dtype"),
          py::arg("major"), py::arg("minor"), py::arg("rows"), py::arg("cols"), py::arg("maximize"),
          py::arg("round_integers"), py::arg("start_col4row"), py::arg("start_u"), py::arg("start_v"));
}
