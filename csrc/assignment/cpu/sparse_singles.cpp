#include "assignment/cpu/sparse_singles.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;
// A bid takes as long as this many entries and those of its row; an entry of a path as long as so many of a bid.
constexpr double kBid = 8.0, kPathEntry = 4.0;
// Before the first path bids of a row may take so many entries.
constexpr double kBidsAtFirst = 4000.0;
// Phases of an auction take about as long as looking at every entry so many times.
constexpr double kPhases = 16.0;
// How many rows the average of what one takes goes back.
constexpr double kRows = 32.0;

// The entry of row i with the least value but for one.
std::int64_t next_best(const SparseState& s, std::int32_t i, std::int64_t but) {
    std::int64_t found = -1;
    for (std::int64_t e = s.g.first[std::size_t(i)]; e < s.g.first[std::size_t(i) + 1]; e++)
        if (e != but && (found < 0 || s.value(e) < s.value(found))) found = e;
    return found;
}

}  // namespace

SparseSingles::SparseSingles(SparseState& state, SparseForest& forest, Cancel* cancel)
    : s_(state), forest_(forest), cancel_(cancel), entries_(double(state.g.cost.size()) + kBid * state.g.n) {}

bool SparseSingles::worth(std::size_t left) const {
    return spent_ < 2.0 * kPhases * entries_ && lately_ * double(left) < kPhases * entries_;
}

// Row i bids, then the row that it displaces, and so on. The row that is free in the end, or -1: a row whose bid did not
// raise the price leaves the one it displaces for later.
std::int32_t SparseSingles::bid(std::int32_t i) {
    const double most = spent_ + (paths_ > 0.0 ? searched_ / paths_ : kBidsAtFirst);
    while (spent_ < most) {
        const SparseState::Best best = s_.best(i);
        if (best.entry < 0) return i;
        spent_ += double(s_.g.first[std::size_t(i) + 1] - s_.g.first[std::size_t(i)]) + kBid;
        s_.stats.bids++;
        const bool raises = best.first < best.second && best.second < kInf;
        std::int64_t e = best.entry;
        if (raises) s_.p[std::size_t(s_.column(e))] += best.second - best.first;
        else if (s_.y[std::size_t(s_.column(e))] >= 0 && best.first == best.second) e = next_best(s_, i, e);
        const std::int32_t owner = s_.y[std::size_t(s_.column(e))];
        if (owner >= 0) s_.x[std::size_t(owner)] = SparseState::kFree;
        s_.match(i, e);
        if (owner < 0) return -1;
        if (!raises) {
            later_.push_back(owner);
            return -1;
        }
        i = owner;
    }
    return i;
}

bool SparseSingles::path(std::int32_t i) {
    const std::int64_t before = forest_.looked();
    one_.assign(1, i);
    const bool found = forest_.pass(one_, 0.0, cancel_) > 0;
    const double took = kPathEntry * double(forest_.looked() - before);
    spent_ += took;
    searched_ += took;
    paths_++;
    return found;
}

bool SparseSingles::match(std::vector<std::int32_t>& rows) {
    for (int sweep = s_.wide() ? 2 : 0; sweep < 3 && !rows.empty(); sweep++) {
        later_.clear();
        std::size_t k = 0;
        bool found = true;
        for (; k < rows.size() && found && worth(rows.size() - k); k++) {
            const double before = spent_;
            const std::int32_t i = sweep < 2 ? bid(rows[k]) : rows[k];
            if (i >= 0 && !path(i)) {
                later_.push_back(i);
                found = false;
            }
            lately_ += (spent_ - before - lately_) / kRows;
        }
        const bool stopped = k < rows.size();
        later_.insert(later_.end(), rows.begin() + std::ptrdiff_t(k), rows.end());
        rows.swap(later_);
        if (!found) return false;
        if (stopped) return true;
    }
    return true;
}

}  // namespace loomfast::assignment
