#include "cost/tiles.hpp"

#include <algorithm>

#include "threads/pool.hpp"

namespace loomfast::cost {
namespace {

std::uintptr_t address(const float* at) { return reinterpret_cast<std::uintptr_t>(at); }

}  // namespace

std::vector<const Level*> levels() {
    std::vector<const Level*> found{&kTilesBaseline};
#if defined(LOOMFAST_X86)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (avx2) found.push_back(&kTilesAvx2);
    if (avx2 && __builtin_cpu_supports("avx512f")) found.push_back(&kTilesAvx512);
#endif
    return found;
}

bool overlaps(const Problem& p) {
    if (!p.n || !p.m) return false;
    const std::uintptr_t begin = address(p.out), end = address(p.out + (p.n - 1) * p.stride + p.m);
    const auto shares = [=](const float* at, int64_t count) {
        return count && address(at) < end && begin < address(at + count);
    };
    return shares(p.x, p.n * p.d) || shares(p.z, p.m * p.d);
}

void tiled(const Level& level, const Problem& problem, int threads) {
    const int64_t units = level.units(problem);
    if (threads == 1) return level.run(problem, 0, units);
    const int64_t grain = std::max<int64_t>(1, units / (4 * threads));  // a new piece takes norms of rows anew
    run_chunks(units, grain, threads, [&](int64_t first, int64_t last) { level.run(problem, first, last); });
}

}  // namespace loomfast::cost
