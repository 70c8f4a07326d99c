// Problems over threads: whoever is free takes the next one, and the largest are taken first, so that none of them is begun
// when all others are done.
#include <algorithm>
#include <atomic>
#include <numeric>

#include "assignment/assignment.hpp"
#include "threads/pool.hpp"

namespace loomfast::assignment {

namespace {

std::vector<std::size_t> largest_first(const std::vector<Cost>& costs) {
    std::vector<std::size_t> order(costs.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
        return costs[a].problem_rows() * costs[a].cols > costs[b].problem_rows() * costs[b].cols;
    });
    return order;
}

}  // namespace

void solve_batch(const std::vector<Cost>& costs, const std::vector<Options>& options,
                 std::vector<Output>& outputs, int threads) {
    const std::vector<std::size_t> order = largest_first(costs);
    std::atomic<std::size_t> next{0};
    Cancel* cancel = options.empty() ? nullptr : options.front().cancel;
    const auto solve_some = [&] {
        for (std::size_t k; (k = next.fetch_add(1)) < order.size();) {
            const std::size_t problem = order[k];
            if (options[problem].cancel && options[problem].cancel->look()) return;
            solve(costs[problem], options[problem], outputs[problem]);
        }
    };
    // The calling thread may be the only one that can hear of a cancellation: it keeps listening.
    run_together(std::min<std::int64_t>(threads, static_cast<std::int64_t>(costs.size())), solve_some, [=] {
        if (cancel) cancel->look();
    });
}

}  // namespace loomfast::assignment
