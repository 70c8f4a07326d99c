#include "assignment/points.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/certificate.hpp"
#include "assignment/cpu/points_solver.hpp"

namespace loomfast::assignment {

namespace {

constexpr int kRounds = 4;  // of finishing, until what is left of rounding is as promised

// Points in the order of a tree, so that rows one after the other look at the same columns.
template <int D>
std::vector<double> in_order(const PriceTree<D>& tree, int d) {
    std::vector<double> points(tree.count() * d);
    for (std::int64_t i = 0; i < tree.count(); ++i) tree.copy_point(i, &points[i * d]);
    return points;
}

// Prices of at least 0, and 0 where no point of the fewer is matched; u as low as rounding asks for; the gap from above.
template <int D>
Certificate certify(const PointsSolver<D>& solver, PriceTree<D>& tree, std::vector<double>& u) {
    double least = PriceTree<D>::kInf;
    for (std::int64_t j = 0; j < tree.count(); ++j) least = std::min(least, tree.price(j));
    std::vector<double> price(tree.count());
    for (std::int64_t j = 0; j < tree.count(); ++j)
        price[j] = solver.row_of(j) >= 0 ? tree.price(j) - least : 0.0;
    tree.set_prices([&](std::int64_t j) { return price[j]; });
    Certificate found;
    double high = 0.0, low = 0.0;
    for (std::int64_t i = 0; i < solver.rows(); ++i) {
        const std::int32_t column = solver.column_of(i);
        const double cost = tree.cost(solver.point(i), column);
        std::int32_t cheapest = kNobody;
        double value = PriceTree<D>::kInf;
        tree.search(solver.point(i), 1, &cheapest, &value);
        // What is computed of any pair is at least that, and off by half a unit in its last place; a sum's sign is right.
        u[i] = value == 0.0 ? 0.0 : std::nextafter(value, -PriceTree<D>::kInf);
        const TwoSum own(cost, price[column]), slack(own.sum, -u[i]);
        found.gap = TwoSum(found.gap, slack.sum).up();
        found.gap = TwoSum(found.gap, TwoSum(slack.error, own.error).up()).up();
        const TwoSum running(high, cost);
        high = running.sum;
        low += running.error;
        found.matched = std::max(found.matched, std::fabs(cost));
        found.duals = std::max({found.duals, std::fabs(u[i]), price[column]});
    }
    found.total = high + low;
    found.gap = std::max(found.gap, 0.0);
    return found;
}

// rows <= cols.
template <int D>
void solve_in(const PointsCost& cost, const Options& options, Output& output) {
    const Space<D> space{cost.d, cost.metric};
    PriceTree<D> tree(space, cost.z, cost.cols);
    const PriceTree<D> rows(space, cost.x, cost.rows);
    PointsSolver<D> solver(space, in_order(rows, cost.d), tree, options.cancel);
    output.status = Status::cancelled;
    if (!solver.auction(solver.start_from_sample())) return;
    std::vector<double> u(cost.rows);
    Certificate found;
    const auto proven = [&] { return found.gap <= found.bound(cost.rows, std::max(found.matched, found.duals), false); };
    for (int round = 0; round < kRounds; ++round) {
        if (!solver.finish()) return;
        found = certify(solver, tree, u);
        if (proven()) break;
        solver.forget();
    }
    output.status = proven() ? Status::optimal : Status::uncertified;
    output.total = found.total;
    output.gap = found.gap;
    output.stats = solver.stats;
    output.stats.path = "points";
    std::fill_n(output.row4col, cost.cols, -1);
    std::fill_n(output.v, cost.cols, 0.0);
    for (std::int64_t i = 0; i < cost.rows; ++i) {
        const std::int64_t row = rows.original(i), column = tree.original(solver.column_of(i));
        output.col4row[row] = column;
        output.row4col[column] = row;
        output.u[row] = u[i];
        output.v[column] = 0.0 - tree.price(solver.column_of(i));
    }
}

}  // namespace

void solve_points(const PointsCost& cost, const Options& options, Output& output) {
    if (cost.rows > cost.cols) {  // the costs are those of z and x, too
        PointsCost turned = cost;
        std::swap(turned.x, turned.z);
        std::swap(turned.rows, turned.cols);
        std::swap(output.col4row, output.row4col);
        std::swap(output.u, output.v);
        solve_points(turned, options, output);
        std::swap(output.col4row, output.row4col);
        std::swap(output.u, output.v);
        return;
    }
    if (cost.rows == 0) {
        std::fill_n(output.row4col, cost.cols, -1);
        std::fill_n(output.v, cost.cols, 0.0);
        output.gap = 0.0;
        output.status = Status::optimal;
        output.stats.path = "points";
        return;
    }
    const auto solve = cost.d == 1 ? solve_in<1> : cost.d == 2 ? solve_in<2> : cost.d == 3 ? solve_in<3> : solve_in<0>;
    solve(cost, options, output);
}

}  // namespace loomfast::assignment
