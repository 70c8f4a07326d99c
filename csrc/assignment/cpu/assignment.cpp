// From the caller's matrix to the caller's answer: check the entries, orient the problem, solve, certify.
#include "assignment/assignment.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "assignment/cpu/sentinels.hpp"
#include "assignment/cpu/skinny.hpp"
#include "assignment/cpu/unmatched.hpp"
#include "threads/arithmetic.hpp"

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

void refuse(const Filter& filter, Output& out) {
    out.status = Status::invalid_entry;
    out.bad_row = filter.bad_row;
    out.bad_col = filter.bad_col;
}

// Dual prices beyond the range of float64 are cut to it. They stay feasible but prove less than those that were cut.
void cut_duals(const Source& source, const Kernels& k, Answer& answer) {
    const double most = std::numeric_limits<double>::max() * source.factor();
    if (answer.certificate.duals <= most) return;
    for (double& price : answer.p) price = std::min(price, most);
    certify_plainly(source, k, answer.x.data(), answer.p.data(), answer.u);
    for (double& u : answer.u) u = std::min(u, most);
}

void write(const Source& source, const Answer& answer, Output& out) {
    std::int64_t* row_side = source.transposed() ? out.row4col : out.col4row;
    std::int64_t* col_side = source.transposed() ? out.col4row : out.row4col;
    double* row_prices = source.transposed() ? out.v : out.u;
    double* col_prices = source.transposed() ? out.u : out.v;
    if (row_side) std::copy(answer.x.begin(), answer.x.end(), row_side);
    if (col_side) std::copy_n(answer.y.begin(), source.cols(), col_side);
    const double unit = source.sign() / source.factor();
    for (std::int64_t i = 0; row_prices && i < source.rows(); i++) row_prices[i] = unit * answer.u[i] + 0.0;
    for (std::int64_t j = 0; col_prices && j < source.cols(); j++) col_prices[j] = unit * -answer.p[j] + 0.0;
}

// Whether the integers are exact in float64, and it can only be what the unmatched pay that is too large to be summed so.
bool only_caps_are_large(const Cost& cost, const Filter& filter) {
    const bool narrow = cost.dtype != DType::int64 && cost.dtype != DType::uint64;
    return cost.clip && (narrow || filter.largest < 0x1p53);
}

// A square matrix that lies in memory column by column is solved with its columns as rows, which reads it as it lies.
bool better_turned(const Cost& cost, const Options& options) {
    const bool startable = options.start_u || !options.start_v;
    return cost.rows > 1 && cost.rows == cost.cols && cost.row_repeats == 1 && startable &&
           std::abs(cost.row_stride) < std::abs(cost.col_stride);
}

// The answer to a square problem so turned, with the prices on the caller's columns: p_j = t - u_j and u_i = t - p_i, t the
// greatest u_j.
void turn_back(Source& source, const Kernels& k, Answer& answer) {
    source = source.turned();
    const std::int64_t n = source.rows();
    std::swap(answer.x, answer.y);
    answer.x.resize(static_cast<std::size_t>(n));
    std::swap(answer.u, answer.p);
    Array<double>&u = answer.u, &p = answer.p;
    Certificate& proof = answer.certificate;
    const double t = *std::max_element(p.begin(), p.begin() + source.rows());
    const double allowed = std::max(proof.gap, proof.bound(source.rows(), proof.matched, false));
    proof.duals = 0.0;
    u.resize(static_cast<std::size_t>(n));
    p.resize(static_cast<std::size_t>(n + kPadding), 0.0);
    for (std::int64_t i = 0; i < n; i++) {
        const TwoSum row(t, -u[i]), column(t, -p[i]);
        u[i] = row.down();
        p[i] = column.up();
        const TwoSum lost((row.sum - u[i]) + row.error, (p[i] - column.sum) - column.error);
        proof.gap = TwoSum(proof.gap, lost.up()).up();
        proof.duals = std::max({proof.duals, std::fabs(u[i]), p[i]});
    }
    if (!(proof.gap <= allowed)) proof = certify_plainly(source, k, answer.x.data(), p.data(), u);
}

void report(const Source& source, const Kernels& k, bool integers, Answer& answer, Output& out) {
    out.status = answer.status;
    out.stats = answer.stats;
    const Certificate& proof = answer.certificate;
    out.total = source.sign() * proof.total / source.factor() + 0.0;
    out.gap = integers ? std::floor(proof.gap) : proof.gap / source.factor();
    if (out.gap * source.factor() < proof.gap && !integers) out.gap = std::nextafter(out.gap, kInf);
    cut_duals(source, k, answer);
    write(source, answer, out);
}

// Adds to the seconds of an exact solve those around it, of which `rest` is the whole of it and what came after.
void add_surroundings(const Seconds& around, Output& out) {
    Seconds& seconds = out.stats.seconds;
    seconds.rest += around.rest - seconds.sum();
    seconds.read += around.read;
}

}  // namespace

void solve(const Cost& cost, const Options& options, Output& out) {
    if (options.unmatched) return solve_unmatched(cost, options, out);
    const DefaultArithmetic arithmetic;
    const Kernels& k = kernels();
    Answer tiny;
    if (Source source(cost); solve_tiny(source, k, options.cancel, tiny))
        return report(source, k, source.integers(), tiny, out);
    Seconds around;
    Stopwatch watch;
    if (cost.problem_rows() * cost.cols >= kTimedEntries) watch.start(around.read);
    bool turned = better_turned(cost, options);
    Source source(cost, turned);
    const bool skinny = is_skinny(source);
    Filter filter;
    Array<Nearest> nearest;
    if (skinny) nearest = nearest_columns(source, filter, k, options.cancel);
    else filter = make_filter(source, k);
    if (turned && filter.valid && filter.columns_apart) {
        // Rows far apart are no matter, columns are.
        turned = false;
        source = Source(cost);
        filter = make_filter(source, k);
    }
    if (!filter.valid) return refuse(filter, out);
    watch.enter(&around.rest);
    const bool small = filter.largest * static_cast<double>(source.rows()) < 0x1p53;
    if (is_integer(cost.dtype) && !options.round_integers && !small && !only_caps_are_large(cost, filter)) {
        out.status = Status::inexact_integers;
        return;
    }
    const bool integers = source.integers() && small;
    Answer answer = skinny ? solve_skinny(source, nearest, k, options, integers)
                           : solve_by_magnitude(source, filter, k, options, integers);
    out.status = answer.status;
    out.stats = answer.stats;
    if (answer.status == Status::uncertified) {
        filter = make_filter(source, k);
        if (!filter.valid) refuse(filter, out);
    }
    if (answer.solved() && turned) turn_back(source, k, answer);
    if (answer.solved()) report(source, k, integers, answer, out);
    watch.stop();
    add_surroundings(around, out);
}

Solution solve(const Cost& cost, const Options& options) {
    Solution s;
    auto n = static_cast<std::size_t>(cost.problem_rows()), m = static_cast<std::size_t>(cost.cols);
    s.col4row.resize(n);
    s.row4col.resize(m);
    s.u.resize(n);
    s.v.resize(m);
    Output out;
    out.col4row = s.col4row.data();
    out.row4col = s.row4col.data();
    out.u = s.u.data();
    out.v = s.v.data();
    solve(cost, options, out);
    s.total = out.total;
    s.gap = out.gap;
    s.status = out.status;
    s.stats = out.stats;
    return s;
}

}  // namespace loomfast::assignment
