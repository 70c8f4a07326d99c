#include "cost/tiles.hpp"

#include <algorithm>

#include "threads/pool.hpp"

namespace loomfast::cost {
namespace {

std::uintptr_t address(const float* at) { return reinterpret_cast<std::uintptr_t>(at); }

}  // namespace

LOOMFAST_DEFINE_CHOICE(TileKernels, tile_kernels)

bool overlaps(const Problem& p) {
    if (!p.n || !p.m) return false;
    const std::uintptr_t begin = address(p.out), end = address(p.out + (p.n - 1) * p.stride + p.m);
    const auto shares = [=](const float* at, int64_t count) {
        return count && address(at) < end && begin < address(at + count);
    };
    return shares(p.x, p.n * p.d) || shares(p.z, p.m * p.d);
}

void tiled(const Problem& problem, int threads) {
    const TileKernels& kernels = tile_kernels();
    const int64_t units = kernels.units(problem);
    if (threads == 1) return kernels.run(problem, 0, units);
    const int64_t grain = std::max<int64_t>(1, units / (4 * threads));  // a new piece takes norms of rows anew
    run_chunks(units, grain, threads, [&](int64_t first, int64_t last) { kernels.run(problem, first, last); });
}

}  // namespace loomfast::cost
