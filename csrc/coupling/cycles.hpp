// What a coupling makes of a reassignment of a batch, a permutation: which of its cycles are worth writing back, and
// means whose bits are the same on every machine. What is added to what is that of loomfast/coupling/cache.py.
#pragma once

#include <cstdint>

namespace loomfast::coupling {

// Whether order[0 ... n - 1] are the numbers 0 ... n - 1, each once.
bool is_permutation(const int64_t* order, int64_t n);

// For each element the sums of `rows` rows of values (rows x n) over its cycle of a permutation. A cycle is added up
// from its smallest member on by pairs, pairs of pairs and so on.
void cycle_sums(const int64_t* order, int64_t n, const double* values, int64_t rows, double* sums);

// Costs of a batch's elements before and after a reassignment. Element i's changes by weight * change[i] on top; change
// may be null. A sum of costs is off by less than `rounding` times the sum of their magnitudes.
struct Costs {
    const double *before, *after, *change;
    double weight, rounding;
};

// kept[i] is order[i] where the cycle of i gets cheaper by more than rounding, else i. Returns how many are not i.
int64_t improving(const int64_t* order, int64_t n, const Costs& costs, int64_t* kept);

// By halves: the first half is added to the second, and so on; NaN for n = 0.
double mean(const double* values, int64_t n);

// Row i of `rows`, n of `bytes` each, becomes what row order[i] was, for a permutation.
void permute_rows(char* rows, int64_t n, int64_t bytes, const int64_t* order, int threads);

}  // namespace loomfast::coupling
