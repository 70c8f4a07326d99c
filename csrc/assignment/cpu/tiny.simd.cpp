// The algorithm of shortest_path.cpp with its columns in vectors: of the columns that are equally near, a free one ends
// the path, the first of them; else all are scanned before the next distance is looked for.
#include "assignment/cpu/tiny.hpp"
#include "simd/vectors.hpp"

namespace loomfast::assignment {

namespace {

using namespace simd;

static bool magnitudes(const double* a, std::int64_t count, double* least_magnitude, double* largest) {
    const VecD zero = set_d(0.0), inf = set_d(kInfD), most = set_d(__DBL_MAX__);
    constexpr unsigned all = (1u << kLanesD) - 1u;
    VecD low = inf, high = zero;
    unsigned finite = all;
    const auto look = [&](VecD c) {
        const VecD size = abs(c);
        finite &= le_bits(size, most);
        high = max(high, size);
        low = min(low, select_lt(zero, size, size, inf));
    };
    std::int64_t k = 0;
    for (; k + kLanesD <= count; k += kLanesD) look(load_d(a + k));
    if (k < count) look(load_d(a + k, static_cast<int>(count - k), 0.0));
    *least_magnitude = least(low);
    *largest = -least(sub(zero, high));
    return (finite & all) == all;
}

// A path under way. A column's distance and price become +inf when it is scanned.
struct Path {
    double distance[kTinyColumns], price[kTinyColumns], predecessor[kTinyColumns];

    // The least distance once row r, whose costs are c, is relaxed: the columns up to `length` have been scanned.
    inline double relax(const double* c, int stride, double base, double length, double r) {
        const VecD from = set_d(base), floor = set_d(length), inf = set_d(kInfD), row = set_d(r);
        VecD nearest = inf;
        for (int j = 0; j < stride; j += kLanesD) {
            VecD d = load_d(distance + j), p = load_d(price + j);
            p = select_lt(floor, d, p, inf);
            d = select_lt(floor, d, d, inf);
            const VecD v = max(add(add(load_d(c + j), p), from), floor);
            store_d(predecessor + j, select_lt(v, d, row, load_d(predecessor + j)));
            d = min(v, d);
            store_d(distance + j, d);
            store_d(price + j, p);
            nearest = min(nearest, d);
        }
        return least(nearest);
    }

    inline std::uint64_t at(int stride, double length) const {
        const VecD target = set_d(length);
        std::uint64_t found = 0;
        for (int j = 0; j < stride; j += kLanesD) found |= std::uint64_t{eq_bits(load_d(distance + j), target)} << j;
        return found;
    }
};

static bool match(const double* costs, std::int32_t n, std::int32_t m, std::int32_t stride, std::int32_t* x,
                  std::int32_t* y, double* p) {
    Path path;
    std::uint64_t free = ~std::uint64_t{0} >> (64 - m);
    for (std::int32_t j = 0; j < stride; j++) p[j] = 0.0;
    for (std::int32_t j = 0; j < m; j++) y[j] = -1;
    for (std::int32_t i = 0; i < n; i++) {
        std::int32_t scanned[kTinyColumns], count = 0, next = 0;
        double scanned_at[kTinyColumns];
        for (std::int32_t j = 0; j < stride; j += kLanesD) {
            store_d(path.distance + j, set_d(kInfD));
            store_d(path.price + j, load_d(p + j));
            store_d(path.predecessor + j, set_d(i));
        }
        double length = -kInfD, nearest = path.relax(costs + i * stride, stride, 0.0, length, i);
        std::uint64_t near;
        while (true) {
            if (nearest <= length || next == count) {
                if (!(nearest < kInfD)) return false;
                length = nearest;
                near = path.at(stride, length);
                if (near & free) break;
                for (; near; near &= near - 1, count++) {
                    if (count == i) return false;
                    scanned[count] = __builtin_ctzll(near);
                    scanned_at[count] = length;
                }
            }
            const std::int32_t j = scanned[next++], r = y[j];
            const double* c = costs + r * stride;
            nearest = path.relax(c, stride, length - (c[j] + p[j]), length, r);
        }
        for (std::int32_t k = 0; k < count; k++) p[scanned[k]] += length - scanned_at[k];
        std::int32_t j = __builtin_ctzll(near & free);
        free &= ~(std::uint64_t{1} << j);
        for (std::int32_t r = -1, before; r != i; j = before) {
            r = static_cast<std::int32_t>(path.predecessor[j]);
            before = r == i ? -1 : x[r];
            x[r] = j;
            y[j] = r;
        }
    }
    return true;
}

}  // namespace

namespace LOOMFAST_TARGET {
const TinyKernels tiny_kernels = {magnitudes, match};
}

}  // namespace loomfast::assignment
