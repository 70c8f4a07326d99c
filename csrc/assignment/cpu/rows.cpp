#include "assignment/cpu/rows.hpp"

namespace loomfast::assignment {

const double* Rows::true_row(std::int32_t i) {
    buffer_.resize(static_cast<std::size_t>(source.cols()));
    return source.row(i, buffer_.data());
}

const double* Rows::shifted(std::int32_t i) {
    // A copy of all rows costs about as much as reading all of them, but far less than that where columns lie in memory.
    const std::int64_t rows = source.storage_rows();
    if (shifted_reads_++ == (source.column_major() ? rows / 16 : rows / 2) && rows > 1) copy();
    if (copy_) return copy_.get() + storage(i) * source.cols();
    shifted_.resize(static_cast<std::size_t>(source.cols()));
    shift_row(storage(i), true_row(i), shifted_.data());
    return shifted_.data();
}

void Rows::shift_row(std::int32_t r, const double* row, double* out) const {
    const double shift = filter.shift(r);
    const std::int64_t columns = source.cols();
    for (std::int64_t j = 0; j < columns; j++) out[j] = row[j] - shift;
    if (filter.column_shift.empty()) return;
    for (std::int64_t j = 0; j < columns; j++) out[j] -= filter.column_shift[j];
}

void Rows::copy() {
    constexpr std::int64_t most = std::int64_t{1} << 26;  // entries: 512 MB
    const std::int64_t rows = source.storage_rows(), m = source.cols();
    if (rows * m > most) return;
    copy_ = std::make_unique_for_overwrite<double[]>(static_cast<std::size_t>(rows * m));
    for_each_row(source, [&](std::int64_t r, const double* row) {
        shift_row(static_cast<std::int32_t>(r), row, copy_.get() + r * m);
        return true;
    });
}

}  // namespace loomfast::assignment
