// The exact finish: shortest augmenting paths from all free rows at once, in integers.
//
// A forest of shortest-path trees grows from the free rows over reduced costs c_ij + p_j - u_i >= 0
// (Jonker & Volgenant 1987 grow one tree at a time). Each step relaxes all rows whose label fell, with one
// barrier: labels are words, label | row in row_bits bits, and a relaxation is an atomicMin into the next
// array, so that the shortest label wins and, at equal labels, the lowest row. Only strict improvements are
// taken, which keeps the predecessors a forest. Labels at or above `cut`, the .8-quantile of the free
// columns' labels, are dropped: no tree has to reach far before others may augment.
//
// Then, with D the largest distance at which a tree augments, p_j += D - d_j and u_i += D - L_i where
// positive, and every tree that reached a free column augments along its path: paths of different trees are
// disjoint. Trees that reached none stay, with all their labels 0, since their edges are now tight. On a
// rectangular problem D is the smallest distance of all, which leaves every unmatched price at 0.
//
// The edges of the trees that augmented are tight too, and stay so until a later tree passes there. What
// reaches one of their columns reaches all below it at no cost, yet one step an edge: half of all steps. So
// each column remembers the row of its edge, and kAncestors columns up the old tree, and takes the lowest
// label among them. All columns in between take it in that very step, so predecessors remain a forest.
//
// Where rows are long, a step relaxes only those whose label is below a horizon: at first a small part of the cut, of
// double the size whenever little is left below it, and in the end the cut. A row far from its root is likely to be
// reached again by a shorter way, and each time costs a whole row; or the cut falls, and it need not be relaxed at all.
//
// Nearly all that is relaxed changes nothing, so a filter in float32 comes first. A path through row i takes column j
// only if c_ij + base_i < min(cut, label_j) - p_j, with base_i = L_i - u_i. The right side is kept for every column as
// a float, the limit, so that a column costs one multiplication and one maximum and a quad two loads. Limits are kept
// like labels, in three arrays: whoever lowers a label lowers the limit. What the filter drops could not be taken:
//   C, B, M: c_ij, base_i and min(cut, label_j) - p_j of the exact comparison, integers in units of 2^(unit + shift).
//   m >= M: the limit is rounded upwards, and is made of the cut of the step before, which only falls.
//   b <= B - slack: rounded downwards.
//   c <= C + slack, where c is what the mirror holds: the very cost for a float, except that C may have lost what
//   is below one unit to truncation and once more to the shift, hence a slack of up to 2; less than C for a double.
//   If C + B < M then m - c >= M - C - slack > B - slack >= b, and rounding m - c to a float, which the one fused
//   multiplication does once, is monotone and leaves b, a float, where it is: fl(m - c) >= b.
#pragma once

#include "assignment/cuda/tolerance.cuh"

namespace loomfast::cuda {

enum class Growth { complete, infeasible, overflow };

constexpr int kQuadsAtOnce = 4;   // of a member of a crew, all on their way at the same time
constexpr int kFewSurvivors = 4;  // of the filter, among the columns of those

constexpr int kHorizonColumns = 8;  // the first horizon is the cut times this over the columns
constexpr int kFewRows = 64;        // the horizon doubles after a step that relaxed at most one in so many rows

// The lesser of two floats that are not -0. Those that are not negative are ordered like integers, and others like
// integers the other way round.
__device__ inline void lower(float* address, float value) {
    const float sure = value + 0.0f;
    if (sure >= 0.0f) {
        atomicMin(reinterpret_cast<int*>(address), __float_as_int(sure));
    } else {
        atomicMax(reinterpret_cast<unsigned*>(address), __float_as_uint(sure));
    }
}

template <class Team, class T>
struct Forest {
    Rounds<Team>& rounds;
    const Instance<T>& instance;
    const State<Team>& s;
    int shift;
    float of_mirror;  // turns what the mirror holds into units of this stage
    int now;          // which array of words holds the labels
    int list;         // which free list is current
    const float* limit_of_column;  // of this step, where rows are scanned against them

    __device__ Word label_of(Word word) const { return word >> instance.row_bits; }
    __device__ int row_of(Word word) const {
        return static_cast<int>(word & ((Word{1} << instance.row_bits) - 1));
    }
    __device__ auto labels(int ahead) const { return s.word((now + ahead) % 3); }
    __device__ auto limits(int ahead) const { return s.limit((now + ahead) % 3); }

    // The limit of a column with that label, see above.
    __device__ float limit_of(Word label, Int price) const {
        return float_above(static_cast<Int>(label) - price) * instance.source.filter_unit;
    }

