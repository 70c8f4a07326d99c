// CUDA's runtime without a device, and the launchers on top of it: what they ask for, and what becomes of failures.
//
// Like the real one, it keeps the code of the last call that failed until somebody asks for it. Prints what was
// called; exits 1 where a launch that should succeed failed or the other way round.
#include "assignment/cuda/assignment_cuda.hpp"
#include "noise/noise_cuda.hpp"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include <cuda_runtime_api.h>

namespace {

// The call that fails next: 1 attribute, 2 launch, 3 cooperative launch, 4 launch of clusters
std::atomic<int> failing{0};
std::atomic<int> last_error{0};
std::atomic<int> attributes{0}, launches{0}, largest_shared{0}, smallest_shared{1 << 30};
std::atomic<int> teams_launched{0}, clusters_launched{0}, cluster_size{0}, cluster_questions{0};
thread_local int device = 0;
// Devices that could have clusters: one that has them, one whose driver says that none of more than 4 blocks fits,
// one whose code here was made for an older architecture, one that gives no answer. Those before are older.
enum Device { kFirstWithClusters = 20, kClusters = 20, kSmallClusters, kOldCode, kNoAnswer };

cudaError_t outcome(int call) {
    int expected = call;
    if (!failing.compare_exchange_strong(expected, 0)) {
        return cudaSuccess;
    }
    last_error = cudaErrorInvalidConfiguration;
    return cudaErrorInvalidConfiguration;
}

}  // namespace

extern "C" {

cudaError_t cudaGetLastError() { return static_cast<cudaError_t>(last_error.exchange(0)); }
const char* cudaGetErrorString(cudaError_t code) { return code == cudaSuccess ? "no error" : "planted failure"; }
cudaError_t cudaGetDevice(int* found) {
    *found = device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
    *value = attribute == cudaDevAttrMultiProcessorCount     ? 132
             : attribute == cudaDevAttrComputeCapabilityMajor ? (device >= kFirstWithClusters ? 9 : 8)
                                                               : 227 << 10;
    return cudaSuccess;
}
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* found, const void*) {
    found->ptxVersion = device == kOldCode ? 86 : 90;
    return cudaSuccess;
}
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute attribute, int value) {
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) {
        return cudaSuccess;
    }
    attributes++;
    if (value > largest_shared) largest_shared = value;
    if (value < smallest_shared) smallest_shared = value;
    return outcome(1);
}
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
    launches++;
    return outcome(2);
}
cudaError_t cudaLaunchCooperativeKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) {
    launches++;
    teams_launched++;
    return outcome(3);
}
cudaError_t cudaOccupancyMaxActiveClusters(int* clusters, const void*, const cudaLaunchConfig_t* config) {
    cluster_questions++;
    const int size = static_cast<int>(config->attrs[0].val.clusterDim.x);
    *clusters = device == kSmallClusters && size > 4 ? 0 : 128 / size;
    if (device == kNoAnswer) {
        last_error = cudaErrorInvalidConfiguration;
        return cudaErrorInvalidConfiguration;
    }
    return cudaSuccess;
}
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void**) {
    launches++;
    clusters_launched++;
    cluster_size = static_cast<int>(config->attrs[0].val.clusterDim.x);
    return outcome(4);
}
cudaError_t cudaMemsetAsync(void*, int, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) {
    *version = 12040;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) {
    *version = CUDART_VERSION;
    return cudaSuccess;
}

// What nvcc's host code calls to register and to launch kernels.
void** __cudaRegisterFatBinary(void*) {
    static void* handle;
    return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, uint3*, uint3*, dim3*, dim3*, int*) {}
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, struct CUstream_st*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3*, dim3*, size_t*, void*) { return cudaSuccess; }
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
    *kernel = reinterpret_cast<cudaKernel_t>(const_cast<void*>(function));
    return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
    launches++;
    return outcome(2);
}
char __cudaInitModule(void**) { return 0; }
}

