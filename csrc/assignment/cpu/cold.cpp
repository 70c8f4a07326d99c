// Two ways to near-optimal prices. Where column minima already give many rows a column of their own (random
// or heavily tied costs), the start of Jonker and Volgenant's algorithm leaves few rows free and shortest
// paths finish the job. Where a few rows hold most of the minima (images against noise, geometry), the rows
// compete, paths would be long, and the auction is far ahead.
#include "assignment/cpu/cold.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "assignment/cpu/auction.hpp"
#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/shortest_path.hpp"

namespace loomfast::assignment {

namespace {

// Shares of rows, measured like the sizes in cold.hpp.
constexpr double kEasy = 0.5;  // that minima settle in what may be an easy problem,
constexpr double kOpen = 0.1;  // and left by the first reductions if it is none: random costs leave .06, a plane .2
constexpr double kFewLeft = 0.3;  // left by reductions, up to which paths, or more of these, match faster than an auction
constexpr double kNothingLearned = 0.98;  // left loose by an auction, from which on reductions start better anew
constexpr std::int32_t kFewColumns = 128;  // up to here, a dense path takes as long as some ten bids
constexpr std::int32_t kLongRows = 512;   // columns above which few rows bid sooner by caches than by all of their costs
constexpr std::int32_t kProbe = 64;       // rows looked at before deciding that a problem is not easy
constexpr std::int64_t kBids = 4;         // bids a row without eps, after which its columns are contended,
constexpr std::int64_t kBidsEasy = 12;    // and where minima are many or alike;
constexpr std::int64_t kBidsFew = 2;      // after which it shows whether many are left, enough where columns are few
constexpr std::int64_t kBidsSome = 4;     // or are not many
constexpr int kRepairs = 8;               // passes: they leave a few percent loose of the half that an auction does

// How far the matching is from optimal at most, by the prices as they are.
double total_slack(Work& w) {
    double slack = 0.0;
    for (std::int32_t i = 0; i < w.n; i++) {
        const std::int32_t j = w.x[i];
        if (j < 0) return HUGE_VAL;
        slack += w.value(i, j) - w.least(i, w.value(i, j));
    }
    return slack;
}

// Bids a row before the rest is left to paths.
std::int64_t bids_before_paths(const Work& w) {
    return w.m <= kFewColumns ? kBidsFew : w.m <= kDenseColumns ? kBidsSome : kBidsEasy;
}

// Bids without eps, of which `made` a row have been made, and shortest paths.
Status finish(Work& w, const char* path, Array<std::int32_t> rows, std::int64_t made) {
    w.stats.path = path;
    bool exhausted = false;
    const Array<std::int32_t> rest = reduce_rows(w, std::move(rows), (bids_before_paths(w) - made) * w.n, &exhausted);
    return augment_rows(w, rest, !exhausted);
}

// Every column free of charge, as prices start where columns are left over.
void set_to_floor(Work& w) {
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, w.floor(j));
}

// Whether rows are so many, or so slow to read, that caches pay for bids without eps.
bool worth_caches(const Work& w) { return w.n > kDenseRows || (!w.filter.exact && w.m > kLongRows); }

Status solve_square(Work& w) {
    if (!columns_feasible(w)) return Status::infeasible;
    reduce_columns(w);
    const bool plateaus = has_plateaus(w);
    // Where pairs are forbidden, rows have few columns to bid for and an auction on prices so far apart takes long.
    if (w.filter.columns_apart && w.filter.forbidden && !plateaus && w.n > kSmallRows) {
        const Array<std::int32_t> rest = reduce_rows(w, w.free_rows(), 2 * std::int64_t{w.n});
        w.stats.path = "column reductions";
        if (static_cast<double>(rest.size()) <= kFewLeft * w.n) return augment_rows(w, rest);
        w.free_all_rows();
        w.forget_caches();
        set_cold_prices(w);
    }
    if (!match_minima(w, plateaus ? 0.0 : kEasy)) return w.n <= kSmallRows ? solve_plainly(w) : compete(w, 1.0);
    if (!plateaus) w.use_caches();
    if (plateaus || w.n <= kFewColumns) return finish(w, "column reductions");
    bool exhausted = false;
    Array<std::int32_t> rest = reduce_rows(w, w.free_rows(), kBidsFew * w.n, &exhausted);
    if (exhausted && static_cast<double>(rest.size()) > kOpen * w.n) return compete(w, 1.0);
    return finish(w, "column reductions", std::move(rest), kBidsFew);
}

// With columns to spare of which some are far dearer than others to every row, little else than the cheapest n will be
// used, and their prices will end about as high as makes them as dear as the next one: they start there.
Status solve_apart(Work& w) {
    const Array<double>& shift = w.filter.column_shift;
    Array<double> minima(shift.empty() ? w.filter.column_min : shift);
    minima.resize(static_cast<std::size_t>(w.m));
    Array<double> order(minima);
    std::nth_element(order.begin(), order.begin() + w.n, order.end());
    double level = order[w.n];
    if (!(level < HUGE_VAL)) level = 0.0;
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, w.floor(j) + std::max(0.0, level - minima[j]));
    if (worth_caches(w)) w.use_caches();
    bool contended;
    const Array<std::int32_t> rest = reduce_rows(w, w.free_rows(), kBids * w.n, &contended);
    w.stats.path = "row reductions";
    const bool competes = contended || static_cast<double>(rest.size()) > kFewLeft * w.n;
    const Status status = competes && w.n > kMiddleRows ? compete(w, 0.1) : augment_rows(w, rest);
    return status == Status::optimal ? settle_prices(w, false) : status;
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
    if (w.m > kLongRows) w.use_caches();
    status = compete(w, std::min(1.0, 0.03 * w.n / (w.m - w.n)));
    return status == Status::optimal ? settle_prices(w, false) : status;
}

}  // namespace

