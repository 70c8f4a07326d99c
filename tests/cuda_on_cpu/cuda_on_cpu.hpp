// CUDA C++ on the CPU: g++ compiles the kernel source against this header and runs it with one
// fiber per CUDA thread. It covers what our kernels use: blocks of up to 1024 threads, static and
// dynamic shared memory (filled with garbage), barriers, warp collectives with member masks,
// atomics, cooperative grids and teams of their blocks, and clusters of blocks that reach each other's
// shared memory. runtime.cpp holds the scheduler.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

struct uint3 {
    unsigned x, y, z;
};
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace cuda_on_cpu {

enum class Order { forward, backward, random };

// Which interleaving of the threads is run.
struct Schedule {
    unsigned seed = 0;
    Order order = Order::random;
    unsigned resident = 2;        // blocks interleaved at once; a cooperative launch takes all
    unsigned preempt = 4;         // switch before one of this many atomics; 0: never
    size_t shared_limit = 227 << 10;
    uint64_t max_switches = uint64_t{1} << 40;
};

struct Counters {
    uint64_t switches = 0;
    uint64_t block_barriers = 0;  // releases, not arrivals
    uint64_t grid_barriers = 0;   // of grids and of teams of their blocks
    uint64_t cluster_barriers = 0;
    uint64_t warp_collectives = 0;
    uint64_t atomics = 0;
    size_t shared_bytes = 0;
};

// What a kernel sees of its thread.
struct Thread {
    uint3 thread_index, block_index;
    dim3 block_dim, grid_dim;
    unsigned lane;
    unsigned cluster_rank, cluster_blocks;
};
extern Thread* current;

enum class Vote { count, all, any };

int block_barrier(Vote vote, int predicate, const char* file, int line);
// Of so many threads of the block that name the same number.
void named_barrier(int number, unsigned threads, const char* file, int line);
void grid_barrier(const char* file, int line);
// Of those blocks of a cooperative launch that name the same address; there are `blocks` of them.
void team_barrier(const void* address, unsigned blocks, const char* file, int line);
// The two halves of the barrier of a cluster.
void cluster_arrive(bool releases, const char* file, int line);
void cluster_wait(bool acquires);
// The same place in the shared memory of another block of the cluster.
void* map_shared(void* own, unsigned rank);
// Meets the other lanes of `mask`; fills in what each brought and returns who came.
uint32_t warp_meet(uint32_t mask, uint64_t value, uint64_t* values, bool orders_memory, const char* what);
void* static_shared(const void* declaration, size_t bytes, size_t alignment);
unsigned char* dynamic_shared();
void yield();
void before_atomic();
void memory_fence();

// Throws std::runtime_error on a deadlock, a divergent barrier or a malformed collective. So many neighbouring
// blocks are a cluster.
Counters launch(dim3 grid, dim3 block, size_t dynamic_bytes, bool cooperative,
                const std::function<void()>& kernel, const Schedule& schedule, unsigned cluster = 1);

template <class T>
uint64_t to_bits(T value) {
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
T from_bits(uint64_t bits) {
    T value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// A lane outside the mask yields garbage, as undefined as on a GPU.
template <class T>
T shuffle(uint32_t mask, T value, unsigned source, const char* what) {
    uint64_t values[32];
    const uint32_t came = warp_meet(mask, to_bits(value), values, false, what);
    return from_bits<T>(came >> source & 1 ? values[source] : 0xDEADBEEFDEADBEEFull);
}

inline uint32_t ballot(uint32_t mask, int predicate, const char* what) {
    uint64_t values[32];
    const uint32_t came = warp_meet(mask, predicate != 0, values, false, what);
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; ++lane) {
        votes |= (came >> lane & 1 && values[lane]) ? 1u << lane : 0u;
    }
    return votes;
}

// Relaxed, as CUDA's are: an atomic orders nothing but itself.
template <class T, class Update>
T read_modify_write(T* address, Update update) {
    before_atomic();
    using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    auto* bits = reinterpret_cast<Bits*>(address);
    Bits old = __atomic_load_n(bits, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(bits, &old, static_cast<Bits>(to_bits(update(from_bits<T>(old)))), false,
                                        __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
    }
    return from_bits<T>(old);
}

// What orders memory by itself; the sanitizer knows these as it knows those of C++.
template <class T>
void add_release(T* address, T amount) {
    before_atomic();
    __atomic_fetch_add(address, amount, __ATOMIC_RELEASE);
}
template <class T>
T load_acquire(const T* address) {
    before_atomic();
    return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}

// An integer as a float in the direction asked for.
inline float as_float_towards(long long value, float end) {
    float nearest = static_cast<float>(value);
    const auto back = static_cast<__int128>(nearest);
    const bool beyond = end > 0 ? back < value : back > value;
    return beyond ? std::nextafter(nearest, end) : nearest;
}

}  // namespace cuda_on_cpu

struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(16) longlong2 {
    long long x, y;
};
struct alignas(16) ulonglong2 {
    unsigned long long x, y;
};

#define threadIdx (::cuda_on_cpu::current->thread_index)
#define blockIdx (::cuda_on_cpu::current->block_index)
#define blockDim (::cuda_on_cpu::current->block_dim)
#define gridDim (::cuda_on_cpu::current->grid_dim)

#define LOOMFAST_SHARED(type, name, extent)                                                        \
    auto& name = *static_cast<type(*) extent>([]() -> void* {                                      \
        static char declaration;                                                                   \
        return ::cuda_on_cpu::static_shared(&declaration, sizeof(type extent), alignof(type));     \
    }())
#define LOOMFAST_DYNAMIC_SHARED(name) unsigned char* name = ::cuda_on_cpu::dynamic_shared()

#define __syncthreads() \
    static_cast<void>(::cuda_on_cpu::block_barrier(::cuda_on_cpu::Vote::count, 0, __FILE__, __LINE__))
#define __syncthreads_or(p) ::cuda_on_cpu::block_barrier(::cuda_on_cpu::Vote::any, (p), __FILE__, __LINE__)

inline void __syncwarp(uint32_t mask = ~0u) {
    uint64_t values[32];
    cuda_on_cpu::warp_meet(mask, 0, values, true, "__syncwarp");
}
template <class T>
T __shfl_sync(uint32_t mask, T value, int source) {
    return cuda_on_cpu::shuffle(mask, value, source & 31, "__shfl_sync");
}
template <class T>
T __shfl_xor_sync(uint32_t mask, T value, int flip) {
    return cuda_on_cpu::shuffle(mask, value, (cuda_on_cpu::current->lane ^ flip) & 31, "__shfl_xor_sync");
}
inline unsigned __ballot_sync(uint32_t mask, int predicate) {
    return cuda_on_cpu::ballot(mask, predicate, "__ballot_sync");
}
inline unsigned __reduce_min_sync(uint32_t mask, unsigned value) {
    uint64_t values[32];
    const uint32_t came = cuda_on_cpu::warp_meet(mask, value, values, false, "__reduce_min_sync");
    unsigned least = ~0u;
    for (int lane = 0; lane < 32; ++lane) {
        if (came >> lane & 1) {
            least = std::min(least, static_cast<unsigned>(values[lane]));
        }
    }
    return least;
}
inline unsigned __reduce_add_sync(uint32_t mask, unsigned value) {
    uint64_t values[32];
    const uint32_t came = cuda_on_cpu::warp_meet(mask, value, values, false, "__reduce_add_sync");
    unsigned sum = 0;
    for (int lane = 0; lane < 32; ++lane) {
        sum += came >> lane & 1 ? static_cast<unsigned>(values[lane]) : 0u;
    }
    return sum;
}
template <class T>
T atomicAdd(T* address, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T old) { return static_cast<T>(old + value); });
}
template <class T>
T atomicMin(T* address, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T old) { return std::min(old, value); });
}
template <class T>
T atomicMax(T* address, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T old) { return std::max(old, value); });
}
template <class T>
T atomicOr(T* address, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T old) { return static_cast<T>(old | value); });
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T old) { return old == expected ? value : old; });
}
template <class T>
T atomicExch(T* address, T value) {
    return cuda_on_cpu::read_modify_write(address, [=](T) { return value; });
}
inline void __threadfence() { cuda_on_cpu::memory_fence(); }
inline void __nanosleep(unsigned) { cuda_on_cpu::yield(); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(static_cast<unsigned>(x)) : 32; }
inline unsigned __float_as_uint(float x) { return static_cast<unsigned>(cuda_on_cpu::to_bits(x)); }
inline int __float_as_int(float x) { return static_cast<int>(cuda_on_cpu::to_bits(x)); }
inline float __ll2float_rd(long long x) { return cuda_on_cpu::as_float_towards(x, -INFINITY); }
inline float __ll2float_ru(long long x) { return cuda_on_cpu::as_float_towards(x, INFINITY); }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline long long __double_as_longlong(double x) { return static_cast<long long>(cuda_on_cpu::to_bits(x)); }
inline double __longlong_as_double(long long x) { return cuda_on_cpu::from_bits<double>(static_cast<uint64_t>(x)); }
