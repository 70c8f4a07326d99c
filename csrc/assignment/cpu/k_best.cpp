// Murty's partition ("An algorithm for ranking all the assignments in order of increasing cost", Operations Research
// 16(3), 1968): the matchings other than the best are divided by the first row, in some order, whose pair they lack.
// After Miller, Stone and Cox ("Optimizing Murty's ranked assignment method", IEEE Transactions on Aerospace and
// Electronic Systems 33(3), 1997) a part inherits prices and matching, so that its best is one shortest path away, and
// waits with a lower bound until that is the least of all; rows with large bounds come first in the order, which
// leaves the likely parts small.
//
// With more columns than rows, m - n rows without costs take what is left over. They are alike and are one here, the
// rest: its price is `rest`, and the price of every unmatched column is -rest.
#include "assignment/k_best.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <queue>

#include "assignment/cpu/certificate.hpp"
#include "assignment/cpu/source.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

using Rows = std::vector<std::int32_t>;

// The best matching of a part.
struct Solved {
    Rows x;                     // column of each row
    std::vector<double> u, v;   // prices; only rows and columns that are not fixed have to obey them
    double rest = 0.0, total = 0.0;
    Rows order;                 // rows, the fixed ones first
    std::size_t fixed = 0;
    std::vector<std::pair<std::int32_t, std::int32_t>> excluded;  // pairs that the part lacks
};

struct Part {
    double bound;               // of its total; the total itself once it is solved
    std::int64_t number;        // the earlier first where bounds are equal
    std::shared_ptr<Solved> parent, solved;
    std::size_t branch = 0;     // the parent's order up to here is fixed, the pair of the row here excluded
    bool operator<(const Part& other) const {
        return bound != other.bound ? bound > other.bound : number > other.number;
    }
};

class Ranking {
public:
    Ranking(const Source& source, std::int64_t k)
        : n_(std::int32_t(source.rows())), m_(std::int32_t(source.cols())), k_(k),
          cost_(std::size_t(source.rows() * source.cols())), d_(std::size_t(m_)), w_(std::size_t(m_)),
          bound_(std::size_t(n_)), from_(std::size_t(m_)), y_(std::size_t(m_)) {
        std::vector<double> buffer(std::size_t(source.cols()));
        for (std::int64_t i = 0; i < n_; i++) {
            const double* row = source.row(i, buffer.data());
            std::copy(row, row + m_, cost_.begin() + i * m_);
        }
    }

    // The matchings after the first, one at a time; null when there is none.
    std::shared_ptr<Solved> next(Cancel* cancel) {
        while (!parts_.empty()) {
            if (cancel && cancel->look()) return nullptr;
            Part part = parts_.top();
            parts_.pop();
            if (part.solved) return part.solved;
            part.solved = solve(part);
            if (!part.solved) continue;
            part.bound = std::max(part.bound, part.solved->total);
            part.parent.reset();
            limit(part.bound);
            parts_.push(std::move(part));
        }
        return nullptr;
    }

    void add_first(const std::shared_ptr<Solved>& first) {
        limit(first->total);
        divide(first);
    }

    // Parts of what is left without a solution's own matching.
    void divide(const std::shared_ptr<Solved>& solution) {
        Solved& s = *solution;
        const std::size_t count = s.order.size() - s.fixed;
        bounds(s);
        std::sort(s.order.begin() + std::ptrdiff_t(s.fixed), s.order.end(), [&](std::int32_t a, std::int32_t b) {
            const double p = bound_[std::size_t(a)], q = bound_[std::size_t(b)];
            return p != q ? p > q : a < b;
        });
        for (std::size_t k = s.fixed; k < s.fixed + count; k++) {
            const double least = s.total + bound_[std::size_t(s.order[k])];
            if (least < kInf && least <= most()) parts_.push({least, number_++, solution, nullptr, k});
        }
    }

private:
    double& cost(std::int32_t i, std::int32_t j) { return cost_[std::size_t(i) * std::size_t(m_) + std::size_t(j)]; }

    // The k-th least total so far: dearer parts are of no use.
    double most() const { return std::int64_t(least_.size()) < k_ ? kInf : least_.top(); }
    void limit(double total) {
        least_.push(total);
        if (std::int64_t(least_.size()) > k_) least_.pop();
    }

    void forbid(const Solved& s) {
        saved_.clear();
        for (const auto& [i, j] : s.excluded) {
            saved_.push_back(cost(i, j));
            cost(i, j) = kInf;
        }
    }
    void allow(const Solved& s) {
        for (std::size_t k = saved_.size(); k-- > 0;) cost(s.excluded[k].first, s.excluded[k].second) = saved_[k];
    }

