// The whole cost of a small float32 problem in one pass: products or differences in a tile of registers, the
// norms, the clamp and the root put on the tile before it is stored.
#pragma once

#include <cstdint>
#include <vector>

namespace loomfast::cost {

enum class Form {
    products,     // -2 x.z
    full,         // max(0, |x|^2 + |z|^2 - 2 x.z), a NaN staying a NaN
    differences,  // |x - z|^2 by direct differences
};

// Costs of contiguous (n, d) x and (m, d) z into out: element (i, j) at i * stride + j.
struct Problem {
    const float *x, *z;
    float* out;
    int64_t n, m, d, stride;
    Form form;
    bool euclidean;  // the root of the above
};

// One instruction set's kernel: how many units of work a problem has, and those from `first` up to `last`.
struct Level {
    const char* name;
    int64_t (*units)(const Problem& problem);
    void (*run)(const Problem& problem, int64_t first, int64_t last);
};

extern const Level kTilesBaseline;
#if defined(LOOMFAST_X86)
extern const Level kTilesAvx2, kTilesAvx512;
#endif

// The levels this processor has, the fastest last.
std::vector<const Level*> levels();

// Whether out shares memory with x or z.
bool overlaps(const Problem& problem);

// For a problem that does not overlap. An entry has the same bits for any number of threads and in any larger
// problem; levels differ by rounding.
void tiled(const Level& level, const Problem& problem, int threads);

}  // namespace loomfast::cost
