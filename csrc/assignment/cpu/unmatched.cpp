// With n <= m, the n rows are the shorter side and r_i, k_j what the unmatched pay. No optimal matching needs a pair dearer
// than r_i + k_j, and whoever is unmatched on both sides may be paired at that cost. So the complete matchings with costs
//   d_ij = min(c_ij, r_i + k_j),  sum_j k_j + sum_i (d_i,x(i) - k_x(i)) in all,
// have the same optimum: those of e_ij = min(c_ij - (k_j - k), r_i + k), for any k; we take the least k_j, so that where
// all are the same nothing is taken off and only the caps r_i + k can be rounded, downward. Clipped pairs are given back
// as unmatched. Dual prices u', v' of e, v'_j <= 0 with one v'_j = 0, become u_i = u'_i - k and v_j = v'_j + k_j.
//
// A rounded c_ij - (k_j - k) is not what it stands for. The costs are then read once more for the greatest u that the v_j
// allow, as in certificate.cpp, and the gap is summed from what is left:
//   sum of c_ij - u_i - v_j over matched pairs, of r_i - u_i and of k_j - v_j over unmatched rows and columns.
#include "assignment/cpu/unmatched.hpp"

#include <cmath>
#include <limits>

#include "assignment/cpu/certificate.hpp"
#include "threads/arithmetic.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

// What the unmatched pay, in what is minimised, by the shorter and the longer side.
struct Payments {
    double half = 0.0;  // of the limit, rounded down,
    const double *shorter = nullptr, *longer = nullptr;  // or these, of storage rows and columns
    double sign = 1.0;
    std::int64_t repeats_shorter = 1, repeats_longer = 1;

    double of_shorter(std::int64_t i) const { return shorter ? sign * shorter[i / repeats_shorter] : half; }
    double of_longer(std::int64_t j) const { return longer ? sign * longer[j / repeats_longer] : half; }
};

// A sum that is rounded upward, and one of which the rounding is kept, and which may overflow on the way.
struct Bound {
    double sum = 0.0;
    void add(double a) { sum = TwoSum(sum, a).up(); }
};
struct Total {
    double high = 0.0, low = 0.0, small = 0.0;
    void add(double a) {
        const TwoSum next(high, a);
        high = next.sum;
        low += next.error;
        small += 0x1p-100 * a;
    }
    double sum() const { return std::isfinite(high) ? high + low : 0x1p100 * small; }
};

// The caller's output by the shorter and the longer side.
struct Sides {
    std::int64_t *x, *y;
    double *u, *v;
    std::int64_t n, m;

    void negate_prices() const {
        for (std::int64_t i = 0; i < n; i++) u[i] = 0.0 - u[i];
        for (std::int64_t j = 0; j < m; j++) v[j] = 0.0 - v[j];
    }
};

struct Problem {
    Payments pay;
    Clip clip;
    double base = 0.0;  // k
    double rest = 0.0;  // twice what is lost where a limit is halved, of the least denormals
    std::vector<double> caps, offsets;
};

bool all_equal(const std::vector<double>& values) {
    for (const double value : values)
        if (value != values.front()) return false;
    return true;
}

bool whole(const std::vector<double>& values) {
    for (const double value : values)
        if (value != std::rint(value) || std::fabs(value) >= 0x1p51) return false;
    return true;
}

// The caps and offsets of `count` storage rows or columns of the shorter and of the longer side.
void set_clip(Problem& p, double limit, std::int64_t shorter, std::int64_t longer) {
    if (!p.pay.shorter) {
        p.pay.half = 0.5 * limit;
        if (2.0 * p.pay.half > limit) p.pay.half = std::nextafter(p.pay.half, -kInf);
        p.rest = limit - 2.0 * p.pay.half;
        p.base = p.pay.half;
        p.clip.cap = limit;
        p.clip.whole = limit == std::rint(limit);
        return;
    }
    p.base = longer > 0 ? kInf : 0.0;
    for (std::int64_t j = 0; j < longer; j++) p.base = std::min(p.base, p.pay.sign * p.pay.longer[j]);
    for (std::int64_t j = 0; j < longer; j++) p.offsets.push_back(p.pay.sign * p.pay.longer[j] - p.base);
    for (std::int64_t i = 0; i < shorter; i++) p.caps.push_back(TwoSum(p.pay.sign * p.pay.shorter[i], p.base).down());
    p.clip.whole = whole(p.caps) && whole(p.offsets) && std::fabs(p.base) < 0x1p51;
    if (all_equal(p.caps)) p.clip.cap = p.caps.empty() ? kInf : p.caps.front();
    else p.clip.caps = p.caps.data();
    if (all_equal(p.offsets)) p.offsets.clear();  // all are zero, for one is
    else p.clip.offsets = p.offsets.data();
}