    // Takes column `column` for a path through the row, if that is shorter.
    __device__ void take(int row, int column, Int cost, Int price, Word word, Int base, Word cut) const {
        const Word through = static_cast<Word>((cost >> shift) + price + base);
        if (cost != kForbidden && through < cut && through < label_of(word)) {
            atomicMin(&labels(1)[column], through << instance.row_bits | static_cast<Word>(row));
            lower(&limits(1)[column], limit_of(through, price));
        }
    }

    // Relaxes those columns of a quad that are among the survivors, four bits.
    __device__ void relax_quad(int row, int quad, unsigned survivors, Int base, Word cut) const {
        Int c[4], price[4];
        Word word[4];
        SourceRow<Team, T>(instance.source, row).fixed_quad(quad, c);
        load4(quad_at(Team::local(s.price(0)), quad), price);
        load4(quad_at(Team::local(labels(0)), quad), word);
        for (int k = 0; k < 4; ++k) {
            if (survivors >> k & 1) {
                take(row, quad * 4 + k, c[k], price[k], word[k], base, cut);
            }
        }
    }

    // Relaxes one row by a crew.
    __device__ void relax(int row, Word label, Word cut) const {
        constexpr int at_once = kQuadsAtOnce;
        const float* costs = instance.source.template mirror_row<Team>(row);
        const int quads = instance.source.quads;
        // Once: for all the compiler knows, what is written in the loop could change them.
        const int member = Team::member();
        const int members = Team::members();
        const Int base = static_cast<Int>(label) - s.u[row];
        const int slack = (shift > 0) + instance.source.truncated;
        const float enough = float_below(base - slack) * instance.source.filter_unit;
        const float* limits_of_columns = Team::local(limit_of_column);
        for (int begin = 0; begin < quads; begin += at_once * members) {
            const int first = begin + member;
            float room[at_once][4];
            float most = -INFINITY;
#pragma unroll
            for (int k = 0; k < at_once; ++k) {
                const int quad = first + k * members;
                float4 c = {0.0f, 0.0f, 0.0f, 0.0f};
                float4 limit = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
                if (quad < quads) {
                    c = load4(costs + quad * 4);
                    limit = load4(limits_of_columns + quad * 4);
                }
                room[k][0] = fmaf(c.x, -of_mirror, limit.x);
                room[k][1] = fmaf(c.y, -of_mirror, limit.y);
                room[k][2] = fmaf(c.z, -of_mirror, limit.z);
                room[k][3] = fmaf(c.w, -of_mirror, limit.w);
                most = fmaxf(most, fmaxf(fmaxf(room[k][0], room[k][1]), fmaxf(room[k][2], room[k][3])));
            }
            if (__ballot_sync(kWarp, most >= enough) == 0) {
                continue;
            }
            unsigned survivors = 0;
#pragma unroll
            for (int k = 0; k < at_once * 4; ++k) {
                survivors |= static_cast<unsigned>(room[k / 4][k % 4] >= enough) << k;
            }
            relax_survivors(row, first, survivors, base, cut);
        }
    }

    // Few survivors one by one, every lane the next of its own; many, as at the first step from a free row, by quads.
    __device__ void relax_survivors(int row, int first, unsigned survivors, Int base, Word cut) const {
        if (__ballot_sync(kWarp, __popc(survivors) > kFewSurvivors)) {
#pragma unroll 1
            for (int quad = first; survivors; survivors >>= 4, quad += Team::members()) {
                if (survivors & 15) {
                    relax_quad(row, quad, survivors & 15, base, cut);
                }
            }
            return;
        }
#pragma unroll 1
        for (; survivors; survivors &= survivors - 1) {
            const int bit = __ffs(static_cast<int>(survivors)) - 1;
            const int column = (first + (bit >> 2) * Team::members()) * 4 + (bit & 3);
            const Int cost = SourceRow<Team, T>(instance.source, row).fixed_at(column);
            take(row, column, cost, Team::local(s.price(0))[column], Team::local(labels(0))[column], base, cut);
        }
    }

    // The word of a column, or a lower one from up the old tree that it was in. All loads are independent.
    __device__ Word inherited(int column, Word cut) const {
        const auto current = labels(0);
        const Word word = current[column];
        const Ancestors above = s.ancestors[column];
        Word least = cut;
#pragma unroll
        for (int k = 0; k < kAncestors; ++k) {
            const Word label = label_of(current[above.of[k]]);
            least = label < least ? label : least;
        }
        return least < cut && least < label_of(word)
                   ? least << instance.row_bits | static_cast<Word>(s.hold[column])
                   : word;
    }

    // Finds the ancestors of every column; past the end of the tree the column stands for itself. A row that has since
    // moved to the column itself ends the tree.
    __device__ void find_ancestors() const {
        rounds.for_each(instance.columns, [&](int j) {
            int at = j;
            bool ended = false;
            for (int k = 0; k < kAncestors; ++k) {
                const int row = ended ? -1 : s.hold[at];
                const int above = row < 0 ? -1 : s.x[row];
                ended = above < 0 || above == at;
                at = ended ? j : above;
                s.ancestors[j].of[k] = at;
            }
        });
    }

