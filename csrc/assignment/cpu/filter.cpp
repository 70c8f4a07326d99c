// A float32 matrix is read in place. Any other is copied: one of a dtype that float32 holds as it is, others after
// subtracting about each row's minimum, which removes offsets that would eat the 24 bits. One pass does it, in tiles that fit
// a core's first cache where columns lie in memory. Where that rounds nothing (halves, small integers) the copy serves as the
// costs themselves; elsewhere it only filters, and decisions are taken on the caller's own entries in float64.
#include "assignment/cpu/filter.hpp"

#include <cmath>
#include <limits>
#include <tuple>

namespace loomfast::assignment {

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kLeast = 0x1p-60, kMost = 0x1p100;  // largest magnitudes that need no factor
constexpr double kFarOff = 16.0;  // shift from a row's least cost, relative to its spread, that leaves the copy too few bits
constexpr std::int64_t kFolded = 4;  // rows that are in a core's first cache when they are folded
constexpr double kTarget = 0x1p30, kMostFactor = 0x1p1000;

bool needs_factor(double largest) { return largest != 0.0 && (largest < kLeast || largest > kMost); }

void note(Filter& filter, std::int64_t r, const RowFacts& facts) {
    filter.largest = std::max(filter.largest, facts.largest);
    filter.fine |= facts.fine;
    filter.coarse |= facts.coarse;
    filter.forbidden |= facts.forbidden;
    filter.zero |= facts.zero;
    double& least = filter.row_min[r];
    least = std::min(least, facts.least);
}

void mark_invalid(Filter& filter, const Source& source, std::int64_t r) {
    std::int64_t j = 0;
    while (j + 1 < source.cols() && source.at(r * source.row_repeats(), j) > -kInf) j++;
    filter.valid = false;
    std::tie(filter.bad_row, filter.bad_col) = source.origin(r * source.row_repeats(), j);
}

// Whether float32 holds every number of the source's dtype.
bool fits_float(const Source& source) {
    switch (source.dtype()) {
        case DType::int32: case DType::int64: case DType::uint32: case DType::uint64: case DType::float64: return false;
        default: return source.as_narrow_as_the_dtype();
    }
}

bool square(const Source& source) { return source.rows() == source.cols(); }

// Folds storage rows first ... last - 1 into the minima of the columns, each less its own minimum.
void fold(Filter& filter, const Source& source, const Kernels& kernels, std::int64_t first, std::int64_t last) {
    double least[kFolded];
    for (std::int64_t r = first; r < last; r++)
        least[r - first] = filter.row_min[r] < kInf ? filter.row_low(static_cast<std::int32_t>(r)) : 0.0;
    kernels.fold_min(filter.cost + first * filter.stride, filter.stride, least, static_cast<std::int32_t>(last - first),
                     static_cast<std::int32_t>(source.cols()), filter.column_min.data());
}

void fold_all(Filter& filter, const Source& source, const Kernels& kernels) {
    const std::int64_t rows = source.storage_rows();
    for (std::int64_t first = 0; first < rows; first += kFolded)
        fold(filter, source, kernels, first, std::min(first + kFolded, rows));
}

// Where a row that is in a core's first cache has its minimum.
void find_minimum(Filter& filter, const Kernels& kernels, const float* row, std::int64_t r, double least, std::int64_t m) {
    filter.row_min_at[r] = kernels.first_at(row, static_cast<float>(least), static_cast<std::int32_t>(m));
}

// Notes what part of a row holds; false at an invalid entry.
bool survey(Filter& filter, const Source& source, const Kernels& kernels, const float* part, std::int64_t r,
            std::int64_t width) {
    filter.fine_bits = 32;
    RowFacts facts;
    const bool valid = kernels.survey_f(part, static_cast<std::int32_t>(width), &facts);
    if (!valid) {
        mark_invalid(filter, source, r);
        return false;
    }
    note(filter, r, facts);
    if (width == source.cols()) find_minimum(filter, kernels, part, r, facts.least, width);
    return true;
}

void read_in_place(Filter& filter, const Source& source, const Kernels& kernels) {
    const std::int64_t rows = source.storage_rows();
    for (std::int64_t first = 0, last; first < rows; first = last) {
        last = std::min(first + kFolded, rows);
        for (std::int64_t r = first; r < last; r++)
            if (!survey(filter, source, kernels, filter.cost + r * filter.stride, r, source.cols())) return;
        if (square(source)) fold(filter, source, kernels, first, last);
    }
}

// Surveys and copies part of a row. Its shift is the least that is seen first, unless `known`.
bool take(Filter& filter, const Source& source, const Kernels& kernels, const double* part, std::int64_t r,
          std::int64_t first, std::int64_t width, bool known) {
    RowFacts facts;
    if (!kernels.survey_d(part, static_cast<std::int32_t>(width), &facts)) {
        mark_invalid(filter, source, r);
        return false;
    }
    if (!known && filter.row_min[r] == kInf && facts.least < kInf) filter.row_shift[r] = facts.least;
    note(filter, r, facts);
    filter.exact &= kernels.convert(part, filter.row_shift[r],
                                    filter.column_shift.empty() ? nullptr : filter.column_shift.data() + first,
                                    static_cast<std::int32_t>(width), filter.copy.get() + r * filter.stride + first,
                                    square(source) && filter.shifted ? filter.column_min.data() + first : nullptr);
    if (width == source.cols() && filter.column_shift.empty())
        find_minimum(filter, kernels, filter.copy.get() + r * filter.stride, r, facts.least - filter.row_shift[r], width);
    return true;
}

void scale(double* values, std::int64_t count, double factor) {
    for (std::int64_t k = 0; factor != 1.0 && k < count; k++) values[k] *= factor;
}

// Tiles of a matrix that lies in memory column by column are turned in a core's first cache, but for float32, which goes
// straight into the copy: its rows are then surveyed in long pieces.
void copy_tiles(Filter& filter, const Source& source, const Kernels& kernels, bool known) {
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    std::int64_t stride = 0;
    const float* floats = filter.shifted || source.factor() != 1.0 ? nullptr : source.columns<float>(stride);
    const std::int64_t most_rows = 64, most_columns = floats ? 1024 : 128;
    Array<double> tile(floats ? 0 : most_rows * most_columns);
    for (std::int64_t j = 0; j < m; j += most_columns)
        for (std::int64_t r = 0; r < rows; r += most_rows) {
            const std::int64_t height = std::min(most_rows, rows - r), width = std::min(most_columns, m - j);
            float* out = filter.copy.get() + r * filter.stride + j;
            if (floats) kernels.turn_f(floats + j * stride + r, stride, height, width, out, filter.stride);
            else read_tile(source, kernels, r, height, j, width, tile.data());
            for (std::int64_t k = 0; k < height; k++) {
                bool valid = floats ? survey(filter, source, kernels, out + k * filter.stride, r + k, width)
                                    : take(filter, source, kernels, tile.data() + k * width, r + k, j, width, known);
                if (!valid) return;
            }
        }
}

void copy(Filter& filter, const Source& source, const Kernels& kernels, bool known) {
    const bool folds = square(source) && !filter.shifted;
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    filter.stride = m;
    if (!filter.copy) filter.copy = std::make_unique_for_overwrite<float[]>(static_cast<std::size_t>(rows * m));
    filter.cost = filter.copy.get();
    if (source.column_major() && rows > 1) {
        copy_tiles(filter, source, kernels, known);
        if (folds && filter.valid) fold_all(filter, source, kernels);
        return;
    }
    for_each_row(source, [&](std::int64_t r, const double* row) {
        if (!take(filter, source, kernels, row, r, 0, m, known)) return false;
        const std::int64_t first = r / kFolded * kFolded;
        if (folds && (r + 1 == rows || r + 1 == first + kFolded)) fold(filter, source, kernels, first, r + 1);
        return true;
    });
}

// Reads the matrix. The shifts of its rows are in the filter or are found on the way.
void read(Filter& filter, const Source& source, const Kernels& kernels, bool known) {
    filter.column_min = filled(source.cols() + kPadding, kInf);
    filter.row_min = filled(source.storage_rows(), kInf);
    filter.row_min_at = filled(source.storage_rows(), -1);
    filter.exact = true;
    filter.valid = true;
    filter.forbidden = filter.zero = false;
    filter.largest = 0.0;
    filter.fine = filter.coarse = 0;
    filter.cost = source.float_rows(filter.stride);
    filter.fine_bits = 64;
    if (filter.cost) {
        read_in_place(filter, source, kernels);
    } else {
        if (!known) {
            filter.row_shift = filled(source.storage_rows(), 0.0);
            filter.shifted = !fits_float(source);
        }
        copy(filter, source, kernels, known || !filter.shifted);
    }
    for (double& least : filter.row_min) least = least < kInf ? least : 0.0;
}

// The same with the true minima of rows as shifts, these being known.
void read_again(Filter& filter, const Source& source, const Kernels& kernels) {
    filter.row_shift = filter.row_min;
    filter.shifted = true;
    read(filter, source, kernels, true);
}

// What a few rows look like.
struct Sample {
    double low = 0.0;     // mean of the rows' least costs, as they are in the filter
    double mean = 0.0;    // mean cost above its row's least; 0 for forbidden ones
    double minima = 0.0;  // mean of the columns' least costs in these rows, above the rows' least
};

Sample sample(const Filter& filter, const Source& source) {
    const std::int64_t rows = source.storage_rows(), m = source.cols(), count = std::min(rows / 16 + 1, std::int64_t{8});
    Array<float> least = filled(m, std::numeric_limits<float>::infinity());
    Sample found;
    for (std::int64_t k = 0; k < count; k++) {
        const std::int64_t r = k * rows / count;
        const float* row = filter.cost + r * filter.stride;
        const auto low = static_cast<float>(filter.row_low(static_cast<std::int32_t>(r)));
        double sum = 0.0;
        for (std::int64_t j = 0; j < m; j++) {
            const float above = row[j] - low;
            sum += above < kInf ? above : 0.0;
            least[j] = std::min(least[j], above);
        }
        found.mean += sum / static_cast<double>(m * count);
        found.low += low / static_cast<double>(count);
    }
    for (float value : least) found.minima += value < kInf ? value / static_cast<double>(m) : 0.0;
    return found;
}

// Whether column minima make up most of what row minima leave. Finds the minima of the columns.
bool columns_apart(Filter& filter, const Source& source, const Kernels& kernels, const Sample& rows) {
    const std::int64_t m = source.cols();
    if (!square(source)) {
        if (rows.minima <= 0.5 * rows.mean) return false;
        fold_all(filter, source, kernels);
    }
    double minima = 0.0;
    for (std::int64_t j = 0; j < m; j++) minima += filter.column_min[j] < kInf ? filter.column_min[j] : 0.0;
    minima /= static_cast<double>(m);
    return minima - (square(source) && filter.shifted ? rows.low : 0.0) > 0.5 * rows.mean;
}

// What some entries suggest, so that most matrices are read once: only what cannot hide magnitudes that matter.
double likely_factor(Source source) {
    source.set_factor(1.0);
    const std::int64_t n = source.rows(), m = source.cols(), samples = std::min(n * m, std::int64_t{256});
    double largest = 0.0;
    for (std::int64_t k = 0; k < samples && (k < 32 || largest == 0.0); k++) {
        // The golden section spreads the columns evenly, whatever is banded or triangular.
        const double a = std::fabs(source.at(k * n / samples,
                                             static_cast<std::int64_t>(40503 * k % 65536) * m / 65536));
        largest = a < kInf ? std::max(largest, a) : largest;
    }
    const bool small = largest != 0.0 && largest < kLeast && source.steps() == 0;
    const bool large = largest > kMost && largest < 0x1p300;
    return small || large ? std::ldexp(kTarget, -std::ilogb(largest)) : 1.0;
}

// Whether the factor makes a number infinite.
bool overflows(const Source& source, const Kernels& kernels) {
    Source raw = source.column_major() ? source.turned() : source;
    raw.set_factor(1.0);
    Array<double> buffer = filled(raw.cols(), 0.0);
    for (std::int64_t i = 0; i < raw.rows(); i += raw.row_repeats()) {
        RowFacts facts;
        kernels.survey_d(raw.row(i, buffer.data()), static_cast<std::int32_t>(raw.cols()), &facts);
        if (facts.largest * source.factor() > std::numeric_limits<double>::max()) return true;
    }
    return false;
}

// Whether the factor takes digits from a number, or all of it.
bool underflows(const Source& source) {
    Source raw = source.column_major() ? source.turned() : source;
    raw.set_factor(1.0);
    Array<double> buffer = filled(raw.cols(), 0.0);
    for (std::int64_t i = 0; i < raw.rows(); i += raw.row_repeats()) {
        const double* row = raw.row(i, buffer.data());
        for (std::int64_t j = 0; j < raw.cols(); j++)
            if (row[j] != 0.0 && std::fabs(row[j] * source.factor()) < std::numeric_limits<double>::min()) return true;
    }
    return false;
}

}  // namespace

