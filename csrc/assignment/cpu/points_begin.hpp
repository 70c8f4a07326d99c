// Where the auction of points begins: from the prices of a sample of the points, and of a sample of those, or from what
// the caller knows.
#pragma once

#include <cmath>
#include <memory>
#include <vector>

#include "assignment/cpu/points_solver.hpp"

namespace loomfast::assignment {

// What the caller knows, by the rows and columns of a source; each of them may be empty.
struct PointsStart {
    std::vector<std::int32_t> columns;  // of every row, kNobody where it has none
    std::vector<double> prices;
};

// The whole problem, and the samples of samples that are to be solved before it.
template <int D>
class PointsChain {
  public:
    using Source = TreeSource<D>;
    using Solver = PointsSolver<Source>;

    PointsChain(const Space<D>& space, std::vector<double> rows, const PointsCost& cost, const PointsOptions& options)
        : options_(options), watch_(options) {
        levels_.push_back(std::make_unique<Level>(
            Source(space, std::move(rows), cost.z, cost.cols, options.threads), watch_));
    }

    Source& source() { return levels_[0]->source; }
    Solver& solver() { return levels_[0]->solver; }
    PointsWatch& watch() { return watch_; }

    // From the state; else from the start, as far as it serves; else from a sample.
    void begin(const PointsStart& start) {
        if (!options_.state.empty()) {
            restore();
        } else if (!begin_from(start)) {
            begin_from_samples();
        }
    }
    // After each phase of the whole problem asks whether that is enough.
    template <class Enough>
    Auction auction(const Enough& enough) {
        while (true) {
            Solver& now = levels_.back()->solver;
            const bool whole = levels_.size() == 1;
            if (now.finishing()) return Auction::ended;
            const Auction ended = now.auction([&](double epsilon) { return whole && enough(epsilon); });
            if (ended == Auction::stopped || ended == Auction::exhausted) return ended;
            if (ended == Auction::over_budget) {
                widen();
            } else if (whole) {
                return ended;
            } else {
                carry();
            }
        }
    }

  private:
    static constexpr std::int64_t kSampled = 8;  // a point of so many is in the sample
    static constexpr std::int64_t kLeast = 8000;  // fewer points begin without prices
    static constexpr double kSpacings = 5.0;  // the epsilon after a sample, in what neighbours cost
    static constexpr double kUnsure = 0.25;  // the epsilon with prices of a start but no matching, in the same
    static constexpr double kWider = 36.0;  // an epsilon over the one that its prices were too bad for
    static constexpr std::int64_t kBidsARow = 8;  // by which they show it

    struct Level {
        Source source;
        Solver solver;
        Level(Source of, PointsWatch& watch) : source(std::move(of)), solver(source, watch) {}
    };

    std::unique_ptr<Level> sample_of(const Source& source) {
        const std::int64_t rows = source.rows() / kSampled, columns = source.columns() / kSampled;
        const int d = source.space().d();
        if (source.columns() < kLeast || rows == 0) return nullptr;
        std::vector<double> x(rows * d), z(columns * d);
        for (std::int64_t i = 0; i < rows; ++i) std::copy_n(source.point(i * kSampled + kSampled / 2), d, &x[i * d]);
        for (std::int64_t j = 0; j < columns; ++j) source.tree().copy_point(j * kSampled + kSampled / 2, &z[j * d]);
        Source of(source.space(), std::move(x), z.data(), columns, options_.threads);
        return std::make_unique<Level>(std::move(of), watch_);
    }

    // What ends the schedule of the last level.
    double last() const { return levels_.size() > 1 ? levels_.back()->source.tree().spacing() : 0.0; }

    void begin_from_samples() {
        while (auto sample = sample_of(levels_.back()->source)) levels_.push_back(std::move(sample));
        watch_.level = static_cast<std::int32_t>(levels_.size()) - 1;
        levels_.back()->solver.schedule(0.0, last());
    }

    bool begin_from(const PointsStart& start) {
        const double near = source().tree().spacing();
        if (!(near < PriceTree<D>::kInf)) return false;
        if (!start.prices.empty()) source().set_prices([&](std::int64_t j) { return start.prices[j]; });
        if (!start.columns.empty()) solver().match(start.columns);
        if (start.prices.empty()) return false;
        double epsilon = kUnsure * near;
        if (!start.columns.empty()) epsilon = std::max(solver().mean_excess(), 0x1p-1000);
        if (epsilon > kSpacings * near) return forget_start();
        solver().schedule(epsilon, 0.0, kBidsARow);
        return true;
    }

