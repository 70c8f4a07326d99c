#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>

#include "bindings/bindings.hpp"
#include "coupling/cycles.hpp"

namespace {

namespace coupling = loomfast::coupling;
using Order = py::array_t<int64_t, py::array::c_style>;
using Numbers = py::array_t<double, py::array::c_style>;

int64_t checked(const Order& order) {
    if (order.ndim() != 1 || !coupling::is_permutation(order.data(), order.shape(0)))
        throw py::value_error("order must be a permutation of 0 ... n - 1");
    return order.shape(0);
}

void check_size(const Numbers& values, int64_t n) {
    if (values.ndim() != 1 || values.shape(0) != n) throw py::value_error("values must be one for each of order");
}

Numbers coupling_cycle_sums(const Order& order, const Numbers& values) {
    const int64_t n = checked(order);
    if (values.ndim() != 2 || values.shape(1) != n) throw py::value_error("values must be (k, n)");
    Numbers sums({values.shape(0), values.shape(1)});
    double* const to = sums.mutable_data();
    const Entered entered;
    coupling::cycle_sums(order.data(), n, values.data(), values.shape(0), to);
    return sums;
}

py::tuple coupling_improving(const Order& order, const Numbers& before, const Numbers& after, double rounding,
                             double weight, const std::optional<Numbers>& change) {
    const int64_t n = checked(order);
    check_size(before, n);
    check_size(after, n);
    if (change) check_size(*change, n);
    Order kept(n);
    int64_t* const to = kept.mutable_data();
    int64_t moved;
    {
        const Entered entered;
        moved = coupling::improving(
            order.data(), n, {before.data(), after.data(), change ? change->data() : nullptr, weight, rounding}, to);
    }
    return py::make_tuple(kept, moved);
}

double coupling_mean(const Numbers& values) {
    if (values.ndim() != 1) throw py::value_error("values must be (n,)");
    const Entered entered;
    return coupling::mean(values.data(), values.shape(0));
}

bool coupling_permute(py::array rows, const Order& order, int threads) {
    if (order.ndim() != 1) throw py::value_error("order must be (n,)");
    const int64_t n = order.shape(0);
    if (!coupling::is_permutation(order.data(), n)) return false;
    if (rows.ndim() < 1 || rows.shape(0) != n || !(rows.flags() & py::array::c_style) || !rows.writeable())
        throw py::value_error("rows must be contiguous, writeable and one for each of order");
    auto* const at = static_cast<char*>(rows.mutable_data());
    const int64_t bytes = n ? rows.nbytes() / n : 0;
    const Entered entered;
    coupling::permute_rows(at, n, bytes, order.data(), threads);
    return true;
}

}  // namespace

void bind_coupling(py::module_& m) {
    m.def("coupling_cycle_sums", &coupling_cycle_sums, py::arg("order").noconvert(), py::arg("values").noconvert(),
          "For each element the sums of values (k, n) over its cycle of the permutation order (n,).");
    m.def("coupling_improving", &coupling_improving, py::arg("order").noconvert(), py::arg("before").noconvert(),
          py::arg("after").noconvert(), py::arg("rounding"), py::arg("weight"),
          py::arg("change").none(true),
          "order (n,) where its cycles get cheaper by more than rounding, i elsewhere, and how many are not i.");
    m.def("coupling_mean", &coupling_mean, py::arg("values").noconvert(), "The mean of float64 values, by halves.");
    m.def("coupling_permute", &coupling_permute, py::arg("rows"), py::arg("order").noconvert(), py::arg("threads"),
          "Row i of contiguous rows (n, ...) becomes what row order[i] was; False, and nothing done, unless order is a "
          "permutation.");
}
