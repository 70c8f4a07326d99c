// Two ways to near-optimal prices. Where column minima already give many rows a column of their own (random
// or heavily tied costs), the start of Jonker and Volgenant's algorithm leaves few rows free and shortest
// paths finish the job. Where a few rows hold most of the minima (images against noise, geometry), the rows
// compete, paths would be long, and the auction is far ahead.
#include "assignment/solver.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/auction.hpp"
#include "assignment/finish.hpp"
#include "assignment/shortest_path.hpp"
#include "assignment/warm.hpp"

namespace loomfast::assignment {

namespace {

constexpr std::int32_t kTinyRows = 16;       // up to here, plain shortest paths
constexpr std::int32_t kSmallRows = 40;      // up to here too, unless column minima settle most rows
constexpr std::int32_t kDenseRows = 1024;     // up to here, bidding by whole rows is faster than caches
constexpr std::int32_t kReductionRows = 1024;  // up to here, shortest paths finish random costs fastest
constexpr std::int32_t kProbe = 64;      // rows looked at before deciding that a problem is not easy
constexpr double kEasy = 0.4;            // share of rows that column minima settle in an easy problem,
constexpr double kEasyFromStart = 0.56;  // and in one that prices to start from do not help with
constexpr double kWorthPushing = 0.58;   // share of loose rows above which prices are not pushed,
constexpr double kWorthKeeping = 0.9;    // and above which a start tells nothing
constexpr double kWarmStart = 0.3;       // the auction's first eps after a start, relative to a cold solve's
constexpr double kWorthReleasing = 0.05;  // columns to release, per row, above which a cold solve is faster

// What column minima are to be compared with: costs less their row's minimum.
float minima_shift(const Work& w, std::int32_t i) {
    auto r = static_cast<std::size_t>(w.storage(i));
    return w.filter.copy ? 0.0f : static_cast<float>(w.filter.row_min[r]);
}

// Gives rows, in order, the first free column whose least cost they hold, while enough of them find one;
// a constant matrix gets the identity. Returns whether reductions should go on from here.
bool match_column_minima(Work& w, double small_share = kEasy) {
    std::vector<std::int32_t> columns(static_cast<std::size_t>(w.m) + kPadding);
    const double share = w.n <= kReductionRows ? small_share : 0.98;
    std::int32_t matched = 0;
    for (std::int32_t i = 0; i < w.n; i++) {
        if (i >= kProbe && matched < share * i) break;
        std::int32_t count =
            w.kernels.equal_columns(w.filter_row(i), minima_shift(w, i), w.filter.column_min_f.data(), w.m, columns.data());
        for (std::int32_t k = 0; k < count; k++)
            if (w.y[static_cast<std::size_t>(columns[static_cast<std::size_t>(k)])] < 0) {
                w.match(i, columns[static_cast<std::size_t>(k)]);
                matched++;
                break;
            }
    }
    if (matched >= share * w.n) return true;
    std::fill(w.x.begin(), w.x.end(), -1);
    std::fill(w.y.begin(), w.y.end(), -1);
    return false;
}

// How far the matching is from optimal at most, by the prices as they are.
double total_slack(Work& w) {
    double slack = 0.0;
    for (std::int32_t i = 0; i < w.n; i++) {
        std::int32_t j = w.x[static_cast<std::size_t>(i)];
        if (j < 0) return HUGE_VAL;
        slack += w.value(i, j) - w.least(i);
    }
    return slack;
}

// The auction and everything after it, from the prices and the matching as they are.
Status compete(Work& w, double start) {
    Spread spread = measure_spread(w);
    double last_eps = std::min(0.1 * spread.whole / w.n, 0.02 * spread.near);
    bool dense = w.n <= kDenseRows && last_eps > 0x1p-21 * spread.scale;
    if (!dense) w.use_caches();
    w.stats.path = w.cached ? "cached auction" : "dense auction";
    run_auction(w, spread, start);
    if (w.cancelled()) return Status::cancelled;
    w.use_caches();
    repair_prices(w, 8);
    if (w.cancelled()) return Status::cancelled;
    if (w.target_gap > 0 && total_slack(w) <= w.target_gap) return Status::within_tolerance;
    std::vector<std::int32_t> loose = free_loose_rows(w);
    std::int64_t limit = 4 * static_cast<std::int64_t>(loose.size());
    return augment_rows(w, reduce_rows(w, loose, limit));
}

// Whether every column has an allowed pair, as reduction needs.
bool columns_feasible(const Work& w) {
    return std::all_of(w.filter.column_min.begin(), w.filter.column_min.begin() + w.m,
                       [](double least) { return least < HUGE_VAL; });
}

Status solve_square(Work& w) {
    if (!columns_feasible(w)) return Status::infeasible;
    reduce_columns(w);
    if (!match_column_minima(w)) return w.n <= kSmallRows ? solve_plainly(w) : compete(w, 1.0);
    w.stats.path = "column reductions";
    return augment_rows(w, reduce_rows(w, free_loose_rows(w), 8 * std::int64_t{w.n}));
}

// With columns to spare, prices start at zero and rise only where a column is taken, so unmatched columns
// stay free of charge. That rules out column reduction, and the phases of an auction break it: the columns
// that they leave behind are released at the end. The more columns are spare, the less the rows compete and
// the lower the first eps.
Status solve_wide(Work& w) {
    if (w.n <= kSmallRows && w.m <= 2 * kSmallRows) return solve_plainly(w);
    if (w.n > kDenseRows) w.use_caches();
    bool contended;
    std::vector<std::int32_t> rest = reduce_rows(w, free_loose_rows(w), 4 * std::int64_t{w.n}, &contended);
    w.stats.path = "row reductions";
    if (!contended) return augment_rows(w, rest);
    Status status = compete(w, std::min(1.0, 0.03 * w.n / (w.m - w.n)));
    return status == Status::optimal ? settle_prices(w, false) : status;
}

// Column prices of the start; false if there are none, or none that can belong to these costs.
bool load_prices(Work& w, const double* v) {
    const double factor = -w.source.sign() * w.source.factor(), most = 0x1p20 * w.filter.largest;
    for (std::int32_t j = 0; v && j < w.m; j++)
        if (!(std::fabs(factor * v[j]) <= most)) return false;
    for (std::int32_t j = 0; v && j < w.m; j++) {
        double price = factor * v[j];
        w.set_price(j, w.n < w.m ? std::max(0.0, price) : price);
    }
    return v;
}

// The pairs of the start, as far as they are a matching of allowed pairs.
void load_matching(Work& w, const std::int64_t* col4row) {
    const bool transposed = w.source.transposed();
    const std::int64_t rows = transposed ? w.m : w.n, cols = transposed ? w.n : w.m;
    for (std::int64_t r = 0; r < rows; r++) {
        std::int64_t c = col4row[r];
        if (c < 0 || c >= cols) continue;
        auto i = static_cast<std::int32_t>(transposed ? c : r), j = static_cast<std::int32_t>(transposed ? r : c);
        bool free = w.x[static_cast<std::size_t>(i)] < 0 && w.y[static_cast<std::size_t>(j)] < 0;
        if (free && w.cost(i, j) < HUGE_VAL) w.match(i, j);
    }
}

Status solve_cold(Work& w) { return w.n == w.m ? solve_square(w) : solve_wide(w); }

// A cold solve after a start that was of no use.
Status start_over(Work& w) {
    for (std::int32_t i = 0; i < w.n; i++) w.free_row(i);
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, 0.0);
    w.s.price_bound = 0.0;
    w.cached = false;  // caches hold only as long as prices do not fall
    return solve_cold(w);
}

// Columns without a row that are not free of charge: each costs a dense search in release_columns.
std::int32_t columns_to_release(const Work& w) {
    std::int32_t count = 0;
    for (std::size_t j = 0; j < static_cast<std::size_t>(w.m); j++) count += w.y[j] < 0 && w.p[j] > 0.0;
    return count;
}

// A start that pushing does not settle. Its prices, pushed or not, spare the auction its first phase, and
// the pairs that fit are kept; this is what makes up for the time spent pushing. A problem as
// easy as random costs, of whose column minima 1 - 1/e are in different rows, is solved faster from nothing.
Status compete_from_start(Work& w) {
    std::vector<std::int32_t> x = w.x, y = w.y;
    std::fill(w.x.begin(), w.x.end(), -1);
    std::fill(w.y.begin(), w.y.end(), -1);
    if (match_column_minima(w, kEasyFromStart)) return start_over(w);
    std::copy(x.begin(), x.end(), w.x.begin());
    std::copy(y.begin(), y.end(), w.y.begin());
    return compete(w, kWarmStart);
}

}  // namespace