    // Its matching stays, and keeps what is good enough later on.
    bool forget_start() {
        source().set_prices([](std::int64_t) { return 0.0; });
        solver().forget();
        return false;
    }

    void widen() {
        const double epsilon = kWider * solver().epsilon();
        if (epsilon <= kSpacings * source().tree().spacing()) return solver().schedule(epsilon, 0.0, kBidsARow);
        forget_start();
        begin_from_samples();
    }

    // The prices of the last level to the one before: the highest that leave every row of the sample what it pays.
    void carry() {
        Level& sample = *levels_.back();
        Level& next = *levels_[levels_.size() - 2];
        const Source& fine = next.source;
        const double near = sample.source.tree().spacing();
        std::vector<double> pays(sample.source.rows()), prices(fine.columns());
        sample.solver.least(pays);
        const int d = fine.space().d();
        PriceTree<D> paid(fine.space(), sample.source.point(0), sample.source.rows());
        paid.set_prices([&](std::int64_t i) { return -pays[paid.original(i)]; });
        const double spare = sample.solver.has_spare() ? -sample.solver.least_price() : PriceTree<D>::kInf;
        run_chunks(fine.columns(), 256, options_.threads, [&](std::int64_t begin, std::int64_t end) {
            std::vector<double> point(d);
            for (std::int64_t j = begin; j < end; ++j) {
                std::int32_t row = kNobody;
                double value = PriceTree<D>::kInf;
                fine.tree().copy_point(j, point.data());
                paid.search(point.data(), 1, &row, &value);
                prices[j] = -std::min(value, spare);
            }
        });
        next.source.set_prices([&](std::int64_t j) { return prices[j]; });
        next.solver.forget();
        next.solver.stats.bids += sample.solver.stats.bids;
        levels_.pop_back();
        --watch_.level;
        next.solver.schedule(kSpacings * near, last());
    }

    void restore() {
        StateReader state(options_.state);
        state(watch_.level), state(watch_.round);
        while (static_cast<std::int32_t>(levels_.size()) <= watch_.level) {
            auto sample = sample_of(levels_.back()->source);
            if (!sample) throw std::invalid_argument("the state is none of this problem");
            levels_.push_back(std::move(sample));
        }
        levels_.back()->solver.visit(state);
        state.end();
    }

    const PointsOptions& options_;
    PointsWatch watch_;
    std::vector<std::unique_ptr<Level>> levels_;
};

// The same for a problem that is begun as a whole.
template <class Source>
class PointsAlone {
  public:
    PointsAlone(Source source, const PointsOptions& options)
        : options_(options), watch_(options), source_(std::move(source)), solver_(source_, watch_) {}

    Source& source() { return source_; }
    PointsSolver<Source>& solver() { return solver_; }
    PointsWatch& watch() { return watch_; }

    void begin(const PointsStart& start) {
        if (!options_.state.empty()) {
            StateReader state(options_.state);
            state(watch_.level), state(watch_.round);
            solver_.visit(state);
            return state.end();
        }
        if (!start.prices.empty()) source_.set_prices([&](std::int64_t j) { return start.prices[j]; });
        if (!start.columns.empty()) solver_.match(start.columns);
        solver_.schedule(0.0);
        if (start.prices.empty()) return;
        const double first = solver_.epsilon();
        const double epsilon = start.columns.empty() ? first / kUnsure : solver_.mean_excess();
        if (epsilon > first / kServes) return forget_start();
        solver_.schedule(std::max(epsilon, 0x1p-1000), 0.0, kBidsARow);
    }
    template <class Enough>
    Auction auction(const Enough& enough) {
        while (!solver_.finishing()) {
            const Auction ended = solver_.auction(enough);
            if (ended != Auction::over_budget) return ended;
            forget_start();
        }
        return Auction::ended;
    }

  private:
    static constexpr double kUnsure = 216.0, kServes = 6.0;  // the first epsilon without a start over that with one
    static constexpr std::int64_t kBidsARow = 8;  // by which prices of a start show that they are bad

    void forget_start() {
        source_.set_prices([](std::int64_t) { return 0.0; });
        solver_.forget();
        solver_.schedule(0.0);
    }

    const PointsOptions& options_;
    PointsWatch watch_;
    Source source_;
    PointsSolver<Source> solver_;
};

}  // namespace loomfast::assignment
