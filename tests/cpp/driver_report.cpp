// What the bindings ask CUDA's runtime before anything is solved: driver, runtime, and what a device is refused with.
#include "assignment/cuda/assignment_cuda.hpp"

#include <cstdio>

int main() {
    const loomfast::cuda::Versions found = loomfast::cuda::versions();
    loomfast::cuda::DeviceLimits limits{};
    const loomfast::cuda::Error error = loomfast::cuda::device_limits(&limits);
    std::printf("%d\n%d\n%s\n", found.driver, found.runtime, error.code ? error.message : "");
}
