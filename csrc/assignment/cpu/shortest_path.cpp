// One row at a time enters the matching along a shortest augmenting path. With prices p the value of
// column j to row i is c_ij + p_j, and a matched pair has the least value u_i of its row. Dijkstra's
// algorithm from a free row i over reduced costs c_ij + p_j - u_i >= 0 finds the nearest free column at
// distance D; raising p_j by D - d_j for the columns scanned keeps every reduced cost nonnegative and
// makes the path tight, so exchanging along it stays optimal for the rows matched so far. Prices rise
// only where a column is matched, so unmatched columns keep p_j = 0, which is optimality for n < m too.
// D. F. Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016, p. 1685.
//
// Ties of paths go as in scipy.optimize.linear_sum_assignment: a free column before a matched one, the columns
// visited from the last to the first, so that a constant matrix gives the identity.
#include "assignment/cpu/shortest_path.hpp"

#include "assignment/cpu/kernels.hpp"

#include <algorithm>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int32_t kStarted = 8;   // rows from which on a start by columns' minima takes less time than it saves
constexpr int kPasses = 2;
constexpr std::int64_t kSmall = 4096;  // entries that are worth converting to float64 once and for all

struct Search {
    const Source& source;
    Array<std::int32_t>&x, &y;
    Array<double>& p;
    Array<double> u, distance, buffer;
    Array<std::int32_t> predecessor, remaining, scanned;
    const double* costs;  // of all storage rows, where they are few
    Array<double> matrix;

    const double* row(std::int32_t i) {
        if (!costs) return source.row(i, buffer.data());
        return costs + (source.row_repeats() == 1 ? i : i / source.row_repeats()) * source.cols();
    }

    void gather_small() {
        const std::int64_t rows = source.storage_rows(), m = source.cols();
        if (costs || rows * m > kSmall) return;
        matrix = filled(rows * m, 0.0);
        source.tile(0, rows, 0, m, matrix.data());
        costs = matrix.data();
    }

    // The start of Jonker and Volgenant's algorithm, for square problems: prices by the columns' minima, rows matched
    // by them, and `passes` in which rows without a column bid for one. Prices may be below zero.
    void start_square(int passes) {
        const auto n = static_cast<std::int32_t>(source.rows());
        std::copy_n(row(0), n, p.begin());
        for (std::int32_t i = 1; i < n; i++) {
            const double* c = row(i);
            for (std::int32_t j = 0; j < n; j++) p[j] = c[j] < p[j] ? c[j] : p[j];
        }
        for (std::int32_t j = 0; j < n; j++) p[j] = -p[j];
        for (std::int32_t i = 0; i < n; i++) {
            const double* c = row(i);
            std::int32_t j = 0;
            while (j < n && (y[j] >= 0 || c[j] + p[j] != 0.0)) j++;
            if (j < n) x[i] = j, y[j] = i;
        }
        for (int pass = 0; pass < passes; pass++)
            for (std::int32_t i = 0, bids = 0; i < n; i++)
                for (std::int32_t k = x[i] < 0 ? i : -1; k >= 0 && bids < n; bids++) k = bid(k);
    }

    // A row takes its best column, at the price at which its second best is as good. Returns the row that lost it, or
    // -1.
    std::int32_t bid(std::int32_t i) {
        const BestTwo b = kernels().best_two_d(row(i), p.data(), static_cast<std::int32_t>(source.cols()));
        if (b.j2 < 0 || !(b.w2 < kInf)) return -1;
        std::int32_t j = b.j1;
        if (b.w1 == b.w2 && y[j] >= 0) j = b.j2;
        const std::int32_t loser = y[j];
        if (b.w1 == b.w2 && loser >= 0) return -1;
        p[j] += b.w2 - b.w1;
        u[i] = b.w2;
        x[i] = j;
        y[j] = i;
        if (loser >= 0) x[loser] = -1, u[loser] = 0.0;
        return loser;
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

}  // namespace

Status shortest_paths(const Source& source, const double* costs, Cancel* cancel, Array<std::int32_t>& x,
                      Array<std::int32_t>& y, Array<double>& p) {
    const auto n = static_cast<std::int32_t>(source.rows()), m = static_cast<std::int32_t>(source.cols());
    x = filled(n, -1);
    y = filled(m + kPadding, -1);
    p = filled(m + kPadding, 0.0);
    Search search{source, x, y, p, filled(n, 0.0), filled(m, 0.0), {}, filled(m, 0), filled(m, 0), {}, costs, {}};
    search.scanned.reserve(static_cast<std::size_t>(m));
    search.gather_small();
    if (!search.costs) search.buffer = filled(m, 0.0);
    const bool started = costs && n == m && n >= kStarted;
    if (started) search.start_square(kPasses);
    for (std::int32_t i = 0; i < n; i++) {
        if (x[i] >= 0) continue;
        if (cancel && cancel->look()) return Status::cancelled;
        double length;
        const std::int32_t sink = search.run(i, length);
        if (sink < 0) return Status::infeasible;
        search.raise_prices(i, length);
        search.exchange(i, sink);
    }
    if (!started) return Status::optimal;
    const double least = *std::min_element(p.begin(), p.begin() + m);
    for (std::int32_t j = 0; j < m; j++) p[j] -= least;
    return Status::optimal;
}

}  // namespace loomfast::assignment
