#include "assignment/points.hpp"

#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>

#include "bindings/solving.hpp"

namespace {

using Points = py::array_t<double, py::array::c_style>;

lap::Metric metric_of(const std::string& name) {
    if (name == "sqeuclidean") return lap::Metric::sqeuclidean;
    if (name == "euclidean") return lap::Metric::euclidean;
    if (name == "dot") return lap::Metric::dot;
    throw py::value_error("metric must be sqeuclidean, euclidean or dot, got " + name);
}

// A part of a start, of `count` elements, or None.
template <class T>
const T* start_part(const std::optional<py::array_t<T, py::array::c_style>>& part, std::int64_t count) {
    if (!part) return nullptr;
    if (part->size() != count) throw py::value_error("a part of start has the wrong shape");
    return part->data();
}

using Matching = std::optional<py::array_t<std::int64_t, py::array::c_style>>;
using Prices = std::optional<py::array_t<double, py::array::c_style>>;

using Floats = py::array_t<float, py::array::c_style>;
// x and z in float32, what undoes their scale, and multiply(rows, first, past, out); see PointsProduct.
using Product = std::optional<std::tuple<Floats, Floats, double, py::function>>;

lap::PointsProduct product_of(const Product& given, std::int64_t d) {
    const auto& [x, z, unscale, multiply] = *given;
    lap::PointsProduct product;
    product.x = x.data();
    product.z = z.data();
    product.unscale = unscale;
    product.multiply = [&multiply = multiply](std::span<const std::int32_t> rows, std::int64_t first,
                                              std::int64_t past, float* out) {
        const py::gil_scoped_acquire acquired;
        const auto count = static_cast<std::int64_t>(rows.size());
        const py::array_t<std::int32_t> which(count, rows.data());
        const py::array_t<float> to({count, past - first}, out, py::capsule(out, [](void*) {}));
        multiply(which, first, past, to);
    };
    if (x.ndim() != 2 || z.ndim() != 2 || x.shape(1) != d || z.shape(1) != d)
        throw py::value_error("the points of a product have the wrong shape");
    return product;
}

// x (n, d) and z (m, d), finite; with a product, n <= m. tell(done, total, note) and keep(state) may be None. Returns a
// dict.
py::dict assignment_solve_points(const Points& x, const Points& z, const std::string& metric, const Matching& col4row_0,
                                 const Prices& u_0, const Prices& v_0, double tolerance, int threads,
                                 const py::object& tell, const py::object& keep, double keep_every,
                                 const py::bytes& state, const Product& given) {
    if (x.ndim() != 2 || z.ndim() != 2 || x.shape(1) != z.shape(1) || x.shape(1) < 1)
        throw py::value_error("x and z must be (n, d) and (m, d)");
    if (given ? x.shape(0) > z.shape(0) : x.shape(1) > lap::kMostDimensions)
        throw py::value_error("points of more than " + std::to_string(lap::kMostDimensions) +
                              " dimensions need a product, and with one no more rows than columns");
    lap::PointsProduct product;
    if (given) product = product_of(given, x.shape(1));
    const lap::PointsCost cost{x.data(),   z.data(), x.shape(0), z.shape(0), static_cast<int>(x.shape(1)),
                               metric_of(metric)};
    py::array_t<std::int64_t> col4row(cost.rows), row4col(cost.cols);
    py::array_t<double> u(cost.rows), v(cost.cols);
    lap::PointsOptions options;
    options.start_col4row = start_part(col4row_0, cost.rows);
    options.start_u = start_part(u_0, cost.rows);
    options.start_v = start_part(v_0, cost.cols);
    options.tolerance = tolerance;
    options.threads = threads;
    options.keep_every = keep_every;
    options.state = state;
    if (!tell.is_none())
        options.tell = [&](std::int64_t done, std::int64_t total, const std::string& note) {
            const py::gil_scoped_acquire acquired;
            tell(done, total, note);
        };
    if (!keep.is_none())
        options.keep = [&](const std::string& bytes) {
            const py::gil_scoped_acquire acquired;
            keep(py::bytes(bytes));
        };
    lap::Output out;
    out.col4row = col4row.mutable_data();
    out.row4col = row4col.mutable_data();
    out.u = u.mutable_data();
    out.v = v.mutable_data();
    run_interruptible([&](lap::Cancel* cancel) {
        options.cancel = cancel;
        given ? lap::solve_points(cost, product, options, out) : lap::solve_points(cost, options, out);
    });
    py::dict found, stats;
    stats["path"] = out.stats.path;
    stats["bids"] = out.stats.bids;
    stats["scans"] = out.stats.scans;
    stats["phases"] = out.stats.phases;
    stats["releases"] = out.stats.releases;
    stats["augmentations"] = out.stats.augmentations;
    found["arrays"] = py::make_tuple(col4row, row4col, u, v);
    found["total"] = out.total;
    found["gap"] = out.gap;
    found["status"] = status_name(out.status);
    found["stats"] = stats;
    return found;
}

}  // namespace

void bind_assignment_points(py::module_& m) {
    m.attr("most_dimensions") = lap::kMostDimensions;
    m.def("assignment_solve_points", &assignment_solve_points, py::arg("x").noconvert(), py::arg("z").noconvert(),
          py::arg("metric"), py::arg("col4row").noconvert(), py::arg("u").noconvert(), py::arg("v").noconvert(),
          py::arg("tolerance"), py::arg("threads"), py::arg("tell"), py::arg("keep"), py::arg("keep_every"),
          py::arg("state"), py::arg("product") = py::none());
}
