// The costs as the solver sees them: doubles to be minimised, at most as many rows as columns, whatever
// the caller's dtype, layout, sign, orientation or scale. Reading is exact except for integers beyond 2^53
// and where a step lessens a cost.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "assignment/assignment.hpp"

namespace loomfast::assignment {

struct Half { std::uint16_t bits; };
struct BFloat { std::uint16_t bits; };

template <class T>
inline double widen(T x) { return static_cast<double>(x); }

inline double widen(BFloat x) { return std::bit_cast<float>(std::uint32_t{x.bits} << 16); }

inline double widen(Half x) {
    // Moving exponent and mantissa into float32's place leaves a number 2^112 too small, subnormals included.
    std::uint32_t magnitude = std::uint32_t(x.bits & 0x7fff) << 13;
    bool special = (x.bits & 0x7c00) == 0x7c00;
    float value = special ? std::bit_cast<float>(magnitude | 0x7f800000u)
                          : std::bit_cast<float>(magnitude) * 0x1p112f;
    return x.bits & 0x8000 ? -value : value;
}

template <class F>
decltype(auto) with_type(DType dtype, F&& f) {
    switch (dtype) {
        case DType::boolean: case DType::uint8: return f(std::uint8_t{});
        case DType::int8: return f(std::int8_t{});
        case DType::int16: return f(std::int16_t{});
        case DType::int32: return f(std::int32_t{});
        case DType::int64: return f(std::int64_t{});
        case DType::uint16: return f(std::uint16_t{});
        case DType::uint32: return f(std::uint32_t{});
        case DType::uint64: return f(std::uint64_t{});
        case DType::float16: return f(Half{});
        case DType::bfloat16: return f(BFloat{});
        case DType::float32: return f(float{});
        default: return f(double{});
    }
}

inline bool is_integer(DType dtype) { return dtype < DType::float16; }

// Costs of a magnitude of at least `from` are lessened so that `from` becomes `to`, or made `from` (see sentinels.hpp).
struct Step {
    double from, to;
    bool flat = false;

    double apply(double cost) const {
        double magnitude = std::fabs(cost);
        if (magnitude < from || magnitude == std::numeric_limits<double>::infinity()) return cost;
        return std::copysign(flat ? from : (magnitude - from) + to, cost);
    }
};

class Source {
public:
    // `turned`: the caller's columns are the rows although they are not fewer; of square problems.
    explicit Source(const Cost& cost, bool turned = false)
        : data_(static_cast<const char*>(cost.data)), dtype_(cost.dtype), sign_(cost.maximize ? -1.0 : 1.0),
          transposed_(turned || cost.problem_rows() > cost.cols),
          n_(cost.problem_rows()), m_(cost.cols), row_stride_(cost.row_stride), col_stride_(cost.col_stride),
          row_repeats_(cost.row_repeats), clip_(cost.clip), caps_by_row_(!turned) {
        if (transposed_) {
            std::swap(n_, m_);
            std::swap(row_stride_, col_stride_);
            std::swap(row_repeats_, col_repeats_);
        }
    }

    std::int64_t rows() const { return n_; }
    std::int64_t cols() const { return m_; }
    std::int64_t row_repeats() const { return row_repeats_; }
    bool transposed() const { return transposed_; }
    DType dtype() const { return dtype_; }
    double sign() const { return sign_; }

    std::int64_t storage_rows() const { return n_ / row_repeats_; }

    // Every cost times a power of two, which keeps sums of them away from overflow and underflow.
    double factor() const { return factor_; }
    void set_factor(double factor) { factor_ = factor; }

    // Steps are taken one after the other, before the factor.
    void add_step(Step step) { steps_.push_back(step); }
    std::size_t steps() const { return steps_.size(); }

    // Whether the costs may be of any magnitude that float64 has.
    bool spans_float64() const { return dtype_ == DType::float64 || clip_; }

    // Whether the costs to be minimised are integers,
    bool integers() const { return is_integer(dtype_) && (!clip_ || clip_->whole); }
    // or numbers of the caller's dtype or of float32.
    bool as_narrow_as_the_dtype() const {
        const bool narrow = !clip_ || (clip_->uniform() && static_cast<float>(clip_->cap) == clip_->cap);
        return narrow && steps_.empty();
    }

