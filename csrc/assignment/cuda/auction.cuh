// Synchronous (Jacobi) epsilon-scaling auction on quantised costs: Bertsekas's auction in which all free
// rows bid at once, in integers, with one barrier a round.
//
// A column is a 64-bit word, price:32 | ~row:32, and a bid is an atomicMax: the highest price wins and, at
// equal prices, the lowest row. A row whose price would leave its bits bids no more. Two arrays of words alternate:
// rows read A and bid into B. A column whose word rose in A is still old in B, so the row that won it posts the word
// once more; losers need nothing. A row holds column x if A[x] names it.
//
// Phases stop once a fraction of 1/sqrt(n) of the rows is free: the rest would be fought over one
// at a time, and the shortest-path forest does them better. The result is only a start for the exact
// finish, so every cap here costs time and never correctness.
//
// Of long rows, what a row bids is mostly decided among the few columns that were cheapest when it was scanned last:
// prices only rise, so a list of these with a bound for all others (D. P. Bertsekas and D. A. Castanon, "The auction
// algorithm for the transportation problem", Annals of Operations Research 20, 1989, keep such) gives the very bid
// that a scan would, or says that it cannot. A warp looks through a list.
#pragma once

#include "assignment/cuda/prepare.cuh"

namespace loomfast::cuda {

constexpr Word kNoRow = (Word{1} << kRowField) - 1;
constexpr Word kHighestPrice = Word{1} << 31;  // a quantised cost, below 2^28, may be added to it
constexpr Word kPastLast = Word{0xF0000000u};  // the price of what is past the last column: nobody takes it
constexpr int kRoundsPerPhase = 300;

__device__ inline Word bid_word(Word price, Word row) { return price << kRowField | (kNoRow - row); }
__device__ inline int bid_row(Word word) { return static_cast<int>(kNoRow - (word & kNoRow)); }

// The two smallest of q_ij + price_j by a crew. Equal values are told apart by their distance from a start
// that differs from row to row, so that rows with equal costs spread over the columns.
struct BestTwo {
    unsigned first, second;
    int column;
};

// Prices are words of the columns, or copies of the prices in these.
__device__ inline void load_prices(const Word* words, unsigned (&prices)[4]) {
    Word word[4];
    load4(words, word);
    for (int k = 0; k < 4; ++k) {
        prices[k] = bid_price(word[k]);
    }
}
__device__ inline void load_prices(const unsigned* copy, unsigned (&prices)[4]) { load4(copy, prices); }
__device__ inline unsigned price_at(const Word* words, int column) { return bid_price(words[column]); }
__device__ inline unsigned price_at(const unsigned* copy, int column) { return copy[column]; }

// How far a column is from the row's start, and the column so far from it.
struct Turns {
    int start, columns;

