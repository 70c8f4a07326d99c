#include "coupling/cycles.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "threads/pool.hpp"

namespace loomfast::coupling {
namespace {

// visit(members of a cycle, in its order from the smallest on) for every cycle of at least `least`.
template <class Visit>
void for_cycles(const int64_t* order, int64_t n, std::size_t least, const Visit& visit) {
    std::vector<char> seen(static_cast<std::size_t>(n), 0);
    std::vector<int64_t> members;
    for (int64_t first = 0; first < n; ++first) {
        if (seen[static_cast<std::size_t>(first)]) continue;
        members.clear();
        for (int64_t i = first; !seen[static_cast<std::size_t>(i)]; i = order[i]) {
            seen[static_cast<std::size_t>(i)] = 1;
            members.push_back(i);
        }
        if (members.size() >= least) visit(members);
    }
}

// The sum of value(i) over the members: by pairs, pairs of pairs and so on, in `room`.
template <class Value>
double sum_over(const std::vector<int64_t>& members, std::vector<double>& room, const Value& value) {
    const std::size_t count = members.size();
    room.resize(count);
    for (std::size_t k = 0; k < count; ++k) room[k] = value(members[k]);
    for (std::size_t step = 1; step < count; step *= 2)
        for (std::size_t k = 0; k + step < count; k += 2 * step) room[k] += room[k + step];
    return room[0];
}

}  // namespace

bool is_permutation(const int64_t* order, int64_t n) {
    std::vector<char> seen(static_cast<std::size_t>(n), 0);
    for (int64_t i = 0; i < n; ++i) {
        if (order[i] < 0 || order[i] >= n || seen[static_cast<std::size_t>(order[i])]) return false;
        seen[static_cast<std::size_t>(order[i])] = 1;
    }
    return true;
}

void cycle_sums(const int64_t* order, int64_t n, const double* values, int64_t rows, double* sums) {
    std::vector<double> room;
    for_cycles(order, n, 1, [&](const std::vector<int64_t>& members) {
        for (int64_t row = 0; row < rows; ++row) {
            const double* const of_row = values + row * n;
            const double sum = sum_over(members, room, [&](int64_t i) { return of_row[i]; });
            for (const int64_t i : members) sums[row * n + i] = sum;
        }
    });
}

int64_t improving(const int64_t* order, int64_t n, const Costs& costs, int64_t* kept) {
    for (int64_t i = 0; i < n; ++i) kept[i] = i;
    int64_t moved = 0;
    std::vector<double> room;
    for_cycles(order, n, 2, [&](const std::vector<int64_t>& members) {
        const auto sum = [&](const auto& value) { return sum_over(members, room, value); };
        const double was = sum([&](int64_t i) { return costs.before[i]; });
        const double is = sum([&](int64_t i) { return costs.after[i]; });
        const double magnitude = sum([&](int64_t i) { return std::fabs(costs.before[i]) + std::fabs(costs.after[i]); });
        const double extra = costs.change ? sum([&](int64_t i) { return costs.change[i]; }) : 0.0;
        if (!((is - was) + costs.weight * extra < -costs.rounding * magnitude)) return;
        for (const int64_t i : members) kept[i] = order[i];
        moved += static_cast<int64_t>(members.size());
    });
    return moved;
}

double mean(const double* values, int64_t n) {
    if (n == 0) return std::numeric_limits<double>::quiet_NaN();
    std::vector<double> rest(values, values + n);
    for (int64_t left = n; left > 1;) {
        const int64_t half = left / 2, odd = left % 2;
        for (int64_t k = 0; k < half; ++k) rest[k] += rest[half + k];
        if (odd) rest[half] = rest[left - 1];
        left = half + odd;
    }
    return rest[0] / static_cast<double>(n);
}

void permute_rows(char* rows, int64_t n, int64_t bytes, const int64_t* order, int threads) {
    std::vector<std::vector<int64_t>> cycles;
    for_cycles(order, n, 2, [&](const std::vector<int64_t>& members) { cycles.push_back(members); });
    constexpr int64_t kPiece = 2048;  // of every row, moved at a time
    const int64_t pieces = cycles.empty() ? 0 : (bytes + kPiece - 1) / kPiece;
    run_chunks(pieces, 1, threads, [&](int64_t piece, int64_t end) {
        for (; piece < end; ++piece) {
            const int64_t begin = piece * kPiece;
            const auto size = static_cast<std::size_t>(std::min(kPiece, bytes - begin));
            char first[kPiece];
            const auto at = [&](int64_t i) { return rows + i * bytes + begin; };
            for (const auto& members : cycles) {
                std::memcpy(first, at(members.front()), size);
                for (std::size_t k = 0; k + 1 < members.size(); ++k)
                    std::memcpy(at(members[k]), at(members[k + 1]), size);
                std::memcpy(at(members.back()), first, size);
            }
        }
    });
}

}  // namespace loomfast::coupling