Status solve_cold(Work& w) { return w.square() ? solve_square(w) : solve_wide(w); }

Status solve_plainly(Work& w) {
    const Timed timed(w.watch, w.stats.seconds.paths);
    w.stats.path = "shortest paths";
    w.stats.augmentations = w.n;
    Array<std::int32_t> x, y;
    Array<double> p;
    const Status status = shortest_paths(w.rows.source, w.cancel, x, y, p);
    std::copy(x.begin(), x.end(), w.x);
    std::copy(y.begin(), y.end(), w.y);
    for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, p[j] + w.filter.shift_of_column(j));
    return status;
}

void set_cold_prices(Work& w) {
    w.forget_prices();
    if (w.square()) reduce_columns(w);
    else set_to_floor(w);
}

bool columns_feasible(const Work& w) {
    return std::all_of(w.filter.column_min.begin(), w.filter.column_min.begin() + w.m,
                       [](double least) { return least < HUGE_VAL; });
}

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

bool match_minima(Work& w, double share) {
    const Timed timed(w.watch, w.stats.seconds.reduce);
    constexpr float kNone = std::numeric_limits<float>::quiet_NaN();  // equal to nothing
    Array<float> wanted = filled(std::int64_t{w.m} + kPadding, kNone);
    if (w.square()) std::copy_n(w.filter.column_min_f.begin(), w.m, wanted.begin());
    else for (std::int32_t j = 0; j < w.m; j++) wanted[j] = static_cast<float>(-w.floor(j));
    std::int32_t matched = 0;
    for (std::int32_t i = 0; i < w.n; i++) {
        if (i >= kProbe && matched < share * i) break;
        const double shift = w.square() && w.filter.shifted ? 0.0 : w.filter.row_low(w.storage(i));
        const auto low = static_cast<float>(shift);
        std::int32_t j = w.filter.row_min_at[w.storage(i)];
        if (j < 0 || w.filter_row(i)[j] - low != wanted[j])
            j = w.kernels.first_equal(w.filter_row(i), low, wanted.data(), w.m);
        if (j < 0) continue;
        // Rounded alike is not yet alike.
        if (std::fabs(w.value(i, j) - shift) > w.rounding(i, j)) continue;
        w.match(i, j);
        wanted[j] = kNone;
        matched++;
    }
    if (matched >= share * w.n) return true;
    w.free_all_rows();
    return false;
}

Status finish(Work& w, const char* path) { return finish(w, path, w.free_rows(), 0); }

bool solve_uncontended(Work& w, Status* status) {
    set_to_floor(w);
    const bool plateaus = has_plateaus(w);
    if (!plateaus && w.n > kDenseRows) w.use_caches();
    match_minima(w, 0.0);
    bool contended = false;
    Array<std::int32_t> rest = reduce_rows(w, w.free_rows(), kBidsFew * w.n, &contended);
    if (contended && (plateaus || static_cast<double>(rest.size()) <= kFewLeft * w.n))
        rest = reduce_rows(w, std::move(rest), (kBidsEasy - kBidsFew) * w.n, &contended);
    if (contended && !plateaus) return false;
    w.stats.path = "row reductions";
    *status = augment_rows(w, rest, !contended);
    return true;
}

Status compete(Work& w, double start) {
    const Schedule schedule = make_schedule(w, measure_spread(w), start);
    if (schedule.cached) w.use_caches();
    w.stats.path = w.cached ? "cached auction" : "dense auction";
    run_auction(w, schedule);
    if (w.cancelled()) return Status::cancelled;
    w.use_caches();
    repair_prices(w, kRepairs);
    if (w.cancelled()) return Status::cancelled;
    if (w.target_gap > 0 && total_slack(w) <= w.target_gap) return Status::within_tolerance;
    Array<std::int32_t> loose = free_loose_rows(w);
    if (w.square() && static_cast<double>(loose.size()) > kNothingLearned * w.n) {
        w.free_all_rows();
        w.forget_caches();
        set_cold_prices(w);
        loose = w.free_rows();
    }
    const std::int64_t limit = kBids * loose.count();
    return augment_rows(w, reduce_rows(w, std::move(loose), limit));
}

}  // namespace loomfast::assignment