    // The caller's matrix itself, where it can serve as float32 rows without a copy.
    const float* float_rows(std::int64_t& stride) const {
        bool in_place = dtype_ == DType::float32 && unchanged() && col_repeats_ == 1 && col_stride_ == 4 &&
                        row_stride_ % 4 == 0 && reinterpret_cast<std::uintptr_t>(data_) % 4 == 0;
        stride = row_stride_ / 4;
        return in_place ? reinterpret_cast<const float*>(data_) : nullptr;
    }

    // The caller's matrix itself, column by column, if its columns are arrays of T that only the factor changes.
    template <class T>
    const T* columns(std::int64_t& stride) const {
        constexpr DType dtype = sizeof(T) == 4 ? DType::float32 : DType::float64;
        constexpr auto size = static_cast<std::int64_t>(sizeof(T));
        bool as_they_are = dtype_ == dtype && sign_ > 0 && steps_.empty() && !clip_ && row_repeats_ == 1 && col_repeats_ == 1 &&
                           row_stride_ == size && col_stride_ % size == 0 &&
                           reinterpret_cast<std::uintptr_t>(data_) % sizeof(T) == 0;
        stride = col_stride_ / size;
        return as_they_are ? reinterpret_cast<const T*>(data_) : nullptr;
    }

    // Where entry (i, j) of the oriented problem is in the caller's matrix.
    std::pair<std::int64_t, std::int64_t> origin(std::int64_t i, std::int64_t j) const {
        std::pair<std::int64_t, std::int64_t> at(i / row_repeats_, j / col_repeats_);
        return transposed_ ? std::pair(at.second, at.first) : at;
    }

    double at(std::int64_t i, std::int64_t j) const {
        const char* p = data_ + row_of(i) * row_stride_ + col_of(j) * col_stride_;
        const double cost = with_type(dtype_, [&]<class T>(T) { return sign_ * widen(read<T>(p)); });
        return adjusted(clip_ ? clipped(cost, row_of(i), col_of(j)) : cost);
    }

    // Row i as doubles. Returns its data in place where it already is that, else fills `out` (cols() long).
    const double* row(std::int64_t i, double* out) const { return part(i, 0, m_, out); }

    // The same of columns first ... first + width - 1.
    const double* part(std::int64_t i, std::int64_t first, std::int64_t width, double* out) const {
        const char* p = data_ + row_of(i) * row_stride_ + (col_repeats_ == 1 ? first * col_stride_ : 0);
        if (dtype_ == DType::float64 && col_stride_ == 8 && unchanged() && col_repeats_ == 1 &&
            reinterpret_cast<std::uintptr_t>(p) % 8 == 0)
            return reinterpret_cast<const double*>(p);
        const double scale = as_read() ? sign_ * factor_ : sign_;
        if (clip_ && clip_->uniform()) {
            const double cap = clip_->cap;
            with_type(dtype_, [&]<class T>(T) {
                fill<T>(p, first, width, out, [=](double cost) { return scale * cost > cap ? cap : scale * cost; });
            });
        } else {
            with_type(dtype_, [&]<class T>(T) { fill<T>(p, first, width, out, [=](double cost) { return scale * cost; }); });
            if (clip_) clip_row(row_of(i), first, width, out);
        }
        apply_steps(out, width);
        return out;
    }

    // Columns first ... first + width - 1 of the storage rows r ... r + count - 1, one row after the other in `out`,
    // for a matrix that lies in memory column by column.
    void tile(std::int64_t r, std::int64_t count, std::int64_t first, std::int64_t width, double* out) const {
        constexpr std::int64_t side = 8;  // so many columns are written side by side: a line of the cache
        const char* p = data_ + r * row_stride_;
        const double scale = as_read() ? sign_ * factor_ : sign_;
        with_type(dtype_, [&]<class T>(T) {
            std::int64_t j = 0;
            for (; j + side <= width; j += side) {
                const char* at[side];
                for (std::int64_t k = 0; k < side; k++) at[k] = p + col_of(first + j + k) * col_stride_;
                for (std::int64_t i = 0; i < count; i++)
                    for (std::int64_t k = 0; k < side; k++)
                        out[i * width + j + k] = scale * widen(read<T>(at[k] + i * row_stride_));
            }
            for (; j < width; j++)
                for (std::int64_t i = 0; i < count; i++)
                    out[i * width + j] =
                        scale * widen(read<T>(p + col_of(first + j) * col_stride_ + i * row_stride_));
        });
        for (std::int64_t i = 0; clip_ && i < count; i++) clip_row(r + i, first, width, out + i * width);
        apply_steps(out, count * width);
    }

