// One block at a time, from philox.hpp itself: any processor.
#include "noise/levels.hpp"
#include "noise/philox.hpp"

namespace loomfast::noise {
namespace {

void put(const Words& words, uint32_t* out) { std::memcpy(out, words.x, sizeof words.x); }

void words(uint32_t first, uint64_t id, uint32_t word3, const Schedule& schedule, int64_t groups, uint32_t* out) {
    const auto low = static_cast<uint32_t>(id), high = static_cast<uint32_t>(id >> 32);
    for (int64_t g = 0; g < groups; ++g)
        put(philox4x32(first + static_cast<uint32_t>(g), low, high, word3, schedule.key), out + 4 * g);
}

void mixed_words(const uint64_t* blocks, const uint64_t* ids, uint32_t word3, const Schedule& schedule,
                 uint32_t* out) {
    words(static_cast<uint32_t>(*blocks), *ids, word3, schedule, 1, out);
}

void normals_of_groups(const uint32_t* words, int64_t groups, float* out) {
    for (int64_t pair = 0; pair < 2 * groups; ++pair)
        box_muller(words[2 * pair], words[2 * pair + 1], out + 2 * pair, out + 2 * pair + 1);
}

void to_doubles(const float* from, double* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) to[k] = from[k];
}

void to_bfloat16s(const float* from, uint16_t* to, int64_t count) {
    for (int64_t k = 0; k < count; ++k) to[k] = to_bfloat16(from[k]);
}

void interpolate(const float* z, const float* x, float t, float* point, float* velocity, int64_t count) {
    const float rest = 1.0f - t;
    for (int64_t k = 0; k < count; ++k) {
        point[k] = t * x[k] + rest * z[k];
        velocity[k] = x[k] - z[k];
    }
}

}  // namespace

const Level kScalar = {"scalar", 1, words, mixed_words, normals_of_groups, to_doubles, to_bfloat16s, interpolate};

}  // namespace loomfast::noise
