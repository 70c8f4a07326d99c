// Column reduction and an auction bring the prices near, shortest paths make them exact.
#include "assignment/sparse.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/source.hpp"
#include "assignment/cpu/sparse_certificate.hpp"
#include "assignment/cpu/sparse_solver.hpp"

namespace loomfast::assignment {

namespace {

void write(const SparseState& s, const std::vector<double>& price, const std::vector<double>& u, SparseOutput& out) {
    const bool turned = s.g.transposed;
    const double sign = s.g.sign / s.g.factor;
    std::int64_t *rows = turned ? out.row4col : out.col4row, *cols = turned ? out.col4row : out.row4col;
    double *row_prices = turned ? out.v : out.u, *col_prices = turned ? out.u : out.v;
    for (std::size_t i = 0; i < s.x.size(); i++) {
        if (rows) rows[i] = s.x[i];
        if (row_prices) row_prices[i] = sign * u[i] + 0.0;
    }
    for (std::size_t j = 0; j < s.y.size(); j++) {
        if (cols) cols[j] = s.y[j];
        if (col_prices) col_prices[j] = -sign * price[j] + 0.0;
    }
}

}  // namespace

void solve_sparse(const SparseCost& cost, const Options& options, SparseOutput& output) {
    SparseGraph g;
    if (!read_graph(cost, options, g, output)) return;
    SparseState s(g);
    solve_graph(s, options, output);
    output.stats = s.stats;
    output.stats.path = "sparse";
    if (output.status != Status::optimal) return;
    std::vector<double> price, u;
    Certificate found = certify_sparse(s, price, u);
    const auto proven = [&] {
        return found.gap <= found.bound(g.n, std::max(found.matched, found.duals), is_integer(cost.dtype));
    };
    for (int round = 0; round < 3 && !proven() && output.status == Status::optimal; round++) {
        refine_graph(s, options, output);
        if (output.status == Status::optimal) found = certify_sparse(s, price, u);
    }
    if (output.status != Status::optimal) return;
    if (!proven() && found.gap > 0x1p-1074 * g.factor) output.status = Status::uncertified;
    output.total = g.sign * found.total / g.factor + 0.0;
    output.gap = found.gap / g.factor;
    if (is_integer(cost.dtype)) output.gap = std::floor(output.gap);  // totals of integers differ by integers
    write(s, price, u, output);
}

}  // namespace loomfast::assignment
