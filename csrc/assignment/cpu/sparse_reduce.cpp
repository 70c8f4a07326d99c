#include "assignment/cpu/sparse_reduce.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;
// Columns, the last first, are given to the rows that their least costs are in; rows that were not wanted twice raise
// the price of theirs as far as it stays their best.
void transfer(SparseState& s) {
    std::vector<std::int64_t> least(std::size_t(s.g.m), -1);
    for (std::int32_t i = 0; i < s.g.n; i++)
        for (std::int64_t e = s.g.first[std::size_t(i)]; e < s.g.first[std::size_t(i) + 1]; e++)
            if (s.value(e) == 0.0 && least[std::size_t(s.column(e))] < 0) least[std::size_t(s.column(e))] = e;
    std::vector<std::int32_t> row(std::size_t(s.g.m), -1);
    std::vector<char> wanted_twice(std::size_t(s.g.n), 0);
    for (std::int32_t i = 0; i < s.g.n; i++)
        for (std::int64_t e = s.g.first[std::size_t(i)]; e < s.g.first[std::size_t(i) + 1]; e++)
            if (least[std::size_t(s.column(e))] == e) row[std::size_t(s.column(e))] = i;
    for (std::int32_t j = s.g.m - 1; j >= 0; j--) {
        const std::int32_t i = row[std::size_t(j)];
        if (i < 0) continue;
        if (s.x[std::size_t(i)] < 0) s.match(i, least[std::size_t(j)]);
        else wanted_twice[std::size_t(i)] = 1;
    }
    for (std::int32_t i = 0; i < s.g.n; i++) {
        if (s.x[std::size_t(i)] < 0 || wanted_twice[std::size_t(i)]) continue;
        const SparseState::Best best = s.best(i);
        if (best.second < kInf) s.p[std::size_t(s.x[std::size_t(i)])] += best.second - best.first;
    }
}

}  // namespace

void reduce_columns(SparseState& s) {
    std::fill(s.p.begin(), s.p.end(), -kInf);
    for (std::size_t e = 0; e < s.g.cost.size(); e++) {
        double& p = s.p[std::size_t(s.g.column[e])];
        p = std::max(p, -s.g.cost[e]);
    }
    for (double& p : s.p)
        if (p == -kInf) p = 0.0;
}

void reduce(SparseState& s) {
    reduce_columns(s);
    transfer(s);
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
