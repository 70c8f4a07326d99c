#include "assignment/assignment.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "bindings/batches.hpp"
#include "bindings/bindings.hpp"
#include "bindings/solving.hpp"

namespace {

namespace lap = loomfast::assignment;

constexpr Py_intptr_t kMostRows = Py_intptr_t{1} << 30;  // and columns: the solver counts them in 32 bits

// A plain two-dimensional ndarray of a dtype and a size the solver reads, or nothing.
std::optional<lap::Cost> plain_matrix(PyObject* object) {
    auto& api = py::detail::npy_api::get();
    if (Py_TYPE(object) != api.PyArray_Type_) return std::nullopt;
    auto* array = py::detail::array_proxy(object);
    if (array->nd != 2) return std::nullopt;
    auto* descr = py::detail::array_descriptor_proxy(array->descr);
    auto dtype = dtype_of(descr->type_num);
    if (std::max(array->dimensions[0], array->dimensions[1]) > kMostRows) return std::nullopt;
    if (!dtype || (descr->byteorder != '=' && descr->byteorder != '|')) return std::nullopt;
    return lap::Cost{array->data,       *dtype, array->dimensions[0], array->dimensions[1], array->strides[0],
                     array->strides[1], 1,      false};
}

PyObject* new_int64_array(Py_ssize_t length) {
    auto& api = py::detail::npy_api::get();
    Py_intptr_t shape[1] = {length};
    return api.PyArray_NewFromDescr_(api.PyArray_Type_,
                                     api.PyArray_DescrFromType_(py::detail::npy_api::NPY_INT64_), 1, shape,
                                     nullptr, nullptr, 0, nullptr);
}

std::int64_t* int64_data(PyObject* array) {
    return reinterpret_cast<std::int64_t*>(py::detail::array_proxy(array)->data);
}

// scipy's contract: sorted row indices and their columns.
PyObject* matched_pairs(const lap::Cost& cost) {
    std::int64_t size = std::min(cost.rows, cost.cols);
    auto rows = py::reinterpret_steal<py::object>(new_int64_array(size));
    auto cols = py::reinterpret_steal<py::object>(new_int64_array(size));
    if (!rows || !cols) throw py::error_already_set();
    std::int64_t *row = int64_data(rows.ptr()), *col = int64_data(cols.ptr());
    std::vector<std::int64_t> by_row(cost.rows > cost.cols ? static_cast<std::size_t>(cost.rows) : 0);
    lap::Output out;
    out.col4row = by_row.empty() ? col : by_row.data();
    lap::Options options;
    options.round_integers = true;
    if (cost.rows * cost.cols <= 1024) {
        lap::solve(cost, options, out);
    } else {
        run_interruptible([&](lap::Cancel* cancel) {
            options.cancel = cancel;
            lap::solve(cost, options, out);
        });
    }
    if (out.status == lap::Status::invalid_entry)
        throw py::value_error("matrix contains invalid numeric entries");
    if (out.status == lap::Status::infeasible) throw py::value_error("cost matrix is infeasible");
    if (out.status == lap::Status::uncertified) throw py::value_error("cost changed while it was being solved");
    if (by_row.empty()) {
        for (std::int64_t i = 0; i < size; i++) row[i] = i;
    } else {
        for (std::int64_t i = 0, k = 0; i < cost.rows; i++)
            if (by_row[static_cast<std::size_t>(i)] >= 0) {
                row[k] = i;
                col[k++] = by_row[static_cast<std::size_t>(i)];
            }
    }
    return PyTuple_Pack(2, rows.ptr(), cols.ptr());
}

constexpr const char* kLinearSumAssignmentDoc = R"(linear_sum_assignment(cost_matrix, maximize=False)
--

Solve the linear sum assignment problem: scipy.optimize.linear_sum_assignment, faster.

Parameters
----------
cost_matrix : array_like, (n, m)
    Costs of any real dtype: ndarray, torch tensor, nested lists, or anything with ``__array__`` or
    ``__dlpack__``. ``+inf`` forbids a pair (``-inf`` when maximising).
maximize : bool
    Maximise the sum instead.

Returns
-------
row_ind, col_ind : int64 arrays, (min(n, m),)
    Matched pairs, ``row_ind`` sorted. A torch tensor gives torch tensors on its device.

Raises
------
ValueError
    ``cost_matrix`` is not two-dimensional, holds NaN or ``-inf``, or has no feasible matching.
TypeError
    Its dtype cannot be cast safely to float64.

``loomfast.solve`` also gives dual prices and a certified gap.)";

