// Launches the assignment kernels: the only file here that calls the CUDA runtime.
#include "assignment/cuda/solve.cuh"

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

// Lets the kernels have all the shared memory of a block, once a device: how much one launch needs would be set, by
// threads that launch at the same time, in any order.
template <class T, int kHeld>
cudaError_t allow_shared(const void* kernel, int bytes) {
    constexpr int kDevices = 64;
    static std::atomic<bool> allowed[kDevices];
    int device = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code != cudaSuccess || (device < kDevices && allowed[device].load(std::memory_order_acquire))) {
        return code;
    }
    code = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (code == cudaSuccess && device < kDevices) {
        allowed[device].store(true, std::memory_order_release);
    }
    return code;
}

// One launch for all instances, of the warp kernel or of the block kernel.
template <class T>
Error launch_together(const Plan& plan, const Launch& launch, const DeviceLimits& limits, cudaStream_t stream) {
    const void* kernel = plan.held == 2   ? reinterpret_cast<const void*>(solve_warp<T, 2>)
                         : plan.held == 4 ? reinterpret_cast<const void*>(solve_warp<T, 4>)
                                          : reinterpret_cast<const void*>(solve_block<T, uint16_t>);
    const int available = static_cast<int>(dynamic_shared(limits));
    const cudaError_t code = plan.held == 2   ? allow_shared<T, 2>(kernel, available)
                             : plan.held == 4 ? allow_shared<T, 4>(kernel, available)
                                              : allow_shared<T, 0>(kernel, available);
    if (code != cudaSuccess) {
        return as_error(code);
    }
    Launch argument = launch;
    void* arguments[] = {&argument};
    return as_error(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(plan.grid)),
                                     dim3(static_cast<unsigned>(plan.threads)), arguments, plan.shared_bytes, stream));
}

// One cooperative launch an instance; they share the workspace, and the stream keeps them in order.
template <class T>
Error launch_grids(const Plan& plan, const Launch& launch, cudaStream_t stream) {
    const void* kernel = plan.wide ? reinterpret_cast<const void*>(solve_grid<T, int32_t>)
                                   : reinterpret_cast<const void*>(solve_grid<T, uint16_t>);
    for (int64_t k = 0; k < launch.problem.batch; ++k) {
        cudaError_t code = cudaMemsetAsync(launch.state, 0, sizeof(Board), stream);
        if (code != cudaSuccess) {
            return as_error(code);
        }
        Launch argument = launch;
        void* arguments[] = {&argument, &k};
        code = cudaLaunchCooperativeKernel(kernel, dim3(static_cast<unsigned>(plan.grid)),
                                           dim3(static_cast<unsigned>(plan.threads)), arguments, 0, stream);
        if (code != cudaSuccess) {
            return as_error(code);
        }
    }
    return as_error(cudaSuccess);
}

template <class T>
Error launch_all(const Plan& plan, const Launch& launch, const DeviceLimits& limits, cudaStream_t stream) {
    return plan.blocks || plan.held ? launch_together<T>(plan, launch, limits, stream)
                                    : launch_grids<T>(plan, launch, stream);
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
    int device = 0;
    cudaError_t code = cudaGetDevice(&device);
    if (code == cudaSuccess) {
        code = cudaDeviceGetAttribute(&limits->multiprocessors, cudaDevAttrMultiProcessorCount, device);
    }
    if (code == cudaSuccess) {
        code = cudaDeviceGetAttribute(&limits->shared_per_block, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
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
