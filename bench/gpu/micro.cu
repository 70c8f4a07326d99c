// The constants that a model of the kernels needs, measured: one JSON object on one line.
//
//   nvcc -std=c++17 -O3 -arch=sm_90 -o micro micro.cu && ./micro
//
// The grid barrier timed is the project's own (csrc/cuda_compat.cuh).
#include "cuda_compat.cuh"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

void check(cudaError_t code, const char* what) {
    if (code != cudaSuccess) {
        std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(code));
        std::exit(3);
    }
}

__global__ void barriers(loomfast::cuda::GridBarrier* barrier, int count) {
    __shared__ loomfast::cuda::Meeting meeting;
    __shared__ unsigned amount;
    if (threadIdx.x == 0) {
        meeting = {};
        amount = 1;
    }
    for (int k = 0; k < count; ++k) {
        loomfast::cuda::meet_team(barrier, gridDim.x, static_cast<unsigned>(k), &amount, &meeting);
    }
}

// Barriers of the cluster that the launch asks for. Before sm_90 there are none.
__global__ void cluster_barriers(int count) {
    for (int k = 0; k < count; ++k) {
        loomfast::cuda::meet_cluster();
    }
}

// Follows a chain of places in the shared memory of the next block: each load waits for the one before it.
__global__ void chase_next_block(unsigned* end, int hops) {
    __shared__ unsigned next[256];
    next[threadIdx.x] = (threadIdx.x * 37 + 11) % 256;
    loomfast::cuda::meet_cluster();
    const unsigned rank = (loomfast::cuda::cluster_rank() + 1) % loomfast::cuda::cluster_blocks();
    const volatile unsigned* there = loomfast::cuda::map_shared(next, rank);
    if (threadIdx.x == 0) {
        unsigned at = 0;
        for (int k = 0; k < hops; ++k) {
            at = there[at];
        }
        end[blockIdx.x] = at;
    }
    loomfast::cuda::meet_cluster();
}

// Follows a chain of addresses: each load waits for the one before it.
__global__ void chase(const unsigned* next, unsigned* end, int hops) {
    unsigned at = 0;
    for (int k = 0; k < hops; ++k) {
        at = __ldcg(next + at);
    }
    *end = at;
}