    // By how much the total rises, at least, if a row gives up its column: a path leaves the row by one pair and comes
    // to the column by another.
    void bounds(const Solved& s) {
        std::vector<double>& into = d_;  // the cheapest pair into a column
        std::fill(into.begin(), into.end(), kInf);
        forbid(s);
        w_ = s.v;
        for (std::size_t k = 0; k < s.fixed; k++) w_[std::size_t(s.x[std::size_t(s.order[k])])] = -kInf;
        for (std::size_t k = s.fixed; k < s.order.size(); k++) {
            const std::int32_t i = s.order[k], own = s.x[std::size_t(i)];
            const double* c = &cost_[std::size_t(i) * std::size_t(m_)];
            const double u = s.u[std::size_t(i)], kept = into[std::size_t(own)];
            double least = kInf;
            for (std::int32_t j = 0; j < own; j++) {
                const double r = c[j] - u - w_[std::size_t(j)];
                least = std::min(least, r);
                into[std::size_t(j)] = std::min(into[std::size_t(j)], r);
            }
            for (std::int32_t j = own + 1; j < m_; j++) {
                const double r = c[j] - u - w_[std::size_t(j)];
                least = std::min(least, r);
                into[std::size_t(j)] = std::min(into[std::size_t(j)], r);
            }
            into[std::size_t(own)] = kept;
            bound_[std::size_t(i)] = std::max(0.0, least);
        }
        for (std::size_t k = s.fixed; k < s.order.size(); k++) {
            const std::int32_t i = s.order[k], own = s.x[std::size_t(i)];
            double last = into[std::size_t(own)];
            if (n_ < m_) last = std::min(last, -s.rest - s.v[std::size_t(own)]);
            bound_[std::size_t(i)] += std::max(0.0, last);
        }
        allow(s);
    }

    std::shared_ptr<Solved> solve(const Part& part) {
        const Solved& p = *part.parent;
        auto solved = std::make_shared<Solved>();
        Solved& s = *solved;
        s.order = p.order;
        s.fixed = part.branch;
        s.excluded = p.excluded;
        const std::int32_t row = p.order[part.branch];
        s.excluded.emplace_back(row, p.x[std::size_t(row)]);
        s.x = p.x;
        s.u = p.u;
        s.v = p.v;
        s.rest = p.rest;
        forbid(s);
        const double rise = path(s, row, most() - p.total);
        allow(s);
        if (!(rise < kInf)) return nullptr;
        std::erase_if(s.excluded, [&](const auto& pair) { return is_fixed(s, pair.first); });
        s.total = total_of(s.x);
        return s.total <= most() ? solved : nullptr;
    }

    static bool is_fixed(const Solved& s, std::int32_t row) {
        return std::find(s.order.begin(), s.order.begin() + std::ptrdiff_t(s.fixed), row) !=
               s.order.begin() + std::ptrdiff_t(s.fixed);
    }

    // Correctly rounded but for the last bits.
    double total_of(const Rows& x) {
        double high = 0.0, low = 0.0;
        for (std::int32_t i = 0; i < n_; i++) {
            const TwoSum sum(high, cost(i, x[std::size_t(i)]));
            high = sum.sum;
            low += sum.error;
        }
        return high + low;
    }

    // Dijkstra's search from a row that gave up its column, back to that column, among what is not fixed. The rise of
    // the total, or infinity where there is no path below `most`.
    double path(Solved& s, std::int32_t row, double most) {
        const std::int32_t target = s.x[std::size_t(row)];
        std::fill(d_.begin(), d_.end(), kInf);
        std::fill(y_.begin(), y_.end(), m_ > n_ ? kRest : kNone);
        w_ = s.v;  // of columns that are settled or fixed: -inf, which keeps their labels
        for (std::int32_t i = 0; i < n_; i++) y_[std::size_t(s.x[std::size_t(i)])] = i;
        for (std::size_t k = 0; k < s.fixed; k++) {
            const auto j = std::size_t(s.x[std::size_t(s.order[k])]);
            w_[j] = -kInf;
            y_[j] = kNone;
        }
        y_[std::size_t(target)] = kNone;
        settled_.clear();
        double rest = kInf;  // the length at which the rest was reached
        std::int32_t rest_by = -1;
        double length = 0.0;
        std::int32_t nearest = relax(row, 0.0, s.u[std::size_t(row)]);
        while (true) {
            if (nearest < 0) return kInf;
            length = d_[std::size_t(nearest)];
            if (!(length <= most)) return kInf;
            if (nearest == target) break;
            settled_.emplace_back(nearest, length);
            const std::int32_t owner = y_[std::size_t(nearest)];
            d_[std::size_t(nearest)] = kInf;
            w_[std::size_t(nearest)] = -kInf;
            if (owner >= 0) {
                nearest = relax(owner, length, s.u[std::size_t(owner)]);
            } else {
                rest = length;
                rest_by = nearest;
                nearest = relax_rest(s, length, target);
            }
        }
        raise(s, row, length, rest);
        exchange(s, row, target, rest_by);
        return length;
    }