namespace {

namespace lf = loomfast::cuda;
bool good = true;

void expect(bool holds, const char* what) {
    std::printf("%s: %s\n", holds ? "as it should" : "WRONG", what);
    good &= holds;
}

lf::Error solve(int64_t batch, int64_t n) {
    lf::Problem problem{};
    problem.batch = batch;
    problem.rows = problem.columns = n;
    problem.row_stride = n;
    problem.column_stride = problem.row_repeats = 1;
    lf::DeviceLimits limits{};
    lf::device_limits(&limits);
    std::vector<unsigned char> workspace(lf::workspace_bytes(problem, limits) + 1);
    return lf::solve(problem, limits, workspace.data(), nullptr);
}

const char* fill() {
    const int64_t id = 0;
    float out[4];
    return loomfast::noise::fill_normals_cuda({1, 0}, &id, 1, 4, 4, loomfast::noise::Element::float32, out, nullptr);
}

}  // namespace

int main() {
    failing = 1;
    expect(solve(1, 16).code != 0, "an attribute that cannot be set is reported");
    expect(last_error == 0, "and leaves no error behind");
    expect(solve(1, 16).code == 0, "the next solve is a good one");
    for (const auto& [call, n] : {std::pair{2, 16}, {3, 400}}) {
        failing = call;
        const lf::Error error = solve(1, n);
        expect(error.code != 0 && std::strcmp(error.message, "planted failure") == 0, "a failed launch is reported");
        expect(last_error == 0, "and leaves no error behind");
        expect(solve(1, n).code == 0, "the next solve is a good one");
    }
    failing = 2;
    const char* message = fill();
    expect(message && std::strcmp(message, "planted failure") == 0, "failed noise is reported");
    expect(last_error == 0, "and leaves no error behind");
    expect(fill() == nullptr, "the next noise is good");

    last_error = cudaErrorMemoryAllocation;  // of somebody else
    expect(solve(1, 16).code == 0 && solve(1, 400).code == 0 && fill() == nullptr, "another's error is not ours");
    last_error = 0;

    // Clusters, where there are some; teams of blocks where not. Small ones are worth it where there are many problems.
    struct Found {
        int number, largest, batch;
    };
    for (const auto& [number, largest, batch] :
         {Found{kClusters, 16, 1}, {kSmallClusters, 4, 32}, {kOldCode, 0, 1}, {kNoAnswer, 0, 1}}) {
        device = number;
        clusters_launched = teams_launched = cluster_size = cluster_questions = 0;
        expect(solve(batch, 400).code == 0 && last_error == 0, "problems of middle size are launched");
        expect(clusters_launched == (largest > 0) && teams_launched == (largest == 0) && cluster_size <= largest,
               "as a cluster, or as a team where no cluster fits");
        const int questions = cluster_questions;
        expect(solve(batch, 400).code == 0 && cluster_questions == questions, "the driver is asked once");
    }
    device = kClusters;
    failing = 4;
    expect(solve(1, 400).code != 0 && last_error == 0, "a failed launch of clusters is reported");
    device = 0;

    attributes = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 8; t++) {
        threads.emplace_back([t] {
            device = 1 + t % 2;
            for (int k = 0; k < 200; k++) solve(2, 8 + (k * 7 + t) % 200);
        });
    }
    for (std::thread& thread : threads) thread.join();
    expect(attributes >= 2 && attributes <= 8, "the attribute is set once a device, not once a solve");
    // A kernel's own, static part counts against the limit; it is below 2 KB.
    const int held_back = (227 << 10) - largest_shared;
    expect(largest_shared == smallest_shared && held_back >= 0 && held_back < 2048, "to the most a block may have");

    const lf::Versions versions = lf::versions();
    expect(versions.driver == 12040 && versions.runtime == CUDART_VERSION, "versions");
    return good ? 0 : 1;
}
