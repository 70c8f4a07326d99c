#include "assignment/cpu/sparse_peel.hpp"

#include <algorithm>

namespace loomfast::assignment {

namespace {
// One in so many rows has to be taken: for fewer a copy of the rest does not pay.
constexpr std::int64_t kWorth = 8;
}

SparsePeel::SparsePeel(const SparseGraph& graph) : g_(graph), row_pairs_(std::size_t(graph.n)) {
    const bool square = g_.n == g_.m;
    for (std::size_t i = 0; i < std::size_t(g_.n); i++) {
        row_pairs_[i] = std::int32_t(g_.first[i + 1] - g_.first[i]);
        empty_ |= row_pairs_[i] == 0;
        if (row_pairs_[i] == 1) single_rows_.push_back(std::int32_t(i));
    }
    if (!square) return;
    col_pairs_.assign(std::size_t(g_.m), 0);
    for (const std::int32_t j : g_.column) col_pairs_[std::size_t(j)]++;
    for (std::size_t j = 0; j < col_pairs_.size(); j++) {
        empty_ |= col_pairs_[j] == 0;
        if (col_pairs_[j] == 1) single_cols_.push_back(std::int32_t(j));
    }
}

void SparsePeel::turn() {
    first_.assign(std::size_t(g_.m) + 1, 0);
    for (const std::int32_t j : g_.column) first_[std::size_t(j) + 1]++;
    for (std::size_t j = 0; j < std::size_t(g_.m); j++) first_[j + 1] += first_[j];
    std::vector<std::int64_t> next(first_.begin(), first_.end() - 1);
    row_.resize(g_.column.size());
    entry_.resize(g_.column.size());
    for (std::int32_t i = 0; i < g_.n; i++)
        for (std::int64_t e = g_.first[std::size_t(i)]; e < g_.first[std::size_t(i) + 1]; e++) {
            const auto at = std::size_t(next[std::size_t(g_.column[std::size_t(e)])]++);
            row_[at] = i;
            entry_[at] = e;
        }
    if (col_pairs_.empty()) {  // of a wide problem: only whether they are taken
        col_pairs_.resize(std::size_t(g_.m));
        for (std::size_t j = 0; j < std::size_t(g_.m); j++) col_pairs_[j] = std::int32_t(first_[j + 1] - first_[j]);
    }
}

// Row i with its one column, whose other rows lose a pair. False: one of them has none left.
bool SparsePeel::take_row(std::int32_t i) {
    std::int64_t e = g_.first[std::size_t(i)];
    while (col_pairs_[std::size_t(g_.column[std::size_t(e)])] == 0) e++;
    const auto j = std::size_t(g_.column[std::size_t(e)]);
    steps_.push_back({i, true, e});
    row_pairs_[std::size_t(i)] = col_pairs_[j] = 0;
    for (std::int64_t k = first_[j]; k < first_[j + 1]; k++) {
        std::int32_t& pairs = row_pairs_[std::size_t(row_[std::size_t(k)])];
        if (pairs == 0) continue;
        if (--pairs == 0) return false;
        if (pairs == 1) single_rows_.push_back(row_[std::size_t(k)]);
    }
    return true;
}

// Column j with its one row, whose other columns lose a pair.
bool SparsePeel::take_column(std::int32_t j) {
    std::int64_t k = first_[std::size_t(j)];
    while (row_pairs_[std::size_t(row_[std::size_t(k)])] == 0) k++;
    const std::int32_t i = row_[std::size_t(k)];
    steps_.push_back({i, false, entry_[std::size_t(k)]});
    row_pairs_[std::size_t(i)] = col_pairs_[std::size_t(j)] = 0;
    for (std::int64_t e = g_.first[std::size_t(i)]; e < g_.first[std::size_t(i) + 1]; e++) {
        std::int32_t& pairs = col_pairs_[std::size_t(g_.column[std::size_t(e)])];
        if (pairs == 0) continue;
        if (--pairs == 0) return false;
        if (pairs == 1) single_cols_.push_back(g_.column[std::size_t(e)]);
    }
    return true;
}

bool SparsePeel::peel() {
    if (empty_ || !doubtful()) return false;
    turn();
    while (!single_rows_.empty() || !single_cols_.empty()) {
        auto& lines = single_rows_.empty() ? single_cols_ : single_rows_;
        const bool by_row = &lines == &single_rows_;
        const std::int32_t line = lines.back();
        lines.pop_back();
        if ((by_row ? row_pairs_ : col_pairs_)[std::size_t(line)] == 0) continue;
        if (!(by_row ? take_row(line) : take_column(line))) return false;
    }
    if (kWorth * std::int64_t(steps_.size()) < g_.n) return false;
    keep_rest();
    return true;
}

void SparsePeel::keep_rest() {
    std::vector<std::int32_t> number(std::size_t(g_.m), -1);
    for (std::int32_t j = 0; j < g_.m; j++) {
        const bool alone = first_[std::size_t(j)] == first_[std::size_t(j) + 1];  // of a wide problem
        if (col_pairs_[std::size_t(j)] == 0 && !alone) continue;
        number[std::size_t(j)] = std::int32_t(columns_.size());
        columns_.push_back(j);
    }
    rest_.first.assign(1, 0);
    for (std::int32_t i = 0; i < g_.n; i++) {
        if (row_pairs_[std::size_t(i)] == 0) continue;
        rows_.push_back(i);
        for (std::int64_t e = g_.first[std::size_t(i)]; e < g_.first[std::size_t(i) + 1]; e++) {
            const std::int32_t j = number[std::size_t(g_.column[std::size_t(e)])];
            if (j < 0) continue;
            rest_.column.push_back(j);
            rest_.cost.push_back(g_.cost[std::size_t(e)]);
        }
        rest_.first.push_back(std::int64_t(rest_.column.size()));
    }
    rest_.n = std::int32_t(rows_.size());
    rest_.m = std::int32_t(columns_.size());
    rest_.factor = g_.factor;
    rest_.largest = g_.largest;
    rest_.integral = g_.integral;
}

// What the price of a step's column may be, given those of all that was taken later: as near to no gain of its row as
// the others allow, so that no pair which nobody takes makes prices large.
double SparsePeel::price_of(const SparseState& whole, const Step& step) const {
    const std::int32_t j = whole.column(step.entry);
    const double cost = whole.cost(step.entry);
    double price = whole.wide() ? whole.floor : -cost;
    if (step.by_row) {
        for (std::int64_t k = first_[std::size_t(j)]; k < first_[std::size_t(j) + 1]; k++) {
            const std::int32_t i = row_[std::size_t(k)];
            if (whole.x[std::size_t(i)] < 0) continue;  // taken earlier
            price = std::max(price, whole.level(i) - whole.cost(entry_[std::size_t(k)]));
        }
        return price;
    }
    for (std::int64_t e = whole.g.first[std::size_t(step.row)]; e < whole.g.first[std::size_t(step.row) + 1]; e++)
        if (whole.y[std::size_t(whole.column(e))] >= 0) price = std::min(price, whole.value(e) - cost);
    return price;
}

void SparsePeel::lift(const SparseState& rest, SparseState& whole) const {
    whole.floor = rest.floor;
    whole.stats = rest.stats;
    for (std::size_t j = 0; j < columns_.size(); j++) whole.p[std::size_t(columns_[j])] = rest.price(std::int32_t(j));
    for (std::size_t i = 0; i < rows_.size(); i++) {
        const std::int32_t row = rows_[i], j = columns_[std::size_t(rest.x[i])];
        std::int64_t e = whole.g.first[std::size_t(row)];
        while (whole.column(e) != j) e++;
        whole.match(row, e);
    }
    for (auto step = steps_.rbegin(); step != steps_.rend(); ++step) {
        const double price = price_of(whole, *step);
        whole.p[std::size_t(whole.column(step->entry))] = price;
        whole.match(step->row, step->entry);
    }
}

}  // namespace loomfast::assignment