PyObject* linear_sum_assignment(PyObject*, PyObject* const* args, Py_ssize_t nargs, PyObject* kwnames) {
    PyObject* given[2] = {nullptr, nullptr};
    static const char* names[2] = {"cost_matrix", "maximize"};
    Py_ssize_t keywords = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (nargs + keywords > 2)
        return PyErr_Format(PyExc_TypeError, "linear_sum_assignment() takes at most 2 arguments (%zd given)",
                            nargs + keywords);
    for (Py_ssize_t k = 0; k < nargs; k++) given[k] = args[k];
    for (Py_ssize_t k = 0; k < keywords; k++) {
        PyObject* name = PyTuple_GET_ITEM(kwnames, k);
        int slot = PyUnicode_CompareWithASCIIString(name, names[0]) == 0   ? 0
                   : PyUnicode_CompareWithASCIIString(name, names[1]) == 0 ? 1
                                                                           : -1;
        if (slot < 0 || given[slot])
            return PyErr_Format(PyExc_TypeError, "linear_sum_assignment() got an unexpected or repeated "
                                "argument '%U'", name);
        given[slot] = args[nargs + k];
    }
    if (!given[0])
        return PyErr_Format(PyExc_TypeError, "linear_sum_assignment() is missing 'cost_matrix'");
    int maximize = given[1] ? PyObject_IsTrue(given[1]) : 0;
    if (maximize < 0) return nullptr;
    try {
        if (auto cost = plain_matrix(given[0])) {
            cost->maximize = maximize != 0;
            return matched_pairs(*cost);
        }
        py::object general = py::module_::import("loomfast.assignment").attr("_linear_sum_assignment_of_any");
        return general(py::handle(given[0]), maximize != 0).release().ptr();
    } catch (py::error_already_set& error) {
        error.restore();
    } catch (const py::builtin_exception& error) {
        error.set_error();
    } catch (const std::bad_alloc&) {
        PyErr_NoMemory();
    }
    return nullptr;
}

py::dict as_dict(const lap::Stats& stats) {
    py::dict d;
    d["path"] = stats.path;
    d["bids"] = stats.bids;
    d["scans"] = stats.scans;
    d["phases"] = stats.phases;
    d["augmentations"] = stats.augmentations;
    d["releases"] = stats.releases;
    d["loose"] = stats.loose;
    const lap::Seconds& seconds = stats.seconds;
    if (seconds.sum() > 0.0) {
        py::dict phases;
        phases["read"] = seconds.read;
        phases["reduce"] = seconds.reduce;
        phases["auction"] = seconds.auction;
        phases["repair"] = seconds.repair;
        phases["paths"] = seconds.paths;
        phases["certify"] = seconds.certify;
        phases["rest"] = seconds.rest;
        d["seconds"] = phases;
    }
    return d;
}