// Whether a pair is matched rather than left: c <= r + k in real numbers.
bool worth(const Problem& p, std::int64_t i, std::int64_t j, double cost) {
    if (!p.pay.shorter) return cost <= p.clip.cap;
    const TwoSum both(p.pay.of_shorter(i), p.pay.of_longer(j));
    return cost < both.sum || (cost == both.sum && both.error >= 0.0);
}

// Gives clipped pairs back, and returns the total. `lost` gets by how much their caps were below what they pay.
double leave_pairs(const Problem& p, const Source& source, const Sides& s, Bound& lost) {
    Total total;
    std::int64_t left = s.m - s.n;
    for (std::int64_t i = 0; i < s.n; i++) {
        const std::int64_t j = s.x[i];
        const double cost = source.at(i, j);
        if (worth(p, i, j, cost)) {
            total.add(cost);
            continue;
        }
        s.x[i] = s.y[j] = -1;
        left += 2;
        total.add(p.pay.of_shorter(i));
        if (!p.pay.shorter) continue;
        const double cap = p.clip.caps ? p.clip.caps[i / p.pay.repeats_shorter] : p.clip.cap;
        const TwoSum both(p.pay.of_shorter(i), p.base);
        lost.add(both.sum - cap);
        lost.add(both.error);
    }
    for (std::int64_t j = 0; j < s.m; j++)
        if (s.y[j] < 0) total.add(p.pay.of_longer(j));
    if (p.rest > 0.0) {
        total.add(0.5 * static_cast<double>(left) * p.rest);
        lost.add(static_cast<double>(left) * p.rest);
    }
    return total.sum();
}

// Whether every row and column is matched, and their prices are already below what the unmatched pay.
bool stands(const Problem& p, const Sides& s) {
    for (std::int64_t i = 0; i < s.n; i++)
        if (s.x[i] < 0 || s.u[i] > p.pay.of_shorter(i)) return false;
    for (std::int64_t j = 0; j < s.m; j++)
        if (s.y[j] < 0 || s.v[j] > p.pay.of_longer(j)) return false;
    return true;
}

// Prices of e become those of c, all rounded downward; where nothing was taken off costs.
void move_prices(const Problem& p, const Sides& s, Bound& lost) {
    if (stands(p, s)) return;
    const auto moved = [&](double price, double by, double most) {
        const TwoSum to(price, by);
        const double kept = std::min(to.down(), most);
        lost.add(to.sum - kept);
        lost.add(to.error);
        return kept;
    };
    for (std::int64_t i = 0; i < s.n; i++) s.u[i] = moved(s.u[i], -p.base, p.pay.of_shorter(i));
    for (std::int64_t j = 0; j < s.m; j++) s.v[j] = moved(s.v[j], p.base, p.pay.of_longer(j));
}

// The greatest prices u for v_j = v'_j + k_j, from the costs themselves, and the gap that they leave.
double certify_unmatched(const Problem& p, const Source& source, const Kernels& kernels, const Sides& s) {
    Array<double> price = filled(s.m + kPadding, 0.0);
    for (std::int64_t j = 0; j < s.m; j++) {
        const double pays = p.pay.of_longer(j);
        s.v[j] = std::min(TwoSum(s.v[j], pays).down(), pays);
        price[j] = -s.v[j];
    }
    Bound gap;
    for_each_row(source, [&](std::int64_t r, const double* c) {
        bool below;
        double least = kernels.row_min_d(c, price.data(), static_cast<std::int32_t>(s.m), &below);
        if (below) least = std::nextafter(least, -kInf);
        for (std::int64_t i = r * source.row_repeats(); i < (r + 1) * source.row_repeats(); i++) {
            s.u[i] = std::min(least, p.pay.of_shorter(i));
            const bool matched = s.x[i] >= 0;
            const TwoSum value(matched ? c[s.x[i]] : p.pay.of_shorter(i), matched ? price[s.x[i]] : 0.0);
            const TwoSum slack(value.sum, -s.u[i]);
            gap.add(slack.sum);
            gap.add(TwoSum(slack.error, value.error).up());
        }
        return true;
    });
    for (std::int64_t j = 0; j < s.m; j++)
        if (s.y[j] < 0) gap.add(TwoSum(p.pay.of_longer(j), -s.v[j]).up());
    return std::isnan(gap.sum) ? kInf : std::max(gap.sum, 0.0);
}

