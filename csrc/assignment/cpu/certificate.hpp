// Dual certificates with honest rounding.
#pragma once

#include <cmath>
#include <limits>

#include "assignment/cpu/work.hpp"

namespace loomfast::assignment {

struct TwoSum {
    double sum, error;  // sum + error is a + b exactly (Knuth)
    TwoSum(double a, double b) : sum(a + b) {
        double bb = sum - a;
        error = (a - (sum - bb)) + (b - bb);
    }
    double down() const { return error < 0 ? std::nextafter(sum, -std::numeric_limits<double>::infinity()) : sum; }
    double up() const { return error > 0 ? std::nextafter(sum, std::numeric_limits<double>::infinity()) : sum; }
    bool operator<(const TwoSum& other) const { return sum < other.sum || (sum == other.sum && error < other.error); }
};

struct Certificate {
    double total = 0.0;    // sum of matched costs, correctly rounded but for the last bits
    double gap = 0.0;      // at least total - optimum, in real arithmetic
    double matched = 0.0;  // greatest magnitude of a matched cost,
    double duals = 0.0;    // and of a dual price

    // What exactness allows the gap: 8 n 2^-53 s. Integers differ by integers.
    double bound(std::int64_t n, double s, bool integers) const {
        return integers ? std::nextafter(1.0, 0.0) : 8.0 * static_cast<double>(n) * 0x1p-53 * s;
    }
};

// Given a complete matching of the rows, fills `price` with prices p_j >= 0 of the source's own costs (0 where
// unmatched), u with the largest doubles that satisfy u_i - p_j <= c_ij, and bounds the gap from above.
Certificate certify(Work& work, Array<double>& price, Array<double>& u);

// The same for any source and the prices given, reading all of it in float64.
Certificate certify_plainly(const Source& source, const Kernels& kernels, const std::int32_t* x,
                            const double* p, Array<double>& u);

}  // namespace loomfast::assignment
