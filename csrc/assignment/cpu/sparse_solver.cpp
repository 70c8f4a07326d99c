#include "assignment/cpu/sparse_solver.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/cardinality.hpp"
#include "assignment/cpu/sparse_auction.hpp"
#include "assignment/cpu/sparse_certificate.hpp"
#include "assignment/cpu/sparse_forest.hpp"
#include "assignment/cpu/sparse_lower.hpp"
#include "assignment/cpu/sparse_peel.hpp"
#include "assignment/cpu/sparse_reduce.hpp"
#include "assignment/cpu/sparse_singles.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = SparseState::kInf;

struct Spread {
    double typical, largest;  // of the values within a row: to their median, in the median row; to the last, in any
};

Spread spread_of(const SparseState& s) {
    Spread found{0.0, 0.0};
    std::vector<double> typical, values;
    const std::int32_t step = std::max(1, s.g.n / 257);
    for (std::int32_t i = 0; i < s.g.n; i += step) {
        const std::int64_t begin = s.g.first[std::size_t(i)], end = s.g.first[std::size_t(i) + 1];
        if (end - begin < 2) continue;
        values.clear();
        for (std::int64_t e = begin; e < end; e++) values.push_back(s.value(e));
        std::sort(values.begin(), values.end());
        typical.push_back(values[values.size() / 2] - values[0]);
        found.largest = std::max(found.largest, values.back() - values[0]);
    }
    if (typical.empty()) return found;
    std::nth_element(typical.begin(), typical.begin() + std::ptrdiff_t(typical.size() / 2), typical.end());
    found.typical = typical[typical.size() / 2];
    if (found.typical == 0.0) found.typical = found.largest;
    return found;
}

// The first epsilon, by the typical spread, and how many times less each is than the one before.
constexpr double kFirst = 0.2, kRatio = 6.0;
// The last epsilon, by the typical spread and the number of rows; of integral costs none below so much.
constexpr double kLast = 10.0, kLastIntegral = 0.01;
// A phase's bids may look at every entry so many times, and so many times since a row last found a free column.
constexpr std::int64_t kBids = 32, kPatience = 2;

class Solver {
public:
    Solver(SparseState& state, const Options& options, SparseOutput& output)
        : s_(state), options_(options), out_(output), floor_(state), lowering_(state),
          entries_(std::int64_t(state.g.cost.size()) + state.g.n) {}

    void solve(bool doubtful) {
        out_.status = Status::cancelled;
        if (doubtful && !possible()) return;
        begin();
        if (!rows_.empty()) {
            SparseForest forest(s_);
            forest_ = &forest;
            if (!singles()) return;
            if (!rows_.empty() && !(scale() && finish())) return;
        }
        out_.status = Status::optimal;
    }

    void refine() {
        SparseForest forest(s_);
        forest_ = &forest;
        // Prices above the least of them, which may be small where they themselves are not.
        const double least = s_.wide() ? s_.floor : *std::min_element(s_.p.begin(), s_.p.end());
        for (std::int32_t j = 0; j < s_.g.m; j++) s_.p[std::size_t(j)] = s_.price(j) - least;
        if (s_.wide()) s_.floor = 0.0;
        out_.status = finish() ? Status::optimal : Status::cancelled;
    }

private:
    bool cancelled() { return options_.cancel && options_.cancel->look(); }

    void begin() {
        if (!start_from_given()) s_.wide() ? take_free(s_) : reduce_and_transfer(s_);
        rows_ = s_.free_rows();
    }