// Milliseconds of `launch`, the least of several after one that is not timed.
template <class Launch>
float least_milliseconds(Launch&& launch, const char* what) {
    cudaEvent_t begin, end;
    check(cudaEventCreate(&begin), what);
    check(cudaEventCreate(&end), what);
    float least = 1e30f;
    for (int k = 0; k < 6; ++k) {
        check(cudaEventRecord(begin), what);
        launch();
        check(cudaGetLastError(), what);
        check(cudaEventRecord(end), what);
        check(cudaEventSynchronize(end), what);
        float milliseconds = 0;
        check(cudaEventElapsedTime(&milliseconds, begin, end), what);
        least = k ? std::min(least, milliseconds) : least;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    return least;
}

// Microseconds of one barrier of `blocks` blocks of 512 threads, and of one cluster barrier.
double grid_barrier(int blocks) {
    loomfast::cuda::GridBarrier* barrier = nullptr;
    check(cudaMalloc(&barrier, sizeof *barrier), "memory for a barrier");
    int count = 2000;
    void* arguments[] = {&barrier, &count};
    const float milliseconds = least_milliseconds([&] {
        check(cudaMemsetAsync(barrier, 0, sizeof *barrier, nullptr), "memory for a barrier");
        check(cudaLaunchCooperativeKernel(reinterpret_cast<const void*>(barriers), dim3(static_cast<unsigned>(blocks)),
                                          dim3(512), arguments, 0, nullptr), "grid barrier");
    }, "grid barrier");
    cudaFree(barrier);
    return 1e3 * milliseconds / count;
}

// A launch of one cluster of `blocks` blocks.
struct ClusterLaunch {
    cudaLaunchAttribute attribute{};
    cudaLaunchConfig_t config{};

    ClusterLaunch(int blocks, int threads) {
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = static_cast<unsigned>(blocks);
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
        config.gridDim = dim3(static_cast<unsigned>(blocks));
        config.blockDim = dim3(static_cast<unsigned>(threads));
        config.attrs = &attribute;
        config.numAttrs = 1;
    }
    ClusterLaunch(const ClusterLaunch&) = delete;
};

// How many clusters of that size run at the same time.
int clusters_at_once(int blocks) {
    const ClusterLaunch with(blocks, 512);
    int clusters = 0;
    if (cudaFuncSetAttribute(cluster_barriers, cudaFuncAttributeNonPortableClusterSizeAllowed, 1) != cudaSuccess ||
        cudaOccupancyMaxActiveClusters(&clusters, cluster_barriers, &with.config) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return clusters;
}

double cluster_barrier(int blocks) {
    const ClusterLaunch with(blocks, 512);
    const int count = 20000;
    return 1e3 * least_milliseconds([&] {
        check(cudaLaunchKernelEx(&with.config, cluster_barriers, count), "cluster barrier");
    }, "cluster barrier") / count;
}

// Nanoseconds of a dependent load from another block's shared memory.
double remote_latency() {
    const ClusterLaunch with(2, 256);
    unsigned* end = nullptr;
    check(cudaMalloc(&end, 2 * sizeof(unsigned)), "memory to chase");
    const int hops = 20000;
    const float milliseconds = least_milliseconds([&] {
        check(cudaLaunchKernelEx(&with.config, chase_next_block, end, hops), "remote latency");
    }, "remote latency");
    cudaFree(end);
    return 1e6 * milliseconds / hops;
}

// Nanoseconds of a dependent load from an array of `bytes`, in an order that no prefetcher follows.
double latency(size_t bytes) {
    const size_t stride = 32, count = bytes / (stride * sizeof(unsigned));  // 128 bytes apart
    std::vector<unsigned> order(count), next(count * stride);
    for (size_t k = 0; k < count; ++k) {
        order[k] = static_cast<unsigned>(k);
    }
    uint64_t state = 1;
    for (size_t k = count - 1; k > 0; --k) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        std::swap(order[k], order[(state >> 33) % (k + 1)]);
    }
    for (size_t k = 0; k < count; ++k) {
        next[order[k] * stride] = static_cast<unsigned>(order[(k + 1) % count] * stride);
    }
    unsigned *device = nullptr, *end = nullptr;
    check(cudaMalloc(&device, next.size() * sizeof(unsigned)), "memory to chase");
    check(cudaMalloc(&end, sizeof(unsigned)), "memory to chase");
    check(cudaMemcpy(device, next.data(), next.size() * sizeof(unsigned), cudaMemcpyHostToDevice), "memory to chase");
    const int hops = 20000;
    const float milliseconds = least_milliseconds([&] { chase<<<1, 1>>>(device, end, hops); }, "latency");
    cudaFree(device);
    cudaFree(end);
    return 1e6 * milliseconds / hops;
}

// Gigabytes a second, read and written, of a copy within the device.
double copy_bandwidth(size_t bytes) {
    void *from = nullptr, *to = nullptr;
    check(cudaMalloc(&from, bytes), "memory to copy");
    check(cudaMalloc(&to, bytes), "memory to copy");
    const float milliseconds = least_milliseconds([&] {
        check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, nullptr), "copy");
    }, "copy");
    cudaFree(from);
    cudaFree(to);
    return 2e-6 * static_cast<double>(bytes) / milliseconds;
}

}  // namespace

int main() {
    int device = 0, processors = 0, major = 0;
    check(cudaGetDevice(&device), "device");
    check(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device), "device");
    check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "device");
    std::printf("{\"multiprocessors\": %d", processors);
    for (int blocks : {16, 64, 128, processors}) {
        if (blocks <= processors) {
            std::printf(", \"grid_barrier_us_%d\": %.3f", blocks, grid_barrier(blocks));
        }
    }
    for (int blocks : {2, 4, 8, 16}) {
        const int clusters = major >= 9 ? clusters_at_once(blocks) : 0;
        std::printf(", \"clusters_of_%d\": %d", blocks, clusters);
        if (clusters > 0) {
            std::printf(", \"cluster_barrier_us_%d\": %.4f", blocks, cluster_barrier(blocks));
        }
    }
    if (major >= 9) {
        std::printf(", \"remote_latency_ns\": %.1f", remote_latency());
    }
    std::printf(", \"l2_latency_ns\": %.1f", latency(size_t{8} << 20));
    std::printf(", \"hbm_latency_ns\": %.1f", latency(size_t{512} << 20));
    std::printf(", \"copy_gb_per_s\": %.0f}\n", copy_bandwidth(size_t{2} << 30));
    return 0;
}
