#include "assignment/cpu/sparse_reduce.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;
// A column's least cost: in which row, and which of its entries.
struct Least {
    std::int32_t row = -1, offset = 0;
};

std::vector<Least> reduce(SparseState& s, bool wanted) {
    std::vector<Least> least(wanted ? std::size_t(s.g.m) : 0);
    std::fill(s.p.begin(), s.p.end(), -kInf);
    for (std::int32_t i = 0; i < s.g.n; i++) {
        const std::int64_t begin = s.g.first[std::size_t(i)], end = s.g.first[std::size_t(i) + 1];
        for (std::int64_t e = begin; e < end; e++) {
            const auto j = std::size_t(s.column(e));
            if (!(-s.cost(e) > s.p[j])) continue;
            s.p[j] = -s.cost(e);
            if (wanted) least[j] = {i, std::int32_t(e - begin)};
        }
    }
    for (double& p : s.p)
        if (p == -kInf) p = 0.0;
    return least;
}

}  // namespace

void reduce_columns(SparseState& s) { reduce(s, false); }

void reduce_and_transfer(SparseState& s) {
    const std::vector<Least> least = reduce(s, true);
    std::vector<char> wanted_twice(std::size_t(s.g.n), 0);
    for (std::size_t j = least.size(); j-- > 0;) {  // the last first
        const std::int32_t i = least[j].row;
        if (i < 0) continue;
        if (s.x[std::size_t(i)] < 0) s.match(i, s.g.first[std::size_t(i)] + least[j].offset);
        else wanted_twice[std::size_t(i)] = 1;
    }
    for (std::int32_t i = 0; i < s.g.n; i++) {
        if (s.x[std::size_t(i)] < 0 || wanted_twice[std::size_t(i)]) continue;
        const SparseState::Best best = s.best(i);
        if (best.second < kInf) s.p[std::size_t(s.x[std::size_t(i)])] += best.second - best.first;
    }
}

void take_free(SparseState& s) {
    for (std::int32_t i = 0; i < s.g.n; i++) {
        if (s.x[std::size_t(i)] >= 0) continue;
        const SparseState::Best best = s.best(i);
        if (best.entry < 0) continue;
        std::int64_t e = best.entry;
        const std::int64_t end = s.g.first[std::size_t(i) + 1];
        if (s.y[std::size_t(s.column(e))] >= 0) {
            if (best.second > best.first) continue;
            while (e < end && (s.value(e) > best.first || s.y[std::size_t(s.column(e))] >= 0)) e++;
            if (e == end) continue;
        }
        s.match(i, e);
    }
}

}  // namespace loomfast::assignment
