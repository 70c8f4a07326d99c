// The instruction sets ("targets") that the engine's kernels are compiled for, and the choice between them.
//
// A source named *.simd.cpp is compiled once for each target, with the compiler's options for it and its name as
// LOOMFAST_TARGET (see CMakeLists.txt); simd/vectors.hpp gives it the target's vectors. Everything in such a source
// has internal linkage but one table of functions, in a namespace named after the target. Which table is used is
// decided at run time, for all operations alike.
#pragma once

#include <cstdint>
#include <vector>

// MACRO(target, Table, name) for every target of this architecture, the fastest last.
#if defined(__x86_64__)
#define LOOMFAST_FOR_EACH_TARGET(MACRO, Table, name) \
    MACRO(portable, Table, name)                     \
    MACRO(sse2, Table, name)                         \
    MACRO(avx2, Table, name)                         \
    MACRO(avx512, Table, name)
#elif defined(__aarch64__)
#define LOOMFAST_FOR_EACH_TARGET(MACRO, Table, name) \
    MACRO(portable, Table, name)                     \
    MACRO(neon, Table, name)
#else
#define LOOMFAST_FOR_EACH_TARGET(MACRO, Table, name) MACRO(portable, Table, name)
#endif

namespace loomfast::simd {

// portable: 128-bit vectors in the compiler's notation. avx2: with FMA, BMI, BMI2 and POPCNT, which all processors with
// AVX2 have. avx512: F, DQ, VL and BW.
#define LOOMFAST_TARGET_VALUE(target, Table, name) target,
enum class Target : std::int8_t { LOOMFAST_FOR_EACH_TARGET(LOOMFAST_TARGET_VALUE, , ) };
#undef LOOMFAST_TARGET_VALUE

const char* name_of(Target target);

// The targets that this processor runs, the fastest last.
std::vector<Target> targets();

// The target that is in use: the fastest, unless another has been set.
Target current();

// For tests and benchmarks: all later calls of the engine use `target`, one of targets(), whoever makes them.
void use(Target target);

}  // namespace loomfast::simd

// In a header, within the operation's namespace: declares the table `const Table name` of every target, which its
// *.simd.cpp defines, and the function name(), which returns that of the target in use.
#define LOOMFAST_DECLARE_ONE(target, Table, name) \
    namespace target {                            \
    extern const Table name;                      \
    }
#define LOOMFAST_DECLARE_TABLES(Table, name)                    \
    LOOMFAST_FOR_EACH_TARGET(LOOMFAST_DECLARE_ONE, Table, name) \
    const Table& name();

// In an ordinary source, within the same namespace: defines name().
#define LOOMFAST_ADDRESS_OF(target, Table, name) &target::name,
#define LOOMFAST_DEFINE_CHOICE(Table, name)                                                                        \
    const Table& name() {                                                                                          \
        static constexpr const Table* tables[] = {LOOMFAST_FOR_EACH_TARGET(LOOMFAST_ADDRESS_OF, Table, name)}; \
        return *tables[static_cast<int>(simd::current())];                                                         \
    }
