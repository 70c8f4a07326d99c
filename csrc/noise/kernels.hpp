// The inner loops of the noise, compiled once for each target and chosen at run time (see simd/target.hpp).
#pragma once

#include <cstdint>

#include "noise/philox.hpp"
#include "simd/target.hpp"

namespace loomfast::noise {

constexpr int kMaxLanes = 16;

// The keys of all rounds, each spread over the 64-bit lanes of the widest vector.
struct Schedule {
    Key key;
    alignas(64) uint64_t word0[kRounds][kMaxLanes / 2], word1[kRounds][kMaxLanes / 2];

    explicit Schedule(Key first) : key(first) {
        for (int round = 0; round < kRounds; ++round) {
            for (int lane = 0; lane < kMaxLanes / 2; ++lane) {
                word0[round][lane] = key.word0 + kWeyl0 * static_cast<uint32_t>(round);
                word1[round][lane] = key.word1 + kWeyl1 * static_cast<uint32_t>(round);
            }
        }
    }
};

// One target's. A group is `lanes` blocks: 4 * lanes words, in an order of the target's own, that become 4 * lanes
// normals in the order of the blocks. All targets give the same bits. `words`, `blocks` and `ids` are aligned to 64
// bytes.
struct Kernels {
    int lanes;
    // Blocks first, first + 1, ... of one id.
    void (*words)(uint32_t first, uint64_t id, uint32_t word3, const Schedule& schedule, int64_t groups,
                  uint32_t* words);
    // One group of blocks and ids that need not have anything in common.
    void (*mixed_words)(const uint64_t* blocks, const uint64_t* ids, uint32_t word3, const Schedule& schedule,
                        uint32_t* words);
    void (*normals)(const uint32_t* words, int64_t groups, float* out);
    void (*to_doubles)(const float* from, double* to, int64_t count);
    void (*to_bfloat16s)(const float* from, uint16_t* to, int64_t count);
    void (*interpolate)(const float* z, const float* x, float t, float* point, float* velocity, int64_t count);
    // sums = {x.x, x.z, z.z}.
    void (*dots)(const float* x, const float* z, int64_t count, double* sums);
    // z = a z + b x.
    void (*blend)(float a, float b, const float* x, float* z, int64_t count);
};

LOOMFAST_DECLARE_TABLES(Kernels, kernels)

}  // namespace loomfast::noise