    bool column_major() const { return std::abs(row_stride_) < std::abs(col_stride_); }

    // Rows as columns.
    Source turned() const {
        Source other = *this;
        std::swap(other.n_, other.m_);
        std::swap(other.row_stride_, other.col_stride_);
        std::swap(other.row_repeats_, other.col_repeats_);
        other.transposed_ = !transposed_;
        other.caps_by_row_ = !caps_by_row_;
        return other;
    }

private:
    // A division takes longer than everything else about an entry.
    std::int64_t row_of(std::int64_t i) const { return row_repeats_ == 1 ? i : i / row_repeats_; }
    std::int64_t col_of(std::int64_t j) const { return col_repeats_ == 1 ? j : j / col_repeats_; }

    // But for the sign and the factor.
    bool as_read() const { return steps_.empty() && !clip_; }
    bool unchanged() const { return sign_ > 0 && factor_ == 1.0 && as_read(); }

    // f(cost) of `width` columns of the row at p.
    template <class T, class F>
    void fill(const char* p, std::int64_t first, std::int64_t width, double* out, F f) const {
        if (col_repeats_ == 1 && col_stride_ == sizeof(T))
            for (std::int64_t j = 0; j < width; j++) out[j] = f(widen(read<T>(p + j * sizeof(T))));
        else if (col_repeats_ == 1)
            for (std::int64_t j = 0; j < width; j++) out[j] = f(widen(read<T>(p + j * col_stride_)));
        else
            for (std::int64_t j = 0; j < width; j++) out[j] = f(widen(read<T>(p + col_of(first + j) * col_stride_)));
    }

    // Of a storage row and column. A NaN stays one.
    double clipped(double cost, std::int64_t r, std::int64_t j) const {
        if (clip_->offsets) cost -= clip_->offsets[caps_by_row_ ? j : r];
        const double cap = clip_->caps ? clip_->caps[caps_by_row_ ? r : j] : clip_->cap;
        return cost > cap ? cap : cost;
    }

    // The same of columns first ... first + width - 1 of a storage row.
    void clip_row(std::int64_t r, std::int64_t first, std::int64_t width, double* costs) const {
        if (clip_->caps && !caps_by_row_) {
            for (std::int64_t k = 0; k < width; k++) costs[k] = clipped(costs[k], r, col_of(first + k));
            return;
        }
        const double* offsets = clip_->offsets;
        if (offsets && caps_by_row_)
            for (std::int64_t k = 0; k < width; k++) costs[k] -= offsets[col_of(first + k)];
        else if (offsets)
            for (std::int64_t k = 0; k < width; k++) costs[k] -= offsets[r];
        const double cap = clip_->caps ? clip_->caps[r] : clip_->cap;
        for (std::int64_t k = 0; k < width; k++) costs[k] = costs[k] > cap ? cap : costs[k];
    }

    double adjusted(double cost) const {
        for (const Step& step : steps_) cost = step.apply(cost);
        return cost * factor_;
    }

    void apply_steps(double* costs, std::int64_t count) const {
        if (as_read()) return;
        for (const Step& step : steps_)
            for (std::int64_t k = 0; k < count; k++) costs[k] = step.apply(costs[k]);
        for (std::int64_t k = 0; factor_ != 1.0 && k < count; k++) costs[k] *= factor_;
    }

    template <class T>
    static T read(const char* p) {
        T x;
        std::memcpy(&x, p, sizeof(T));
        return x;
    }

    const char* data_;
    DType dtype_;
    double sign_;
    bool transposed_;
    std::int64_t n_, m_, row_stride_, col_stride_;
    std::int64_t row_repeats_, col_repeats_ = 1;
    double factor_ = 1.0;
    const Clip* clip_;
    bool caps_by_row_;  // the rows are the shorter side, or taken for it
    std::vector<Step> steps_;
};

}  // namespace loomfast::assignment
