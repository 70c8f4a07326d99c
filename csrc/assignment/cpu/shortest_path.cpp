// One row at a time enters the matching along a shortest augmenting path. With prices p the value of
// column j to row i is c_ij + p_j, and a matched pair has the least value u_i of its row. Dijkstra's
// algorithm from a free row i over reduced costs c_ij + p_j - u_i >= 0 finds the nearest free column at
// distance D; raising p_j by D - d_j for the columns scanned keeps every reduced cost nonnegative and
// makes the path tight, so exchanging along it stays optimal for the rows matched so far. Prices rise
// only where a column is matched, so unmatched columns keep p_j = 0, which is optimality for n < m too.
// D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016, p. 1685.
//
// Ties go as in scipy.optimize.linear_sum_assignment: a free column before a matched one, the columns
// visited from the last to the first, so that a constant matrix gives the identity.
#include "assignment/cpu/shortest_path.hpp"

#include "assignment/cpu/kernels.hpp"
#include "assignment/cpu/tiny.hpp"

#include <algorithm>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int64_t kSmall = 4096;  // entries that are worth converting to float64 once and for all

struct Search {
    const Source& source;
    Array<std::int32_t>&x, &y;
    Array<double>& p;
    Array<double> u, distance, buffer;
    Array<std::int32_t> predecessor, remaining, scanned;
    Array<double> matrix;  // all costs, where they are few

    const double* row(std::int32_t i) {
        if (matrix.empty()) return source.row(i, buffer.data());
        return matrix.data() + i * source.cols();
    }

    void gather_small() {
        if (source.rows() * source.cols() > kSmall) return;
        matrix = filled(source.rows() * source.cols(), 0.0);
        for (std::int64_t i = 0; i < source.rows(); i++) {
            double* out = matrix.data() + i * source.cols();
            const double* c = source.row(i, out);
            if (c != out) std::copy_n(c, source.cols(), out);
        }
    }

    // Shortest path from `free_row` to a free column: returns that column, or -1 where there is none.
    std::int32_t run(std::int32_t free_row, double& length) {
        auto m = static_cast<std::int32_t>(source.cols());
        std::int32_t left = m;
        for (std::int32_t k = 0; k < m; k++) remaining[k] = m - 1 - k;
        for (std::int32_t j = 0; j < m; j++) distance[j] = kInf;
        scanned.clear();
        std::int32_t i = free_row;
        length = 0.0;
        while (true) {
            const double* c = row(i);
            double base = length - u[i], least = kInf;
            std::int32_t index = -1;
            for (std::int32_t k = 0; k < left; k++) {
                std::int32_t j = remaining[k];
                double d = base + c[j] + p[j];
                if (d < distance[j]) {
                    distance[j] = d;
                    predecessor[j] = i;
                }
                if (distance[j] < least || (distance[j] == least && y[j] < 0)) {
                    least = distance[j];
                    index = k;
                }
            }
            if (least == kInf) return -1;
            length = least;
            std::int32_t j = remaining[index];
            if (y[j] < 0) return j;
            remaining[index] = remaining[--left];
            scanned.push_back(j);
            i = y[j];
        }
    }

    void raise_prices(std::int32_t free_row, double length) {
        u[free_row] += length;
        for (std::int32_t j : scanned) {
            double rise = std::max(0.0, length - distance[j]);  // rounding can make a path shorter than its start
            p[j] += rise;
            u[y[j]] += rise;
        }
    }

    void exchange(std::int32_t free_row, std::int32_t sink) {
        for (std::int32_t j = sink, i; ; ) {
            i = predecessor[j];
            y[j] = i;
            std::swap(x[i], j);
            if (i == free_row) return;
        }
    }
};

// The same of few columns.
bool match_tiny(const Source& source, Array<std::int32_t>& x, Array<std::int32_t>& y, Array<double>& p) {
    const std::int64_t n = source.rows(), m = source.cols(), stride = (m + kTinyStride - 1) / kTinyStride * kTinyStride;
    Array<double> costs = filled(n * stride, kInf);
    for (std::int64_t i = 0; i < n; i++) {
        double* out = costs.data() + i * stride;
        const double* c = source.row(i, out);
        if (c != out) std::copy_n(c, m, out);
    }
    return tiny_kernels().match(costs.data(), static_cast<std::int32_t>(n), static_cast<std::int32_t>(m),
                                static_cast<std::int32_t>(stride), x.data(), y.data(), p.data());
}

}  // namespace

Status shortest_paths(const Source& source, Cancel* cancel, Array<std::int32_t>& x, Array<std::int32_t>& y,
                      Array<double>& p) {
    const auto n = static_cast<std::int32_t>(source.rows()), m = static_cast<std::int32_t>(source.cols());
    x = filled(n, -1);
    y = filled(m + kPadding, -1);
    p = filled(m + kPadding, 0.0);
    if (n > 0 && m <= kTinyColumns) {
        if (cancel && cancel->look()) return Status::cancelled;
        return match_tiny(source, x, y, p) ? Status::optimal : Status::infeasible;
    }
    Search search{source, x, y, p, filled(n, 0.0), filled(m, 0.0), filled(m, 0.0), filled(m, 0), filled(m, 0), {}, {}};
    search.scanned.reserve(static_cast<std::size_t>(m));
    search.gather_small();
    for (std::int32_t i = 0; i < n; i++) {
        if (cancel && cancel->look()) return Status::cancelled;
        double length;
        const std::int32_t sink = search.run(i, length);
        if (sink < 0) return Status::infeasible;
        search.raise_prices(i, length);
        search.exchange(i, sink);
    }
    return Status::optimal;
}

}  // namespace loomfast::assignment