// costs (n, m) or (b, n, m) with any strides, or a list of pairs (matrix, name of its dtype), whose results are padded to the largest;
// start_* are C-contiguous, padded like the results, or None. `sizes`: None, or per problem of an array its (rows, columns),
// int64 (b,) or None; `unmatched`: None, or (limit, rows, columns) as in lap::Unmatched, the latter (b, n) and (b, m) or
// None. Returns the arrays of the result, total and gap, with a batch axis unless there is one matrix, and per problem
// (status, bad_row, bad_col, stats).
py::tuple assignment_solve(const py::object& costs, const std::string& dtype, bool maximize, double tolerance,
                           std::int64_t row_repeats, const Numbers<std::int64_t>& start_col4row,
                           const Numbers<double>& start_u, const Numbers<double>& start_v,
                           const std::optional<SizesOfBatch>& sizes, const std::optional<UnmatchedOfBatch>& unmatched,
                           int threads) {
    Batch batch = batch_of(costs, dtype, maximize, row_repeats, sizes);
    const py::ssize_t b = batch.count(), n = batch.rows * row_repeats, m = batch.cols;
    const auto shape = [&](py::ssize_t length) {
        return batch.alone ? std::vector<py::ssize_t>{length} : std::vector<py::ssize_t>{b, length};
    };
    py::array_t<std::int64_t> col4row(shape(n)), row4col(shape(m));
    py::array_t<double> u(shape(n)), v(shape(m)), total(b), gap(b);
    if (batch.padded) {
        std::fill_n(col4row.mutable_data(), col4row.size(), -1);
        std::fill_n(row4col.mutable_data(), row4col.size(), -1);
        std::fill_n(u.mutable_data(), u.size(), 0.0);
        std::fill_n(v.mutable_data(), v.size(), 0.0);
    }
    const auto count = static_cast<std::size_t>(b);
    std::vector<lap::Options> options(count);
    std::vector<lap::Output> outputs(count);
    const std::vector<lap::Unmatched> prices = unmatched_of(unmatched, batch);
    for (py::ssize_t k = 0; k < b; k++) {
        auto s = static_cast<std::size_t>(k);
        options[s].tolerance = tolerance;
        if (!prices.empty()) options[s].unmatched = &prices[s];
        if (start_col4row) options[s].start_col4row = start_col4row->data() + k * n;
        if (start_u) options[s].start_u = start_u->data() + k * n;
        if (start_v) options[s].start_v = start_v->data() + k * m;
        outputs[s].col4row = col4row.mutable_data() + k * n;
        outputs[s].row4col = row4col.mutable_data() + k * m;
        outputs[s].u = u.mutable_data() + k * n;
        outputs[s].v = v.mutable_data() + k * m;
    }
    run_interruptible([&](lap::Cancel* cancel) {
        for (lap::Options& o : options) o.cancel = cancel;
        lap::solve_batch(batch.problems, options, outputs, threads);
    });
    py::list reports;
    for (std::size_t k = 0; k < count; k++) {
        total.mutable_at(static_cast<py::ssize_t>(k)) = outputs[k].total;
        gap.mutable_at(static_cast<py::ssize_t>(k)) = outputs[k].gap;
        reports.append(py::make_tuple(status_name(outputs[k].status), outputs[k].bad_row, outputs[k].bad_col,
                                      as_dict(outputs[k].stats)));
    }
    if (batch.alone) return py::make_tuple(col4row, row4col, u, v, outputs[0].total, outputs[0].gap, reports);
    return py::make_tuple(col4row, row4col, u, v, total, gap, reports);
}

PyMethodDef kLinearSumAssignment = {
    "linear_sum_assignment",
    reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(linear_sum_assignment)),
    METH_FASTCALL | METH_KEYWORDS, kLinearSumAssignmentDoc};

}  // namespace

void bind_assignment(py::module_& m) {
    py::str home("loomfast");
    m.attr("linear_sum_assignment") =
        py::reinterpret_steal<py::object>(PyCFunction_NewEx(&kLinearSumAssignment, nullptr, home.ptr()));
    m.def("assignment_solve", &assignment_solve, py::arg("costs"), py::arg("dtype"), py::arg("maximize"),
          py::arg("tolerance"), py::arg("row_repeats"), py::arg("start_col4row"), py::arg("start_u"),
          py::arg("start_v"), py::arg("sizes"), py::arg("unmatched"), py::arg("threads"));
    m.attr("most_rows") = static_cast<std::int64_t>(kMostRows);
}