    // The label of rank `want` among the free columns becomes the next cut: whoever holds it says so.
    __device__ void lower_cut(int free_columns, Word cut) const {
        const auto current = labels(0);
        const auto columns = s.free_list(list);
        const int want = instance.square() ? (free_columns * 4 + 4) / 5 : 1;
        rounds.for_each_by_warps(free_columns, [&](int a) {
            const int mine = columns[a];
            const Word label = label_of(current[mine]);
            if (label >= cut) {
                return;
            }
            unsigned below = 0;
            for (int b = lane_id(); b < free_columns; b += 32) {
                const Word other = label_of(current[columns[b]]);
                below += other < label || (other == label && columns[b] < mine);
            }
            if (warp_sum(below) == static_cast<unsigned>(want - 1) && lane_id() == 0) {
                atomicMin(&s.board->cut[rounds.slot(1)], label + 1);
            }
        });
    }

    // Steps until no label changes; returns the final cut.
    __device__ Word grow(int free_columns) {
        // Rows that a warp scans are short: a step that relaxes few of them costs as much as one of many.
        unsigned parts = std::is_base_of_v<WarpCrew, Team> ? 1 : instance.columns / kHorizonColumns + 1;
        for (;;) {
            const Word cut = s.board->cut[rounds.slot(0)];
            // Before a free column has shown how far paths are, only tight edges are followed.
            const Word horizon = parts > 1 && cut == instance.label_limit ? 1 : cut / parts;
            const auto current = labels(0);
            const auto next = labels(1);
            const auto spare = labels(2);
            limit_of_column = rounds.team.staged(limits(0), instance.source.quads);
            rounds.for_each(instance.columns, [&](int j) {
                const Word word = inherited(j, cut);
                if (word != kEmpty) {
                    atomicMin(&next[j], word);
                }
                spare[j] = word;  // where it stays so, the atomic of the next step finds nothing to change
                const Word label = label_of(word);
                lower(&limits(1)[j], limit_of(label < cut ? label : cut, s.price(0)[j]));
                limits(2)[j] = INFINITY;
            });
            if (rounds.team.leads()) {
                atomicMin(&s.board->cut[rounds.slot(1)], cut);
                s.board->cut[rounds.slot(2)] = instance.label_limit;
            }
            const auto fell = [&](int row, Word* label) {
                *label = s.x[row] < 0 ? 0 : label_of(current[s.x[row]]);
                if (*label >= horizon || *label >= s.label[row]) {
                    return false;
                }
                s.label[row] = *label;
                return true;
            };
            for_rows(rounds.team, instance.rows, fell, [&](int row, Word label, bool owner) {
                relax(row, label, cut);
                rounds.add(owner);
            });
            lower_cut(free_columns, cut);
            const Word relaxed = rounds.meet();
            now = (now + 1) % 3;
            rounds.count(kForestSteps, 1);
            rounds.count(kRowsRelaxed, relaxed);
            if (relaxed == 0 && parts == 1) {
                return s.board->cut[rounds.slot(0)];
            }
            if (relaxed * kFewRows <= static_cast<Word>(instance.rows)) {
                parts = (parts + 1) / 2;
            }
        }
    }

    // Finds the root of every labelled column and the best free column of every root.
    __device__ void find_roots(Word cut) const {
        const auto current = labels(0);
        rounds.for_each(instance.columns, [&](int j) {
            s.root[j] = -1;
            if (label_of(current[j]) >= cut) {
                return;
            }
            int row = row_of(current[j]);
            for (int hops = 0; s.x[row] >= 0 && hops < instance.rows; ++hops) {
                row = row_of(current[s.x[row]]);
            }
            s.root[j] = row;
            if (s.y[j] < 0) {
                atomicMin(&s.best[row], label_of(current[j]) << instance.row_bits | static_cast<Word>(j));
            }
        });
    }

    __device__ void augment(int root) const {
        const auto current = labels(0);
        int column = row_of(s.best[root]);
        for (int hops = 0; hops < instance.rows; ++hops) {
            const int row = row_of(current[column]);
            const int released = s.x[row];
            s.y[column] = row;
            s.x[row] = column;
            if (row == root) {
                return;
            }
            column = released;
        }
    }

