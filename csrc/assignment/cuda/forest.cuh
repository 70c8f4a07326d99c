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
#pragma once

#include "assignment/cuda/tolerance.cuh"

namespace loomfast::cuda {

enum class Growth { complete, infeasible, overflow };

template <class Team>
struct Forest {
    Rounds<Team>& rounds;
    const Instance& instance;
    const State& s;
    int unit, shift;
    int now;   // which array of words holds the labels
    int list;  // which free list is current

    __device__ Word label_of(Word word) const { return word >> instance.row_bits; }
    __device__ int row_of(Word word) const {
        return static_cast<int>(word & ((Word{1} << instance.row_bits) - 1));
    }
    __device__ Word* labels(int ahead) const { return s.word((now + ahead) % 3); }

    // Relaxes one row by a crew.
    __device__ void relax(int row, Word label, Word cut) const {
        const Word* current = labels(0);
        Word* next = labels(1);
        const Int base = static_cast<Int>(label) - s.u[row];
        const Int* price = s.price(0);
        bool overflow = false;
        for (int j = Team::member(); j < instance.columns; j += Team::members()) {
            const Int c = stage_cost(instance, row, j, unit, shift);
            if (c == kForbidden) {
                continue;
            }
            const Word through = static_cast<Word>(c + price[j] + base);
            overflow = overflow || through >= instance.label_limit;
            if (through < cut && through < label_of(current[j])) {
                atomicMin(&next[j], through << instance.row_bits | static_cast<Word>(row));
            }
        }
        if (overflow) {
            atomicOr(&s.board->flags, unsigned{kLabelOverflow});
        }
    }

    // The word of a column, or a lower one from up the old tree that it was in.
    __device__ Word inherited(int column, Word cut) const {
        const Word* current = labels(0);
        const Word word = current[column];
        Word least = cut;
        for (int k = 0; k < kAncestors; ++k) {
            const int above = s.ancestor(k)[column];
            if (above < 0) {
                break;
            }
            const Word label = label_of(current[above]);
            least = label < least ? label : least;
        }
        return least < cut && least < label_of(word)
                   ? least << instance.row_bits | static_cast<Word>(s.hold[column])
                   : word;
    }

    // Finds the ancestors of every column. A row that has since moved to the column itself ends the tree.
    __device__ void find_ancestors() const {
        rounds.for_each(instance.columns, [&](int j) {
            int at = j;
            for (int k = 0; k < kAncestors; ++k) {
                const int row = at < 0 ? -1 : s.hold[at];
                const int above = row < 0 ? -1 : s.x[row];
                at = above == at ? -1 : above;
                s.ancestor(k)[j] = at;
            }
        });
    }

    // The label of rank `want` among the free columns becomes the next cut: whoever holds it says so.
    __device__ void lower_cut(int free_columns, Word cut) const {
        const Word* current = labels(0);
        const int* columns = s.free_list(list);
        const int want = instance.square() ? (free_columns * 4 + 4) / 5 : 1;
        for (int a = rounds.team.thread() >> 5; a < free_columns; a += rounds.team.threads() >> 5) {
            const int mine = columns[a];
            const Word label = label_of(current[mine]);
            if (label >= cut) {
                continue;
            }
            unsigned below = 0;
            for (int b = lane_id(); b < free_columns; b += 32) {
                const Word other = label_of(current[columns[b]]);
                below += other < label || (other == label && columns[b] < mine);
            }
            if (warp_sum(below) == static_cast<unsigned>(want - 1) && lane_id() == 0) {
                atomicMin(&s.board->cut[rounds.slot(1)], label + 1);
            }
        }
    }

    // Steps until no label changes; returns the final cut.
    __device__ Word grow(int free_columns) {
        for (;;) {
            const Word cut = s.board->cut[rounds.slot(0)];
            const Word* current = labels(0);
            Word* next = labels(1);
            Word* spare = labels(2);
            rounds.for_each(instance.columns, [&](int j) {
                const Word word = inherited(j, cut);
                if (word != kEmpty) {
                    atomicMin(&next[j], word);
                }
                spare[j] = kEmpty;
            });
            if (rounds.team.thread() == 0) {
                atomicMin(&s.board->cut[rounds.slot(1)], cut);
                s.board->cut[rounds.slot(2)] = instance.label_limit;
            }
            const auto fell = [&](int row, Word* label) {
                *label = s.x[row] < 0 ? 0 : label_of(current[s.x[row]]);
                if (*label >= cut || *label >= s.label[row]) {
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
            if (relaxed == 0) {
                return s.board->cut[rounds.slot(0)];
            }
        }
    }

    // Finds the root of every labelled column and the best free column of every root.
    __device__ void find_roots(Word cut) const {
        const Word* current = labels(0);
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
        const Word* current = labels(0);
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
        const Word* current = labels(0);
        Word* kept = labels(1);
        Word* cleared = labels(2);
        const Word distance = s.board->distance;
        rounds.for_each(instance.columns, [&](int j) {
            const Word label = label_of(current[j]);
            if (label < distance) {
                s.price(0)[j] += static_cast<Int>(distance - label);
            }
            const bool in_tree = label <= distance && s.root[j] >= 0;
            if (in_tree) {
                s.hold[j] = row_of(current[j]);
            }
            const bool stays = in_tree && s.best[s.root[j]] == kEmpty;
            kept[j] = stays ? static_cast<Word>(row_of(current[j])) : kEmpty;
            cleared[j] = kEmpty;
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
        if (rounds.team.thread() == 0) {
            for (int k = 0; k < 3; ++k) {
                s.board->cut[k] = instance.label_limit;
            }
        }
    }

    __device__ int start() const {
        if (rounds.team.thread() == 0) {
            s.board->free_columns[0] = s.board->free_columns[1] = 0;
            s.board->flags &= ~kLabelOverflow;
        }
        reset_cut();
        rounds.meet();
        rounds.for_each(instance.columns, [&](int j) {
            s.word(0)[j] = s.word(1)[j] = s.word(2)[j] = kEmpty;
            s.hold[j] = -1;
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

    __device__ Growth run() {
        for (int free_rows = start(); free_rows > 0;) {
            const int free_columns = static_cast<int>(s.board->free_columns[list]);
            if (shift == 0 && free_rows <= kMostSettled && s.board->allowed > 0.0 &&
                settle(rounds, instance, s, s.free_list(list), free_rows, unit)) {
                break;
            }
            find_ancestors();
            if (rounds.team.thread() == 0) {
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
                return s.board->flags & kLabelOverflow ? Growth::overflow : Growth::infeasible;
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
