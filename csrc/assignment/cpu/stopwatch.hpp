// Where the time of a solve goes: seconds by phase, one read of the clock for each change of phase.
#pragma once

#include <chrono>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

// Two reads a phase take longer than 1 % of a smaller problem, which goes without.
constexpr std::int64_t kTimedEntries = 4096;

// The phase under way, a field of Seconds. Does nothing unless it was started.
class Stopwatch {
public:
    using Clock = std::chrono::steady_clock;

    void start(double& phase) {
        phase_ = &phase;
        since_ = Clock::now();
    }
    // Returns the phase before, null if not started.
    double* enter(double* phase) {
        double* const before = phase_;
        if (!before) return nullptr;
        const Clock::time_point now = Clock::now();
        *before += std::chrono::duration<double>(now - since_).count();
        phase_ = phase;
        since_ = now;
        return before;
    }
    void stop() { enter(nullptr); }

private:
    double* phase_ = nullptr;
    Clock::time_point since_;
};

// A phase for the length of a scope, and then the one before again.
class Timed {
public:
    Timed(Stopwatch& watch, double& phase) : watch_(watch), before_(watch.enter(&phase)) {}
    ~Timed() { watch_.enter(before_); }
    Timed(const Timed&) = delete;

private:
    Stopwatch& watch_;
    double* const before_;
};

}  // namespace loomfast::assignment
