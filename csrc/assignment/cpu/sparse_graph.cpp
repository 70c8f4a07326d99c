#include "assignment/cpu/sparse_graph.hpp"

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "assignment/cpu/source.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

bool whole(double c) { return std::fabs(c) >= 0x1p52 || double(std::int64_t(c)) == c; }

// Calls f with the indices, of 32 or 64 bits.
template <class F>
auto with_width(const Indices& indices, F&& f) {
    if (indices.wide) return f(static_cast<const std::int64_t*>(indices.data));
    return f(static_cast<const std::int32_t*>(indices.data));
}

struct Reader {
    const SparseCost& cost;
    SparseGraph& g;
    SparseOutput& out;
    bool coordinates, by_row;  // by_row: the caller's arrays are grouped by our rows already

    Reader(const SparseCost& c, SparseGraph& graph, SparseOutput& o) : cost(c), g(graph), out(o) {
        coordinates = cost.layout == Layout::coordinates;
        by_row = !coordinates && g.transposed == (cost.layout == Layout::compressed_columns);
    }

    bool fail(const char* fault, std::int64_t at) {
        out.status = Status::invalid_entry;
        out.fault = fault;
        out.fault_at = at;
        return false;
    }

    // The lines that `major` tells of: rows, or columns of compressed_columns.
    std::int64_t majors() const { return cost.layout == Layout::compressed_columns ? cost.cols : cost.rows; }
    std::int64_t minors() const { return cost.layout == Layout::compressed_columns ? cost.rows : cost.cols; }

    bool check_indices() {
        if (coordinates) {
            if (const std::int64_t k = outside(cost.major, majors()); k >= 0) return fail("row index", k);
        } else {
            if (cost.major[0] != 0) return fail("first pointer", 0);
            for (std::int64_t i = 0; i < majors(); i++)
                if (cost.major[i + 1] < cost.major[i]) return fail("decreasing pointer", i + 1);
            if (cost.major[majors()] != cost.entries) return fail("last pointer", majors());
        }
        if (const std::int64_t k = outside(cost.minor, minors()); k >= 0) return fail("index", k);
        return true;
    }

    // Where the first index of all entries is that is not below `bound`, or -1.
    std::int64_t outside(const Indices& indices, std::int64_t bound) const {
        return with_width(indices, [&](const auto* at) {
            using Unsigned = std::make_unsigned_t<std::remove_cvref_t<decltype(*at)>>;
            bool inside = true;
            for (std::int64_t k = 0; k < cost.entries; k++) inside &= Unsigned(at[k]) < std::uint64_t(bound);
            if (inside) return std::int64_t{-1};
            std::int64_t k = 0;
            while (Unsigned(at[k]) < std::uint64_t(bound)) k++;
            return k;
        });
    }

    // Calls f(row, column, entry) in the order of the entries.
    template <class F>
    void each(F&& f) const {
        const bool swap = g.transposed;
        if (coordinates) {
            for (std::int64_t k = 0; k < cost.entries; k++)
                swap ? f(cost.minor[k], cost.major[k], k) : f(cost.major[k], cost.minor[k], k);
            return;
        }
        for (std::int64_t i = 0; i < majors(); i++)
            for (std::int64_t k = cost.major[i]; k < cost.major[i + 1]; k++)
                by_row ? f(i, cost.minor[k], k) : f(cost.minor[k], i, k);
    }

    // Groups the entries by row, in their order.
    void group() {
        g.first.assign(std::size_t(g.n) + 1, 0);
        g.column.resize(std::size_t(cost.entries));
        g.cost.resize(std::size_t(cost.entries));
        if (by_row)
            for (std::int64_t i = 0; i <= g.n; i++) g.first[std::size_t(i)] = cost.major[i];
        else {
            each([&](std::int64_t i, std::int64_t, std::int64_t) { g.first[std::size_t(i) + 1]++; });
            for (std::size_t i = 0; i < std::size_t(g.n); i++) g.first[i + 1] += g.first[i];
        }
        with_type(cost.dtype, [&]<class T>(T) {
            const T* data = static_cast<const T*>(cost.data);
            if (by_row) {
                with_width(cost.minor, [&](const auto* minor) {
                    for (std::int64_t k = 0; k < cost.entries; k++) g.column[std::size_t(k)] = std::int32_t(minor[k]);
                });
                for (std::int64_t k = 0; k < cost.entries; k++) g.cost[std::size_t(k)] = g.sign * widen(data[k]);
                return;
            }
            std::vector<std::int64_t> next(g.first.begin(), g.first.end() - 1);
            each([&](std::int64_t i, std::int64_t j, std::int64_t k) {
                const auto at = std::size_t(next[std::size_t(i)]++);
                g.column[at] = std::int32_t(j);
                g.cost[at] = g.sign * widen(data[k]);
            });
        });
    }

