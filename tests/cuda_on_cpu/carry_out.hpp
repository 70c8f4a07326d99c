// A plan carried out by the shim: what csrc/assignment/cuda/assignment.cu does on a stream, done at once.
#pragma once

#include "assignment/cuda/kernels.cuh"

namespace loomfast::cuda {

cuda_on_cpu::Counters carry_out(const Plan& plan, const Launch& launch, const cuda_on_cpu::Schedule& schedule);

// As device memory is.
inline unsigned char* aligned(unsigned char* memory) {
    return memory + (128 - reinterpret_cast<uintptr_t>(memory) % 128) % 128;
}

}  // namespace loomfast::cuda
