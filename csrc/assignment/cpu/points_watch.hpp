// What a long solve of points does beside its work: it looks whether to stop, tells how far it is, and hands over what
// would be needed to go on from here.
#pragma once

#include <chrono>

#include "assignment/cpu/points_state.hpp"
#include "assignment/points.hpp"

namespace loomfast::assignment {

class PointsWatch {
  public:
    explicit PointsWatch(const PointsOptions& options)
        : options_(options), kept_(Clock::now()), told_(kept_) {}

    // Which of the nested problems is being solved, and how often it was finished: part of the state.
    std::int32_t level = 0, round = 0;

    bool stopped() const { return options_.cancel && options_.cancel->look(); }

    template <class Solver>
    void keep(Solver& solver) {
        if (!options_.keep) return;
        StateWriter state;
        state(level), state(round);
        solver.visit(state);
        options_.keep(state.bytes());
        kept_ = Clock::now();
    }

    // At a moment at which the solver's state is whole. Returns whether to go on.
    template <class Solver>
    bool go_on(Solver& solver) {
        if (stopped()) {
            keep(solver);
            return false;
        }
        if (!options_.tell && !options_.keep) return true;
        const Clock::time_point now = Clock::now();
        if (options_.keep && seconds(now - kept_) >= options_.keep_every) keep(solver);
        if (options_.tell && seconds(now - told_) >= kTellEvery) {
            told_ = now;
            try {
                solver.tell(options_.tell);
            } catch (...) {  // Ctrl-C may come while it is being told
                keep(solver);
                throw;
            }
        }
        return true;
    }

  private:
    using Clock = std::chrono::steady_clock;
    static constexpr double kTellEvery = 0.25;

    static double seconds(Clock::duration time) { return std::chrono::duration<double>(time).count(); }

    const PointsOptions& options_;
    Clock::time_point kept_, told_;
};

}  // namespace loomfast::assignment
