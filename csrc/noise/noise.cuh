// Noise format 1 on a GPU: a thread a Philox block, four normals, one store. No shared memory, no barrier.
#pragma once

#include "noise/philox.hpp"

namespace loomfast::noise {

template <class T>
__device__ __forceinline__ T converted(float value);
template <>
__device__ __forceinline__ float converted<float>(float value) {
    return value;
}
template <>
__device__ __forceinline__ double converted<double>(float value) {
    return value;
}
template <>
__device__ __forceinline__ uint16_t converted<uint16_t>(float value) {
    return to_bfloat16(value);
}

template <class T>
struct alignas(sizeof(T) == 8 ? 16 : 4 * sizeof(T)) Four {
    T x[4];
};

constexpr uint32_t kMostBlocks = 0x7fffffffu;  // Philox blocks of a launch: their numbers are 32 bits

// Division of numbers below 2^31 by one that is known beforehand, as a product and a shift (Granlund and Montgomery,
// "Division by invariant integers using multiplication", PLDI 1994, Figure 4.1). A GPU has no instruction for it.
struct Divisor {
    uint32_t value, multiplier, shift;
};

inline Divisor divisor(uint32_t value) {  // 1 <= value < 2^31
    uint32_t shift = 0;
    while ((uint64_t{1} << shift) < value) ++shift;
    const uint64_t excess = (uint64_t{1} << shift) - value;
    return {value, static_cast<uint32_t>((excess << 32) / value + 1), shift};
}

__device__ __forceinline__ uint32_t quotient(uint32_t n, const Divisor& by) {
    return (__umulhi(n, by.multiplier) + n) >> by.shift;
}

// The part of the noise that one launch makes: a range of items, and of each of them a range of Philox blocks.
struct Part {
    int64_t first_item;
    uint32_t first_block;   // of every item
    uint32_t num_blocks;    // of all items together
    uint32_t whole_blocks;  // of every item; a last one has ...
    uint32_t rest;          // ... so many normals, 0 where there is none
    Divisor per_item;       // blocks of an item
};

// Calls launch(Part) for all of the noise, until one returns something other than nullptr, which is returned.
template <class Launch>
const char* each_part(int64_t num_items, int64_t item_size, uint32_t most_blocks, const Launch& launch) {
    const int64_t blocks = (item_size + 3) / 4, most = most_blocks;
    if (num_items == 0 || blocks == 0) return nullptr;
    const int64_t width = blocks < most ? blocks : most, height = most / width;
    for (int64_t item = 0; item < num_items; item += height) {
        const int64_t items = num_items - item < height ? num_items - item : height;
        for (int64_t block = 0; block < blocks; block += width) {
            const int64_t here = blocks - block < width ? blocks - block : width;
            const int64_t rest = block + here == blocks ? item_size % 4 : 0;
            const Part part{item,
                            static_cast<uint32_t>(block),
                            static_cast<uint32_t>(items * here),
                            static_cast<uint32_t>(here - (rest > 0)),
                            static_cast<uint32_t>(rest),
                            divisor(static_cast<uint32_t>(here))};
            if (const char* const error = launch(part)) return error;
        }
    }
    return nullptr;
}

// Whether every block of four begins where a store of four may.
template <class T>
bool stores_of_four(const T* out, int64_t num_items, int64_t stride) {
    return reinterpret_cast<uintptr_t>(out) % sizeof(Four<T>) == 0 && (stride % 4 == 0 || num_items == 1);
}

// The keys are a parameter, which instructions take as an operand: adding them up would be 18 of 266 instructions.
// out: element e of item i at i * stride + e. T: float, double, or uint16_t for the bits of bfloat16.
template <class T>
__global__ void noise_kernel(const int64_t* __restrict__ ids, T* __restrict__ out, int64_t stride, Part part,
                             bool fours, RoundKeys keys, uint32_t word3) {
    ids += part.first_item;
    out += part.first_item * stride + 4 * static_cast<int64_t>(part.first_block);
    const uint32_t step = gridDim.x * blockDim.x;
    for (uint32_t flat = blockIdx.x * blockDim.x + threadIdx.x; flat < part.num_blocks; flat += step) {
        const uint32_t item = quotient(flat, part.per_item), block = flat - item * part.per_item.value;
        const uint64_t id = static_cast<uint64_t>(ids[item]);
        const Normals n = normals(philox4x32(part.first_block + block, static_cast<uint32_t>(id),
                                             static_cast<uint32_t>(id >> 32), word3, keys));
        Four<T> four;
        for (int k = 0; k < 4; ++k) four.x[k] = converted<T>(n.x[k]);
        T* const to = out + (item * stride + 4 * static_cast<int64_t>(block));
        if (fours && block < part.whole_blocks) {
            *reinterpret_cast<Four<T>*>(to) = four;
        } else {
            const uint32_t count = block < part.whole_blocks ? 4 : part.rest;
            for (uint32_t k = 0; k < 4; ++k)
                if (k < count) to[k] = four.x[k];
        }
    }
}

}  // namespace loomfast::noise
