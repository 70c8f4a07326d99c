// Launches the assignment kernels: the only file here that calls the CUDA runtime.
#include "assignment/cuda/kernels.cuh"

#include <cuda_runtime.h>

#include <atomic>

namespace loomfast::cuda {

namespace {

// The runtime also keeps the code of a call that failed until somebody asks for it. It is reported here, and
// must not be found again after some later call, of ours or of another library, that went well.
Error as_error(cudaError_t code) {
    if (code != cudaSuccess) {
        cudaGetLastError();
    }
    return {static_cast<int>(code), cudaGetErrorString(code)};
}

constexpr int kDevices = 64;

// Of which architecture (90 is sm_90) the code of a kernel on this device is; negative where that cannot be said.
int code_of(const void* kernel) {
    cudaFuncAttributes attributes{};
    return as_error(cudaFuncGetAttributes(&attributes, kernel)).code == 0 ? attributes.ptxVersion : -1;
}

// Sets attributes of a kernel once a device: threads that launch at the same time would set them in any order.
template <class Set>
cudaError_t once_a_device(std::atomic<bool> (&done)[kDevices], Set set) {
    int device = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code != cudaSuccess || (device < kDevices && done[device].load(std::memory_order_acquire))) {
        return code;
    }
    code = set();
    if (code == cudaSuccess && device < kDevices) {
        done[device].store(true, std::memory_order_release);
    }
    return code;
}

// Lets a kernel have all the shared memory of a block.
template <class T, int kWhich>
cudaError_t allow_shared(const void* kernel, const DeviceLimits& limits) {
    static std::atomic<bool> done[kDevices];
    return once_a_device(done, [&] {
        return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(dynamic_shared(limits)));
    });
}

dim3 shape(int threads) { return dim3(static_cast<unsigned>(threads)); }

// One launch for all instances, of the warp kernel or of the block kernel.
template <class T>
Error launch_together(const Plan& plan, const Launch& launch, const DeviceLimits& limits, cudaStream_t stream) {
    const void* kernel = plan.held == 2   ? reinterpret_cast<const void*>(solve_warp<T, 2>)
                         : plan.held == 4 ? reinterpret_cast<const void*>(solve_warp<T, 4>)
                                          : reinterpret_cast<const void*>(solve_block<T, uint16_t>);
    const cudaError_t code = plan.held == 2   ? allow_shared<T, 2>(kernel, limits)
                             : plan.held == 4 ? allow_shared<T, 4>(kernel, limits)
                                              : allow_shared<T, 0>(kernel, limits);
    if (code != cudaSuccess) {
        return as_error(code);
    }
    Launch argument = launch;
    void* arguments[] = {&argument};
    return as_error(
        cudaLaunchKernel(kernel, shape(plan.grid), shape(plan.threads), arguments, plan.shared_bytes, stream));
}

// One cooperative launch of all teams.
template <class T>
Error launch_teams(const Plan& plan, const Launch& launch, cudaStream_t stream) {
    const void* kernel = plan.wide ? reinterpret_cast<const void*>(solve_grid<T, int32_t>)
                                   : reinterpret_cast<const void*>(solve_grid<T, uint16_t>);
    const cudaError_t code = cudaMemsetAsync(launch.barriers, 0, plan.barrier_bytes, stream);
    if (code != cudaSuccess) {
        return as_error(code);
    }
    Launch argument = launch;
    void* arguments[] = {&argument};
    return as_error(
        cudaLaunchCooperativeKernel(kernel, shape(plan.grid), shape(plan.threads), arguments, 0, stream));
}

#if CUDART_VERSION >= 11080

template <class T>
const void* prepared_cluster_kernel(const DeviceLimits& limits, cudaError_t* code) {
    static std::atomic<bool> done[kDevices];
    const void* kernel = reinterpret_cast<const void*>(solve_cluster<T>);
    *code = allow_shared<T, 16>(kernel, limits);
    if (*code == cudaSuccess) {
        *code = once_a_device(done, [&] {  // more blocks than every device can do: this one is asked how many it can
            return cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
        });
    }
    return kernel;
}

// A launch with all the shared memory of `size` blocks, and the attribute that it points to.
struct ClusterLaunch {
    cudaLaunchAttribute attribute{};
    cudaLaunchConfig_t config{};

