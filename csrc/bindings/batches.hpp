// Batches of assignments: problems of one shape, of sizes of their own in one padded array, or of a list of matrices.
#pragma once

#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "bindings/solving.hpp"

template <class T>
using Numbers = std::optional<py::array_t<T, py::array::c_style>>;
using SizesOfBatch = std::pair<Numbers<std::int64_t>, Numbers<std::int64_t>>;
using UnmatchedOfBatch = std::tuple<double, Numbers<double>, Numbers<double>>;

struct Batch {
    std::vector<lap::Cost> problems;
    py::ssize_t rows = 0, cols = 0;  // of the largest, rows of storage
    bool padded = false;             // whether a problem may have fewer
    bool alone = false;              // one matrix, and no batch of one

    py::ssize_t count() const { return static_cast<py::ssize_t>(problems.size()); }
};

inline Batch batch_of_list(const py::list& costs, bool maximize, std::int64_t row_repeats) {
    Batch batch;
    batch.padded = true;
    for (const py::handle item : costs) {
        const auto [matrix, dtype] = item.cast<std::pair<py::array, std::string>>();
        lap::Cost cost = matrix_of(matrix, dtype, maximize);
        cost.row_repeats = row_repeats;
        batch.rows = std::max<py::ssize_t>(batch.rows, cost.rows);
        batch.cols = std::max<py::ssize_t>(batch.cols, cost.cols);
        batch.problems.push_back(cost);
    }
    return batch;
}

inline Batch batch_of(const py::object& given, const std::string& dtype, bool maximize, std::int64_t row_repeats,
                      const std::optional<SizesOfBatch>& sizes) {
    if (py::isinstance<py::list>(given)) return batch_of_list(given, maximize, row_repeats);
    const auto costs = given.cast<py::array>();
    Batch batch;
    batch.alone = costs.ndim() == 2;
    if (batch.alone) {
        batch.rows = costs.shape(0);
        batch.cols = costs.shape(1);
        batch.problems = {matrix_of(costs, dtype, maximize)};
        batch.problems[0].row_repeats = row_repeats;
        return batch;
    }
    batch.rows = costs.shape(1);
    batch.cols = costs.shape(2);
    batch.padded = sizes.has_value();
    const auto plain = dtype_of(costs.dtype().num());
    if (!plain) throw py::type_error("costs must be of a dtype that the engine reads, got " + dtype);
    const lap::DType type = dtype == "bfloat16" ? lap::DType::bfloat16 : *plain;
    batch.problems.reserve(static_cast<std::size_t>(costs.shape(0)));
    for (py::ssize_t k = 0; k < costs.shape(0); k++) {
        const std::int64_t n = sizes && sizes->first ? sizes->first->at(k) : batch.rows;
        const std::int64_t m = sizes && sizes->second ? sizes->second->at(k) : batch.cols;
        batch.problems.push_back({static_cast<const char*>(costs.data()) + k * costs.strides(0), type, n, m,
                                  costs.strides(1), costs.strides(2), row_repeats, maximize});
    }
    return batch;
}

// What the unmatched of each problem pay; none where any matching has to be complete.
inline std::vector<lap::Unmatched> unmatched_of(const std::optional<UnmatchedOfBatch>& given, const Batch& batch) {
    std::vector<lap::Unmatched> found;
    if (!given) return found;
    const auto& [limit, rows, cols] = *given;
    for (py::ssize_t k = 0; k < batch.count(); k++)
        found.push_back({limit, rows ? rows->data() + k * batch.rows : nullptr, cols ? cols->data() + k * batch.cols : nullptr});
    return found;
}
