#include "assignment/cpu/kernels.hpp"

namespace loomfast::assignment {

LOOMFAST_DEFINE_CHOICE(Kernels, kernels)

}  // namespace loomfast::assignment
