// The tiles of a small float32 cost: so many rows of x by two vectors of columns, in registers.
//
// Panels of z, kColumns items by up to kDepth coordinates, are packed by coordinate and stay in the first-level
// cache while a block of rows of x, read where they lie, meets them. An entry's sum runs over the coordinates in
// order, kDepth at a time, wherever its tile is cut.
#include "cost/tiles.hpp"
#include "simd/vectors.hpp"

namespace loomfast::cost {
namespace {

using namespace simd;

constexpr int kRows = kRegisters == 16 ? 6 : 8;  // of a tile, whose sums leave registers for x and z
constexpr int kColumns = 2 * kLanesF;
constexpr int64_t kDepth = kLanesF == 16 ? 192 : 256;  // of panels that leave room in the first-level cache
constexpr int64_t kPanels = 16, kBlockRows = 256;

template <int count>
using Sums = VecF[count][2];

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Squared norms of four rows.
void norms_of_four(const float* const* rows, int64_t d, float* out) {
    Sums<4> sum;
#pragma GCC unroll 8
    for (int t = 0; t < 8; ++t) sum[t / 2][t % 2] = VecF{};
    int64_t k = 0;
    for (; k + kColumns <= d; k += kColumns) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
            const VecF a = load_f(rows[r] + k), b = load_f(rows[r] + k + kLanesF);
            sum[r][0] += a * a;
            sum[r][1] += b * b;
        }
    }
    float lane[kLanesF], part[4][4], turned[4][4];
    const float* const parts[4] = {part[0], part[1], part[2], part[3]};
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r) {
        store_f(lane, sum[r][0] + sum[r][1]);
        for (int64_t e = k; e < d; ++e) lane[(e - k) % kLanesF] += rows[r][e] * rows[r][e];
        for (int width = kLanesF / 2; width >= 4; width /= 2)
            for (int e = 0; e < width; ++e) lane[e] += lane[e + width];
        __builtin_memcpy(part[r], lane, sizeof part[r]);
    }
    transpose4(parts, 0, turned[0], 4);
    for (int r = 0; r < 4; ++r) out[r] = (turned[0][r] + turned[1][r]) + (turned[2][r] + turned[3][r]);
}

// Squared norms of `count` rows; `out` has room for fours.
void norms(const float* x, int64_t count, int64_t d, float* out) {
    for (int64_t i = 0; i < count; i += 4) {
        const float* rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = x + smaller(i + r, count - 1) * d;
        norms_of_four(rows, d, out + i);
    }
}

// z (count, d) to panel[k * kColumns + j]; columns past `count` hold copies of the last.
void pack(const float* z, int64_t count, int64_t d, int64_t depth, float* panel) {
    for (int64_t j = 0; j < kColumns; j += 4) {
        const float* rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = z + smaller(j + r, count - 1) * d;
        int64_t k = 0;
        for (; k + 4 <= depth; k += 4) transpose4(rows, k, panel + k * kColumns + j, kColumns);
        for (; k < depth; ++k)
            for (int r = 0; r < 4; ++r) panel[k * kColumns + j + r] = rows[r][k];
    }
}

// Adds the squared norms of a panel's columns, over its depth.
void add_norms(const float* panel, int64_t depth, float* out) {
    Sums<4> sum;
#pragma GCC unroll 8
    for (int t = 0; t < 8; ++t) sum[t / 2][t % 2] = VecF{};
    for (int64_t k = 0; k < depth; k += 4) {
#pragma GCC unroll 4
        for (int e = 0; e < 4; ++e) {
            if (k + e == depth) break;
            const VecF a = load_f(panel + (k + e) * kColumns), b = load_f(panel + (k + e) * kColumns + kLanesF);
            sum[e][0] += a * a;
            sum[e][1] += b * b;
        }
    }
    for (int v = 0; v < 2; ++v) {
        float* const to = out + v * kLanesF;
        store_f(to, load_f(to) + ((sum[0][v] + sum[1][v]) + (sum[2][v] + sum[3][v])));
    }
}

// What the tiles of one block of rows and one panel share.
struct Strip {
    const float* x;      // the first row's first coordinate of this depth
    float* out;          // kColumns columns
    int64_t d, stride, depth;
    const float *panel, *norms_x, *norms_z;
    bool first, last;  // of the depths
    Form form;
    bool euclidean;
};

// Products, or differences, to costs.
template <int count>
LOOMFAST_INLINE void finish(Sums<count>& sum, const Strip& strip, int64_t row) {
    if (strip.form == Form::products) {
#pragma GCC unroll 16
        for (int t = 0; t < 2 * count; ++t) sum[t / 2][t % 2] *= -2.0f;
    } else if (strip.form == Form::full) {
#pragma GCC unroll 16
        for (int t = 0; t < 2 * count; ++t) {
            const VecF norms = set_f(strip.norms_x[row + t / 2]) + load_f(strip.norms_z + t % 2 * kLanesF);
            const VecF cost = norms - 2.0f * sum[t / 2][t % 2];
            sum[t / 2][t % 2] = cost < 0.0f ? VecF{} : cost;
        }
    }
    if (strip.euclidean) {
#pragma GCC unroll 16
        for (int t = 0; t < 2 * count; ++t) {
            float lane[kLanesF];
            store_f(lane, sum[t / 2][t % 2]);
            for (int e = 0; e < kLanesF; ++e) lane[e] = __builtin_sqrtf(lane[e]);
            sum[t / 2][t % 2] = load_f(lane);
        }
    }
}

