// The whole solve of one instance by one team.
//
// Versions: 1. auction on quantised costs, repair, forest on exact integer costs, float64 certificate.
// 2. Labels descend old trees (a third fewer dependent steps), dummy rows, tolerance, repeated rows.
// 3. Costs four at a time; a filter in float32 before what is decided in integers; sums ride on the barrier.
// 4. Teams of blocks beside each other, and clusters, whose shared memory holds an instance.
#pragma once

#include "assignment/cuda/auction.cuh"
#include "assignment/cuda/certify.cuh"
#include "assignment/cuda/forest.cuh"

namespace loomfast::cuda {

// Bits that a stage's costs may take so that sums of 2^6 of them still fit beside a row in a label. Longer
// paths are met by starting over with row_bits fewer bits, which no path can overflow.
template <class T>
__device__ int first_shift(const Instance<T>& instance, const Board* board) {
    const int label_bits = 63 - __clzll(static_cast<Int>(instance.label_limit));
    const int cost_bits = board->top < board->low ? 1 : board->top - instance.source.unit + 2;
    return cost_bits > label_bits - 6 ? cost_bits - (label_bits - 6) : 0;
}

// Gives the dummies the lowest columns that no row holds.
template <class Team, class T>
__device__ void place_dummies(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s) {
    const int rows = instance.costs.rows;
    rounds.for_each(instance.columns, [&](int j) { s.y[j] = -1; });
    rounds.meet();
    rounds.for_each(rows, [&](int i) {
        if (s.x[i] >= 0) {
            s.y[s.x[i]] = i;
        }
    });
    rounds.meet();
    rounds.for_each_by_warps(instance.columns, [&](int j) {
        if (s.y[j] >= 0) {
            return;
        }
        unsigned below = 0;
        for (int k = lane_id(); k < j; k += 32) {
            below += s.y[k] < 0;
        }
        const int dummy = rows + static_cast<int>(warp_sum(below));
        if (lane_id() == 0 && dummy < instance.rows) {
            s.x[dummy] = j;
        }
    });
    rounds.meet();
}

// Prices of an earlier solve into price(0), and its matching into x; without a matching, each row takes
// its cheapest column and the lowest row keeps it. Prices beyond the largest cost are not taken: they would
// cost the certificate its last bits. Returns whether so few rows are loose, by more than what
// rounded prices explain, that the auction would only destroy the start.
template <class Team, class T>
__device__ bool warm_start(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s) {
    const int unit = instance.source.unit;
    const bool matched = instance.start_column || instance.start_row;
    const int range = s.board->top - unit;
    const Int rounding = range > 32 ? Int{1} << (range - 32) : 0;
    const double largest = ldexp(1.0, range > 0 ? range : 0);
    rounds.for_each(instance.rows, [&](int i) { s.x[i] = -1; });
    rounds.meet();
    rounds.for_each(instance.columns, [&](int j) {
        const double price = instance.start_price ? ldexp(instance.start_price[j], -unit) : 0.0;
        const double signed_price = instance.costs.negate ? price : -price;
        const bool usable = fabs(signed_price) < largest && (instance.square() || signed_price > 0.0);
        s.price(0)[j] = usable ? static_cast<Int>(rint(signed_price)) : 0;
        s.y[j] = instance.rows;
        if (instance.start_row && instance.start_row[j] >= 0 && instance.start_row[j] < instance.costs.rows) {
            atomicMax(&s.x[instance.start_row[j]], j);
        }
    });
    rounds.meet();
    const auto prices = rounds.team.staged(s.price(0), instance.source.quads);
    const auto all = [](int, Word*) { return true; };
    for_rows(rounds.team, instance.costs.rows, all, [&](int row, Word, bool owner) {
        Int least = kForbidden;
        Int column = kForbidden;
        for_costs<Team, Team>(instance.source, row, [&](int j, Int c) {
            if (c + prices[j] < least) {
                least = c + prices[j];
                column = j;
            }
        });
        const Int best = crew_min<Team>(least);
        const Int cheapest = crew_min<Team>(least == best ? column : kForbidden);
        if (!owner) {
            return;
        }
        if (instance.start_column) {
            const int64_t wanted = instance.start_column[row];
            s.x[row] = wanted >= 0 && wanted < instance.columns ? static_cast<int>(wanted) : -1;
        } else if (!matched) {
            s.x[row] = cheapest == kForbidden ? -1 : static_cast<int>(cheapest);
        }
        const int held = s.x[row];
        const Int own = held >= 0 ? fixed_cost(instance.costs, row, held, unit) : kForbidden;
        if (held >= 0) {
            atomicMin(&s.y[held], row);
        }
        rounds.add(own == kForbidden || own + s.price(0)[held] - best > rounding);
    });
    const Word loose = rounds.meet();
    rounds.for_each(instance.costs.rows, [&](int i) {
        if (s.x[i] >= 0 && s.y[s.x[i]] != i) {
            s.x[i] = -1;
        }
    });
    rounds.meet();
    if (instance.has_dummies()) {
        place_dummies(rounds, instance, s);
    }
    return loose * 5 <= static_cast<Word>(instance.rows) * 2;
}

// Cold: the auction's prices into price(0), at full precision, and its matching into x.
template <class Team, class T, class Quantised>
__device__ void cold_start(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s,
                           QuantisedQuad<Quantised>* quantised) {
    reduce_columns(rounds, instance, s);
    reduce_rows(rounds, instance, s);
    const Quantisation q = choose_quantisation<Quantised>(instance, s.board);
    quantise(rounds, instance, s, q, quantised);
    const int now = auction(rounds, instance, s, q, quantised);
    const Word most = q.shift < 60 ? Word{1} << (60 - q.shift) : 1;
    rounds.for_each(instance.columns, [&](int j) {
        const Word price = bid_price(s.word(now)[j]);
        s.price(0)[j] += static_cast<Int>((price < most ? price : most) << q.shift);
    });
}

// Changes the precision of the prices. A rectangular problem's unmatched columns return to 0.
template <class Team, class T>
__device__ void rescale(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, int from, int to) {
    rounds.for_each(instance.columns, [&](int j) { s.y[j] = -1; });
    rounds.meet();
    rounds.for_each(instance.rows, [&](int i) {
        if (s.x[i] >= 0) {
            s.y[s.x[i]] = i;
        }
    });
    rounds.meet();
    rounds.for_each(instance.columns, [&](int j) {
        const Int price = s.price(0)[j];
        const bool stays = instance.square() || s.y[j] >= 0;
        s.price(0)[j] = !stays ? 0 : from > to ? price << (from - to) : price >> (to - from);
    });
}

// Exact prices and matching, from whatever prices and matching there are: coarse costs first where path
// lengths at full precision would not fit into labels. A square problem fits once it is coarse enough; a
// rectangular one loses the prices of the columns that it drops, and is made square if it does not.
template <class Team, class T>
__device__ Status finish(Rounds<Team>& rounds, Instance<T>& instance, const State<Team>& s) {
    const int headroom = 63 - __clzll(static_cast<Int>(instance.label_limit)) - instance.row_bits - 2;
    int shift = first_shift(instance, s.board);
    int scale = 0;
    for (bool widened = false;;) {
        rescale(rounds, instance, s, scale, shift);
        scale = shift;
        repair(rounds, instance, s, shift);
        const float of_mirror = ldexpf(instance.source.filter_scale, -shift);
        Forest<Team, T> forest{rounds, instance, s, shift, of_mirror, 0, 0, nullptr};
        const Growth growth = forest.run();
        if (growth == Growth::infeasible) {
            return kInfeasible;
        }
        if (growth == Growth::overflow) {
            if (widened && instance.square()) {
                return kOutOfRange;
            }
            if (widened) {
                __syncthreads();
                if (threadIdx.x == 0) {
                    instance.rows = instance.columns;
                }
                __syncthreads();
                place_dummies(rounds, instance, s);
                shift = first_shift(instance, s.board) + instance.row_bits;
            }
            widened = true;
            shift += instance.row_bits;
        } else if (shift == 0) {
            return kOptimal;
        } else {
            shift = shift > headroom ? shift - headroom : 0;
        }
    }
}

template <class Team, class T, class Quantised>
__device__ void solve_instance(const Team& team, Instance<T>& instance, const State<Team>& s,
                               QuantisedQuad<Quantised>* quantised) {
    Rounds<Team> rounds{team, s.board, block_board(), 0};
    clear_board(team, s.board);
    rounds.begin();
    rounds.for_each(instance.source.quads * 4, [&](int j) {
        instance.source.zeros[j] = j < instance.columns ? T{0} : instance.source.forbidden();
        if constexpr (!Source<T>::exact()) {
            instance.source.mirror_zeros[j] = j < instance.columns ? 0.0f : INFINITY;
        }
    });
    rounds.meet();
    team.forget_last_barrier();
    survey(rounds, instance);
    rounds.meet();
    Status status = kOptimal;
    bool copied = false;
    if (s.board->flags & kSawInvalid) {
        status = kInvalidCost;
    } else if (s.board->flags & kSawLargeInteger) {
        status = kInexactIntegers;
    } else {
        if (threadIdx.x == 0) {
            instance.source.set_unit(choose_unit(s.board->top, s.board->low), s.board->low);
        }
        __syncthreads();
        if (instance.source.copied) {
            copy_costs(rounds, instance);
            copied = true;
        }
        if constexpr (Team::kHoldsCosts) {
            hold_costs(rounds, instance);
        }
        const bool started = instance.start_column || instance.start_row || instance.start_price;
        if (!started || !warm_start(rounds, instance, s)) {
            cold_start(rounds, instance, s, quantised);
        }
        find_allowed_gap(rounds, instance);
        status = finish(rounds, instance, s);
        if (status == kOptimal) {
            certify(rounds, instance, s);
        }
    }
    if (status != kOptimal) {
        report_failure(rounds, instance, status);
    }
    if (team.leads()) {
        // Not that of the copy: the counters of the same costs are the same, wherever they lie.
        rounds.mine->counters[kBarriers] = rounds.tick - (copied ? 1 : 0);
        for (int k = 0; k < kCounters; ++k) {
            instance.counters[k] = rounds.mine->counters[k];
        }
    }
    team.leave(rounds.mine, rounds.tick);
}

}  // namespace loomfast::cuda
