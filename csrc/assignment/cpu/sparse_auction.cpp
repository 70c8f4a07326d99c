#include "assignment/cpu/sparse_auction.hpp"

#include <algorithm>
#include <cmath>
#include <functional>

namespace loomfast::assignment {

void SparseFloor::left_by(std::int32_t j) {
    if (!built_) return;
    heap_.emplace_back(s_.price(j), j);
    std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
}

std::int32_t SparseFloor::rise() {
    if (!built_) {
        heap_.clear();
        for (std::int32_t j = 0; j < s_.g.m; j++)
            if (s_.y[std::size_t(j)] >= 0 || !s_.on_floor(j)) heap_.emplace_back(s_.price(j), j);
        std::make_heap(heap_.begin(), heap_.end(), std::greater<>());
        built_ = true;
    }
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), std::greater<>());
        auto& [key, j] = heap_.back();
        const std::int32_t i = s_.y[std::size_t(j)];
        const double price = s_.price(j);
        if (key < price && (i >= 0 || !s_.on_floor(j))) {
            key = price;
            std::push_heap(heap_.begin(), heap_.end(), std::greater<>());
            continue;
        }
        const std::int32_t k = j;
        heap_.pop_back();
        if (i < 0 && s_.on_floor(k)) continue;  // stands there already
        s_.floor = s_.p[std::size_t(k)] = price;
        if (i >= 0) s_.release(i);
        else s_.spare++;
        return i;
    }
    return -1;
}

void sparse_auction(SparseState& s, SparseFloor& floor, std::vector<std::int32_t>& rows, double epsilon,
                    std::int64_t most, std::int64_t patience) {
    std::int64_t looked = 0, latest = 0;
    while (!rows.empty() && looked < most && looked - latest < patience) {
        const std::int32_t i = rows.back();
        rows.pop_back();
        const SparseState::Best best = s.best(i);
        looked += s.g.first[std::size_t(i) + 1] - s.g.first[std::size_t(i)] + 1;
        s.stats.bids++;
        const std::int32_t j = s.column(best.entry), owner = s.y[std::size_t(j)];
        const bool spare = s.wide() && owner < 0 && s.on_floor(j);
        const double before = s.price(j), rise = best.second < SparseState::kInf ? best.second - best.first : 0.0;
        const double after = before + rise + epsilon;
        s.p[std::size_t(j)] = after > before ? after : std::nextafter(before, SparseState::kInf);
        if (owner >= 0) s.x[std::size_t(owner)] = SparseState::kFree;
        s.match(i, best.entry);
        std::int32_t evicted = owner;
        if (spare) {
            floor.left_by(j);
            if (--s.spare < 0) evicted = floor.rise();
        }
        if (evicted >= 0) rows.push_back(evicted);
        else latest = looked;
    }
}

void release_loose(SparseState& s, double slack) {
    for (std::int32_t i = 0; i < s.g.n; i++)
        if (s.x[std::size_t(i)] >= 0 && s.looseness(i) > slack) s.release(i);
}

}  // namespace loomfast::assignment