    // Takes the caller's start, unless it is none or leaves more than 40 % of the rows loose.
    bool start_from_given() {
        const auto& g = s_.g;
        const double* duals = g.transposed ? options_.start_u : options_.start_v;
        const std::int64_t* columns = g.transposed ? nullptr : options_.start_col4row;
        if (!duals && !options_.start_col4row) return false;
        if (duals ? !take_prices(duals) : !s_.wide()) reduce_columns(s_);
        for (std::int32_t i = 0; columns && i < g.n; i++) take_pair(i, columns[i]);
        for (std::int32_t j = 0; g.transposed && options_.start_col4row && j < g.m; j++) {
            const std::int64_t i = options_.start_col4row[j];
            if (i >= 0 && i < g.n) take_pair(std::int32_t(i), j);
        }
        s_.set_rounding();
        if (!duals) repair();
        release_loose(s_, 0.0);
        take_free(s_);
        s_.stats.loose = std::count(s_.x.begin(), s_.x.end(), SparseState::kFree);
        if (5 * s_.stats.loose <= 2 * std::int64_t{g.n}) {
            if (s_.wide()) lowering_.lower_all();
            return true;
        }
        std::fill(s_.x.begin(), s_.x.end(), SparseState::kFree);
        std::fill(s_.y.begin(), s_.y.end(), SparseState::kFree);
        std::fill(s_.p.begin(), s_.p.end(), 0.0);
        return false;
    }

    // Whether the duals given can be prices: finite, and not of another magnitude than the costs.
    bool take_prices(const double* duals) {
        const double sign = -s_.g.sign * s_.g.factor;
        double least = kInf, most = -kInf;
        for (std::int32_t j = 0; j < s_.g.m; j++) {
            const double p = sign * duals[j];
            s_.p[std::size_t(j)] = p;
            if (!(std::fabs(p) < kInf)) least = -kInf;
            least = std::min(least, p);
            most = std::max(most, p);
        }
        const double zero = s_.wide() ? 0.0 : least;
        if (least == -kInf || !(std::max(most - zero, zero - least) <= 1024 * s_.g.largest)) {
            std::fill(s_.p.begin(), s_.p.end(), 0.0);
            return s_.wide();
        }
        for (double& p : s_.p) {
            p = std::max(p - zero, 0.0);
            if (s_.g.integral) p = std::rint(p);
        }
        return true;
    }

    void take_pair(std::int32_t i, std::int64_t j) {
        if (j < 0 || j >= s_.g.m || s_.y[std::size_t(j)] >= 0 || s_.x[std::size_t(i)] >= 0) return;
        for (std::int64_t e = s_.g.first[std::size_t(i)]; e < s_.g.first[std::size_t(i) + 1]; e++)
            if (s_.column(e) == j) return s_.match(i, e);
    }

    // Whether all rows can be matched; else the proof that they cannot. Asked once, when there is reason to doubt it.
    bool possible() {
        if (asked_) return true;
        asked_ = true;
        std::vector<std::int32_t> x = s_.x, y = s_.y, rows, columns;
        const Adjacency graph{s_.g.n, s_.g.m, s_.g.first.data(), s_.g.column.data()};
        const std::int64_t left = match_most(graph, x, y, rows, columns, options_.cancel);
        if (left > 0) {
            out_.status = Status::infeasible;
            out_.crowded.assign(rows.begin(), rows.end());
            out_.neighbours.assign(columns.begin(), columns.end());
        }
        return left == 0;
    }

    // One row after the other, as long as that is cheap.
    bool singles() {
        SparseSingles singles(s_, *forest_, options_.cancel);
        while (!singles.match(rows_))
            if (cancelled() || !possible()) return false;
        return true;
    }

    // Passes of the forest until no row is free or `budget` entries were looked at; false where there is no answer.
    bool grow(double epsilon, std::int64_t budget) {
        const std::int64_t before = forest_->looked();
        while (!rows_.empty() && forest_->looked() - before < budget) {
            const std::int64_t matched = forest_->pass(rows_, epsilon, options_.cancel);
            if (cancelled() || (matched == 0 && !possible())) return false;
        }
        return true;
    }

    // Phases of the auction with less and less epsilon.
    bool scale() {
        const Spread spread = spread_of(s_);
        const double last = std::max(kLast * spread.typical / std::max(5000, s_.g.n),
                                     s_.g.integral ? kLastIntegral : 0.0);
        double& epsilon = epsilon_;
        epsilon = kFirst * spread.typical;
        double up = kRatio * kRatio;
        bool complete = false;  // a phase has been: prices are of the right magnitude
        int raised = 0;
        while (epsilon > 0 && epsilon >= last) {
            auction(epsilon);
            if (cancelled() || (!complete && !rows_.empty() && !possible())) return false;
            if (!s_.wide()) {
                const bool all = complete || raised == 2;
                const std::int64_t budget = all ? std::numeric_limits<std::int64_t>::max() : 8 * entries_;
                if (!grow(epsilon, budget)) return false;
                if (!rows_.empty()) {
                    epsilon *= up;
                    up *= up;
                    raised++;
                    continue;
                }
            }
            complete = true;
            epsilon /= kRatio;
        }
        return true;
    }

