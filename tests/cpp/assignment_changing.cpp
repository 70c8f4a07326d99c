// Solves matrices that another thread keeps writing NaN, infinities and numbers into: assignment_changing [rounds].
// Whatever comes out, a solve ends, stays within its arrays (the tests build this with AddressSanitizer and
// ThreadSanitizer), and an answer that calls itself optimal has a matching.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>

#include "assignment/assignment.hpp"

namespace lap = loomfast::assignment;

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// The entries are checked first, and NaN then found at once: the writer waits until the solver looks at its cancel flag,
// and the solver then gives it time to begin.
std::atomic<bool> reading_done{false};
void note_poll(lap::Cancel&) {
    if (!reading_done.exchange(true)) std::this_thread::sleep_for(std::chrono::microseconds(200));
}

// The race that is meant: named, so that ThreadSanitizer can be told to leave it out.
template <class T>
void scribble(T* costs, std::size_t count, std::uint64_t seed, const std::atomic<bool>& stop) {
    std::mt19937_64 random(seed);
    constexpr double values[] = {kInf, -kInf, 0.5, -1e30, 1e300, 0.0};
    while (!reading_done.load(std::memory_order_relaxed) && !stop.load(std::memory_order_relaxed)) std::this_thread::yield();
    while (!stop.load(std::memory_order_relaxed)) {
        double value = random() % 4 == 0 ? std::nan("") : values[random() % 6];
        costs[random() % count] = static_cast<T>(value);
        // Short enough for thousands of writes in a solve, and long enough for ThreadSanitizer to remember whose they are.
        if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(1));
    }
}

template <class T>
bool run(lap::DType dtype, std::int64_t n, std::int64_t m, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<T> costs(static_cast<std::size_t>(n * m));
    auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-53; };
    std::vector<double> row(static_cast<std::size_t>(n)), column(static_cast<std::size_t>(m));
    for (double& a : row) a = uniform();
    for (double& a : column) a = uniform();
    for (std::size_t k = 0; k < costs.size(); k++) {  // ties, random costs, products that rows compete in
        const std::size_t i = k / column.size(), j = k % column.size();
        costs[k] = static_cast<T>(seed % 3 == 0 ? static_cast<double>(random() % 4) : seed % 3 == 1 ? uniform() : row[i] * column[j]);
    }
    lap::Cost cost;
    cost.data = costs.data();
    cost.dtype = dtype;
    cost.rows = n;
    cost.cols = m;
    cost.row_stride = m * static_cast<std::int64_t>(sizeof(T));
    cost.col_stride = sizeof(T);
    std::vector<std::int64_t> x(static_cast<std::size_t>(n)), y(static_cast<std::size_t>(m));
    lap::Output out;
    out.col4row = x.data();
    out.row4col = y.data();
    std::atomic<bool> stop{false};
    lap::Cancel cancel;
    cancel.poll = note_poll;
    reading_done = false;
    lap::Options options;
    options.cancel = &cancel;
    std::thread writer([&] { scribble(costs.data(), costs.size(), seed, stop); });
    lap::solve(cost, options, out);
    stop = true;
    writer.join();
    if (std::getenv("VERBOSE")) std::printf("%d %s\n", int(out.status), out.stats.path);
    if (out.status != lap::Status::optimal) return true;
    std::int64_t matched = 0;
    for (std::size_t i = 0; i < x.size(); i++)
        if (x[i] >= 0) matched += x[i] < m && y[static_cast<std::size_t>(x[i])] == static_cast<std::int64_t>(i);
    return matched == std::min(n, m);
}

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 10;
    constexpr std::int64_t sizes[][2] = {{12, 12}, {90, 90}, {300, 300}, {70, 200}, {200, 70}, {4, 800}};
    for (int round = 0; round < rounds; round++)
        for (const auto& [n, m] : sizes) {
            auto seed = static_cast<std::uint64_t>(round);
            if (!run<double>(lap::DType::float64, n, m, seed) || !run<float>(lap::DType::float32, n, m, seed)) {
                std::printf("round %d, %ld x %ld: optimal without a matching\n", round, long(n), long(m));
                return 1;
            }
        }
    std::printf("%d rounds passed\n", rounds);
    return 0;
}
