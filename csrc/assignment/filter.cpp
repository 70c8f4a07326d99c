// A float32 matrix is read in place. Any other is copied, in one pass, after subtracting each row's minimum, which
// removes offsets that would eat the 24 bits. Where that rounds nothing (halves, small integers) the copy serves
// as the costs themselves; elsewhere it only filters, and decisions are taken on the caller's own entries in float64.
#include "assignment/filter.hpp"

#include <limits>
#include <tuple>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kLeast = 0x1p-60, kMost = 0x1p100;  // largest magnitudes that need no factor
constexpr double kTarget = 0x1p30, kMostFactor = 0x1p1000;

bool needs_factor(double largest) { return largest != 0.0 && (largest < kLeast || largest > kMost); }

void note(Filter& filter, std::int64_t r, const RowFacts& facts) {
    filter.largest = std::max(filter.largest, facts.largest);
    filter.fine |= facts.fine;
    filter.coarse |= facts.coarse;
    filter.row_min[static_cast<std::size_t>(r)] = facts.least < kInf ? facts.least : 0.0;
}

void mark_invalid(Filter& filter, const Source& source, std::int64_t r) {
    std::int64_t j = 0;
    while (j + 1 < source.cols() && source.at(r * source.row_repeats(), j) > -kInf) j++;
    filter.valid = false;
    std::tie(filter.bad_row, filter.bad_col) = source.origin(r * source.row_repeats(), j);
}

void read_in_place(Filter& filter, const Source& source, const Kernels& kernels) {
    auto m = static_cast<std::int32_t>(source.cols());
    for (std::int64_t r = 0; r < source.storage_rows() && filter.valid; r++) {
        const float* row = filter.cost + r * filter.stride;
        RowFacts facts;
        if (!kernels.survey_f(row, m, &facts)) return mark_invalid(filter, source, r);
        note(filter, r, facts);
        kernels.fold_columns(row, filter.row_min[static_cast<std::size_t>(r)], m, filter.column_min_f.data(),
                             filter.column_min.data());
    }
}

void copy_rows(Filter& filter, const Source& source, const Kernels& kernels) {
    auto m = static_cast<std::int32_t>(source.cols());
    filter.stride = m;
    if (!filter.copy)
        filter.copy = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(source.storage_rows() * m));
    filter.cost = filter.copy.get();
    for_each_row(source, [&](std::int64_t r, const double* row) {
        RowFacts facts;
        if (!kernels.survey_d(row, m, &facts)) {
            mark_invalid(filter, source, r);
            return false;
        }
        note(filter, r, facts);
        filter.exact &= kernels.convert(row, filter.shift(static_cast<std::int32_t>(r)), m, filter.copy.get() + r * m,
                                        filter.column_min_f.data(), filter.column_min.data());
        return true;
    });
}

}  // namespace

Filter make_filter(Source& source, const Kernels& kernels) {
    Filter filter;
    auto read = [&] {
        filter.column_min.assign(static_cast<std::size_t>(source.cols()) + kPadding, kInf);
        filter.column_min_f.assign(filter.column_min.size(), std::numeric_limits<float>::infinity());
        filter.row_min.assign(static_cast<std::size_t>(source.storage_rows()), 0.0);
        filter.exact = true;
        filter.largest = 0.0;
        filter.cost = source.float_rows(filter.stride);
        if (filter.cost) read_in_place(filter, source, kernels);
        else copy_rows(filter, source, kernels);
    };
    source.set_factor(1.0);
    read();
    if (!filter.valid || !needs_factor(filter.largest)) return filter;
    const std::uint64_t fine = filter.fine, coarse = filter.coarse;
    source.set_factor(std::min(std::ldexp(kTarget, -std::ilogb(filter.largest)), kMostFactor));
    read();
    filter.fine = fine;
    filter.coarse = coarse;
    return filter;
}

}  // namespace loomfast::assignment
