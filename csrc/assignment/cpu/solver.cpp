// Two ways to near-optimal prices. Where column minima already give many rows a column of their own (random
// or heavily tied costs), the start of Jonker and Volgenant's algorithm leaves few rows free and shortest
// paths finish the job. Where a few rows hold most of the minima (images against noise, geometry), the rows
// compete, paths would be long, and the auction is far ahead.
#include "assignment/cpu/solver.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "assignment/cpu/auction.hpp"
#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/shortest_path.hpp"
#include "assignment/cpu/warm.hpp"

namespace loomfast::assignment {

namespace {

constexpr std::int32_t kTinyRows = 16;       // up to here, plain shortest paths
constexpr std::int32_t kSmallRows = 40;      // up to here too, unless column minima settle most rows
constexpr std::int32_t kDenseRows = 1024;     // up to here, bidding by whole rows is faster than caches
constexpr std::int32_t kMiddleRows = 256, kReductionRows = 1024;  // sizes up to which shortest paths finish fast
constexpr std::int32_t kProbe = 64;      // rows looked at before deciding that a problem is not easy
constexpr double kEasy = 0.5, kEasyMiddle = 0.745, kEasyLarge = 0.9;  // share of rows that minima settle in an easy
                                         // problem by its size,
constexpr double kEasyFromStart = 0.745;  // and in one that prices to start from do not help with
constexpr double kWorthPushing = 0.58;   // share of loose rows above which prices are not pushed,
constexpr double kWorthPushingEasy = 0.25;  // the same in an easy problem,
constexpr double kWorthKeeping = 0.9;    // and above which a start tells nothing
constexpr double kSettled = 0.03;        // share of rows left by minima that makes a start pointless
constexpr double kWarmStart = 0.3;       // the auction's first eps after a start, relative to a cold solve's
constexpr double kFewLeft = 0.3;         // share of rows left by reductions that paths match faster than an auction where
                                         // columns are apart
constexpr double kNothingLearned = 0.98;  // share of rows that an auction leaves loose above which reductions start better
constexpr double kWorthReleasing = 0.05;  // columns to release, per row, above which a cold solve is faster

// Gives rows, in order, the first free column that is a best choice of theirs at the prices of reduce_columns, or at
// prices of zero where columns are left over, as long as enough of them find one; a constant matrix gets the identity.
// Returns whether enough did; if not, nothing is matched.
bool match_minima(Work& w, double share) {
    constexpr float kNone = std::numeric_limits<float>::quiet_NaN();  // equal to nothing
    const bool square = w.n == w.m;
    std::vector<float> wanted(static_cast<std::size_t>(w.m) + kPadding, kNone);
    if (square) std::copy_n(w.filter.column_min_f.begin(), w.m, wanted.begin());
    else for (std::int32_t j = 0; j < w.m; j++) wanted[static_cast<std::size_t>(j)] = static_cast<float>(-w.floor(j));
    std::int32_t matched = 0;
    for (std::int32_t i = 0; i < w.n; i++) {
        if (i >= kProbe && matched < share * i) break;
        const double shift = square && w.filter.shifted ? 0.0 : w.filter.row_low(w.storage(i));
        std::int32_t j = w.kernels.first_equal(w.filter_row(i), static_cast<float>(shift), wanted.data(), w.m);
        if (j < 0) continue;
        // Rounded alike is not yet alike.
        if (std::fabs(w.value(i, j) - shift) > w.rounding(i, j)) continue;
        w.match(i, j);
        wanted[static_cast<std::size_t>(j)] = kNone;
        matched++;
    }
    if (matched >= share * w.n) return true;
    std::fill(w.x.begin(), w.x.end(), -1);
    std::fill(w.y.begin(), w.y.end(), -1);
    return false;
}

// The rows without a column.
std::vector<std::int32_t> rows_left(const Work& w) {
    std::vector<std::int32_t> rows;
    for (std::int32_t i = 0; i < w.n; i++)
        if (w.x[static_cast<std::size_t>(i)] < 0) rows.push_back(i);
    return rows;
}

// The matching and the prices of a square problem as reductions find them.
void reset(Work& w) {
    for (std::int32_t i = 0; i < w.n; i++) w.free_row(i);
    w.forget_caches();
    w.s.price_bound = 0.0;
    reduce_columns(w);
}

// Whether most rows have few cheap columns and then many of one and the same cost: caches cannot tell these apart and
// the auction would raise their prices one by one, where a path needs any one that is free.
bool has_plateaus(const Work& w) {
    constexpr std::int32_t samples = 8, probes = 3;
    std::int32_t found = 0;
    for (std::int32_t k = 0; k < samples; k++) {
        const float* row = w.filter_row(static_cast<std::int32_t>(std::int64_t{k} * w.n / samples));
        for (std::int32_t probe = 0; probe < probes; probe++) {
            const float level = row[std::int64_t{2 * probe + 1} * w.m / (2 * probes)];
            std::int32_t equal = 0, less = 0;
            for (std::int32_t j = 0; j < w.m; j++) {
                equal += row[j] == level;
                less += row[j] < level;
            }
            if (level < HUGE_VALF && equal >= w.m / 4 && less <= kCacheSize / 2) {
                found++;
                break;
            }
        }
    }
    return 2 * found >= samples;
}

// Bids without eps and shortest paths, for a problem whose free rows are few or find columns soon.
Status finish(Work& w, const char* path) {
    w.stats.path = path;
    return augment_rows(w, reduce_rows(w, rows_left(w), 8 * std::int64_t{w.n}));
}

// How far the matching is from optimal at most, by the prices as they are.
double total_slack(Work& w) {
    double slack = 0.0;
    for (std::int32_t i = 0; i < w.n; i++) {
        std::int32_t j = w.x[static_cast<std::size_t>(i)];
        if (j < 0) return HUGE_VAL;
        slack += w.value(i, j) - w.least(i, w.value(i, j));
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
    if (w.n == w.m && static_cast<double>(loose.size()) > kNothingLearned * w.n) {
        reset(w);
        loose = rows_left(w);
    }
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
    const bool plateaus = has_plateaus(w);
    const double easy = w.n <= kMiddleRows ? kEasy : w.n <= kReductionRows ? kEasyMiddle : kEasyLarge;
    if (w.filter.columns_apart && !plateaus && w.n > kSmallRows) {
        std::vector<std::int32_t> rest = reduce_rows(w, rows_left(w), 2 * std::int64_t{w.n});
        w.stats.path = "column reductions";
        if (static_cast<double>(rest.size()) <= kFewLeft * w.n) return augment_rows(w, rest);
        reset(w);
    }
    if (!match_minima(w, plateaus ? 0.0 : easy)) return w.n <= kSmallRows ? solve_plainly(w) : compete(w, 1.0);
    if (!w.filter.exact && !plateaus && w.n > kMiddleRows) w.use_caches();
    return finish(w, "column reductions");
}

// Every column free of charge, as prices start where columns are left over.
void set_to_floor(Work& w) {
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, w.floor(j));
}

// With columns to spare of which some are far dearer than others to every row, little else than the cheapest n will be
// used, and their prices will end about as high as makes them as dear as the next one: they start there.
Status solve_apart(Work& w) {
    const std::vector<double>& shift = w.filter.column_shift;
    std::vector<double> minima(shift.empty() ? w.filter.column_min : shift);
    minima.resize(static_cast<std::size_t>(w.m));
    std::vector<double> order(minima);
    std::nth_element(order.begin(), order.begin() + w.n, order.end());
    double level = order[static_cast<std::size_t>(w.n)];
    if (!(level < HUGE_VAL)) level = 0.0;
    for (std::int32_t j = 0; j < w.m; j++)
        w.set_price(j, w.floor(j) + std::max(0.0, level - minima[static_cast<std::size_t>(j)]));
    if (w.n > kDenseRows || (!w.filter.exact && w.m > 2 * kMiddleRows)) w.use_caches();
    bool contended;
    std::vector<std::int32_t> rest = reduce_rows(w, rows_left(w), 4 * std::int64_t{w.n}, &contended);
    w.stats.path = "row reductions";
    const bool competes = contended || static_cast<double>(rest.size()) > kFewLeft * w.n;
    Status status = competes && w.n > kMiddleRows ? compete(w, 0.1) : augment_rows(w, rest);
    return status == Status::optimal ? settle_prices(w, false) : status;
}

// Rows bid from prices of zero. False if they compete too much for that; `status` is set where they do not.
bool solve_uncontended(Work& w, Status* status) {
    set_to_floor(w);
    const bool plateaus = has_plateaus(w);
    if (!plateaus && (w.n > kDenseRows || (!w.filter.exact && w.m > 2 * kMiddleRows))) w.use_caches();
    match_minima(w, 0.0);
    bool contended = false;
    const std::int64_t limit = (plateaus ? 8 : 4) * std::int64_t{w.n};
    std::vector<std::int32_t> rest = reduce_rows(w, rows_left(w), limit, &contended);
    if (contended && !plateaus) return false;
    w.stats.path = "row reductions";
    *status = augment_rows(w, rest);
    return true;
}

// With columns to spare, prices start at zero and rise only where a column is taken, so unmatched columns
// stay free of charge. That rules out column reduction, and the phases of an auction break it: the columns
// that they leave behind are released at the end. The more columns are spare, the less the rows compete and
// the lower the first eps.
Status solve_wide(Work& w) {
    if (w.n <= kSmallRows && w.m <= 2 * kSmallRows) return solve_plainly(w);
    if (w.filter.columns_apart) return solve_apart(w);
    Status status;
    if (solve_uncontended(w, &status)) return status;
    status = compete(w, std::min(1.0, 0.03 * w.n / (w.m - w.n)));
    return status == Status::optimal ? settle_prices(w, false) : status;
}

// Column prices of the start, shifted so that the least is zero; false if there are none, or none that are numbers.
bool load_prices(Work& w, const double* v) {
    if (!v) return false;
    const double factor = -w.source.sign() * w.source.factor();
    double least = HUGE_VAL;
    for (std::int32_t j = 0; j < w.m; j++) {
        if (!std::isfinite(factor * v[j])) return false;
        least = std::min(least, factor * v[j]);
    }
    w.s.price_bound = 0.0;
    for (std::int32_t j = 0; j < w.m; j++)
        w.set_price(j, std::max(w.floor(j), factor * v[j] - least + w.filter.shift_of_column(j)));
    return true;
}

// Whether the prices prove more, as far as a sample of the rows tells, than the minima of rows and columns do: the bound
// sum_i min_j (c_ij + p_j) - sum_j p_j. Prices of other costs, or on another scale, do not.
bool prove_more_than_minima(Work& w) {
    const std::int32_t samples = std::clamp(w.n / 8, std::min(w.n, 32), 256);
    double rows = 0.0, columns = 0.0;
    for (std::int32_t k = 0; k < samples; k++) {
        auto i = static_cast<std::int32_t>(std::int64_t{k} * w.n / samples);
        rows += w.kernels.bidding_dense(w.s, i).w1 - w.filter.row_low(w.storage(i));
    }
    for (std::int32_t j = 0; j < w.m; j++) {
        columns += w.p[static_cast<std::size_t>(j)] - w.floor(j);
        if (w.n == w.m) columns += w.filter.column_min[static_cast<std::size_t>(j)];
    }
    return rows / samples > columns / w.n;
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
    w.s.price_bound = 0.0;
    set_to_floor(w);
    w.cached = false;  // caches hold only as long as prices do not fall
    return solve_cold(w);
}

// Columns without a row that are not free of charge: each costs a dense search in release_columns.
std::int32_t columns_to_release(const Work& w) {
    std::int32_t count = 0;
    for (std::int32_t j = 0; j < w.m; j++) count += w.y[static_cast<std::size_t>(j)] < 0 && w.charged(j);
    return count;
}

}  // namespace

Status solve_plainly(Work& w) {
    w.stats.path = "shortest paths";
    w.stats.augmentations = w.n;
    Status status = shortest_paths(w.source, w.cancel, w.x, w.y, w.p);
    for (std::int32_t j = 0; j < w.m; j++)
        w.set_price(j, w.p[static_cast<std::size_t>(j)] + w.filter.shift_of_column(j));
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

// The prices that a solve without a start begins with.
void set_cold_prices(Work& w) {
    w.s.price_bound = 0.0;
    if (w.n == w.m) reduce_columns(w);
    else set_to_floor(w);
}

// From a matching, and prices or those of a cold solve. `easy`: minima settle most rows, a cold solve is fast.
Status solve_from_matching(Work& w, bool priced, bool easy) {
    const double most = easy ? kWorthPushingEasy : kWorthPushing;
    std::int32_t missing = 0;
    for (std::int32_t i : w.x) missing += i < 0;
    std::vector<std::int32_t> loose = loose_rows(w);
    w.stats.loose = missing + static_cast<std::int64_t>(loose.size());
    bool worth = w.stats.loose <= most * w.n;
    if (worth && !loose.empty()) worth = push_prices(w, loose);
    if (!worth) {
        bool useful = priced && !easy && w.n > kSmallRows && !w.filter.columns_apart && w.stats.loose <= kWorthKeeping * w.n;
        return useful && w.n == w.m ? compete(w, kWarmStart) : start_over(w);
    }
    w.stats.path = "warm start";
    loose = free_loose_rows(w);
    if (loose.empty() && w.n == w.m) return Status::optimal;
    if (!loose.empty()) w.use_caches();
    std::int64_t limit = 4 * static_cast<std::int64_t>(loose.size());
    Status status = augment_rows(w, reduce_rows(w, loose, limit));
    if (w.n == w.m || status != Status::optimal) return status;
    if (columns_to_release(w) <= kWorthReleasing * w.n) return settle_prices(w, false);
    return start_over(w);
}

// Whether a sample of the rows has few enough loose ones to look at all; notes their number as far as it tells.
bool looks_tight(Work& w, double most) {
    const std::int32_t samples = std::min(w.n, 64);
    std::int32_t loose = 0;
    for (std::int32_t k = 0; k < samples; k++) {
        auto i = static_cast<std::int32_t>(std::int64_t{k} * w.n / samples);
        std::int32_t j = w.x[static_cast<std::size_t>(i)];
        loose += j < 0 || is_loose(w, i, j);
    }
    w.stats.loose = std::int64_t{loose} * w.n / samples;
    return loose <= most * samples + 0.1 * samples;
}

Status solve(Work& w, const Options& options) {
    if (w.n <= kTinyRows) return solve_plainly(w);
    const double* v = w.source.transposed() ? options.start_u : options.start_v;
    if (!v && !options.start_col4row) return solve_cold(w);
    if (w.n == w.m && !columns_feasible(w)) return Status::infeasible;
    if (w.n < w.m && !options.start_col4row && !w.filter.columns_apart) {
        Status status;
        if (solve_uncontended(w, &status)) return status;
        for (std::int32_t i = 0; i < w.n; i++) w.free_row(i);
        w.forget_caches();
    }
    set_cold_prices(w);
    const bool plateaus = has_plateaus(w);
    const bool easy = match_minima(w, plateaus ? 0.0 : w.n <= kReductionRows ? kEasyFromStart : 0.98);
    const auto left = static_cast<double>(rows_left(w).size());
    if (plateaus || (easy && left <= kSettled * w.n)) return finish(w, w.n == w.m ? "column reductions" : "row reductions");
    for (std::int32_t i = 0; i < w.n; i++) w.free_row(i);
    if (easy && !options.start_col4row) return start_over(w);
    const bool priced = load_prices(w, v) && prove_more_than_minima(w);
    if (!priced) set_cold_prices(w);
    if (!options.start_col4row) return priced ? solve_from_prices(w) : start_over(w);
    load_matching(w, options.start_col4row);
    const double most = easy ? kWorthPushingEasy : priced ? kWorthKeeping : kWorthPushing;
    return looks_tight(w, most) ? solve_from_matching(w, priced, easy) : start_over(w);
}

}  // namespace loomfast::assignment
