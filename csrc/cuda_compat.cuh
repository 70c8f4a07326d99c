// The few macros that let one kernel source compile for nvcc and for the CPU execution shim
// (tests/cuda_on_cpu), and the barrier of a grid. Kernel sources include this header and nothing from
// CUDA directly.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LOOMFAST_SHARED(type, name, extent) __shared__ type name extent
#define LOOMFAST_DYNAMIC_SHARED(name) extern __shared__ __align__(128) unsigned char name[]
#else
#include "cuda_on_cpu.hpp"
#endif

namespace loomfast::cuda {

using Ticket = unsigned long long;  // CUDA's 64-bit atomics are declared for this name

#ifdef __CUDACC__

// Adds, after everything that this thread wrote or was told of.
__device__ inline void add_release(Ticket* address, Ticket amount) {
    asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(__cvta_generic_to_global(address)), "l"(amount)
                 : "memory");
}

// Reads, before everything that this thread reads next, past the L1 cache.
__device__ inline Ticket load_acquire(const Ticket* address) {
    Ticket value;
    asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(value) : "l"(__cvta_generic_to_global(address))
                 : "memory");
    return value;
}

// The least of a value over the warp.
__device__ inline unsigned warp_least(unsigned value) {
#if __CUDA_ARCH__ >= 800
    return __reduce_min_sync(0xFFFFFFFFu, value);
#else
    for (int flip = 16; flip; flip >>= 1) {
        const unsigned other = __shfl_xor_sync(0xFFFFFFFFu, value, flip);
        value = other < value ? other : value;
    }
    return value;
#endif
}

#else

using cuda_on_cpu::add_release;
using cuda_on_cpu::load_acquire;
inline unsigned warp_least(unsigned value) { return __reduce_min_sync(0xFFFFFFFFu, value); }

#endif

// Two tickets, each with a line of the L2 cache for itself, both zero before the first use. A ticket counts
// arrivals in its upper bits and sums up what they bring in the lower ones, for ever: nothing is ever reset.
// Barriers take turns with the two, since a block that is late to read a sum may find there what another
// brought to the next barrier, but not what it brought to the one after.
struct GridBarrier {
    struct alignas(128) Line {
        Ticket ticket;
    } lines[2];
};
constexpr int kSumBits = 40;

// What thread 0 of a block does between two __syncthreads at the barrier number `tick`: everything written before is
// visible after, with one atomic and as many loads as it has to wait. Returns the sum of `amount` over the blocks
// in this barrier; `before` is the block's own, zero at first. Written by hand because cooperative_groups makes
// three fences and five round trips of it, and has no sum.
__device__ inline Ticket meet_blocks(GridBarrier* barrier, unsigned tick, unsigned amount, Ticket* before) {
    Ticket* ticket = &barrier->lines[tick & 1].ticket;
    const unsigned expected = (tick / 2 + 1) * gridDim.x;
    add_release(ticket, (Ticket{1} << kSumBits) + amount);
    Ticket found = load_acquire(ticket);
    while (((static_cast<unsigned>(found >> kSumBits) - expected) & 0xFFFFFFu) >= 0x800000u) {
        __nanosleep(20);
        found = load_acquire(ticket);
    }
    const Ticket sum = found & ((Ticket{1} << kSumBits) - 1);
    const Ticket amounts = sum - before[tick & 1];
    before[tick & 1] = sum;
    return amounts;
}

// The barrier of a cooperative launch, for all its threads: those of a block learn the sum through `shared`, which
// holds what the block brings (amount), what it remembers (before, zero at first) and what all brought (sum).
struct Meeting {
    Ticket sum, before[2];
};
__device__ inline void meet_grid(GridBarrier* barrier, unsigned tick, const unsigned* amount, Meeting* shared) {
#ifdef __CUDACC__
    __syncthreads();
    if (threadIdx.x == 0) {
        shared->sum = meet_blocks(barrier, tick, *amount, shared->before);
    }
    __syncthreads();
#else
    // The shim's own barrier knows who waits where, so it can report divergence and deadlock.
    __syncthreads();
    Ticket* ticket = &barrier->lines[tick & 1].ticket;
    if (threadIdx.x == 0) {
        atomicAdd(ticket, Ticket{*amount});
    }
    ::cuda_on_cpu::grid_barrier(__FILE__, __LINE__);
    if (threadIdx.x == 0) {
        const Ticket sum = atomicAdd(ticket, Ticket{0});
        shared->sum = sum - shared->before[tick & 1];
        shared->before[tick & 1] = sum;
    }
    __syncthreads();
#endif
}

}  // namespace loomfast::cuda
