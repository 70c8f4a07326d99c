#include "cost/cost.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>

#include "bindings/bindings.hpp"
#include "cost/tiles.hpp"

namespace {

template <class T>
using Dense = py::array_t<T, py::array::c_style>;

template <class T>
loomfast::cost::Block<T> block_of(py::array_t<T>& out) {
    constexpr auto size = static_cast<py::ssize_t>(sizeof(T));
    if (out.ndim() != 2) throw py::value_error("block must be (rows, columns)");
    if (out.size() && out.strides(1) != size) throw py::value_error("rows of block must be contiguous");
    return {out.mutable_data(), out.shape(0), out.shape(1), out.strides(0) / size};
}

template <class T>
py::tuple cost_norms(const Dense<T>& x, const Dense<T>& z, int threads) {
    if (x.ndim() != 2 || z.ndim() != 2) throw py::value_error("x must be (n, d) and z (m, d)");
    py::array_t<T> norms_x(x.shape(0)), norms_z(z.shape(0));
    T *const to_x = norms_x.mutable_data(), *const to_z = norms_z.mutable_data();
    {
        const Entered entered;
        loomfast::cost::norms(x.data(), x.shape(0), x.shape(1), to_x, threads);
        loomfast::cost::norms(z.data(), z.shape(0), z.shape(1), to_z, threads);
    }
    return py::make_tuple(norms_x, norms_z);
}

template <class T>
void cost_paired(const Dense<T>& x, const Dense<T>& z, Dense<double> out, bool euclidean, int threads) {
    if (x.ndim() != 2 || z.ndim() != 2 || x.shape(0) != z.shape(0) || x.shape(1) != z.shape(1) ||
        out.ndim() != 1 || out.shape(0) != x.shape(0))
        throw py::value_error("x and z must be (n, d) and out (n,)");
    double* const to = out.mutable_data();
    const Entered entered;
    loomfast::cost::paired(x.data(), z.data(), x.shape(0), x.shape(1), euclidean, to, threads);
}

template <class T>
py::array_t<double> cost_paired_again(const Dense<T>& x, const Dense<T>& z, const Dense<int64_t>& order,
                                      const std::optional<Dense<int64_t>>& items, bool euclidean, int threads) {
    const auto rows = x.ndim() == 2 ? x.shape(0) : -1;
    if (z.ndim() != 2 || z.shape(0) != rows || z.shape(1) != x.shape(1))
        throw py::value_error("x and z must be (n, d)");
    const auto checked = [&](const Dense<int64_t>& numbers, const char* name) {
        const int64_t* const at = numbers.data();
        if (numbers.ndim() != 1 || numbers.shape(0) != rows ||
            std::any_of(at, at + rows, [&](int64_t j) { return j < 0 || j >= rows; }))
            throw py::value_error(std::string(name) + " must hold numbers of the " + std::to_string(rows) +
                                  " items, as many");
        return at;
    };
    const loomfast::cost::Reassignment pairs{items ? checked(*items, "items") : nullptr, checked(order, "order")};
    py::array_t<double> costs({py::ssize_t{2}, rows});
    double* const before = costs.mutable_data();
    const Entered entered;
    loomfast::cost::paired_again(x.data(), z.data(), pairs, rows, x.shape(1), euclidean, before, before + rows,
                                 threads);
    return costs;
}

template <class T>
void cost_finish(py::array_t<T> out, const std::optional<Dense<T>>& norms_x,
                 const std::optional<Dense<T>>& norms_z, bool euclidean, int threads) {
    const auto block = block_of(out);
    if (norms_x.has_value() != norms_z.has_value() ||
        (norms_x && (norms_x->size() != block.rows || norms_z->size() != block.columns)))
        throw py::value_error("norms must be one for each row and one for each column, or neither");
    const T* const x = norms_x ? norms_x->data() : nullptr;
    const T* const z = norms_z ? norms_z->data() : nullptr;
    const Entered entered;
    loomfast::cost::finish(block, x, z, euclidean, threads);
}

void cost_direct(const Dense<double>& x, const Dense<double>& z, py::array_t<double> out, bool euclidean,
                 int threads) {
    const auto block = block_of(out);
    if (x.ndim() != 2 || z.ndim() != 2 || x.shape(1) != z.shape(1) || x.shape(0) != block.rows ||
        z.shape(0) != block.columns)
        throw py::value_error("x must be (rows, d) and z (columns, d)");
    const double *const a = x.data(), *const b = z.data();
    const int64_t d = x.shape(1);
    const Entered entered;
    loomfast::cost::direct(a, b, d, block, euclidean, threads);
}

template <class T>
int cost_range(const Dense<T>& x, const Dense<T>& z, bool euclidean) {
    if (x.ndim() != 2 || z.ndim() != 2) throw py::value_error("x must be (n, d) and z (m, d)");
    const T *const a = x.data(), *const b = z.data();
    const int64_t size_x = x.size(), size_z = z.size(), d = x.shape(1);
    const Entered entered;
    return static_cast<int>(loomfast::cost::range_of(a, size_x, b, size_z, d, euclidean));
}

// Addresses instead of arrays: an array takes longer to make of a tensor than a small cost takes.
bool cost_tiles_at(std::uintptr_t x, std::uintptr_t z, std::uintptr_t out, int64_t n, int64_t m, int64_t d,
                   int64_t stride, int form, bool euclidean, int threads, bool checked) {
    const loomfast::cost::Problem problem{
        reinterpret_cast<const float*>(x), reinterpret_cast<const float*>(z), reinterpret_cast<float*>(out),
        n, m, d, stride, static_cast<loomfast::cost::Form>(form), euclidean};
    if (loomfast::cost::overlaps(problem)) return false;
    const Entered entered;
    using loomfast::cost::Range;
    if (!checked && loomfast::cost::range_of(problem.x, n * d, problem.z, m * d, d, euclidean) != Range::float32)
        return false;
    loomfast::cost::tiled(problem, threads);
    return true;
}

bool cost_tiles(const py::array& x, const py::array& z, py::array& out, int form, bool euclidean, int threads,
                bool checked) {
    constexpr int kDense = py::array::c_style;
    const auto fits = [](const py::array& array, int flags) {
        return py::isinstance<py::array_t<float>>(array) && array.ndim() == 2 && (array.flags() & flags) == flags;
    };
    if (!fits(x, kDense) || !fits(z, kDense) || !fits(out, 0) || !out.writeable() ||
        out.shape(0) != x.shape(0) || out.shape(1) != z.shape(0) || x.shape(1) != z.shape(1))
        return false;
    constexpr auto size = static_cast<py::ssize_t>(sizeof(float));
    if (out.size() && (out.strides(1) != size || out.strides(0) < size * out.shape(1))) return false;
    const auto address = [](const py::array& array) { return reinterpret_cast<std::uintptr_t>(array.data()); };
    return cost_tiles_at(address(x), address(z), address(out), x.shape(0), z.shape(0), x.shape(1),
                         out.strides(0) / size, form, euclidean, threads, checked);
}

template <class T>
void bind_cost_of(py::module_& m) {
    m.def("cost_norms", &cost_norms<T>, py::arg("x").noconvert(), py::arg("z").noconvert(), py::arg("threads"),
          "Squared norms of the rows of x and of z.");
    m.def("cost_range", &cost_range<T>, py::arg("x").noconvert(), py::arg("z").noconvert(), py::arg("euclidean"),
          "What holds the squares of x (n, d) and z (m, d): 0 float32, 1 float64, 2 neither.");
    m.def("cost_paired", &cost_paired<T>, py::arg("x").noconvert(), py::arg("z").noconvert(),
          py::arg("out").noconvert(), py::arg("euclidean"), py::arg("threads"),
          "Costs of the pairs of rows of x and z (n, d) into float64 out (n,).");
    m.def("cost_paired_again", &cost_paired_again<T>, py::arg("x").noconvert(), py::arg("z").noconvert(),
          py::arg("order").noconvert(), py::arg("items").noconvert().none(true), py::arg("euclidean"),
          py::arg("threads"),
          "Costs (2, n) of the pairs of rows of x and z (n, d), and of x[items[k]] and z[order[k]].");
    m.def("cost_finish", &cost_finish<T>, py::arg("block").noconvert(),
          py::arg("norms_x").noconvert().none(true), py::arg("norms_z").noconvert().none(true),
          py::arg("euclidean"), py::arg("threads"),
          "Products x.z to costs in place: with squared norms, or -2 x.z without.");
}

}  // namespace

