#include "cost/rows.hpp"

#include "simd/vectors.hpp"

namespace loomfast::cost {
namespace {

template <class T>
void finish(T* row, int64_t count, T norm_x, const T* norms_z) {
    for (int64_t j = 0; j < count; ++j) {
        const T cost = (norm_x + norms_z[j]) - 2 * row[j];
        row[j] = cost < 0 ? 0 : cost;
    }
}

template <class T>
void scale(T* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] *= -2;
}

void root(float* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] = __builtin_sqrtf(row[j]);
}

void root(double* row, int64_t count) {
    for (int64_t j = 0; j < count; ++j) row[j] = __builtin_sqrt(row[j]);
}

void add_square(double* row, int64_t count, double x, const double* z) {
    for (int64_t j = 0; j < count; ++j) row[j] += (x - z[j]) * (x - z[j]);
}

// Partial sums in a number of lanes that is the same for every target, and so is their sum.
template <class T>
struct Sums {
    typedef T Vector __attribute__((vector_size(32)));  // wider ones spill where AVX-512 is missing
    static constexpr int64_t kLanes = 32 / sizeof(T), kStep = 4 * kLanes;
    Vector part[4] = {};

    T total() const {
        const Vector sum = (part[0] + part[1]) + (part[2] + part[3]);
        T lane[kLanes];
        __builtin_memcpy(lane, &sum, sizeof lane);
        for (int64_t width = kLanes / 2; width; width /= 2)
            for (int64_t k = 0; k < width; ++k) lane[k] += lane[k + width];
        return lane[0];
    }
};

template <class T>
LOOMFAST_INLINE void add_squares(Sums<T>& sums, const T* x) {
    for (int v = 0; v < 4; ++v) {
        typename Sums<T>::Vector a;
        __builtin_memcpy(&a, x + v * Sums<T>::kLanes, sizeof a);
        sums.part[v] += a * a;
    }
}

template <class T>
LOOMFAST_INLINE void add_square_differences(Sums<double>& sums, const T* x, const T* z) {
    typedef T Part __attribute__((vector_size(Sums<double>::kLanes * sizeof(T))));
    using Wide = Sums<double>::Vector;
    for (int v = 0; v < 4; ++v) {
        Part a, b;
        __builtin_memcpy(&a, x + v * Sums<double>::kLanes, sizeof a);
        __builtin_memcpy(&b, z + v * Sums<double>::kLanes, sizeof b);
        const Wide difference = __builtin_convertvector(a, Wide) - __builtin_convertvector(b, Wide);
        sums.part[v] += difference * difference;
    }
}

template <class T>
T norm(const T* x, int64_t d) {
    Sums<T> sums;
    int64_t k = 0;
    for (; k + Sums<T>::kStep <= d; k += Sums<T>::kStep) add_squares(sums, x + k);
    if (k < d) {
        T rest[Sums<T>::kStep] = {};
        for (int64_t e = k; e < d; ++e) rest[e - k] = x[e];
        add_squares(sums, rest);
    }
    return sums.total();
}

template <class T>
double distance(const T* x, const T* z, int64_t d) {
    constexpr int64_t step = Sums<double>::kStep;
    Sums<double> sums;
    int64_t k = 0;
    for (; k + step <= d; k += step) add_square_differences(sums, x + k, z + k);
    if (k < d) {
        T rest_x[step] = {}, rest_z[step] = {};
        for (int64_t e = k; e < d; ++e) rest_x[e - k] = x[e], rest_z[e - k] = z[e];
        add_square_differences(sums, rest_x, rest_z);
    }
    return sums.total();
}

template <class T, class Bits>
Bits largest_bits(const T* x, int64_t count) {
    constexpr Bits magnitude = static_cast<Bits>(~(std::uint64_t{1} << (8 * sizeof(T) - 1)));
    Bits most = 0;
    for (int64_t k = 0; k < count; ++k) {
        Bits bits;
        __builtin_memcpy(&bits, x + k, sizeof bits);
        bits &= magnitude;
        most = bits > most ? bits : most;
    }
    return most;
}

template <class T, class Bits>
constexpr RowLoops<T, Bits> loops_of() {
    return {finish<T>, scale<T>, root, norm<T>, distance<T>, largest_bits<T, Bits>};
}

}  // namespace

namespace LOOMFAST_TARGET {
const RowKernels row_kernels{loops_of<float, std::int32_t>(), loops_of<double, std::int64_t>(), add_square};
}

}  // namespace loomfast::cost
