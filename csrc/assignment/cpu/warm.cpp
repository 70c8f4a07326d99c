// What a start is worth is found out before it is used: whether its prices prove more than the minima of rows and columns
// do, and how many rows of a sample have their best choice in its matching.
#include "assignment/cpu/warm.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/cold.hpp"
#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/push.hpp"

namespace loomfast::assignment {

namespace {

// Shares of rows, measured on couplings of every age (bench/warm_starts.py) and on starts that fit badly
// (bench/families.py).
constexpr double kEasy = 0.745;            // that minima settle in a problem that prices do not help with,
constexpr double kEasyLarge = 0.98;        // the same of a large one;
constexpr double kSettled = 0.03;          // left by minima that make a start pointless
constexpr double kWorthPushing = 0.58;     // loose, up to which prices are pushed;
constexpr double kWorthPushingEasy = 0.25; // the same in an easy problem;
constexpr double kWorthKeeping = 0.9;      // up to which a start tells anything
constexpr double kSampled = 0.1;           // how far a sample of 64 may be from that
constexpr double kWorthReleasing = 0.05;   // columns to release, per row, up to which a cold solve is slower
// The first eps of an auction from prices, where a cold one's is 1: from those of a start that did not fit, or that came
// without a matching.
constexpr double kFirstEps = 0.3, kFirstEpsFromPrices = 0.1;

// The start's prices, shifted so that the least is zero; false if they are none that are numbers.
bool load_prices(Work& w, const double* v) {
    if (!v) return false;
    const double factor = -w.rows.source.sign() * w.rows.source.factor();
    double least = HUGE_VAL;
    for (std::int32_t j = 0; j < w.m; j++) {
        if (!std::isfinite(factor * v[j])) return false;
        least = std::min(least, factor * v[j]);
    }
    w.forget_prices();
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
        rows += w.kernels.bidding_dense(w, i).w1 - w.filter.row_low(w.storage(i));
    }
    for (std::int32_t j = 0; j < w.m; j++) {
        columns += w.p[j] - w.floor(j);
        if (w.square()) columns += w.filter.column_min[j];
    }
    return rows / samples > columns / w.n;
}

// The pairs of the start, as far as they are a matching of allowed pairs.
void load_matching(Work& w, const std::int64_t* col4row) {
    const bool transposed = w.rows.source.transposed();
    const std::int64_t rows = transposed ? w.m : w.n, cols = transposed ? w.n : w.m;
    for (std::int64_t r = 0; r < rows; r++) {
        const std::int64_t c = col4row[r];
        if (c < 0 || c >= cols) continue;
        auto i = static_cast<std::int32_t>(transposed ? c : r), j = static_cast<std::int32_t>(transposed ? r : c);
        if (w.x[i] < 0 && w.y[j] < 0 && w.rows.cost(i, j) < HUGE_VAL) w.match(i, j);
    }
}

// A cold solve after a start that was of no use.
Status start_over(Work& w) {
    w.free_all_rows();
    set_cold_prices(w);
    w.cached = false;  // caches hold only as long as prices do not fall
    return solve_cold(w);
}

// Columns without a row that are not free of charge: each costs a dense search in settle_prices.
std::int32_t columns_to_release(const Work& w) {
    std::int32_t count = 0;
    for (std::int32_t j = 0; j < w.m; j++) count += w.y[j] < 0 && w.charged(j);
    return count;
}

// Prices without a matching: bid from them, and compete at a low eps if bidding does not settle it.
Status solve_from_prices(Work& w) {
    bool contended;
    const Array<std::int32_t> rest = reduce_rows(w, free_loose_rows(w), 4 * std::int64_t{w.n}, &contended);
    w.stats.path = "warm start";
    const Status status = contended ? compete(w, kFirstEpsFromPrices) : augment_rows(w, rest);
    return w.n < w.m && status == Status::optimal ? settle_prices(w, false) : status;
}

// From a matching, and prices or those of a cold solve. `easy`: minima settle most rows, a cold solve is fast.
Status solve_from_matching(Work& w, bool priced, bool easy) {
    const double most = easy ? kWorthPushingEasy : kWorthPushing;
    const std::int64_t missing = std::count(w.x, w.x + w.n, -1);
    Array<std::int32_t> loose = loose_rows(w);
    w.stats.loose = missing + loose.count();
    bool worth = static_cast<double>(w.stats.loose) <= most * w.n;
    if (worth && !loose.empty()) worth = push_prices(w, loose);
    if (!worth) {
        const bool useful = priced && !easy && w.n > kSmallRows && !w.filter.columns_apart &&
                            static_cast<double>(w.stats.loose) <= kWorthKeeping * w.n;
        return useful && w.square() ? compete(w, kFirstEps) : start_over(w);
    }
    w.stats.path = "warm start";
    loose = free_loose_rows(w);
    if (loose.empty() && w.square()) return Status::optimal;
    if (!loose.empty()) w.use_caches();
    const std::int64_t limit = 4 * loose.count();
    const Status status = augment_rows(w, reduce_rows(w, std::move(loose), limit));
    if (w.square() || status != Status::optimal) return status;
    if (columns_to_release(w) <= kWorthReleasing * w.n) return settle_prices(w, false);
    return start_over(w);
}

// Whether a sample of the rows has few enough loose ones to look at all; notes their number as far as it tells.
bool looks_tight(Work& w, double most) {
    const std::int32_t samples = std::min(w.n, 64);
    std::int32_t loose = 0;
    for (std::int32_t k = 0; k < samples; k++) {
        auto i = static_cast<std::int32_t>(std::int64_t{k} * w.n / samples);
        const std::int32_t j = w.x[i];
        loose += j < 0 || is_loose(w, i, j);
    }
    w.stats.loose = std::int64_t{loose} * w.n / samples;
    return loose <= most * samples + kSampled * samples;
}

}  // namespace

Status solve_warm(Work& w, const double* v, const std::int64_t* col4row) {
    if (w.square() && !columns_feasible(w)) return Status::infeasible;
    if (w.n < w.m && !col4row && !w.filter.columns_apart) {
        Status status;
        if (solve_uncontended(w, &status)) return status;
        w.free_all_rows();
        w.forget_caches();
    }
    set_cold_prices(w);
    const bool plateaus = has_plateaus(w);
    const bool easy = match_minima(w, plateaus ? 0.0 : w.n <= kReductionRows ? kEasy : kEasyLarge);
    const auto left = static_cast<double>(w.free_rows().size());
    if (plateaus || (easy && left <= kSettled * w.n)) return finish(w, w.square() ? "column reductions" : "row reductions");
    w.free_all_rows();
    if (easy && !col4row) return start_over(w);
    const bool priced = load_prices(w, v) && prove_more_than_minima(w);
    if (!priced) set_cold_prices(w);
    if (!col4row) return priced ? solve_from_prices(w) : start_over(w);
    load_matching(w, col4row);
    const double most = easy ? kWorthPushingEasy : priced ? kWorthKeeping : kWorthPushing;
    return looks_tight(w, most) ? solve_from_matching(w, priced, easy) : start_over(w);
}

}  // namespace loomfast::assignment
