// The CUDA noise kernel compiled for the CPU from its own source, device path included, and run one thread after
// the other: it has no barrier, so that is all a shim needs.
#include <cmath>
#include <cstdint>
#include <cstring>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__
#define __CUDACC__
#define __CUDA_ARCH__ 900

struct Index {
    unsigned x;
};
static Index threadIdx, blockIdx, blockDim, gridDim;

static float __fadd_rn(float a, float b) { return a + b; }
static float __fmul_rn(float a, float b) { return a * b; }
static float __fsqrt_rn(float a) { return std::sqrt(a); }
static float __int2float_rn(int a) { return static_cast<float>(a); }
static unsigned __umulhi(unsigned a, unsigned b) { return static_cast<unsigned>((uint64_t{a} * b) >> 32); }
static int __float_as_int(float a) {
    int i;
    std::memcpy(&i, &a, sizeof i);
    return i;
}
static float __int_as_float(int i) {
    float a;
    std::memcpy(&a, &i, sizeof a);
    return a;
}

#include "noise/noise.cuh"

namespace noise = loomfast::noise;

template <class T>
static void run(const int64_t* ids, void* out, int64_t num_items, int64_t item_size, int64_t stride, uint64_t seed,
                uint32_t word3, uint32_t most_blocks) {
    const noise::RoundKeys keys =
        noise::round_keys({static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
    T* const to = static_cast<T*>(out);
    const bool fours = noise::stores_of_four(to, num_items, stride);
    noise::each_part(num_items, item_size, most_blocks, [&](const noise::Part& part) -> const char* {
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
            for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
                noise::noise_kernel<T>(ids, to, stride, part, fours, keys, word3);
        return nullptr;
    });
}

// bytes: of an element, 4 float32, 8 float64, 2 the bits of bfloat16. most_blocks: of a launch, 0 for what it is on
// a GPU.
extern "C" void noise_on_cpu(const int64_t* ids, void* out, int64_t num_items, int64_t item_size, int64_t stride,
                             uint64_t seed, uint32_t word3, int bytes, unsigned grid, unsigned threads,
                             uint32_t most_blocks) {
    gridDim.x = grid;
    blockDim.x = threads;
    const auto kernel = bytes == 4 ? run<float> : bytes == 8 ? run<double> : run<uint16_t>;
    kernel(ids, out, num_items, item_size, stride, seed, word3, most_blocks ? most_blocks : noise::kMostBlocks);
}

// Of n, for a test of its own: the kernel meets few of its edges.
extern "C" uint32_t quotient_on_cpu(uint32_t n, uint32_t by) { return noise::quotient(n, noise::divisor(by)); }

extern "C" void philox_on_cpu(const uint32_t* counter, uint64_t seed, uint32_t* words) {
    const loomfast::noise::Key key{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
    const auto found = loomfast::noise::philox4x32(counter[0], counter[1], counter[2], counter[3], key);
    std::memcpy(words, found.x, sizeof found.x);
}
