#include "assignment/points.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/certificate.hpp"
#include "assignment/cpu/points_begin.hpp"

namespace loomfast::assignment {

namespace {

constexpr int kRounds = 4;  // of finishing, until what is left of rounding is as promised
constexpr double kLeftOver = 8.0;  // a phase may leave a gap of n epsilon; that over this is worth a proof
// Prices that contend for long are better solved with the matrix, where that is small: 256 MB. What is easy takes 10
// to 40 searches a row.
constexpr std::int64_t kMostStored = std::int64_t{1} << 25, kPatience = 64;  // entries; searches a row
constexpr std::int64_t kParts = 64;  // of the columns, for means of distances

// Points in the order of a tree, so that rows one after the other look at the same columns.
template <int D>
std::vector<double> in_order(const PriceTree<D>& tree, int d) {
    std::vector<double> points(tree.count() * d);
    for (std::int64_t i = 0; i < tree.count(); ++i) tree.copy_point(i, &points[i * d]);
    return points;
}

// Prices of at least 0, and 0 where no point of the fewer is matched; u as low as rounding asks for; the gap from
// above.
template <class Source>
Certificate certify(const PointsSolver<Source>& solver, Source& source, std::vector<double>& u) {
    const double least = solver.least_price();
    std::vector<double> price(source.columns());
    for (std::int64_t j = 0; j < source.columns(); ++j)
        price[j] = solver.row_of(j) >= 0 ? source.price(j) - least : 0.0;
    source.set_prices([&](std::int64_t j) { return price[j]; });
    source.least(u);
    Certificate found;
    double high = 0.0, low = 0.0;
    for (std::int64_t i = 0; i < source.rows(); ++i) {
        const std::int32_t column = solver.column_of(i);
        const double cost = source.cost(i, column);
        // What is computed of any pair is at least that, off by half a unit in its last place; a sum's sign is right.
        if (u[i] != 0.0) u[i] = std::nextafter(u[i], -PriceTree<1>::kInf);
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

// The sum over the rows of the mean of their costs less the least, from below: distances have means of at least those
// to the middles of parts of the columns.
template <class Source>
double spread_of_costs(const Source& source) {
    const auto& space = source.space();
    const std::int64_t columns = source.columns(), parts = std::min(columns, kParts);
    const int d = space.d();
    std::vector<double> middles(parts * d), squares(parts), least(source.rows()), point(d);
    const auto first = [&](std::int64_t part) { return part * columns / parts; };
    for (std::int64_t part = 0; part < parts; ++part) {
        const std::int64_t begin = first(part), end = first(part + 1);
        double* middle = &middles[part * d];
        for (std::int64_t j = begin; j < end; ++j) {
            source.copy_column(j, point.data());
            for (int k = 0; k < d; ++k) middle[k] += point[k] / static_cast<double>(end - begin);
        }
        if (space.metric != Metric::sqeuclidean) continue;
        for (std::int64_t j = begin; j < end; ++j) {
            source.copy_column(j, point.data());
            squares[part] += space.cost(middle, point.data());
        }
    }
    source.least(least);
    double sum = 0.0;
    for (std::int64_t i = 0; i < source.rows(); ++i) {
        double mean = 0.0;
        for (std::int64_t part = 0; part < parts; ++part) {
            const auto count = static_cast<double>(first(part + 1) - first(part));
            mean += count * space.cost(source.point(i), &middles[part * d]) + squares[part];
        }
        sum += mean / static_cast<double>(columns) - least[i];
    }
    return sum;
}

// The start by the rows and columns of the source. Prices are at least 0 then, and no further apart than costs can be.
template <class Source, class Row>
PointsStart start_of(const Options& options, const Source& source, const Row& original_row, double apart) {
    PointsStart start;
    const std::int64_t columns = source.columns();
    if (options.start_col4row) {
        std::vector<std::int32_t> place(columns);
        for (std::int64_t j = 0; j < columns; ++j) place[source.original_column(j)] = static_cast<std::int32_t>(j);
        start.columns.resize(source.rows());
        for (std::int64_t i = 0; i < source.rows(); ++i) {
            const std::int64_t column = options.start_col4row[original_row(i)];
            start.columns[i] = column >= 0 && column < columns ? place[column] : kNobody;
        }
    }
    if (options.start_v) {
        const auto given = [&](std::int64_t j) {
            const double price = -options.start_v[source.original_column(j)];
            return std::isfinite(price) ? price : 0.0;
        };
        start.prices.resize(columns);
        for (std::int64_t j = 0; j < columns; ++j) start.prices[j] = given(j);
        const double least = *std::min_element(start.prices.begin(), start.prices.end());
        for (double& price : start.prices) price = std::min(price - least, apart);
    }
    return start;
}

// No two costs are further apart.
double most_apart(const PointsCost& cost) {
    double sum = 0.0;
    for (int k = 0; k < cost.d; ++k) {
        double low[2], high[2];
        for (const int side : {0, 1}) {
            const double* points = side == 0 ? cost.x : cost.z;
            low[side] = high[side] = points[k];
            for (std::int64_t i = 1; i < (side == 0 ? cost.rows : cost.cols); ++i) {
                low[side] = std::min(low[side], points[i * cost.d + k]);
                high[side] = std::max(high[side], points[i * cost.d + k]);
            }
        }
        const auto magnitude = [&](int side) { return std::max(std::fabs(low[side]), std::fabs(high[side])); };
        const double across = std::max(high[0] - low[1], high[1] - low[0]);
        sum += cost.metric == Metric::dot ? 2.0 * magnitude(0) * magnitude(1) : across * across;
    }
    return cost.metric == Metric::euclidean ? std::sqrt(sum) : sum;
}

template <class Source, class Row>
void write(const PointsSolver<Source>& solver, const Source& source, const Row& original_row,
           const std::vector<double>& u, Output& output) {
    std::fill_n(output.row4col, source.columns(), -1);
    std::fill_n(output.v, source.columns(), 0.0);
    for (std::int64_t i = 0; i < source.rows(); ++i) {
        const std::int64_t row = original_row(i), column = source.original_column(solver.column_of(i));
        output.col4row[row] = column;
        output.row4col[column] = row;
        output.u[row] = u[i];
        output.v[column] = 0.0 - source.price(solver.column_of(i));
    }
    output.stats = solver.stats;
    output.stats.path = "points";
}

// The same problem as a matrix.
template <int D>
void solve_stored(const PointsCost& cost, const PointsOptions& options, Output& output) {
    const Space<D> space{cost.d, cost.metric};
    std::vector<double> matrix(cost.rows * cost.cols);
    run_chunks(cost.rows, 16, options.threads, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            for (std::int64_t j = 0; j < cost.cols; ++j)
                matrix[i * cost.cols + j] = space.cost(cost.x + i * cost.d, cost.z + j * cost.d);
    });
    Cost stored;
    stored.data = matrix.data();
    stored.rows = cost.rows;
    stored.cols = cost.cols;
    stored.row_stride = cost.cols * static_cast<std::int64_t>(sizeof(double));
    stored.col_stride = sizeof(double);
    solve(stored, options, output);
    output.stats.path = "points, stored";
}

template <int D, class Chain, class Row>
void solve_with(Chain& chain, const Row& original_row, const PointsCost& cost, const PointsOptions& options,
                Output& output) {
    auto& source = chain.source();
    auto& solver = chain.solver();
    std::vector<double> u(cost.rows), prices(options.tolerance > 0.0 ? cost.cols : 0);
    Certificate found;
    const double allowed = options.tolerance > 0.0 ? options.tolerance * spread_of_costs(source) : -1.0;
    bool near = false;
    const auto near_enough = [&](double epsilon) {
        if (static_cast<double>(cost.rows) * epsilon > kLeftOver * allowed) return false;
        for (std::int64_t j = 0; j < cost.cols; ++j) prices[j] = source.price(j);
        found = certify(solver, source, u);
        near = found.gap <= allowed;
        if (!near) source.set_prices([&](std::int64_t j) { return prices[j]; });
        return near;
    };
    const auto proven = [&] {
        return found.gap <= found.bound(cost.rows, std::max(found.matched, found.duals), false);
    };
    const bool storable = cost.rows <= kMostStored / cost.cols;
    if (storable) solver.most_scans = kPatience * cost.rows;
    output.status = Status::cancelled;
    chain.begin(start_of(options, source, original_row, most_apart(cost)));
    while (true) {
        const Auction auction = chain.watch().round == 0 ? chain.auction(near_enough) : Auction::ended;
        if (auction == Auction::exhausted) return solve_stored<D>(cost, options, output);
        if (auction == Auction::stopped) return;
        if (near) break;
        const Finish finish = solver.finish();
        if (finish == Finish::stopped) return;
        if (finish == Finish::too_early) continue;
        found = certify(solver, source, u);
        if (proven() || ++chain.watch().round == kRounds) break;
        solver.forget();
    }
    // Costs that cancel, and prices that are large against what is matched, can leave more than is promised.
    if (!near && !proven() && storable) return solve_stored<D>(cost, options, output);
    output.status = proven() ? Status::optimal : near ? Status::within_tolerance : Status::uncertified;
    output.total = found.total;
    output.gap = found.gap;
    write(solver, source, original_row, u, output);
}

// rows <= cols.
template <int D>
void solve_in(const PointsCost& cost, const PointsOptions& options, Output& output) {
    const Space<D> space{cost.d, cost.metric};
    const PriceTree<D> rows(space, cost.x, cost.rows);
    PointsChain<D> chain(space, in_order(rows, cost.d), cost, options);
    solve_with<D>(chain, [&](std::int64_t i) { return rows.original(i); }, cost, options, output);
}

void nothing_to_match(const PointsCost& cost, Output& output) {
    std::fill_n(output.row4col, cost.cols, -1);
    std::fill_n(output.v, cost.cols, 0.0);
    output.gap = 0.0;
    output.status = Status::optimal;
    output.stats.path = "points";
}

}  // namespace

void solve_points(const PointsCost& cost, const PointsOptions& options, Output& output) {
    if (cost.rows > cost.cols) {  // the costs are those of z and x, too
        PointsCost turned = cost;
        PointsOptions otherwise = options;
        std::swap(turned.x, turned.z);
        std::swap(turned.rows, turned.cols);
        std::swap(otherwise.start_u, otherwise.start_v);
        std::vector<std::int64_t> rows;
        if (options.start_col4row) {
            rows.assign(cost.cols, kNobody);
            for (std::int64_t i = 0; i < cost.rows; ++i)
                if (const std::int64_t column = options.start_col4row[i]; column >= 0 && column < cost.cols)
                    rows[column] = i;
            otherwise.start_col4row = rows.data();
        }
        std::swap(output.col4row, output.row4col);
        std::swap(output.u, output.v);
        solve_points(turned, otherwise, output);
        std::swap(output.col4row, output.row4col);
        std::swap(output.u, output.v);
        return;
    }
    if (cost.rows == 0) return nothing_to_match(cost, output);
    const auto solve = cost.d == 1 ? solve_in<1> : cost.d == 2 ? solve_in<2> : cost.d == 3 ? solve_in<3> : solve_in<0>;
    solve(cost, options, output);
}

void solve_points(const PointsCost& cost, const PointsProduct& product, const PointsOptions& options, Output& output) {
    if (cost.rows == 0) return nothing_to_match(cost, output);
    PointsAlone<ProductSource> chain(ProductSource(cost, product, options.threads), options);
    solve_with<0>(chain, [](std::int64_t i) { return i; }, cost, options, output);
}

}  // namespace loomfast::assignment
