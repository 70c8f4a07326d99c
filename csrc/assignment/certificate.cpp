// The bound, with its roundings. Rounding is monotone: if w = min_j fl(c_ij + p_j), every pair whose
// rounded sum exceeds w exceeds it exactly too, so only pairs that round to w itself can lie below it,
// by the error e of that addition, which TwoSum gives exactly. Hence u_i = w is a true lower bound unless
// some such e < 0, and then the double below w is. A row's own pair bounds its least value, so only the few columns
// need to be looked at that the float32 filter cannot rule out. The gap is summed as
//   sum_i (c_i,x(i) + p_x(i) - u_i),
// nonnegative terms that vanish for tight pairs, so it loses nothing to cancellation; rounding each sum
// up keeps it an upper bound.
#include "assignment/certificate.hpp"

#include <cmath>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int32_t kFew = 8;  // as in work.cpp

struct TwoSum {
    double sum, error;  // sum + error is a + b exactly (Knuth)
    TwoSum(double a, double b) : sum(a + b) {
        double bb = sum - a;
        error = (a - (sum - bb)) + (b - bb);
    }
    double down() const { return error < 0 ? std::nextafter(sum, -kInf) : sum; }
    double up() const { return error > 0 ? std::nextafter(sum, kInf) : sum; }
    bool operator<(const TwoSum& other) const { return sum < other.sum || (sum == other.sum && error < other.error); }
};

struct Tally {
    std::vector<double>& u;
    Certificate certificate;
    double high = 0.0, low = 0.0;

    void add(std::int64_t i, double cost, double price, double bound) {
        u[static_cast<std::size_t>(i)] = bound;
        TwoSum value(cost, price), slack(value.sum, -bound);
        double& gap = certificate.gap;
        gap = TwoSum(gap, slack.sum).up();
        gap = TwoSum(gap, TwoSum(slack.error, value.error).up()).up();
        TwoSum running(high, cost);
        high = running.sum;
        low += running.error;
        if (!(std::fabs(cost) < kInf && std::fabs(bound) < kInf)) gap = kInf;
        certificate.matched = std::max(certificate.matched, std::fabs(cost));
        certificate.duals = std::max({certificate.duals, std::fabs(bound), std::fabs(price)});
    }

    Certificate finish() {
        certificate.total = high + low;
        if (std::isnan(certificate.gap)) certificate.gap = kInf;
        certificate.gap = std::max(certificate.gap, 0.0);
        return certificate;
    }
};

// The largest double u with u - p_j <= c_ij, given a value that the row's least does not exceed.
double dual_of_row(Work& w, std::int32_t r, double known) {
    const std::int32_t i = r * w.s.repeats, count = w.columns_within(r, known);
    bool below;
    if (count <= w.m / kFew) {
        TwoSum least(kInf, 0.0);
        least.error = 0.0;
        for (std::int32_t k = 0; k < count; k++) {
            TwoSum value(w.true_cost(i, w.s.hit[k]), w.p[static_cast<std::size_t>(w.s.hit[k])]);
            if (value < least) least = value;
        }
        return least.down();
    }
    if (w.filter.exact) {
        double bound = w.kernels.row_min_f(w.filter_row(i), w.p.data(), w.m, &below);
        return TwoSum(w.filter.shift(r), below ? std::nextafter(bound, -kInf) : bound).down();
    }
    double bound = w.kernels.row_min_d(w.true_row(i), w.p.data(), w.m, &below);
    return below ? std::nextafter(bound, -kInf) : bound;
}

}  // namespace

void normalise_prices(Work& w) {
    double least = w.n < w.m ? 0.0 : kInf;
    for (std::int32_t j = 0; w.n == w.m && j < w.m; j++) least = std::min(least, w.p[static_cast<std::size_t>(j)]);
    const double unit = 0x1p-1074 * w.source.factor();
    w.s.price_bound = 0.0;
    for (std::int32_t j = 0; j < w.m; j++) {
        double price = std::max(w.p[static_cast<std::size_t>(j)] - least, 0.0);
        if (price < 0x1p52 * unit) price = std::rint(price / unit) * unit;
        w.set_price(j, price);
    }
}

Certificate certify(Work& w, std::vector<double>& u) {
    Tally tally{u, {}};
    for (std::int32_t r = 0; r < w.source.storage_rows(); r++) {
        double known = kInf;
        const std::int32_t first = r * w.s.repeats, end = first + w.s.repeats;
        for (std::int32_t i = first; i < end; i++)
            known = std::min(known, w.value(i, w.x[static_cast<std::size_t>(i)]));
        double bound = dual_of_row(w, r, known);
        for (std::int32_t i = first; i < end; i++) {
            std::int32_t j = w.x[static_cast<std::size_t>(i)];
            tally.add(i, w.true_cost(i, j), w.p[static_cast<std::size_t>(j)], bound);
        }
    }
    return tally.finish();
}

Certificate certify_plainly(const Source& source, const Kernels& kernels, const std::vector<std::int32_t>& x,
                            const std::vector<double>& p, std::vector<double>& u) {
    Tally tally{u, {}};
    for_each_row(source, [&](std::int64_t r, const double* c) {
        bool below;
        double w = kernels.row_min_d(c, p.data(), static_cast<std::int32_t>(source.cols()), &below);
        double bound = below ? std::nextafter(w, -kInf) : w;
        for (std::int64_t i = r * source.row_repeats(); i < (r + 1) * source.row_repeats(); i++) {
            auto j = static_cast<std::size_t>(x[static_cast<std::size_t>(i)]);
            tally.add(i, c[j], p[j], bound);
        }
        return true;
    });
    return tally.finish();
}

}  // namespace loomfast::assignment
