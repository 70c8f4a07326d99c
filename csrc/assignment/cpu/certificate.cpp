// The bound, with its roundings. Rounding is monotone: if w = min_j fl(c_ij + p_j), every pair whose
// rounded sum exceeds w exceeds it exactly too, so only pairs that round to w itself can lie below it,
// by the error e of that addition, which TwoSum gives exactly. Hence u_i = w is a true lower bound unless
// some such e < 0, and then the double below w is. A row's own pair bounds its least value, so only the few columns
// need to be looked at that the float32 filter cannot rule out. The gap is summed as
//   sum_i (c_i,x(i) + p_x(i) - u_i),
// nonnegative terms that vanish for tight pairs, so it loses nothing to cancellation; rounding each sum
// up keeps it an upper bound.
#include "assignment/cpu/certificate.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr std::int32_t kAhead = 8;  // rows whose matched cost is fetched from memory meanwhile

struct Tally {
    Array<double>& u;
    Certificate certificate;
    double high = 0.0, low = 0.0;

    void add(std::int64_t i, double cost, double price, double bound) {
        u[i] = bound;
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

// The largest double u with u - price_j <= c_ij, given a value, in the filter's units, that the row's least does not
// exceed. Counts the rows that had to be read whole.
double dual_of_row(Work& w, std::int32_t r, double known, const Array<double>& price, std::int32_t* whole_rows) {
    const std::int32_t i = r * w.repeats, count = w.columns_within(r, known, w.few());
    bool below;
    if (count <= w.few()) {
        TwoSum least(kInf, 0.0);
        least.error = 0.0;
        for (std::int32_t k = 0; k < count; k++) {
            TwoSum value(w.rows.true_cost(i, w.hit[k]), price[w.hit[k]]);
            if (value < least) least = value;
        }
        return least.down();
    }
    ++*whole_rows;
    if (w.filter.exact) {
        double bound = w.kernels.row_min_f(w.filter_row(i), price.data(), w.m, &below);
        return TwoSum(w.filter.shift(r), below ? std::nextafter(bound, -kInf) : bound).down();
    }
    double bound = w.kernels.row_min_d(w.rows.true_row(i), price.data(), w.m, &below);
    return below ? std::nextafter(bound, -kInf) : bound;
}

// The prices of the costs without the filter's shift, the least of them zero in a square problem, rounded to multiples
// of the least number of the caller's float64. Adds to `rounding` what that can change in a price.
Array<double> true_prices(const Work& w, double* rounding) {
    Array<double> price = filled(std::int64_t{w.m} + kPadding, 0.0);
    double least = w.n < w.m ? 0.0 : kInf, largest = 0.0;
    for (std::int32_t j = 0; j < w.m; j++) {
        price[j] = w.p[j] - w.filter.shift_of_column(j);
        largest = std::max({largest, std::fabs(w.p[j]), std::fabs(price[j])});
        if (w.square()) least = std::min(least, price[j]);
    }
    const double unit = 0x1p-1074 * w.rows.source.factor();
    for (std::int32_t j = 0; j < w.m; j++) {
        double& p = price[j];
        p = std::max(p - least, 0.0);
        if (p < 0x1p52 * unit) p = std::rint(p / unit) * unit;
    }
    *rounding = 0x1p-50 * largest + unit;
    return price;
}

// Whether differences of any two costs are exact in float64. Only of float32 costs read in place; false if in doubt.
bool differences_are_exact(const Filter& filter) {
    if (filter.copy || filter.fine_bits != 32 || !filter.coarse) return false;
    constexpr int bias = 127, mantissa = 23, digits = 53;
    // A bit of `coarse` stands for 32 binades and a bit of `fine` for four of them, see note_magnitudes.
    const int lowest = __builtin_ctzll(filter.coarse);
    const std::uint64_t fine = filter.fine >> (8 * lowest & 31) & 0xff;
    if (!fine) return false;
    const int unit = 32 * lowest + 4 * __builtin_ctzll(fine) - bias - mantissa;
    return std::ilogb(filter.largest) + 2 - unit <= digits;
}

// What prices say without a look at the rows. Where no price p_k is below -min_i (c_ik - row minimum), as column
// reduction set it, no value c_ik + p_k is below the row's minimum (or, of rows with a shift, zero), which is a row's
// dual if its own pair has that value. Holds if nothing of it is rounded.
class Levels {
public:
    Levels(const Work& work, const Array<double>& price) : w(work) {
        known_ = w.square() && w.filter.exact && w.filter.column_shift.empty() &&
                 (w.filter.shifted || differences_are_exact(w.filter));
        if (!known_) return;
        least_ = *std::min_element(w.p, w.p + w.m);
        for (std::int32_t j = 0; j < w.m; j++) {
            const TwoSum above(w.p[j], -least_);
            known_ &= w.p[j] >= -w.filter.column_min[j] && above.error == 0.0 && above.sum == price[j];
        }
    }

    // The dual of storage row r, if the pair (i, j) of one of its rows tells it.
    bool tell(std::int32_t r, std::int32_t i, std::int32_t j, double* dual) const {
        if (!known_) return false;
        const TwoSum value(w.rows.cost(i, j), w.p[j]);
        if (value.error != 0.0 || value.sum != (w.filter.shifted ? 0.0 : w.filter.row_min[r])) return false;
        *dual = TwoSum(w.filter.shifted ? w.filter.row_shift[r] : w.filter.row_min[r], -least_).down();
        return true;
    }

private:
    const Work& w;
    bool known_;
    double least_ = 0.0;
};

}  // namespace

Certificate certify(Work& w, Array<double>& price, Array<double>& u) {
    double rounding;
    price = true_prices(w, &rounding);
    Tally tally{u, {}};
    const Levels levels(w, price);
    const bool scattered = w.rows.source.column_major() && !w.filter.exact;  // rows are slow to read one by one
    std::int32_t whole_rows = 0;
    for (std::int32_t r = 0; r < w.rows.source.storage_rows(); r++) {
        if (scattered && whole_rows > 8 + r / 8) return certify_plainly(w.rows.source, w.kernels, w.x, price.data(), u);
        if (w.filter.exact && r + kAhead < w.rows.source.storage_rows()) {
            const std::int32_t ahead = (r + kAhead) * w.repeats;
            __builtin_prefetch(w.filter_row(ahead) + w.x[ahead]);
        }
        // No price is negative: a row's least cost, where its column has no price, is its dual.
        const double least = w.filter.row_min[r];
        double known = kInf, dual = least;
        bool content = false;
        const std::int32_t first = r * w.repeats, end = first + w.repeats;
        for (std::int32_t i = first; i < end; i++) {
            const std::int32_t j = w.x[i];
            known = std::min(known, w.value(i, j));
            content = content || (price[j] == 0.0 && w.rows.true_cost(i, j) == least) || levels.tell(r, i, j, &dual);
        }
        const double bound = content ? dual : dual_of_row(w, r, known + rounding, price, &whole_rows);
        for (std::int32_t i = first; i < end; i++) {
            std::int32_t j = w.x[i];
            tally.add(i, w.rows.true_cost(i, j), price[j], bound);
        }
    }
    return tally.finish();
}

Certificate certify_plainly(const Source& source, const Kernels& kernels, const std::int32_t* x,
                            const double* p, Array<double>& u) {
    Tally tally{u, {}};
    for_each_row(source, [&](std::int64_t r, const double* c) {
        bool below;
        double w = kernels.row_min_d(c, p, static_cast<std::int32_t>(source.cols()), &below);
        double bound = below ? std::nextafter(w, -kInf) : w;
        for (std::int64_t i = r * source.row_repeats(); i < (r + 1) * source.row_repeats(); i++) {
            tally.add(i, c[x[i]], p[x[i]], bound);
        }
        return true;
    });
    return tally.finish();
}

}  // namespace loomfast::assignment