    // Labels by way of a row; the unsettled column with the least label, -1 if none is reached.
    std::int32_t relax(std::int32_t i, double length, double u) {
        const double* c = &cost_[std::size_t(i) * std::size_t(m_)];
        double least = kInf;
        for (std::int32_t j = 0; j < m_; j++) {
            const double d = length + std::max(0.0, c[j] - u - w_[std::size_t(j)]);
            if (d < d_[std::size_t(j)]) {
                d_[std::size_t(j)] = d;
                from_[std::size_t(j)] = i;
            }
            least = std::min(least, d_[std::size_t(j)]);
        }
        return find(least);
    }

    std::int32_t relax_rest(const Solved& s, double length, std::int32_t target) {
        double least = kInf;
        for (std::int32_t j = 0; j < m_; j++) {
            const auto k = std::size_t(j);
            if (y_[k] == kRest) {  // alike: settled with the first
                d_[k] = kInf;
                w_[k] = -kInf;
            } else if (y_[k] >= 0 || j == target) {
                const double d = length + std::max(0.0, -s.rest - w_[k]);
                if (d < d_[k]) {
                    d_[k] = d;
                    from_[k] = kRest;
                }
            }
            least = std::min(least, d_[k]);
        }
        return find(least);
    }

    std::int32_t find(double least) const {
        if (least == kInf) return -1;
        std::int32_t j = 0;
        while (d_[std::size_t(j)] != least) j++;
        return j;
    }

    void raise(Solved& s, std::int32_t row, double length, double rest) {
        s.u[std::size_t(row)] += length;
        for (const auto& [j, d] : settled_) {
            const std::int32_t owner = y_[std::size_t(j)];
            if (owner < 0) continue;
            s.v[std::size_t(j)] -= length - d;
            s.u[std::size_t(owner)] += length - d;
        }
        if (rest < length) {
            s.rest += length - rest;
            for (std::int32_t j = 0; j < m_; j++)
                if (y_[std::size_t(j)] == kRest) s.v[std::size_t(j)] = -s.rest;
        }
    }

    void exchange(Solved& s, std::int32_t row, std::int32_t target, std::int32_t rest_by) {
        std::int32_t j = target;
        while (true) {
            const std::int32_t i = from_[std::size_t(j)];
            if (i == kRest) {
                s.v[std::size_t(j)] = -s.rest;
                j = rest_by;
                continue;
            }
            std::swap(s.x[std::size_t(i)], j);
            if (i == row) return;
        }
    }

    static constexpr std::int32_t kRest = -1, kNone = -2;

    const std::int32_t n_, m_;
    const std::int64_t k_;
    std::vector<double> cost_, d_, w_, bound_, saved_;
    std::vector<std::int32_t> from_, y_;  // y: row of each column; the rest's, or out of the search
    std::vector<std::pair<std::int32_t, double>> settled_;
    std::priority_queue<Part> parts_;
    std::priority_queue<double> least_;
    std::int64_t number_ = 0;
};

std::vector<std::int64_t> by_row(const Rows& x, const Source& source) {
    std::vector<std::int64_t> found(x.begin(), x.end());
    if (!source.transposed()) return found;
    found.assign(std::size_t(source.cols()), -1);
    for (std::size_t i = 0; i < x.size(); i++) found[std::size_t(x[i])] = std::int64_t(i);
    return found;
}

}  // namespace

void solve_k_best(const Cost& cost, std::int64_t k, const Options& options, RankedOutput& output) {
    const std::int64_t rows = cost.problem_rows(), cols = cost.cols;
    std::vector<std::int64_t> x(std::size_t(rows), -1), y(std::size_t(cols), -1);
    std::vector<double> u(static_cast<std::size_t>(rows)), v(static_cast<std::size_t>(cols));
    Output best;
    best.col4row = x.data();
    best.row4col = y.data();
    best.u = u.data();
    best.v = v.data();
    solve(cost, options, best);
    static_cast<Output&>(output) = best;
    output.col4row = output.row4col = nullptr;
    output.u = output.v = nullptr;
    output.best_u = u;
    output.best_v = v;
    if (best.status != Status::optimal) return;
    const Source source(cost);
    Ranking ranking(source, k);
    auto first = std::make_shared<Solved>();
    const bool turned = source.transposed();
    const auto& columns = turned ? y : x;
    first->x.assign(columns.begin(), columns.end());
    first->u = turned ? v : u;
    first->v = turned ? u : v;
    for (auto* prices : {&first->u, &first->v})
        for (double& p : *prices) p *= source.sign();
    for (std::int32_t i = 0; i < std::int32_t(source.rows()); i++) first->order.push_back(i);
    first->total = source.sign() * best.total;
    output.matchings.push_back(std::move(x));
    output.totals.push_back(best.total);
    ranking.add_first(first);
    while (std::int64_t(output.totals.size()) < k) {
        const std::shared_ptr<Solved> found = ranking.next(options.cancel);
        if (!found) break;
        output.matchings.push_back(by_row(found->x, source));
        output.totals.push_back(source.sign() * found->total);
        ranking.divide(found);
    }
    if (options.cancel && options.cancel->look()) output.status = Status::cancelled;
}

}  // namespace loomfast::assignment
