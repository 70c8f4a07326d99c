// From approximate prices to an exact start: integer prices p and row duals u with u_i = min_j(c_ij + p_j)
// on every row, matched pairs tight, and p = 0 on unmatched columns of a rectangular problem.
#pragma once

#include "assignment/cuda/state.cuh"

namespace loomfast::cuda {

constexpr int kMostRepairs = 12;
// A rectangular problem would lose the prices of all columns that it drops, so it repairs for longer.
constexpr int kMostRectangularRepairs = 100;
constexpr int kDropped = -2;  // x = kDropped - j: the row gave up column j and still looks after its price

// min_j(c_ij + p_j) by a crew, with the costs of this stage; kForbidden if there is none.
template <class Team, class T>
__device__ Int row_minimum(const Instance<T>& instance, const Int* price, int row, int shift) {
    const SourceRow<Team, T> costs(instance.source, row);
    price = Team::local(price);
    Int least = kForbidden;
#pragma unroll (Source<T>::exact() ? 4 : 2)
    for (int quad = Team::member(); quad < costs.quads; quad += Team::members()) {
        Int c[4], p[4];
        costs.fixed_quad(quad, c);
        load4(price + quad * 4, p);
        for (int k = 0; k < 4; ++k) {
            const Int reduced = c[k] == kForbidden ? kForbidden : (c[k] >> shift) + p[k];
            least = reduced < least ? reduced : least;
        }
    }
    return crew_min<Team>(least);
}

// One pass over all rows, from price(now) to the other: violated rows lower the price of their column (or, if strict, let it go).
// Returns how many were violated. u is right for price(now) on return.
template <class Team, class T>
__device__ Word repair_pass(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, int now,
                            int shift, bool strict) {
    const auto from = s.price(now);
    const auto to = s.price(now ^ 1);
    const Int* prices = rounds.team.staged(from, instance.source.quads);
    const auto all = [&](int row, Word* column) {
        *column = static_cast<Word>(static_cast<Int>(s.x[row]));
        return true;
    };
    for_rows(rounds.team, instance.rows, all, [&](int row, Word packed, bool owner) {
        const Int least = row_minimum<Team>(instance, prices, row, shift);
        if (!owner) {
            return;
        }
        s.u[row] = least == kForbidden ? 0 : least;
        const int column = static_cast<int>(static_cast<Int>(packed));
        if (column <= kDropped) {
            to[kDropped - column] = 0;
        }
        if (column < 0) {
            return;
        }
        const Int own = stage_cost(instance, row, column, shift);
        const Int violation = own == kForbidden ? kForbidden : own + from[column] - least;
        const bool may_lower = !strict && own != kForbidden && (instance.square() || violation <= from[column]);
        if (violation == 0 || may_lower) {
            to[column] = from[column] - violation;
        } else if (instance.square()) {
            to[column] = from[column];
            s.x[row] = -1;
        } else {
            to[column] = 0;
            s.x[row] = kDropped - column;
        }
        rounds.add(violation != 0);
    });
    return rounds.meet();
}

// Repairs until nothing is violated, dropping what passes cannot mend; then price(0), u, x and y agree.
template <class Team, class T>
__device__ void repair(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, int shift) {
    const int width = static_cast<int>(padded(instance.columns));
    rounds.for_each(width, [&](int j) {
        s.price(0)[j] = j < instance.columns ? s.price(0)[j] : 0;
        s.price(1)[j] = s.price(0)[j];
    });
    rounds.meet();
    int now = 0;
    Word before = kEmpty;
    bool strict = false;
    for (int pass = 0;; ++pass) {
        const Word violated = repair_pass(rounds, instance, s, now, shift, strict);
        rounds.count(kRepairPasses, 1);
        if (violated == 0 || (strict && instance.square())) {
            break;
        }
        const bool stalled = instance.square() ? pass + 1 >= kMostRepairs || violated >= before
                                               : pass + 1 >= kMostRectangularRepairs;
        strict = strict || stalled;
        before = violated;
        now ^= 1;
    }
    rounds.for_each(instance.columns, [&](int j) {
        s.price(0)[j] = s.price(now)[j];
        s.y[j] = -1;
    });
    rounds.meet();
    rounds.for_each(instance.rows, [&](int i) {
        const int column = s.x[i];
        if (column >= 0) {
            s.y[column] = i;
        } else {
            s.x[i] = -1;
        }
    });
}

}  // namespace loomfast::cuda
