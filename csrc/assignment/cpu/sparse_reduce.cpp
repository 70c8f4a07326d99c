#include "assignment/cpu/sparse_reduce.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;
// A bid takes as long as this many entries and those of its row. There may be so many of every row, in large problems
// two and what so many entries take.
constexpr std::int64_t kBid = 30, kSweeps = 16, kSweepsAtLeast = 16'000'000;

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

// The entry of row i with the least value but for one.
std::int64_t next_best(const SparseState& s, std::int32_t i, std::int64_t but) {
    std::int64_t found = -1;
    for (std::int64_t e = s.g.first[std::size_t(i)]; e < s.g.first[std::size_t(i) + 1]; e++)
        if (e != but && (found < 0 || s.value(e) < s.value(found))) found = e;
    return found;
}

// What the sweeps may take. Once it is spent, it grows to what all rows will take if they go on as evenly as so far,
// unless that is far more or the rows left are the last ones, which take longest.
struct Budget {
    std::int64_t most = 0, spent = 0;
    bool firm = false;

    bool lasts(std::size_t done, std::size_t all) {
        if (spent < most) return true;
        const double needed = double(spent) * double(all) / double(done + 1);
        if (firm || 10 * done > 9 * all || needed > 4.0 * double(most)) return false;
        firm = true;
        most = std::int64_t(1.5 * needed);
        return true;
    }
};

// One sweep of bids without epsilon, while the budget of entries lasts; a row whose bid did not raise the price leaves
// the one it displaces to the next sweep.
void sweep(SparseState& s, std::vector<std::int32_t>& rows, Budget& budget) {
    std::vector<std::int32_t> later;
    for (std::size_t k = 0; k < rows.size(); k++)
        for (std::int32_t i = rows[k]; i >= 0 && budget.lasts(k, rows.size());) {
            const SparseState::Best best = s.best(i);
            budget.spent += s.g.first[std::size_t(i) + 1] - s.g.first[std::size_t(i)] + kBid;
            const bool raises = best.first < best.second && best.second < kInf;
            std::int64_t e = best.entry;
            if (raises) s.p[std::size_t(s.column(e))] += best.second - best.first;
            else if (s.y[std::size_t(s.column(e))] >= 0 && best.first == best.second) e = next_best(s, i, e);
            const std::int32_t owner = s.y[std::size_t(s.column(e))];
            if (owner >= 0) s.x[std::size_t(owner)] = SparseState::kFree;
            s.match(i, e);
            s.stats.bids++;
            i = -1;
            if (owner < 0) continue;
            if (raises) i = owner;
            else later.push_back(owner);
        }
    rows = std::move(later);
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
    std::vector<std::int32_t> rows = s.free_rows();
    const std::int64_t each = std::int64_t(s.g.cost.size()) + kBid * s.g.n;
    Budget budget;
    budget.most = std::min(kSweeps * each, 2 * each + kSweepsAtLeast);
    budget.firm = budget.most < kSweeps * each;
    for (int k = 0; k < 2; k++) sweep(s, rows, budget);
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