Status solve_plainly(Work& w) {
    w.stats.path = "shortest paths";
    w.stats.augmentations = w.n;
    Status status = shortest_paths(w.source, w.cancel, w.x, w.y, w.p);
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, w.p[static_cast<std::size_t>(j)]);
    return status;
}

// Prices without a matching: bid from them, and compete at a low eps if bidding does not settle it.
Status solve_from_prices(Work& w) {
    bool contended;
    std::vector<std::int32_t> rest = reduce_rows(w, free_loose_rows(w), 4 * std::int64_t{w.n}, &contended);
    w.stats.path = "warm start";
    Status status = contended ? compete(w, 0.1) : augment_rows(w, rest);
    return w.n < w.m && status == Status::optimal ? settle_prices(w, false) : status;
}

Status solve(Work& w, const Options& options) {
    if (w.n <= kTinyRows) return solve_plainly(w);
    const bool priced = load_prices(w, w.source.transposed() ? options.start_u : options.start_v);
    if (!options.start_col4row) return priced ? solve_from_prices(w) : solve_cold(w);
    if (!priced && w.n == w.m) {
        if (!columns_feasible(w)) return Status::infeasible;
        reduce_columns(w);
    }
    load_matching(w, options.start_col4row);
    std::vector<std::int32_t> loose = loose_rows(w);
    std::int32_t missing = 0;
    for (std::int32_t i : w.x) missing += i < 0;
    w.stats.loose = missing + static_cast<std::int64_t>(loose.size());
    bool worth = w.stats.loose <= kWorthPushing * w.n;
    if (worth && !loose.empty()) worth = push_prices(w, loose);
    if (!worth) {
        bool useful = priced && w.n > kSmallRows && w.stats.loose <= kWorthKeeping * w.n;
        if (useful && w.n == w.m && columns_feasible(w)) return compete_from_start(w);
        return start_over(w);
    }
    w.stats.path = "warm start";
    loose = free_loose_rows(w);
    if (loose.empty() && w.n == w.m) return Status::optimal;
    w.use_caches();
    std::int64_t limit = 4 * static_cast<std::int64_t>(loose.size());
    Status status = augment_rows(w, reduce_rows(w, loose, limit));
    if (w.n == w.m || status != Status::optimal) return status;
    if (columns_to_release(w) <= kWorthReleasing * w.n) return settle_prices(w, false);
    return start_over(w);
}

}  // namespace loomfast::assignment
