// A solve can leave prices that are far larger than any cost that matters: of a row with one allowed column and
// otherwise costs of 1e9, that column's price may rise to 1e9, and its pair is then tight only to within 1e-7. So the
// certificate is held against the costs matched. If it fails, the matching is kept and prices are added up anew from
// differences of costs, the least there are; rows that turn out not to have their best choice then are matched again.
#include "assignment/cpu/exact.hpp"

#include <algorithm>
#include <cmath>

#include "assignment/cpu/cold.hpp"
#include "assignment/cpu/finish.hpp"
#include "assignment/cpu/shortest_path.hpp"
#include "assignment/cpu/solver.hpp"
#include "assignment/cpu/tiny.hpp"

namespace loomfast::assignment {

namespace {

constexpr int kImprovements = 2;  // before plain shortest paths are tried, and after that

// sum_i (mean_j c_ij - min_j c_ij) over the pairs allowed: the scale that `tolerance` is relative to.
double total_spread(const Source& source) {
    double total = 0.0;
    for_each_row(source, [&](std::int64_t, const double* c) {
        double least = HUGE_VAL, sum = 0.0, count = 0.0;
        for (std::int64_t j = 0; j < source.cols(); j++) {
            least = c[j] < least ? c[j] : least;
            bool allowed = c[j] < HUGE_VAL;
            sum += allowed ? c[j] : 0.0;
            count += allowed;
        }
        if (count > 0.0) total += static_cast<double>(source.row_repeats()) * (sum / count - least);
        return true;
    });
    return total;
}

Status improve(Work& w) {
    if (w.square()) {
        const double least = *std::min_element(w.p, w.p + w.m);
        for (std::int32_t j = 0; j < w.m; j++) w.set_price(j, w.p[j] - least);
    }
    Status status = settle_prices(w, true);
    if (status != Status::optimal) return status;
    Array<std::int32_t> loose = free_loose_rows(w);
    status = augment_rows(w, reduce_rows(w, loose, 4 * static_cast<std::int64_t>(loose.size())));
    return status == Status::optimal && w.n < w.m ? settle_prices(w, false) : status;
}

// Status optimal, within_tolerance or, if this proves neither, uncertified.
Status certify_answer(Work& w, Answer& answer, bool integers, bool improved) {
    const Timed timed(w.watch, w.stats.seconds.certify);
    answer.certificate = certify(w, answer.p, answer.u);
    const Certificate& proof = answer.certificate;
    double s = improved ? std::max(proof.matched, proof.duals) : proof.matched;
    if (proof.gap <= proof.bound(w.n, s, integers)) return Status::optimal;
    return proof.gap <= w.target_gap ? Status::within_tolerance : Status::uncertified;
}

// Storage rows one after the other become the problem's rows `stride` apart, padded with +inf.
void spread(double* costs, const Source& source, std::int64_t stride) {
    const std::int64_t m = source.cols();
    if (stride == m && source.row_repeats() == 1) return;
    for (std::int64_t i = source.rows(); i-- > 0;) {
        double *row = costs + i * stride, *from = costs + i / source.row_repeats() * m;
        if (row != from) std::copy_backward(from, from + m, row + m);
        std::fill(row + m, row + stride, HUGE_VAL);
    }
}

}  // namespace

bool solve_tiny(const Source& source, const Kernels& kernels, Cancel* cancel, Answer& answer) {
    constexpr std::int64_t most_rows = 32, most_entries = 1024;
    constexpr double least_magnitude = 0x1p-60, most_magnitude = 0x1p40, most_ratio = 0x1p16;
    const std::int64_t n = source.rows(), m = source.cols(), rows = source.storage_rows();
    const std::int64_t stride = (m + kTinyStride - 1) / kTinyStride * kTinyStride;
    if (n == 0 || n > most_rows || n * stride > most_entries) return false;
    if (cancel && cancel->look()) return false;
    double costs[most_entries], low, high;
    source.tile(0, rows, 0, m, costs);
    if (!tiny_kernels().magnitudes(costs, rows * m, &low, &high)) return false;
    const bool ordinary = high == 0.0 || (low > least_magnitude && high < most_magnitude && high <= most_ratio * low);
    if (!ordinary) return false;
    answer.u = filled(n, 0.0);
    if (m > kTinyColumns) {
        if (shortest_paths(source, cancel, answer.x, answer.y, answer.p) != Status::optimal) return false;
    } else {
        spread(costs, source, stride);
        answer.x = filled(n, -1);
        answer.y = filled(m, -1);
        answer.p = filled(m + kPadding, 0.0);
        if (!tiny_kernels().match(costs, static_cast<std::int32_t>(n), static_cast<std::int32_t>(m),
                                  static_cast<std::int32_t>(stride), answer.x.data(), answer.y.data(), answer.p.data()))
            return false;
    }
    answer.certificate = certify_plainly(source, kernels, answer.x.data(), answer.p.data(), answer.u);
    if (answer.certificate.gap > answer.certificate.bound(n, answer.certificate.matched, false)) return false;
    answer.status = Status::optimal;
    answer.stats.path = "shortest paths";
    answer.stats.augmentations = n;
    return true;
}

Answer solve_exactly(const Source& source, const Filter& filter, const Kernels& kernels, const Options& options,
                     bool integers) {
    Work work(source, filter, kernels, options.cancel);
    Answer answer;
    answer.u = filled(work.n, 0.0);
    // With columns to spare a gap can hide in the prices of unmatched columns: those are solved exactly.
    if (options.tolerance > 0.0 && work.n == work.m)
        work.target_gap = options.tolerance * total_spread(source) * (1.0 - 1e-9);
    const bool timed = std::int64_t{work.n} * work.m >= kTimedEntries;
    if (timed) work.watch.start(work.stats.seconds.rest);
    answer.status = solve(work, options);
    for (int attempt = 0; answer.solved(); attempt++) {
        answer.status = certify_answer(work, answer, integers, attempt > 0);
        if (answer.solved() || attempt == 2 * kImprovements + 1) break;
        answer.status = attempt == kImprovements ? solve_plainly(work) : improve(work);
    }
    work.watch.stop();
    answer.stats = work.stats;
    answer.stats.bids = work.bids;
    answer.stats.scans = work.scans;
    answer.x.assign(work.x, work.x + work.n);
    answer.y.assign(work.y, work.y + work.m);
    return answer;
}

}  // namespace loomfast::assignment
