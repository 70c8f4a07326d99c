// Shortest augmenting paths from many free rows at once.
#pragma once

#include <cstdint>
#include <vector>

#include "assignment/cpu/radix_heap.hpp"
#include "assignment/cpu/sparse_state.hpp"

namespace loomfast::assignment {

// Trees of shortest paths from all free rows grow in one Dijkstra search over the reduced costs. Where the search
// stops, at the distance D, prices rise by D - d_j, which keeps reduced costs nonnegative and makes all trees tight;
// then paths along tight pairs are augmented, as many as are found that share no column. Within an auction's phase
// lengths are counted in epsilons, rounded upward, which keeps epsilon-complementary slackness and gives many
// tight paths at once. (Gabow and Tarjan, "Faster scaling algorithms for network problems", SIAM J. Comput. 18(5),
// 1989, section 2.)
class SparseForest {
public:
    explicit SparseForest(SparseState& state) : s_(state) {}

    // One pass; how many rows were matched. 0: `cancel` stopped it, or no free column can be reached. `epsilon` 0:
    // exact lengths. In wide problems all unmatched columns have to stand on the floor, and do so afterwards.
    std::int64_t pass(std::vector<std::int32_t>& free_rows, double epsilon, Cancel* cancel);

    std::int64_t looked() const { return looked_; }  // entries

private:
    void prepare();
    void grow(const std::vector<std::int32_t>& free_rows, Cancel* cancel);
    void relax(std::int32_t i, double length, double level, std::int32_t tree);
    void label(std::int32_t j, double d, std::int32_t parent, std::int64_t entry);
    double rounded(double length) const;
    std::int32_t tree_of(std::int32_t j) const { return tree_[std::size_t(labels_[std::size_t(j)].parent)]; }
    void raise_prices();
    void augment_tree(std::int32_t sink);
    bool augment_from(std::int32_t row);

    SparseState& s_;
    double epsilon_ = 0.0, cut_ = 0.0;
    RadixHeap heap_;
    struct Label {
        std::int64_t via = -1;     // the entry by which the column was reached
        std::int32_t parent = -1;  // the row by which it was reached
        bool settled = false, visited = false;
    };
    std::vector<Label> labels_;             // of columns
    std::vector<double> d_;                 // their distances
    std::vector<double> least_;             // of a free row: its best value
    std::vector<std::int32_t> tree_;        // of a row: the free row at the root
    std::vector<char> done_;                // of a free row: its tree has reached a free column
    std::vector<std::int32_t> touched_, order_, sinks_;
    struct Step {
        std::int32_t row;
        std::int64_t next;
    };
    std::vector<Step> stack_;
    bool single_ = false;
    double bound_ = SparseState::kInf;      // with one tree: no label at or beyond it is needed
    std::int64_t looked_ = 0;
};

}  // namespace loomfast::assignment
