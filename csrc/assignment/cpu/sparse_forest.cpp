#include "assignment/cpu/sparse_forest.hpp"

#include <algorithm>
#include <cmath>

namespace loomfast::assignment {

namespace {
constexpr double kInf = SparseState::kInf;
// The search goes on until this many times the entries that a path has taken on average were looked at for the next one.
constexpr double kPatience = 4.0;
}

SparseForest::SparseForest(SparseState& state)
    : s_(state), d_(std::size_t(state.g.m), kInf), least_(std::size_t(state.g.n)), via_(std::size_t(state.g.m)),
      parent_(std::size_t(state.g.m)), tree_(std::size_t(state.g.n)), settled_(std::size_t(state.g.m), 0),
      done_(std::size_t(state.g.n), 0), visited_(std::size_t(state.g.m), 0) {}

void SparseForest::label(std::int32_t j, double d, std::int32_t parent, std::int64_t entry) {
    const auto k = std::size_t(j);
    if (!(d < d_[k]) || !(d < bound_)) return;
    if (d_[k] == kInf) touched_.push_back(j);
    if (single_ && s_.y[k] < 0) bound_ = d;
    d_[k] = d;
    parent_[k] = parent;
    via_[k] = entry;
    if (d == now_) {
        level_with_.push_back(j);
        return;
    }
    heap_.push_back({d, j});
    std::push_heap(heap_.begin(), heap_.end());
}

bool SparseForest::pop(Item* top) {
    if (!level_with_.empty()) {
        *top = {now_, level_with_.back()};
        level_with_.pop_back();
        return true;
    }
    if (heap_.empty()) return false;
    *top = heap_.front();
    std::pop_heap(heap_.begin(), heap_.end());
    heap_.pop_back();
    return true;
}

void SparseForest::relax(std::int32_t i, double length, double level, std::int32_t tree) {
    tree_[std::size_t(i)] = tree;
    const std::int64_t begin = s_.g.first[std::size_t(i)], end = s_.g.first[std::size_t(i) + 1];
    looked_ += end - begin + 1;
    for (std::int64_t e = begin; e < end; e++) {
        // A reduced cost is negative by rounding, or by less than epsilon.
        const double reduced = std::max(0.0, s_.value(e) - level);
        label(s_.column(e), length + (epsilon_ > 0 ? std::ceil(reduced / epsilon_) * epsilon_ : reduced), i, e);
    }
}

void SparseForest::grow(const std::vector<std::int32_t>& free_rows, Cancel* cancel) {
    std::int64_t start = looked_, latest = looked_, pops = 0;
    now_ = 0.0;
    cut_ = kInf;
    for (const std::int32_t i : free_rows) relax(i, 0.0, least_[std::size_t(i)] = s_.best(i).first, i);
    Item top;
    while (pop(&top)) {
        const auto k = std::size_t(top.j);
        if (settled_[k]) continue;
        if (!sinks_.empty() && top.d > cut_) {
            const double each = double(looked_ - start) / double(sinks_.size());
            if (double(looked_ - latest) > kPatience * each) return;
        }
        if ((++pops & 0xfff) == 0 && cancel && cancel->look()) return;
        now_ = top.d;
        settled_[k] = 1;
        order_.push_back(top.j);
        const std::int32_t i = s_.y[k], tree = tree_of(top.j);
        if (i >= 0) {
            relax(i, top.d, s_.level(i), tree);
            continue;
        }
        if (done_[std::size_t(tree)]) {
            if (!s_.wide()) continue;
            cut_ = top.d;  // this column stays on the floor
            return;
        }
        done_[std::size_t(tree)] = 1;
        sinks_.push_back(top.j);
        cut_ = top.d;
        latest = looked_;
        if (sinks_.size() == free_rows.size()) return;
    }
}

std::int64_t SparseForest::pass(std::vector<std::int32_t>& free_rows, double epsilon, Cancel* cancel) {
    heap_.clear();
    level_with_.clear();
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
        d_[std::size_t(j)] = kInf;
        settled_[std::size_t(j)] = visited_[std::size_t(j)] = 0;
    }
    std::erase_if(free_rows, [&](std::int32_t i) { return s_.x[std::size_t(i)] >= 0; });
    s_.stats.augmentations += matched;
    return matched;
}

void SparseForest::raise_prices() {
    for (const std::int32_t j : order_) {
        const auto k = std::size_t(j);
        if (d_[k] < cut_) s_.p[k] = s_.price(j) + (cut_ - d_[k]);
    }
}

void SparseForest::augment_tree(std::int32_t sink) {
    for (std::int32_t j = sink; j >= 0;) {
        const std::int32_t i = parent_[std::size_t(j)], before = s_.x[std::size_t(i)];
        s_.match(i, via_[std::size_t(j)]);
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
            if (!settled_[k] || visited_[k] || d_[k] > cut_) continue;
            const bool tree = via_[k] == at.next;
            if (!tree && s_.value(at.next) > level) continue;
            owner = s_.y[k];
            visited_[k] = 1;
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
