// The pool of threads: every part is done once, whoever calls at the same time, calls from within a part, throws, or is
// a forked child. Built with sanitizers by the tests; exits 1 at the first mistake.
#include "threads/pool.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>
#include <vector>

using namespace loomfast;

namespace {

void require(bool right, const char* what) {
    if (right) return;
    std::printf("wrong: %s\n", what);
    std::exit(1);
}

void every_part_once(int64_t parts) {
    std::vector<std::atomic<int>> done(static_cast<std::size_t>(parts));
    run_parts(parts, [&](int64_t part) { ++done[static_cast<std::size_t>(part)]; });
    for (const auto& count : done) require(count == 1, "every part once");
}

void every_number_once(int64_t count, int64_t grain, int threads) {
    std::vector<std::atomic<int>> done(static_cast<std::size_t>(count));
    run_chunks(count, grain, threads, [&](int64_t begin, int64_t end) {
        require(begin % grain == 0 && end - begin <= grain, "chunks are cut at the grain");
        for (int64_t k = begin; k < end; ++k) ++done[static_cast<std::size_t>(k)];
    });
    for (const auto& times : done) require(times == 1, "every number once");
}

void many_callers() {
    std::vector<std::thread> callers;
    for (int c = 0; c < 4; ++c) {
        callers.emplace_back([] {
            for (int64_t parts = 0; parts < 60; ++parts) every_part_once(parts % 7);
            for (int64_t count : {0, 1, 5, 100, 1001}) every_number_once(count, 10, 3);
        });
    }
    for (std::thread& caller : callers) caller.join();
}

void together() {
    std::atomic<int> calls{0}, heard{0};
    const auto slow = [&] {
        if (++calls == 1) return;
        std::this_thread::sleep_for(std::chrono::milliseconds(120));
    };
    run_together(2, slow, [&] { ++heard; });
    require(calls >= 1 && calls <= 2, "work is called once a thread");
    bool caught = false;
    try {
        run_together(3, [] { throw std::runtime_error("meant"); }, [] {});
    } catch (const std::runtime_error&) {
        caught = true;
    }
    require(caught, "an exception is thrown again");
}

}  // namespace

int main() {
    every_part_once(5);
    many_callers();
    run_parts(3, [](int64_t) { every_part_once(4); });
    together();
    const pid_t child = fork();
    if (child == 0) {
        every_part_once(5);
        _exit(0);
    }
    int status = 1;
    waitpid(child, &status, 0);
    require(status == 0, "a forked child has a pool of its own");
    std::printf("right\n");
}
