#include "simd/target.hpp"

#include <atomic>

namespace loomfast::simd {
namespace {

// Whether this processor, and its operating system, run a target.
bool runs(Target target) {
#if defined(__x86_64__)
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                      __builtin_cpu_supports("popcnt");
    if (target == Target::avx2) return avx2;
    if (target == Target::avx512)
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw");
#endif
    static_cast<void>(target);
    return true;
}

constexpr int kUnknown = -1;
std::atomic<int> in_use{kUnknown};

}  // namespace

const char* name_of(Target target) {
#define LOOMFAST_NAME(target, Table, name) #target,
    static constexpr const char* names[] = {LOOMFAST_FOR_EACH_TARGET(LOOMFAST_NAME, , )};
#undef LOOMFAST_NAME
    return names[static_cast<int>(target)];
}

std::vector<Target> targets() {
    std::vector<Target> found;
#define LOOMFAST_ADD(target, Table, name) \
    if (runs(Target::target)) found.push_back(Target::target);
    LOOMFAST_FOR_EACH_TARGET(LOOMFAST_ADD, , )
#undef LOOMFAST_ADD
    return found;
}

Target current() {
    int target = in_use.load(std::memory_order_relaxed);
    if (target == kUnknown) {
        const int fastest = static_cast<int>(targets().back());
        if (in_use.compare_exchange_strong(target, fastest)) target = fastest;
    }
    return static_cast<Target>(target);
}

void use(Target target) { in_use = static_cast<int>(target); }

}  // namespace loomfast::simd