    __device__ Turns(int row, int of_columns) : columns(of_columns) {
        const unsigned hash = static_cast<unsigned>(row) * 2654435761u;
        start = static_cast<int>(static_cast<Word>(hash) * static_cast<Word>(columns) >> 32);
    }
    __device__ unsigned of(int column) const {
        return static_cast<unsigned>(column >= start ? column - start : column - start + columns);
    }
    __device__ int column(unsigned turn) const {
        const int at = static_cast<int>(turn) + start;
        return at < columns ? at : at - columns;
    }
};

// `least` becomes the least of this member's.
template <class Team, class Quantised, class Price>
__device__ BestTwo best_two(const QuantisedQuad<Quantised>* costs, const Price* prices, int columns, int row,
                            unsigned* least) {
    const int quads = (columns + 3) / 4;
    prices = Team::local(prices);
    unsigned first = ~0u;
    unsigned second = ~0u;
#pragma unroll 4
    for (int quad = Team::member(); quad < quads; quad += Team::members()) {
        const QuantisedQuad<Quantised> c = costs[quad];
        unsigned price[4];
        load_prices(prices + quad * 4, price);
        for (int k = 0; k < 4; ++k) {
            const unsigned value = static_cast<unsigned>(c.of[k]) + price[k];
            const unsigned larger = value < first ? first : value;
            second = larger < second ? larger : second;
            first = value < first ? value : first;
        }
    }
    *least = first;
    const unsigned best = Team::least(first);
    // Who holds it looks for the nearest of its own columns; for one of them, in general.
    const Turns turns(row, columns);
    unsigned turn = ~0u;
    if (first == best) {
        for (int quad = Team::member(); quad < quads; quad += Team::members()) {
            const QuantisedQuad<Quantised> c = costs[quad];
            for (int k = 0; k < 4; ++k) {
                const int j = quad * 4 + k;
                if (static_cast<unsigned>(c.of[k]) + price_at(prices, j) == best) {
                    const unsigned mine = turns.of(j);
                    turn = mine < turn ? mine : turn;
                }
            }
        }
    }
    int holders;
    unsigned next = first == best ? second : first;
    Team::least_two(&turn, &next, &holders, first == best);
    return {best, holders > 1 || columns == 1 ? best : next, turns.column(turn)};
}

// The same from a row's list, by a warp; false where another column may be among them, or as cheap as the first.
__device__ inline bool best_two_of_list(const Candidates& list, const Word* words, int columns, int row,
                                        BestTwo* best) {
    unsigned first = ~0u;
    unsigned second = ~0u;
    unsigned turn = ~0u;
    const Turns turns(row, columns);
    for (int k = lane_id(); k < list.count; k += 32) {
        const unsigned value = list.cost[k] + bid_price(words[list.column[k]]);
        const unsigned mine = turns.of(list.column[k]);
        turn = value < first ? mine : value == first && mine < turn ? mine : turn;
        const unsigned larger = value < first ? first : value;
        second = larger < second ? larger : second;
        first = value < first ? value : first;
    }
    const unsigned least = warp_least(first);
    const bool holds = first == least;
    const int holders = __popc(__ballot_sync(kWarp, holds));
    const unsigned next = warp_least(holds ? second : first);
    *best = {least, holders > 1 ? least : next, turns.column(warp_least(holds ? turn : ~0u))};
    return least < list.bound && best->second <= list.bound;
}

// A value that between a sixteenth and three thirty-seconds of a crew's members are below, by quartering, or the most
// found that fewer are; `best` is the least of them.
template <class Team>
__device__ unsigned bound_of_list(unsigned mine, unsigned best) {
    const unsigned fewest = static_cast<unsigned>(Team::members()) / 16;
    const unsigned most = fewest + fewest / 2;
    constexpr unsigned field = 10;  // of a count: there are at most 512 members
    static_assert(kLargestBlock < 1 << field);
    unsigned low = best;
    unsigned high = kHighestPrice;
    while (high - low >= 4) {
        const unsigned step = (high - low) / 4;
        unsigned packed = 0;
        for (unsigned k = 1; k < 4; ++k) {
            packed |= static_cast<unsigned>(mine < low + k * step) << (field * (k - 1));
        }
        packed = Team::total(packed);
        unsigned next = low;
        for (unsigned k = 1; k < 4; ++k) {
            const unsigned below = packed >> (field * (k - 1)) & ((1u << field) - 1);
            if (below >= fewest && below <= most) {
                return low + k * step;
            }
            next = below < fewest ? low + k * step : next;
        }
        high = next == low + 3 * step ? high : next + step;
        low = next;
    }
    return low;
}

// Makes the list of a row anew, by a crew whose members' least values are these. If there are too many columns below
// the bound, there is no list.
template <class Team, class Quantised>
__device__ void list_candidates(const QuantisedQuad<Quantised>* costs, const Word* words, int columns, unsigned least,
                                unsigned best, Candidates* list) {
    const unsigned bound = columns <= kCandidates ? unsigned{kHighestPrice} : bound_of_list<Team>(least, best);
    unsigned* collected = &block_board()->collected[Team::number()];
    if (Team::member() == 0) {
        *collected = 0;
    }
    Team::meet_crew();
    const int quads = (columns + 3) / 4;
#pragma unroll 4
    for (int quad = Team::member(); quad < quads; quad += Team::members()) {
        const QuantisedQuad<Quantised> c = costs[quad];
        unsigned price[4];
        load_prices(words + quad * 4, price);
        for (int k = 0; k < 4; ++k) {
            const unsigned cost = static_cast<unsigned>(c.of[k]);
            if (cost + price[k] < bound) {
                const unsigned at = atomicAdd(collected, 1u);
                if (at < kCandidates) {
                    list->column[at] = quad * 4 + k;
                    list->cost[at] = cost;
                }
            }
        }
    }
    Team::meet_crew();
    if (Team::member() == 0) {
        const bool fits = *collected <= kCandidates;
        list->count = fits ? static_cast<int>(*collected) : 0;
        list->bound = fits ? bound : 0;
    }
}

// One round: everybody reads word(now) and bids into the other. Returns the number of bidders.
template <class Team, class T, class Quantised>
__device__ Word auction_round(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s,
                              const QuantisedQuad<Quantised>* costs, int now, Word epsilon, bool first) {
    const auto from = s.word(now);
    const auto to = s.word(now ^ 1);
    const auto fresh = s.root;
    const auto* const prices = rounds.team.staged_prices(from, instance.source.quads);
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
    // Of a row's costs, and what it bids by the one thread that owns it.
    const auto costs_of = [&](int row) { return costs + Int{rounds.team.place(row)} * instance.source.quads; };
    const auto bid = [&](int row, Word held, const BestTwo& best) {
        const QuantisedQuad<Quantised>* of_row = costs_of(row);
        if (held != kEmpty && static_cast<Word>(of_row[held / 4].of[held % 4]) + bid_price(from[held]) <=
                                  best.first + epsilon) {
            return;
        }
        const Word price = bid_price(from[best.column]) + (best.second - best.first) + epsilon;
        const bool fits = price < kHighestPrice;
        if (fits) {
            atomicMax(&to[best.column], bid_word(price, static_cast<Word>(row)));
        }
        s.x[row] = fits ? best.column : -1;
        fresh[row] = fits;
        rounds.add(fits);
    };
    const auto by_scan = [&](int row, Word held, bool owner) {
        unsigned least;
        const BestTwo best = best_two<Team>(costs_of(row), prices, instance.columns, row, &least);
        if (owner) {
            bid(row, held, best);
        }
        if constexpr (Team::kLists) {
            if (instance.candidates) {
                list_candidates<Team>(costs_of(row), prices, instance.columns, least, best.first,
                                      &instance.candidates[row]);
            }
        }
    };
    if constexpr (Team::kLists) {
        const auto by_list = [&](int row, Word held) {
            BestTwo best;
            const bool found = instance.candidates && best_two_of_list(instance.candidates[row], prices,
                                                                       instance.columns, row, &best);
            if (found && lane_id() == 0) {
                bid(row, held, best);
            }
            return found;
        };
        for_rows(rounds.team, instance.rows, wants, by_scan, by_list);
    } else {
        for_rows(rounds.team, instance.rows, wants, by_scan);
    }
    return rounds.meet();
}

// Leaves the prices in s.word(k) and the columns in s.x, free rows negative; returns k.
template <class Team, class T, class Quantised>
__device__ int auction(Rounds<Team>& rounds, const Instance<T>& instance, const State<Team>& s, const Quantisation& q,
                       const QuantisedQuad<Quantised>* costs) {
    const double end = 0.3 * fmin(0.1 * q.spread / instance.rows, 0.02 * q.nearest);
    const Word last = end > 1.0 ? static_cast<Word>(end) : 1;
    const Word widest = static_cast<Word>(fmax(0.1 * q.spread, 1.0));
    // Prices of unmatched columns must stay 0 on the longer side, and they do only within one phase.
    Word epsilon = instance.square() && widest > last ? widest : last;
    const Word enough = static_cast<Word>(sqrt(static_cast<double>(instance.rows)));
    rounds.for_each(instance.source.quads * 4, [&](int j) {
        s.word(0)[j] = s.word(1)[j] = bid_word(j < instance.columns ? 0 : kPastLast, kNoRow);
    });
    rounds.for_each(instance.rows, [&](int i) {
        s.x[i] = -1;
        s.root[i] = 0;
        if (Team::kLists && instance.candidates) {
            instance.candidates[i].count = 0;
            instance.candidates[i].bound = 0;
        }
    });
    rounds.meet();
    int now = 0;
    for (;; epsilon = epsilon / 8 > last ? epsilon / 8 : last) {
        Word bidders = kEmpty;
        for (int round = 0; round < kRoundsPerPhase && bidders > enough; ++round) {
            bidders = auction_round(rounds, instance, s, costs, now, epsilon, round == 0);
            now ^= 1;
            rounds.count(kRounds, 1);
            rounds.count(kBids, bidders);
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
