// Synchronous (Jacobi) epsilon-scaling auction on quantised costs: Bertsekas's auction in which all free
// rows bid at once, in integers, with one barrier a round.
//
// A column is a 64-bit word, price:40 | ~row:24, and a bid is an atomicMax: the highest price wins and, at
// equal prices, the lowest row. Two arrays of words alternate: rows read A and bid into B. A column whose
// word rose in A is still old in B, so the row that won it posts the word once more; losers need nothing.
// A row holds column x if A[x] names it.
//
// Phases stop once a fraction of 1/sqrt(n) of the rows is free: the rest would be fought over one
// at a time, and the shortest-path forest does them better. The result is only a start for the exact
// finish, so every cap here costs time and never correctness.
#pragma once

#include "assignment/cuda/prepare.cuh"

namespace loomfast::cuda {

constexpr int kRowField = 24;
constexpr Word kNoRow = (Word{1} << kRowField) - 1;
constexpr Word kAbandon = Word{1} << 32;  // in a tally: a price left its 40 bits
constexpr int kRoundsPerPhase = 300;

__device__ inline Word bid_word(Word price, Word row) { return price << kRowField | (kNoRow - row); }
__device__ inline Word bid_price(Word word) { return word >> kRowField; }
__device__ inline int bid_row(Word word) { return static_cast<int>(kNoRow - (word & kNoRow)); }

// The two smallest of q_ij + price_j by a crew. Equal values are told apart by their distance from a start
// that differs from row to row, so that rows with equal costs spread over the columns.
struct BestTwo {
    Word first, second;
    int column;
};

template <class Crew, class Quantised>
__device__ BestTwo best_two(const Quantised* costs, const Word* words, int columns, int row) {
    constexpr int field = 20;
    const unsigned hash = static_cast<unsigned>(row) * 2654435761u;
    const int start = static_cast<int>(static_cast<Word>(hash) * static_cast<Word>(columns) >> 32);
    Word first = kEmpty;
    Word second = kEmpty;
    for (int j = Crew::member(); j < columns; j += Crew::members()) {
        const int turn = j >= start ? j - start : j - start + columns;
        const Word value = (static_cast<Word>(costs[j]) + bid_price(words[j])) << field | static_cast<Word>(turn);
        second = value < first ? first : value < second ? value : second;
        first = value < first ? value : first;
    }
    const Pair best = Crew::reduce(Pair{first, second}, [](Pair a, Pair b) {
        const Word loser = a.first < b.first ? b.first : a.first;
        const Word runner_up = a.second < b.second ? a.second : b.second;
        return Pair{a.first < b.first ? a.first : b.first, runner_up < loser ? runner_up : loser};
    });
    const int turn = static_cast<int>(best.first & ((Word{1} << field) - 1));
    const int column = turn + start < columns ? turn + start : turn + start - columns;
    return {best.first >> field, (columns > 1 ? best.second : best.first) >> field, column};
}

// One round: everybody reads `from` and bids into `to`. Returns the number of bidders.
template <class Team, class Quantised>
__device__ Word auction_round(Rounds<Team>& rounds, const Instance& instance, const State& s, const Quantised* costs,
                              const Word* from, Word* to, Word epsilon, bool first) {
    int* fresh = s.root;
    const auto wants = [&](int row, Word* held) {
        const int column = s.x[row];
        const bool holds = column >= 0 && bid_row(from[column]) == row;
        if (holds && fresh[row]) {
            atomicMax(&to[column], from[column]);
            fresh[row] = 0;
        }
        *held = holds ? static_cast<Word>(column) : kEmpty;
        return first || !holds;
    };
    for_rows(rounds.team, instance.rows, wants, [&](int row, Word held, bool owner) {
        const Quantised* row_costs = costs + static_cast<Int>(row) * instance.columns;
        const BestTwo best = best_two<Team>(row_costs, from, instance.columns, row);
        if (!owner) {
            return;
        }
        if (held != kEmpty && row_costs[held] + bid_price(from[held]) <= best.first + epsilon) {
            return;
        }
        const Word price = bid_price(from[best.column]) + (best.second - best.first) + epsilon;
        const bool fits = price < Word{1} << 39;
        if (fits) {
            atomicMax(&to[best.column], bid_word(price, static_cast<Word>(row)));
        }
        s.x[row] = best.column;
        fresh[row] = fits;
        rounds.add(fits ? 1 : kAbandon);
    });
    return rounds.meet();
}

// Leaves the prices in s.word(k) and the columns in s.x, free rows negative; returns k.
template <class Team, class Quantised>
__device__ int auction(Rounds<Team>& rounds, const Instance& instance, const State& s, const Quantisation& q,
                       const Quantised* costs) {
    const double end = 0.3 * fmin(0.1 * q.spread / instance.rows, 0.02 * q.nearest);
    const Word last = end > 1.0 ? static_cast<Word>(end) : 1;
    const Word widest = static_cast<Word>(fmax(0.1 * q.spread, 1.0));
    // Prices of unmatched columns must stay 0 on the longer side, and they do only within one phase.
    Word epsilon = instance.square() && widest > last ? widest : last;
    const Word enough = static_cast<Word>(sqrt(static_cast<double>(instance.rows)));
    rounds.for_each(instance.columns, [&](int j) { s.word(0)[j] = s.word(1)[j] = bid_word(0, kNoRow); });
    rounds.for_each(instance.rows, [&](int i) {
        s.x[i] = -1;
        s.root[i] = 0;
    });
    rounds.meet();
    int now = 0;
    for (bool abandoned = false; !abandoned; epsilon = epsilon / 8 > last ? epsilon / 8 : last) {
        Word bidders = kEmpty;
        for (int round = 0; round < kRoundsPerPhase && bidders > enough && !abandoned; ++round) {
            bidders = auction_round(rounds, instance, s, costs, s.word(now), s.word(now ^ 1), epsilon, round == 0);
            abandoned = bidders >= kAbandon;
            now ^= 1;
            rounds.count(kRounds, 1);
            rounds.count(kBids, bidders % kAbandon);
        }
        if (epsilon == last) {
            break;
        }
    }
    rounds.for_each(instance.rows, [&](int i) {
        if (s.x[i] >= 0 && bid_row(s.word(now)[s.x[i]]) != i) {
            s.x[i] = -1;
        }
    });
    return now;
}

}  // namespace loomfast::cuda