void read_tile(const Source& source, const Kernels& kernels, std::int64_t r, std::int64_t height, std::int64_t j,
               std::int64_t width, double* out) {
    std::int64_t stride;
    if (const double* columns = source.columns<double>(stride)) {
        kernels.turn_d(columns + j * stride + r, stride, height, width, out, width);
        scale(out, height * width, source.factor());
    } else {
        source.tile(r, height, j, width, out);
    }
}

Filter make_filter(Source& source, const Kernels& kernels) {
    Filter filter;
    source.set_factor(likely_factor(source));
    read(filter, source, kernels, false);
    if (source.factor() > 1.0 && source.spans_float64() && (filter.forbidden || !filter.valid) &&
        overflows(source, kernels)) {
        source.set_factor(1.0);
        read(filter, source, kernels, false);
    }
    if (source.factor() < 1.0 && source.dtype() == DType::float64 && (filter.zero || (filter.coarse & 1)) &&
        underflows(source)) {
        source.set_factor(1.0);
        read(filter, source, kernels, false);
    }
    const std::uint64_t fine = filter.fine, coarse = filter.coarse;
    const int fine_bits = filter.fine_bits;
    if (filter.valid && needs_factor(filter.largest)) {
        const double largest = filter.largest / source.factor();
        source.set_factor(std::min(std::ldexp(kTarget, -std::ilogb(largest)), kMostFactor));
        read(filter, source, kernels, false);
    }
    if (filter.valid && source.rows() > 1) {
        const Sample rows = sample(filter, source);
        filter.columns_apart = columns_apart(filter, source, kernels, rows);
        if (!filter.exact && filter.columns_apart) {
            // Else candidates would be told apart in the last of the 24 bits.
            filter.column_shift = filter.column_min;
            for (double& shift : filter.column_shift) shift = shift < kInf ? shift : 0.0;
        }
        const bool far_off = std::fabs(rows.low) > kFarOff * rows.mean;
        if (!filter.exact && (filter.columns_apart || far_off)) read_again(filter, source, kernels);
    }
    filter.fine = fine;
    filter.fine_bits = fine_bits;
    filter.coarse = coarse;
    filter.column_min_f.assign(filter.column_min.begin(), filter.column_min.end());
    return filter;
}

}  // namespace loomfast::assignment
