#include "noise/noise_cuda.hpp"

#include <cuda_runtime.h>

#include "noise/noise.cuh"

namespace loomfast::noise {
namespace {

constexpr uint32_t kThreads = 256;
constexpr uint32_t kMaxGrid = 1 << 20;  // further blocks by the kernel's own stride

template <class T>
const char* launch(Stream stream, const int64_t* ids, int64_t num_items, int64_t item_size, int64_t stride,
                   void* out, void* cuda_stream) {
    const RoundKeys keys =
        round_keys({static_cast<uint32_t>(stream.seed), static_cast<uint32_t>(stream.seed >> 32)});
    T* const to = static_cast<T*>(out);
    const bool fours = stores_of_four(to, num_items, stride);
    return each_part(num_items, item_size, kMostBlocks, [&](const Part& part) -> const char* {
        const uint32_t needed = (part.num_blocks + kThreads - 1) / kThreads;
        const void* arguments[] = {&ids, &to, &stride, &part, &fours, &keys, &stream.word3};
        const cudaError_t error = cudaLaunchKernel(
            reinterpret_cast<const void*>(noise_kernel<T>), dim3(needed < kMaxGrid ? needed : kMaxGrid),
            dim3(kThreads), const_cast<void**>(arguments), 0, static_cast<cudaStream_t>(cuda_stream));
        if (error == cudaSuccess) return nullptr;
        cudaGetLastError();  // reported here: a later launch that goes well must not find it
        return cudaGetErrorString(error);
    });
}

}  // namespace

const char* fill_normals_cuda(Stream stream, const int64_t* ids, int64_t num_items, int64_t item_size,
                              int64_t stride, Element element, void* out, void* cuda_stream) {
    const auto run = element == Element::float32   ? launch<float>
                     : element == Element::float64 ? launch<double>
                                                   : launch<uint16_t>;
    return run(stream, ids, num_items, item_size, stride, out, cuda_stream);
}

}  // namespace loomfast::noise