// Rows `row` ... `row + count - 1` of the strip.
template <int count, bool differences>
void tile(const Strip& strip, int64_t row) {
    const int64_t d = strip.d, depth = strip.depth, stride = strip.stride;
    const float* const x = strip.x + row * d;
    float* const out = strip.out + row * stride;
    const float* z = strip.panel;
    Sums<count> sum;
#pragma GCC unroll 16
    for (int t = 0; t < 2 * count; ++t) sum[t / 2][t % 2] = VecF{};
    for (int64_t k = 0; k < depth; ++k, z += kColumns) {
        const VecF z0 = load_f(z), z1 = load_f(z + kLanesF);
#pragma GCC unroll 8
        for (int r = 0; r < count; ++r) {
            const VecF a = set_f(x[r * d + k]);
            if constexpr (differences) {
                sum[r][0] += (a - z0) * (a - z0);
                sum[r][1] += (a - z1) * (a - z1);
            } else {
                sum[r][0] += a * z0;
                sum[r][1] += a * z1;
            }
        }
    }
    if (!strip.first) {
#pragma GCC unroll 16
        for (int t = 0; t < 2 * count; ++t) sum[t / 2][t % 2] += load_f(out + t / 2 * stride + t % 2 * kLanesF);
    }
    if (strip.last) finish<count>(sum, strip, row);
#pragma GCC unroll 16
    for (int t = 0; t < 2 * count; ++t) store_f(out + t / 2 * stride + t % 2 * kLanesF, sum[t / 2][t % 2]);
}

using Tile = void (*)(const Strip& strip, int64_t row);

template <bool differences>
Tile tile_of(int64_t count) {
    switch (count) {
        case 1: return tile<1, differences>;
        case 2: return tile<2, differences>;
        case 3: return tile<3, differences>;
        case 4: return tile<4, differences>;
        case 5: return tile<5, differences>;
        case 6: return tile<6, differences>;
        case 7: return tile<kRows < 7 ? kRows : 7, differences>;
        default: return tile<kRows, differences>;
    }
}

// All rows of the strips, in tiles as even as can be, the strips by turns.
void fill(const Strip* strips, int64_t count, int64_t rows) {
    const int64_t tiles = (rows + kRows - 1) / kRows, low = rows / tiles;
    const bool differences = strips->form == Form::differences;
    const Tile small = differences ? tile_of<true>(low) : tile_of<false>(low);
    const Tile large = differences ? tile_of<true>(low + 1) : tile_of<false>(low + 1);
    int64_t larger = rows % tiles;
    for (int64_t row = 0; row < rows; row += larger > 0 ? low + 1 : low, --larger)
        for (int64_t s = 0; s < count; ++s) (larger > 0 ? large : small)(strips[s], row);
}

// How many panels rows meet by turns: as many as the memory of one of full depth holds.
inline int64_t panels_at_once(int64_t d) {
    return d * kPanels <= kDepth ? kPanels : d < kDepth ? kDepth / d : 1;
}

// Rows begin ... end - 1 by columns from `column` up to `last`, of so many panels.
void unit(const Problem& p, int64_t begin, int64_t end, int64_t column, int64_t last, const float* norms_x) {
    alignas(64) float panels[kDepth * kColumns], edge[kBlockRows * kColumns], norms_z[kPanels * kColumns];
    const int64_t rows = end - begin, count = (last - column + kColumns - 1) / kColumns;
    float* const out = p.out + begin * p.stride + column;
    const int64_t whole = (last - column) / kColumns, rest = (last - column) % kColumns;
    for (int64_t j = 0; j < count * kColumns; ++j) norms_z[j] = 0;
    Strip strips[kPanels];
    int64_t k = 0;
    do {  // once at d = 0 too
        const int64_t depth = smaller(kDepth, p.d - k);
        for (int64_t s = 0; s < count; ++s) {
            float* const panel = panels + s * depth * kColumns;
            pack(p.z + (column + s * kColumns) * p.d + k, s < whole ? kColumns : rest, p.d, depth, panel);
            if (p.form == Form::full) add_norms(panel, depth, norms_z + s * kColumns);
            strips[s] = {p.x + begin * p.d + k, s < whole ? out + s * kColumns : edge, p.d,
                         s < whole ? p.stride : kColumns, depth, panel, norms_x, norms_z + s * kColumns, k == 0,
                         k + depth == p.d, p.form, p.euclidean};
        }
        fill(strips, count, rows);
        k += depth;
    } while (k < p.d);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < rest; ++j) out[i * p.stride + whole * kColumns + j] = edge[i * kColumns + j];
}

int64_t units(const Problem& p) {
    const int64_t columns = panels_at_once(p.d) * kColumns;
    return (p.n + kBlockRows - 1) / kBlockRows * ((p.m + columns - 1) / columns);
}

void run(const Problem& p, int64_t first, int64_t last) {
    alignas(64) float norms_x[kBlockRows];
    const int64_t columns = panels_at_once(p.d) * kColumns, groups = (p.m + columns - 1) / columns;
    const int64_t blocks = (p.n + kBlockRows - 1) / kBlockRows;
    int64_t normed = -1;
    for (int64_t u = first; u < last; ++u) {
        const int64_t block = u / groups, begin = p.n * block / blocks, end = p.n * (block + 1) / blocks;
        const int64_t column = u % groups * columns;
        if (p.form == Form::full && block != normed) norms(p.x + begin * p.d, end - begin, p.d, norms_x);
        normed = block;
        unit(p, begin, end, column, smaller(column + columns, p.m), norms_x);
    }
}

}  // namespace

namespace LOOMFAST_TARGET {
const TileKernels tile_kernels{units, run};
}

}  // namespace loomfast::cost
