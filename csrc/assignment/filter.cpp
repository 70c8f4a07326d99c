// A float32 matrix is read in place. Any other is copied after subtracting each row's minimum, which removes offsets that
// would eat the 24 bits: in one pass over rows, or, where columns lie in memory, in one for the minima and one in tiles
// that fit a core's first cache. Where that rounds nothing (halves, small integers) the copy serves
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

void convert(Filter& filter, const Kernels& kernels, const double* row, std::int64_t r, std::int64_t first,
             std::int64_t width) {
    auto at = static_cast<std::size_t>(first);
    filter.exact &= kernels.convert(row, filter.shift(static_cast<std::int32_t>(r)),
                                    filter.column_shift.empty() ? nullptr : filter.column_shift.data() + at,
                                    static_cast<std::int32_t>(width), filter.copy.get() + r * filter.stride + first,
                                    filter.column_min_f.data() + at, filter.column_min.data() + at);
}

void copy_rows(Filter& filter, const Source& source, const Kernels& kernels) {
    for_each_row(source, [&](std::int64_t r, const double* row) {
        RowFacts facts;
        if (!kernels.survey_d(row, static_cast<std::int32_t>(source.cols()), &facts)) {
            mark_invalid(filter, source, r);
            return false;
        }
        note(filter, r, facts);
        convert(filter, kernels, row, r, 0, source.cols());
        return true;
    });
}

void survey_columns(Filter& filter, const Source& source, const Kernels& kernels) {
    const Source columns = source.turned();
    const std::int64_t rows = source.storage_rows();
    auto count = static_cast<std::int32_t>(rows);
    std::vector<double> least(static_cast<std::size_t>(rows) + kPadding, kInf), whole, some;
    whole.resize(static_cast<std::size_t>(source.rows()));
    some.resize(static_cast<std::size_t>(rows));
    for (std::int64_t j = 0; j < source.cols(); j += columns.row_repeats()) {
        const double* column = columns.row(j, whole.data());
        if (rows < source.rows()) {
            for (std::int64_t r = 0; r < rows; r++)
                some[static_cast<std::size_t>(r)] = column[r * source.row_repeats()];
            column = some.data();
        }
        RowFacts facts;
        if (!kernels.survey_d(column, count, &facts)) {
            std::int64_t r = 0;
            while (r + 1 < rows && column[r] > -kInf) r++;
            return mark_invalid(filter, source, r);
        }
        filter.largest = std::max(filter.largest, facts.largest);
        filter.fine |= facts.fine;
        filter.coarse |= facts.coarse;
        kernels.fold_min(column, count, least.data());
    }
    for (std::size_t r = 0; r < filter.row_min.size(); r++) filter.row_min[r] = least[r] < kInf ? least[r] : 0.0;
}

void copy_tiles(Filter& filter, const Source& source, const Kernels& kernels) {
    constexpr std::int64_t side = 64;
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    std::vector<double> tile(side * side);
    for (std::int64_t r = 0; r < rows; r += side)
        for (std::int64_t j = 0; j < m; j += side) {
            const std::int64_t height = std::min(side, rows - r), width = std::min(side, m - j);
            source.tile(r, height, j, width, tile.data());
            for (std::int64_t k = 0; k < height; k++)
                convert(filter, kernels, tile.data() + k * width, r + k, j, width);
        }
}

void copy(Filter& filter, const Source& source, const Kernels& kernels) {
    filter.stride = source.cols();
    if (!filter.copy)
        filter.copy = std::make_unique_for_overwrite<float[]>(
            static_cast<std::size_t>(source.storage_rows() * filter.stride));
    filter.cost = filter.copy.get();
    if (!source.column_major() || source.storage_rows() == 1) return copy_rows(filter, source, kernels);
    survey_columns(filter, source, kernels);
    if (filter.valid) copy_tiles(filter, source, kernels);
}

// Whether column minima make up most of what row minima left: then candidates would be told apart in the last of the
// 24 bits.
bool columns_apart(const Filter& filter, const Source& source) {
    if (filter.exact || source.rows() < 2) return false;
    double minima = 0.0, mean = 0.0;
    const auto m = static_cast<std::size_t>(source.cols());
    const float* rows[] = {filter.cost, filter.cost + (source.storage_rows() - 1) * filter.stride};
    for (std::size_t j = 0; j < m; j++) {
        if (filter.column_min[j] < kInf) minima += filter.column_min[j];
        for (const float* row : rows) mean += row[j] < kInf ? 0.5 * row[j] : 0.0;
    }
    return minima > 0.5 * mean;
}

// What the first row suggests, so that most matrices are read once: only what cannot hide magnitudes that matter, nor
// make others overflow.
double likely_factor(Source source) {
    source.set_factor(1.0);
    if (source.rows() == 0 || source.cols() == 0) return 1.0;
    double largest = 0.0;
    for (std::int64_t j = 0; j < std::min(source.cols(), std::int64_t{64}); j++) {
        double a = std::fabs(source.at(0, j));
        largest = a < kInf ? std::max(largest, a) : largest;
    }
    const bool small = largest != 0.0 && largest < kLeast && source.dtype() != DType::float64 && source.steps() == 0;
    const bool large = largest > kMost && largest < 0x1p300;
    return small || large ? std::ldexp(kTarget, -std::ilogb(largest)) : 1.0;
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
        else copy(filter, source, kernels);
    };
    source.set_factor(likely_factor(source));
    read();
    filter.fine_bits = filter.copy ? 64 : 32;
    const std::uint64_t fine = filter.fine, coarse = filter.coarse;
    if (filter.valid && needs_factor(filter.largest)) {
        const double largest = filter.largest / source.factor();
        source.set_factor(std::min(std::ldexp(kTarget, -std::ilogb(largest)), kMostFactor));
        read();
    }
    if (filter.valid && columns_apart(filter, source)) {
        filter.column_shift = filter.column_min;
        for (double& shift : filter.column_shift) shift = shift < kInf ? shift : 0.0;
        read();
    }
    filter.fine = fine;
    filter.coarse = coarse;
    return filter;
}

}  // namespace loomfast::assignment
