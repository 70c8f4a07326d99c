// Outputs and their proof, in float64 over the original costs.
#pragma once

#include "assignment/cuda/state.cuh"

namespace loomfast::cuda {

// a + b = sum + rest exactly (Knuth).
struct ExactSum {
    double sum, rest;
};
__device__ inline ExactSum two_sum(double a, double b) {
    const double sum = a + b;
    const double b_part = sum - a;
    return {sum, (a - (sum - b_part)) + (b - b_part)};
}
__device__ inline bool is_less(ExactSum a, ExactSum b) { return a.sum < b.sum || (a.sum == b.sum && a.rest < b.rest); }

__device__ inline Pair as_pair(ExactSum x) {
    return {static_cast<Word>(__double_as_longlong(x.sum)), static_cast<Word>(__double_as_longlong(x.rest))};
}
__device__ inline ExactSum as_sum(Pair bits) {
    return {__longlong_as_double(static_cast<Int>(bits.first)), __longlong_as_double(static_cast<Int>(bits.second))};
}

__device__ inline double next_below(double x) {
    const double below = __longlong_as_double(__double_as_longlong(x) + (x > 0.0 ? -1 : 1));
    return x == 0.0 ? -0x1p-1074 : below;
}

// The largest double u <= min_j(c_ij + p_j), the minimum taken exactly; by a crew.
template <class Team, class T>
__device__ double dual_of_row(const Instance<T>& instance, const double* price, int row) {
    const SourceRow<Team, T> costs(instance.source, row);
    price = Team::local(price);
    ExactSum least{INFINITY, 0.0};
#pragma unroll 2
    for (int quad = Team::member(); quad < costs.quads; quad += Team::members()) {
        T c[4];
        load4(costs.values + quad * 4, c);
        const double2 low = *reinterpret_cast<const double2*>(price + quad * 4);
        const double2 high = *reinterpret_cast<const double2*>(price + quad * 4 + 2);
        const double p[4] = {low.x, low.y, high.x, high.y};
        for (int k = 0; k < 4; ++k) {
            const double cost = instance.source.sign() * c[k];
            const ExactSum reduced = two_sum(cost, p[k]);
            least = cost < INFINITY && is_less(reduced, least) ? reduced : least;
        }
    }
    const Pair bits = Team::reduce(as_pair(least), [](Pair a, Pair b) { return is_less(as_sum(b), as_sum(a)) ? b : a; });
    least = as_sum(bits);
    return least.rest < 0.0 ? next_below(least.sum) : least.sum;
}

// The sum of values[0..count) by one warp, compensated, in an order that depends on count alone.
template <class Values>
__device__ double ordered_sum(const Values& values, int count) {
    ExactSum sum{0.0, 0.0};
    for (int k = lane_id(); k < count; k += 32) {
        const ExactSum step = two_sum(sum.sum, values[k]);
        sum = {step.sum, sum.rest + step.rest};
    }
    double total = 0.0;
    double rest = 0.0;
    for (int lane = 0; lane < 32; ++lane) {
        const ExactSum step = two_sum(total, __shfl_sync(kWarp, sum.sum, lane));
        total = step.sum;
        rest += step.rest + __shfl_sync(kWarp, sum.rest, lane);
    }
    return total + rest;
}

template <class Team, class T>
__device__ void report_failure(const Rounds<Team>& rounds, const Instance<T>& instance, Status status) {
    rounds.for_each(instance.costs.rows, [&](int i) {
        instance.column_of_row[i] = -1;
        instance.row_dual[i] = NAN;
    });
    rounds.for_each(instance.columns, [&](int j) {
        instance.row_of_column[j] = -1;
        instance.column_dual[j] = NAN;
    });
    if (rounds.team.leads()) {
        *instance.total = *instance.gap = NAN;
        *instance.status = status;
    }
}

// Writes the matching, the duals and the certified gap: the sum over rows of c_ix + p_x - u_i, where each
// term is exact but for roundings that the last factor covers.
template <class Team, class T>
__device__ void certify(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s) {
    const auto price = seen_as<double>(s.price(1));
    const auto slack = seen_as<double>(s.label);
    const auto paid = seen_as<double>(s.best);
    const double sign = instance.costs.negate ? -1.0 : 1.0;
    // The cheapest column is free of charge: what a dummy holds is such a one, and prices of square problems may be
    // shifted together. With columns to spare and no dummies, prices are what they are.
    if (instance.costs.rows == instance.columns) {
        Int cheapest = kForbidden;
        rounds.for_each(instance.columns, [&](int j) { cheapest = s.price(0)[j] < cheapest ? s.price(0)[j] : cheapest; });
        cheapest = warp_min(cheapest);
        if (lane_id() == 0) {
            atomicMin(&rounds.board->cheapest, cheapest);
        }
    }
    rounds.meet();
    const Int floor = instance.has_dummies()                       ? s.price(0)[s.x[instance.costs.rows]]
                      : instance.costs.rows == instance.columns ? rounds.board->cheapest
                                                                   : 0;
    rounds.for_each(instance.columns, [&](int j) {
        price[j] = ldexp(static_cast<double>(s.price(0)[j] - floor), instance.source.unit);
        instance.column_dual[j] = price[j] == 0.0 ? 0.0 : -sign * price[j];
        instance.row_of_column[j] = s.y[j] < instance.costs.rows ? s.y[j] : -1;
    });
    rounds.for_each(static_cast<int>(padded(instance.columns)) - instance.columns,
                    [&](int k) { price[instance.columns + k] = 0.0; });
    rounds.meet();
    const double* prices = rounds.team.staged(price, instance.source.quads);
    const auto all = [](int, Word*) { return true; };
    for_rows(rounds.team, instance.costs.rows, all, [&](int row, Word, bool owner) {
        const double u = dual_of_row<Team>(instance, prices, row);
        if (owner) {
            const int column = s.x[row];
            const double c = exact_cost(instance.costs, row, column);
            const ExactSum own = two_sum(c, price[column]);
            slack[row] = (own.sum - u) + own.rest;
            paid[row] = sign * c;
            instance.column_of_row[row] = column;
            instance.row_dual[row] = sign * u;
        }
    });
    rounds.meet();
    if (rounds.team.in_first_warp()) {
        const double total = ordered_sum(paid, instance.costs.rows);
        const double gap = ordered_sum(slack, instance.costs.rows);
        if (rounds.team.leads()) {
            *instance.total = total;
            *instance.gap = gap * (1.0 + 0x1p-40);
            *instance.status = rounds.board->flags & kStoppedEarly ? kWithinTolerance : kOptimal;
        }
    }
}

}  // namespace loomfast::cuda