    // Moves the duals by D, augments (adding to the tally), and leaves in labels(1) the trees that remain.
    __device__ void update(int free_columns) const {
        const auto current = labels(0);
        const auto kept = labels(1);
        const auto cleared = labels(2);
        const Word distance = s.board->distance;
        rounds.for_each(instance.columns, [&](int j) {
            const Word label = label_of(current[j]);
            Int price = s.price(0)[j];
            if (label < distance) {
                price += static_cast<Int>(distance - label);
                s.price(0)[j] = price;
            }
            const bool in_tree = label <= distance && s.root[j] >= 0;
            if (in_tree) {
                s.hold[j] = row_of(current[j]);
            }
            const bool stays = in_tree && s.best[s.root[j]] == kEmpty;
            kept[j] = stays ? static_cast<Word>(row_of(current[j])) : kEmpty;
            cleared[j] = kEmpty;
            limits(1)[j] = limit_of(stays ? 0 : instance.label_limit, price);
            limits(2)[j] = INFINITY;
        });
        rounds.for_each(instance.rows, [&](int i) {
            if (s.label[i] < distance) {
                s.u[i] += static_cast<Int>(distance - s.label[i]);
            }
            s.label[i] = kEmpty;
            if (s.best[i] != kEmpty) {
                augment(i);
                rounds.add(1);
            }
        });
        rounds.for_each(free_columns, [&](int a) {
            const int j = s.free_list(list)[a];
            const int root = s.root[j];
            if (root < 0 || s.best[root] != (label_of(current[j]) << instance.row_bits | static_cast<Word>(j))) {
                s.free_list(list ^ 1)[atomicAdd(&s.board->free_columns[list ^ 1], 1u)] = j;
            }
        });
        reset_cut();
    }

    __device__ void reset_cut() const {
        if (rounds.team.leads()) {
            for (int k = 0; k < 3; ++k) {
                s.board->cut[k] = instance.label_limit;
            }
        }
    }

    __device__ int start() const {
        if (rounds.team.leads()) {
            s.board->free_columns[0] = s.board->free_columns[1] = 0;
            s.board->flags &= ~kLabelOverflow;
        }
        rounds.for_each(static_cast<int>(padded(instance.columns)) - instance.columns, [&](int k) {
            const int j = instance.columns + k;
            s.limit(0)[j] = s.limit(1)[j] = s.limit(2)[j] = -INFINITY;
            s.price(0)[j] = 0;
            s.word(0)[j] = s.word(1)[j] = s.word(2)[j] = kEmpty;
        });
        reset_cut();
        rounds.meet();
        rounds.for_each(instance.columns, [&](int j) {
            s.word(0)[j] = s.word(1)[j] = s.word(2)[j] = kEmpty;
            s.hold[j] = -1;
            s.limit(0)[j] = limit_of(instance.label_limit, s.price(0)[j]);
            s.limit(1)[j] = s.limit(2)[j] = INFINITY;
            if (s.y[j] < 0) {
                s.free_list(0)[atomicAdd(&s.board->free_columns[0], 1u)] = j;
            }
        });
        rounds.for_each(instance.rows, [&](int i) {
            s.label[i] = kEmpty;
            rounds.add(s.x[i] < 0);
        });
        return static_cast<int>(rounds.meet());
    }

    // Whether a row that trees have reached has a pair that was only dropped because its label would not fit: the
    // cut was never lowered, since no free column had a label.
    __device__ bool overflowed() const {
        const auto current = labels(0);
        const auto reached = [&](int row, Word*) {
            return s.x[row] < 0 || label_of(current[s.x[row]]) < instance.label_limit;
        };
        for_rows(rounds.team, instance.rows, reached, [&](int row, Word, bool) {
            bool found = false;
            for_costs<Team, Team>(instance.source, row, [&](int j, Int) { found |= current[j] == kEmpty; });
            if (found) {
                atomicOr(&s.board->flags, unsigned{kLabelOverflow});
            }
        });
        rounds.meet();
        return s.board->flags & kLabelOverflow;
    }

    __device__ Growth run() {
        for (int free_rows = start(); free_rows > 0;) {
            const int free_columns = static_cast<int>(s.board->free_columns[list]);
            if (shift == 0 && free_rows <= kMostSettled && s.board->allowed > 0.0 &&
                settle(rounds, instance, s, list, free_rows)) {
                break;
            }
            find_ancestors();
            if (rounds.team.leads()) {
                s.board->distance = 0;
                s.board->free_columns[list ^ 1] = 0;
            }
            rounds.for_each(instance.rows, [&](int i) { s.best[i] = kEmpty; });
            const Word cut = grow(free_columns);
            rounds.count(kForestPasses, 1);
            find_roots(cut);
            rounds.meet();
            rounds.for_each(instance.rows, [&](int i) {
                if (s.best[i] != kEmpty) {
                    atomicMax(&s.board->distance, label_of(s.best[i]));
                    rounds.add(1);
                }
            });
            if (rounds.meet() == 0) {
                return overflowed() ? Growth::overflow : Growth::infeasible;
            }
            update(free_columns);
            free_rows -= static_cast<int>(rounds.meet());
            now = (now + 1) % 3;
            list ^= 1;
        }
        return Growth::complete;
    }
};

}  // namespace loomfast::cuda
