#include "assignment/cpu/sparse_forest.hpp"

#include <algorithm>
#include <cmath>

namespace loomfast::assignment {

namespace {
constexpr double kInf = SparseState::kInf;
// The search goes on until the next path has taken this many times the entries that one has taken on average.
constexpr double kPatience = 4.0;
// With few trees, which are large, it does not: the next search is around fewer of them.
constexpr std::size_t kFewTrees = 16;
// So many entries of a row are looked at without a branch before those that are shorter than known are labelled.
constexpr std::int64_t kChunk = 64;
}

void SparseForest::prepare() {
    labels_.resize(std::size_t(s_.g.m));
    d_.assign(std::size_t(s_.g.m), kInf);
    least_.resize(std::size_t(s_.g.n));
    tree_.resize(std::size_t(s_.g.n));
    done_.assign(std::size_t(s_.g.n), 0);
}

void SparseForest::label(std::int32_t j, double d, std::int32_t parent, std::int64_t entry) {
    const auto k = std::size_t(j);
    if (!(d < bound_)) return;
    if (d_[k] == kInf) touched_.push_back(j);
    if (single_ && s_.y[k] < 0) bound_ = d;
    d_[k] = d;
    labels_[k].parent = parent;
    labels_[k].via = entry;
    heap_.push(d, j);
}

// A length in whole epsilons, rounded upward.
inline double SparseForest::rounded(double length) const {
    const double units = length / epsilon_;
    if (!(units < 0x1p52)) return units * epsilon_;
    const double whole = double(std::int64_t(units));
    return (whole < units ? whole + 1.0 : whole) * epsilon_;
}

void SparseForest::relax(std::int32_t i, double length, double level, std::int32_t tree) {
    tree_[std::size_t(i)] = tree;
    const std::int64_t begin = s_.g.first[std::size_t(i)], end = s_.g.first[std::size_t(i) + 1];
    looked_ += end - begin + 1;
    const double *cost = s_.g.cost.data(), *prices = s_.p.data(), *known = d_.data();
    const std::int32_t* columns = s_.g.column.data();
    const bool rounds = epsilon_ > 0;
    double shorter[kChunk];
    std::int64_t at[kChunk];
    for (std::int64_t from = begin; from < end; from += kChunk) {
        const std::int64_t to = std::min(end, from + kChunk);
        const double bound = bound_, floor = s_.floor;
        int count = 0;
        for (std::int64_t e = from; e < to; e++) {
            const std::int32_t j = columns[e];
            const double above = cost[e] + std::max(prices[j], floor) - level;
            // A reduced cost is negative by rounding, or by less than epsilon.
            const double reduced = above > 0.0 ? above : 0.0, d = length + (rounds ? rounded(reduced) : reduced);
            shorter[count] = d;
            at[count] = e;
            count += (d < known[j]) & (d < bound);
        }
        for (int k = 0; k < count; k++) label(columns[at[k]], shorter[k], i, at[k]);
        if (bound_ <= length) return;  // a free column that is as near as this row
    }
}

void SparseForest::grow(const std::vector<std::int32_t>& free_rows, Cancel* cancel) {
    const double patience = free_rows.size() > kFewTrees ? kPatience : 0.0;
    std::int64_t start = looked_, latest = looked_, pops = 0;
    cut_ = kInf;
    for (const std::int32_t i : free_rows) relax(i, 0.0, least_[std::size_t(i)] = s_.best(i).first, i);
    while (!heap_.empty()) {
        const auto [d, j] = heap_.pop();
        const auto k = std::size_t(j);
        Label& label = labels_[k];
        if (label.settled) continue;
        if (!sinks_.empty() && d > cut_) {
            const double each = double(looked_ - start) / double(sinks_.size());
            if (double(looked_ - latest) > patience * each) return;
        }
        if ((++pops & 0xfff) == 0 && cancel && cancel->look()) return;
        label.settled = true;
        order_.push_back(j);
        const std::int32_t i = s_.y[k], tree = tree_of(j);
        if (i >= 0) {
            relax(i, d, s_.level(i), tree);
            continue;
        }
        if (done_[std::size_t(tree)]) {
            if (!s_.wide()) continue;
            cut_ = d;  // this column stays on the floor
            return;
        }
        done_[std::size_t(tree)] = 1;
        sinks_.push_back(j);
        cut_ = d;
        latest = looked_;
        if (sinks_.size() == free_rows.size()) return;
    }
}

std::int64_t SparseForest::pass(std::vector<std::int32_t>& free_rows, double epsilon, Cancel* cancel) {
    if (labels_.empty()) prepare();
    heap_.clear();
    touched_.clear();
    order_.clear();
    sinks_.clear();
    epsilon_ = epsilon;
    bound_ = kInf;
    single_ = free_rows.size() == 1;
    grow(free_rows, cancel);
    std::int64_t matched = 0;
    if (!sinks_.empty()) {
        raise_prices();
        for (const std::int32_t j : sinks_) done_[std::size_t(tree_of(j))] = 0;
        for (const std::int32_t j : sinks_) augment_tree(j);
        matched = std::int64_t(sinks_.size());
        if (!single_)
            for (const std::int32_t i : free_rows)
                if (s_.x[std::size_t(i)] < 0) matched += augment_from(i);
    }
    for (const std::int32_t j : touched_) {
        labels_[std::size_t(j)] = {};
        d_[std::size_t(j)] = kInf;
    }
    std::erase_if(free_rows, [&](std::int32_t i) { return s_.x[std::size_t(i)] >= 0; });
    s_.stats.augmentations += matched;
    return matched;
}

void SparseForest::raise_prices() {
    for (const std::int32_t j : order_) {
        const double d = d_[std::size_t(j)];
        if (d < cut_) s_.p[std::size_t(j)] = s_.price(j) + (cut_ - d);
    }
}

void SparseForest::augment_tree(std::int32_t sink) {
    for (std::int32_t j = sink; j >= 0;) {
        const std::int32_t i = labels_[std::size_t(j)].parent, before = s_.x[std::size_t(i)];
        s_.match(i, labels_[std::size_t(j)].via);
        j = before;
    }
}

// Depth first along tight pairs from a free row to a free column, through columns that no path has visited.
bool SparseForest::augment_from(std::int32_t row) {
    stack_.clear();
    stack_.push_back({row, s_.g.first[std::size_t(row)]});
    double level = least_[std::size_t(row)] + cut_;
    while (true) {
        Step& at = stack_.back();
        const std::int64_t end = s_.g.first[std::size_t(at.row) + 1];
        std::int32_t owner = -2;
        for (; at.next < end; at.next++) {
            const auto k = std::size_t(s_.column(at.next));
            Label& label = labels_[k];
            if (!label.settled || label.visited || d_[k] > cut_) continue;
            const bool tree = label.via == at.next;
            if (!tree && s_.value(at.next) > level) continue;
            owner = s_.y[k];
            label.visited = true;
            break;
        }
        if (owner == -2) {
            stack_.pop_back();
            if (stack_.empty()) return false;
            stack_.back().next++;
            level = stack_.size() == 1 ? least_[std::size_t(row)] + cut_ : s_.level(stack_.back().row);
            continue;
        }
        if (owner >= 0) {
            stack_.push_back({owner, s_.g.first[std::size_t(owner)]});
            level = s_.level(owner);
            continue;
        }
        while (!stack_.empty()) {
            s_.match(stack_.back().row, stack_.back().next);
            stack_.pop_back();
        }
        return true;
    }
}

}  // namespace loomfast::assignment
