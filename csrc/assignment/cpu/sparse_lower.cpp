#include "assignment/cpu/sparse_lower.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {
constexpr double kInf = SparseState::kInf;
}

SparseLowering::SparseLowering(SparseState& state) : s_(state) {}

void SparseLowering::lower_all() {
    const auto& g = s_.g;
    std::vector<std::int32_t> high;
    for (std::int32_t j = 0; j < g.m; j++)
        if (s_.y[std::size_t(j)] < 0 && !s_.on_floor(j)) high.push_back(j);
    if (high.empty()) return;
    if (first_.empty()) {
        first_.assign(std::size_t(g.m) + 1, 0);
        for (const std::int32_t j : g.column) first_[std::size_t(j) + 1]++;
        for (std::size_t j = 0; j < std::size_t(g.m); j++) first_[j + 1] += first_[j];
        std::vector<std::int64_t> next(first_.begin(), first_.end() - 1);
        row_.resize(g.column.size());
        entry_.resize(g.column.size());
        for (std::int32_t i = 0; i < g.n; i++)
            for (std::int64_t e = g.first[std::size_t(i)]; e < g.first[std::size_t(i) + 1]; e++) {
                const auto at = std::size_t(next[std::size_t(s_.column(e))]++);
                row_[at] = i;
                entry_[at] = e;
            }
        d_.assign(std::size_t(g.n), kInf);
        via_.resize(std::size_t(g.n));
        settled_.assign(std::size_t(g.n), 0);
    }
    for (const std::int32_t j : high)
        if (s_.y[std::size_t(j)] < 0) lower(j);
}

void SparseLowering::relax(std::int32_t j, double length) {
    columns_.push_back({j, length});
    const double down = length + (s_.price(j) - s_.floor);
    if (down < bound_) {
        bound_ = down;
        last_ = j;
    }
    for (std::int64_t k = first_[std::size_t(j)]; k < first_[std::size_t(j) + 1]; k++) {
        const std::int32_t i = row_[std::size_t(k)];
        const std::int64_t e = entry_[std::size_t(k)];
        if (settled_[std::size_t(i)]) continue;
        const double level = s_.x[std::size_t(i)] >= 0 ? s_.level(i) : s_.best(i).first;
        const double d = length + std::max(0.0, s_.value(e) - level);
        if (!(d < d_[std::size_t(i)]) || !(d < bound_)) continue;
        if (d_[std::size_t(i)] == kInf) touched_.push_back(i);
        d_[std::size_t(i)] = d;
        via_[std::size_t(i)] = e;
        heap_.push_back({d, i});
        std::push_heap(heap_.begin(), heap_.end());
    }
}

void SparseLowering::lower(std::int32_t column) {
    heap_.clear();
    columns_.clear();
    touched_.clear();
    bound_ = kInf;
    relax(column, 0.0);
    std::int32_t taker = -1;
    while (taker < 0 && !heap_.empty()) {
        const Item top = heap_.front();
        std::pop_heap(heap_.begin(), heap_.end());
        heap_.pop_back();
        if (settled_[std::size_t(top.i)]) continue;
        if (!(top.d < bound_)) break;
        settled_[std::size_t(top.i)] = 1;
        if (s_.x[std::size_t(top.i)] < 0) {
            taker = top.i;
            bound_ = top.d;
        } else {
            relax(s_.x[std::size_t(top.i)], top.d);
        }
    }
    for (const auto& [j, length] : columns_)
        if (length < bound_) s_.p[std::size_t(j)] = std::max(s_.price(j) - (bound_ - length), s_.floor);
    if (taker >= 0) {
        shift(taker);
    } else {
        s_.p[std::size_t(last_)] = s_.floor;
        const std::int32_t owner = s_.y[std::size_t(last_)];
        s_.y[std::size_t(last_)] = SparseState::kFree;
        if (owner >= 0) shift(owner);
    }
    for (const std::int32_t i : touched_) {
        d_[std::size_t(i)] = kInf;
        settled_[std::size_t(i)] = 0;
    }
}

// The row takes the column that reached it, whose row takes the one that reached it, back to the column searched from.
void SparseLowering::shift(std::int32_t row) {
    while (row >= 0) {
        const std::int64_t e = via_[std::size_t(row)];
        const std::int32_t owner = s_.y[std::size_t(s_.column(e))];
        s_.match(row, e);
        row = owner;
    }
}

}  // namespace loomfast::assignment