    ClusterLaunch(int blocks, int threads, int size, size_t shared, cudaStream_t stream) {
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = static_cast<unsigned>(size);
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
        config.gridDim = shape(blocks);
        config.blockDim = shape(threads);
        config.dynamicSmemBytes = shared;
        config.stream = stream;
        config.attrs = &attribute;
        config.numAttrs = 1;
    }
    ClusterLaunch(const ClusterLaunch&) = delete;
};

template <class T>
Error launch_clusters(const Plan& plan, const Launch& launch, const DeviceLimits& limits, cudaStream_t stream) {
    cudaError_t code;
    const void* kernel = prepared_cluster_kernel<T>(limits, &code);
    if (code != cudaSuccess) {
        return as_error(code);
    }
    Launch argument = launch;
    void* arguments[] = {&argument};
    const ClusterLaunch with(plan.grid, plan.threads, plan.cluster, plan.shared_bytes, stream);
    return as_error(cudaLaunchKernelExC(&with.config, kernel, arguments));
}

// How many clusters of each size run at the same time; none where the driver, or the code in this library, has none.
// Asked once a device.
void find_clusters(DeviceLimits* limits, int device) {
    static std::atomic<int> found[kDevices][kClusterSizes];  // plus one; 0: not asked
    for (int k = 0; k < kClusterSizes; ++k) {
        int known = device < kDevices ? found[device][k].load(std::memory_order_acquire) : 0;
        if (known == 0) {
            cudaError_t code;
            const void* kernel = prepared_cluster_kernel<float>(*limits, &code);
            const ClusterLaunch with(2 << k, kThreads, 2 << k, dynamic_shared(*limits), nullptr);
            int clusters = 0;
            const bool there = as_error(code).code == 0 && code_of(kernel) >= 90 &&
                               as_error(cudaOccupancyMaxActiveClusters(&clusters, kernel, &with.config)).code == 0;
            known = (there && clusters > 0 ? clusters : 0) + 1;
            if (device < kDevices) {
                found[device][k].store(known, std::memory_order_release);
            }
        }
        limits->clusters[k] = known - 1;
    }
}

#else

template <class T>
Error launch_clusters(const Plan&, const Launch&, const DeviceLimits&, cudaStream_t) {
    return {static_cast<int>(cudaErrorNotSupported), "clusters need CUDA 11.8"};
}
void find_clusters(DeviceLimits*, int) {}

#endif

template <class T>
Error launch_all(const Plan& plan, const Launch& launch, const DeviceLimits& limits, cudaStream_t stream) {
    return plan.kernel == Kernel::grid      ? launch_teams<T>(plan, launch, stream)
           : plan.kernel == Kernel::cluster ? launch_clusters<T>(plan, launch, limits, stream)
                                            : launch_together<T>(plan, launch, limits, stream);
}

}  // namespace

size_t workspace_bytes(const Problem& problem, const DeviceLimits& limits) {
    return make_plan(problem, limits).workspace_bytes();
}

Error solve(const Problem& problem, const DeviceLimits& limits, void* workspace, void* stream) {
    if (problem.batch == 0 || problem.rows == 0 || problem.columns == 0) {
        return {static_cast<int>(cudaErrorInvalidValue), "an empty problem has nothing to launch"};
    }
    const Plan plan = make_plan(problem, limits);
    const Launch launch = make_launch(problem, plan, workspace);
    const auto cuda_stream = static_cast<cudaStream_t>(stream);
    return problem.type == CostType::float64 ? launch_all<double>(plan, launch, limits, cuda_stream)
                                             : launch_all<float>(plan, launch, limits, cuda_stream);
}

Error device_limits(DeviceLimits* limits) {
    *limits = {};
    int device = 0;
    int major = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess) {
        code = cudaDeviceGetAttribute(&limits->multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (code == cudaSuccess) {
        code = cudaDeviceGetAttribute(&limits->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    }
    if (code == cudaSuccess) {
        code = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    }
    if (code == cudaSuccess && major >= 9) {
        find_clusters(limits, device);
    }
    return as_error(code);
}

Versions versions() {
    Versions found{};
    as_error(cudaDriverGetVersion(&found.driver));
    as_error(cudaRuntimeGetVersion(&found.runtime));
    return found;
}

const char* architectures() { return LOOMFAST_CUDA_ARCHITECTURES; }

}  // namespace loomfast::cuda
