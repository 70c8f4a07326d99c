// After the auction every pair fits to within eps. With u_i = min_j (c_ij + p_j) the matching is optimal for
// the rows matched as soon as all of their pairs are tight, c_i,x(i) + p_x(i) = u_i. So:
// 1. lower each loose pair's price by its excess (others may loosen: a few passes leave a few percent);
// 2. free the rows that are still loose;
// 3. augmenting row reduction: bid with eps = 0, which keeps pairs tight (Jonker and Volgenant 1987);
// 4. match what is left along shortest augmenting paths (augment.cpp).
#include "assignment/cpu/finish.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr std::int64_t kBidsAtOnce = 1 << 12;  // between two looks at the cancel flag

}  // namespace

void repair_prices(Work& w, int passes) {
    const Timed timed(w.watch, w.stats.seconds.repair);
    for (int pass = 0; pass < passes && !w.cancelled(); pass++) {
        double fall = 0.0;
        for (std::int32_t i = 0; i < w.n; i++) {
            std::int32_t j = w.x[i];
            if (j < 0) continue;
            double least = w.least(i), c = w.rows.cost(i, j), price = w.p[j];
            double lower = w.n < w.m ? std::max(w.floor(j), least - c) : least - c;
            if (c + price > least && lower < price) {
                fall = std::max(fall, price - lower);
                w.set_price(j, lower);
            }
        }
        if (fall == 0.0) return;
        w.lower_bounds(fall);
    }
}

bool is_loose(Work& w, std::int32_t i, std::int32_t j) {
    const double value = w.value(i, j);
    return value - w.least(i, value) > w.rounding(i, j);
}

Array<std::int32_t> free_loose_rows(Work& w) {
    const Timed timed(w.watch, w.stats.seconds.repair);
    Array<std::int32_t> free_rows;
    for (std::int32_t i = 0; i < w.n; i++) {
        std::int32_t j = w.x[i];
        if (j >= 0 && !is_loose(w, i, j)) continue;
        w.free_row(i);
        free_rows.push_back(i);
    }
    return free_rows;
}

Array<std::int32_t> reduce_rows(Work& w, Array<std::int32_t> free_rows, std::int64_t limit,
                                bool* exhausted) {
    const Timed timed(w.watch, w.stats.seconds.reduce);
    Array<std::int32_t> rest;
    if (exhausted) *exhausted = false;
    while (!free_rows.empty()) {
        std::int32_t i = free_rows.back();
        free_rows.pop_back();
        while (i >= 0) {
            if (w.cached) {
                std::int64_t some = std::min(limit, kBidsAtOnce);
                limit -= some;
                i = w.kernels.reduce(w, i, some);
                limit += some;
                if (i < 0) break;
            }
            BestTwo b = w.best_two(i);
            if (limit-- <= 0 && exhausted) *exhausted = true;
            if ((limit & 0xff) == 0 && w.cancelled()) limit = -1;
            if (limit < 0 || b.j1 < 0 || !(b.w2 < HUGE_VAL)) {
                rest.push_back(i);
                break;
            }
            if (b.w2 - b.w1 > w.rounding(i, b.j1)) {
                w.set_price(b.j1, w.p[b.j1] + (b.w2 - b.w1));
            } else if (w.y[b.j1] >= 0) {
                if (b.j2 < 0 || w.y[b.j2] >= 0) {
                    rest.push_back(i);
                    break;
                }
                b.j1 = b.j2;
            }
            std::int32_t loser = w.y[b.j1];
            if (loser >= 0) w.x[loser] = -1;
            w.match(i, b.j1);
            i = loser;
        }
    }
    return rest;
}

}  // namespace loomfast::assignment