void bind_cost(py::module_& m) {
    bind_cost_of<float>(m);
    bind_cost_of<double>(m);
    m.def("cost_direct", &cost_direct, py::arg("x").noconvert(), py::arg("z").noconvert(),
          py::arg("block").noconvert(), py::arg("euclidean"), py::arg("threads"),
          "Costs of float64 x (rows, d) and z (columns, d) into block, by differences.");
    m.def("cost_tiles", &cost_tiles, py::arg("x"), py::arg("z"), py::arg("out"), py::arg("form"),
          py::arg("euclidean"), py::arg("threads"), py::arg("checked") = false,
          "Costs of x (n, d) and z (m, d) into out (n, m), in one pass; form: 0 is -2 x.z, 1 |x - z|^2 by "
          "the norms, 2 by differences. False, and nothing done, unless all are float32, x, z and the rows of out "
          "contiguous and out apart from x and z, and, if that was not checked, float32 holds the squares.");
    m.def("cost_tiles_at", &cost_tiles_at, py::arg("x"), py::arg("z"), py::arg("out"), py::arg("n"),
          py::arg("m"), py::arg("d"), py::arg("stride"), py::arg("form"), py::arg("euclidean"),
          py::arg("threads"), py::arg("checked") = false,
          "As cost_tiles, at the addresses of x, z and out, whose rows are `stride` elements apart.");
}