    // Sums what is stored more than once, leaves out what is forbidden; false at an entry that is no cost.
    bool merge() {
        std::vector<std::int64_t> where;
        std::int64_t kept = 0, begin = 0;
        for (std::int32_t i = 0; i < g.n; i++) {
            const std::int64_t end = g.first[std::size_t(i) + 1], row = kept;
            bool increasing = true, finite = true;
            for (std::int64_t k = begin + 1; k < end; k++)
                increasing &= g.column[std::size_t(k)] > g.column[std::size_t(k) - 1];
            if (increasing && kept == begin) {  // nothing was left out so far: entries stay where they are
                double largest = g.largest;
                for (std::int64_t k = begin; k < end; k++) {
                    const double size = std::fabs(g.cost[std::size_t(k)]);
                    finite &= size < kInf;
                    largest = std::max(largest, size);
                }
                if (finite) {
                    g.largest = largest;
                    for (std::int64_t k = begin; k < end && g.integral; k++) g.integral = whole(g.cost[std::size_t(k)]);
                    kept = begin = end;
                    continue;
                }
            }
            if (!increasing && where.empty()) where.assign(std::size_t(g.m), -1);
            for (std::int64_t k = begin; k < end; k++) {
                const std::int32_t j = g.column[std::size_t(k)];
                const double c = g.cost[std::size_t(k)];
                if (!increasing) {
                    if (where[std::size_t(j)] >= row) {
                        g.cost[std::size_t(where[std::size_t(j)])] += c;
                        continue;
                    }
                    where[std::size_t(j)] = kept;
                }
                g.column[std::size_t(kept)] = j;
                g.cost[std::size_t(kept++)] = c;
            }
            std::int64_t allowed = row;
            for (std::int64_t k = row; k < kept; k++) {
                const double c = g.cost[std::size_t(k)];
                if (!(c > -kInf)) return invalid(i, g.column[std::size_t(k)]);
                if (!increasing) where[std::size_t(g.column[std::size_t(k)])] = -1;
                if (c == kInf) continue;
                g.largest = std::max(g.largest, std::fabs(c));
                g.integral = g.integral && whole(c);
                g.column[std::size_t(allowed)] = g.column[std::size_t(k)];
                g.cost[std::size_t(allowed++)] = c;
            }
            kept = allowed;
            g.first[std::size_t(i) + 1] = kept;
            begin = end;
        }
        g.column.resize(std::size_t(kept));
        g.cost.resize(std::size_t(kept));
        return true;
    }

    bool invalid(std::int64_t row, std::int64_t col) {
        out.status = Status::invalid_entry;
        out.bad_row = g.transposed ? col : row;
        out.bad_col = g.transposed ? row : col;
        return false;
    }
};

}  // namespace

bool read_graph(const SparseCost& cost, const Options& options, SparseGraph& graph, SparseOutput& output) {
    graph.transposed = cost.rows > cost.cols;
    graph.n = std::int32_t(std::min(cost.rows, cost.cols));
    graph.m = std::int32_t(std::max(cost.rows, cost.cols));
    graph.sign = cost.maximize ? -1.0 : 1.0;
    Reader reader(cost, graph, output);
    if (!reader.check_indices()) return false;
    reader.group();
    if (!reader.merge()) return false;
    graph.integral &= double(graph.n) * graph.largest < 0x1p52;
    if (is_integer(cost.dtype) && !options.round_integers && double(graph.n) * graph.largest >= 0x1p53) {
        output.status = Status::inexact_integers;
        return false;
    }
    // Sums of n costs are kept away from overflow, and denormal costs from losing bits.
    if (graph.largest > 0x1p900) graph.factor = 0x1p-64;
    if (graph.largest > 0 && graph.largest < 0x1p-900) graph.factor = 0x1p200;
    if (graph.factor != 1.0) {
        for (double& c : graph.cost) c *= graph.factor;
        graph.largest *= graph.factor;
    }
    return true;
}

}  // namespace loomfast::assignment