// From an answer for e to one for c, in the caller's signs.
void finish(const Problem& p, const Source& source, const Sides& s, Output& out) {
    Bound gap;
    gap.add(out.gap);
    out.total = p.pay.sign * leave_pairs(p, source, s, gap) + 0.0;
    if (p.clip.offsets) {
        gap.sum = certify_unmatched(p, source, kernels(), s);
        if (is_integer(source.dtype()) && p.clip.whole) gap.sum = std::floor(gap.sum);
    } else {
        move_prices(p, s, gap);
    }
    out.gap = gap.sum;
    if (p.pay.sign < 0.0) s.negate_prices();
}

// The prices of a start for c as prices for e: those of the longer side less what it pays.
std::vector<double> start_prices(const Problem& p, const double* prices, std::int64_t count) {
    std::vector<double> moved;
    for (std::int64_t j = 0; prices && j < count; j++)
        moved.push_back(prices[j] - p.pay.longer[j / p.pay.repeats_longer]);
    return moved;
}

template <class T>
T* stored(T* given, std::vector<T>& own, std::int64_t count) {
    if (given) return given;
    own.resize(static_cast<std::size_t>(count));
    return own.data();
}

}  // namespace

void solve_unmatched(const Cost& cost, const Options& options, Output& out) {
    const DefaultArithmetic arithmetic;
    const Unmatched& given = *options.unmatched;
    const std::int64_t n = cost.problem_rows(), m = cost.cols;
    const bool by_row = n <= m, uniform = !given.rows;
    Options complete = options;
    complete.unmatched = nullptr;
    Problem p;
    p.pay.sign = cost.maximize ? -1.0 : 1.0;
    const double limit = p.pay.sign * given.limit;
    if (uniform && limit == kInf) return solve(cost, complete, out);
    if (uniform && !(limit > -kInf)) {
        out.status = Status::invalid_entry;
        return;
    }
    p.pay.shorter = by_row ? given.rows : given.cols;
    p.pay.longer = by_row ? given.cols : given.rows;
    (by_row ? p.pay.repeats_shorter : p.pay.repeats_longer) = cost.row_repeats;
    set_clip(p, limit, by_row ? cost.rows : m, by_row ? m : cost.rows);

    std::vector<std::int64_t> own_x, own_y;
    std::vector<double> own_u, own_v, start;
    out.col4row = stored(out.col4row, own_x, n);
    out.row4col = stored(out.row4col, own_y, m);
    out.u = stored(out.u, own_u, n);
    out.v = stored(out.v, own_v, m);
    if (p.clip.offsets) {
        const double*& longer = by_row ? complete.start_v : complete.start_u;
        start = start_prices(p, longer, by_row ? m : n);
        if (longer) longer = start.data();
    }
    Cost clipped = cost;
    clipped.clip = &p.clip;
    solve(clipped, complete, out);
    if (out.status == Status::optimal || out.status == Status::within_tolerance) {
        const Sides sides = by_row ? Sides{out.col4row, out.row4col, out.u, out.v, n, m}
                                   : Sides{out.row4col, out.col4row, out.v, out.u, m, n};
        if (cost.maximize) sides.negate_prices();
        finish(p, Source(cost), sides, out);
    }
    if (!own_x.empty()) out.col4row = nullptr;
    if (!own_y.empty()) out.row4col = nullptr;
    if (!own_u.empty()) out.u = nullptr;
    if (!own_v.empty()) out.v = nullptr;
}

}  // namespace loomfast::assignment
