#include "assignment/cpu/kernels.hpp"

#include "assignment/cpu/tiny.hpp"

namespace loomfast::assignment {

LOOMFAST_DEFINE_CHOICE(Kernels, kernels)
LOOMFAST_DEFINE_CHOICE(TinyKernels, tiny_kernels)

}  // namespace loomfast::assignment
