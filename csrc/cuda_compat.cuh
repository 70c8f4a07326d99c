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

// The sum of a value over the warp.
__device__ inline unsigned warp_sum(unsigned value) {
#if __CUDA_ARCH__ >= 800
    return __reduce_add_sync(0xFFFFFFFFu, value);
#else
    for (int flip = 16; flip; flip >>= 1) {
        value += __shfl_xor_sync(0xFFFFFFFFu, value, flip);
    }
    return value;
#endif
}

// So many threads of a block, whole warps, meet at its barrier `number`, 1 to 15.
__device__ inline void meet_threads(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// Clusters: blocks that run at the same time and reach each other's shared memory. Without them, before sm_90, these
// do nothing.
__device__ inline unsigned cluster_rank() {
    unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
    return rank;
}
__device__ inline unsigned cluster_blocks() {
    unsigned blocks = 1;
#if __CUDA_ARCH__ >= 900
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
#endif
    return blocks;
}
// The same place in the shared memory of another block.
template <class Value>
__device__ Value* map_shared(Value* own, unsigned rank) {
    Value* there = own;
#if __CUDA_ARCH__ >= 900
    asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(own), "r"(rank));
#endif
    return there;
}
// All threads of the cluster meet; what each wrote before, anywhere, the others see after.
__device__ inline void meet_cluster() {
#if __CUDA_ARCH__ >= 900
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

#else

using cuda_on_cpu::add_release;
using cuda_on_cpu::load_acquire;
inline unsigned warp_least(unsigned value) { return __reduce_min_sync(0xFFFFFFFFu, value); }
inline unsigned warp_sum(unsigned value) { return __reduce_add_sync(0xFFFFFFFFu, value); }
inline void meet_threads(int number, int threads) {
    ::cuda_on_cpu::named_barrier(number, static_cast<unsigned>(threads), __FILE__, __LINE__);
}
inline unsigned cluster_rank() { return ::cuda_on_cpu::current->cluster_rank; }
inline unsigned cluster_blocks() { return ::cuda_on_cpu::current->cluster_blocks; }
template <class Value>
Value* map_shared(Value* own, unsigned rank) {
    return static_cast<Value*>(::cuda_on_cpu::map_shared(own, rank));
}
inline void meet_cluster() {
    ::cuda_on_cpu::cluster_arrive(true, __FILE__, __LINE__);
    ::cuda_on_cpu::cluster_wait(true);
}

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

// What thread 0 of each of `blocks` blocks does between two __syncthreads at their barrier number `tick`: everything
// written before is visible after, with one atomic and as many loads as it has to wait. Returns the sum of `amount`
// over the blocks in this barrier; `before` is the block's own, zero at first. Written by hand because
// cooperative_groups makes three fences and five round trips of it, has no sum, and knows no part of a grid.
__device__ inline Ticket meet_blocks(GridBarrier* barrier, unsigned blocks, unsigned tick, unsigned amount,
                                     Ticket* before) {
    Ticket* ticket = &barrier->lines[tick & 1].ticket;
    const unsigned expected = (tick / 2 + 1) * blocks;
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

// The barrier of some blocks of a cooperative launch, for all their threads: those of a block learn the sum through
// `shared`, which holds what the block remembers (before, zero at first) and what all brought (sum).
struct Meeting {
    Ticket sum, before[2];
};
__device__ inline void meet_team(GridBarrier* barrier, unsigned blocks, unsigned tick, const unsigned* amount,
                                 Meeting* shared) {
#ifdef __CUDACC__
    __syncthreads();
    if (threadIdx.x == 0) {
        shared->sum = meet_blocks(barrier, blocks, tick, *amount, shared->before);
    }
    __syncthreads();
#else
    // The shim's own barrier knows who waits where, so it can report divergence and deadlock.
    __syncthreads();
    Ticket* ticket = &barrier->lines[tick & 1].ticket;
    if (threadIdx.x == 0) {
        atomicAdd(ticket, Ticket{*amount});
    }
    ::cuda_on_cpu::team_barrier(barrier, blocks, __FILE__, __LINE__);
    if (threadIdx.x == 0) {
        const Ticket sum = atomicAdd(ticket, Ticket{0});
        shared->sum = sum - shared->before[tick & 1];
        shared->before[tick & 1] = sum;
    }
    __syncthreads();
#endif
}

}  // namespace loomfast::cuda