    void auction(double epsilon) {
        release_loose(s_, epsilon);
        s_.count_spare();
        floor_.forget();
        rows_ = s_.free_rows();
        sparse_auction(s_, floor_, rows_, epsilon, kBids * entries_, kPatience * entries_);
        s_.count_spare();
        s_.stats.phases++;
    }

    // Prices of rows' columns fall where that makes them their row's best: fewer rows are to be released.
    void repair() {
        std::int64_t before = s_.g.n;
        for (int pass = 0; pass < 8; pass++) {
            std::int64_t loose = 0;
            for (std::int32_t i = 0; i < s_.g.n; i++) {
                if (s_.x[std::size_t(i)] < 0) continue;
                const double above = s_.looseness(i);
                if (above <= 0) continue;
                double& p = s_.p[std::size_t(s_.x[std::size_t(i)])];
                p = std::max(s_.price(s_.x[std::size_t(i)]) - above, s_.floor);
                loose++;
            }
            if (loose == 0 || loose > before - before / 8) return;
            before = loose;
        }
    }

    // Integers serve integral costs. If u <= c + p + epsilon, then floor(u - t) <= c + floor(p - t), unless the
    // fraction of p - t is within epsilon of 1: so t is chosen that few are.
    void round_prices() {
        const auto& p = s_.p;
        const int bins = int(std::clamp(1.0 / std::max(epsilon_, 1e-4), 1.0, 4096.0));
        std::vector<std::int64_t> count(std::size_t(bins), 0);
        for (const double price : p) count[std::size_t(std::min((price - std::floor(price)) * bins, bins - 1.0))]++;
        const auto emptiest = std::min_element(count.begin(), count.end()) - count.begin();
        const double shift = bins == 1 ? 0.5 : double(emptiest + 1) / bins;
        for (double& price : s_.p) price = std::floor(price - shift);
        s_.floor = std::floor(s_.floor - shift);
        s_.count_spare();
    }

    // What is loose is released and matched again, exactly: a few times, where roundings do not come to rest at once.
    bool finish() {
        if (s_.g.integral) round_prices();
        for (int round = 0; round < 4; round++) {
            s_.set_rounding();
            repair();
            release_loose(s_, 0.0);
            if (s_.wide()) lowering_.lower_all();
            rows_ = s_.free_rows();
            if (round > 0 && rows_.empty()) return true;
            if (!grow(0.0, std::numeric_limits<std::int64_t>::max())) return false;
        }
        return true;
    }

    SparseState& s_;
    const Options& options_;
    SparseOutput& out_;
    SparseFloor floor_;
    SparseLowering lowering_;
    SparseForest* forest_ = nullptr;
    std::vector<std::int32_t> rows_;  // the free ones
    const std::int64_t entries_;
    bool asked_ = false;
    double epsilon_ = 0.0;
};

}  // namespace

void solve_graph(SparseState& state, const Options& options, SparseOutput& output) {
    const bool starts = options.start_col4row || options.start_u || options.start_v;
    SparsePeel peeled(state.g);
    const bool doubtful = peeled.doubtful();
    if (!starts && peeled.peel()) {
        SparseState rest(peeled.rest());
        Solver(rest, options, output).solve(false);
        if (output.status == Status::optimal) peeled.lift(rest, state);
        if (output.status != Status::infeasible) return;
        output.crowded.clear();  // the proof is to be one of the whole graph
        output.neighbours.clear();
    }
    Solver(state, options, output).solve(doubtful);
}

void refine_graph(SparseState& state, const Options& options, SparseOutput& output) {
    Solver(state, options, output).refine();
}

}  // namespace loomfast::assignment
