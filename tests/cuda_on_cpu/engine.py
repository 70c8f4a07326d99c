"""The CUDA part of the extension with the shim in the place of a GPU: CPU tensors pass for device arrays."""

import contextlib
import ctypes

import numpy as np
import torch
from cuda_on_cpu import build

from loomfast.assignment import cuda

NAMES = (
    *("cost", "type", "integers", "batch", "rows", "columns", "batch_stride", "row_stride", "column_stride"),
    *("row_repeats", "maximize", "tolerance", "start_col4row", "start_u", "start_v"),
    *("col4row", "row4col", "u", "v", "total", "gap", "status", "counters"),
    *("sizes_rows", "sizes_columns"),
)
KINDS = {
    **{"type": ctypes.c_int, "tolerance": ctypes.c_double},
    **{"integers": ctypes.c_bool, "maximize": ctypes.c_bool},
}
STREAM = 77


class ShimProblem(ctypes.Structure):
    """``loomfast::cuda::Problem``."""

    _fields_ = [(name, KINDS.get(name, ctypes.c_int64)) for name in NAMES]


class ShimLimits(ctypes.Structure):
    """``loomfast::cuda::DeviceLimits``."""

    _fields_ = [
        *(("multiprocessors", ctypes.c_int), ("shared_per_block", ctypes.c_int)),
        *(("clusters", ctypes.c_int * 4), ("only", ctypes.c_int)),
    ]


class ShimEngine:
    """The functions of the extension that need a device, for a device of these limits."""

    cuda_architectures = "shim"

    def __init__(self, multiprocessors, shared_per_block):
        clusters = [multiprocessors // size for size in (2, 4, 8, 16)]
        self.limits = ShimLimits(multiprocessors, shared_per_block, (ctypes.c_int * 4)(*clusters))
        self.library = ctypes.CDLL(str(build.program("assignment_library", "plain")))
        self.library.shim_workspace.restype = ctypes.c_size_t

    def cuda_versions(self):
        return 12040, 13000

    def cuda_device(self):
        return self.limits.multiprocessors, self.limits.shared_per_block

    def cuda_limits(self):
        return (*self.cuda_device(), list(self.limits.clusters), self.limits.only)

    def plan(self, batch, rows, columns):
        """(kernel, blocks an instance, whether it is for long rows) for float32 costs in C order."""
        record = ShimProblem(type=2, batch=batch, rows=rows, columns=columns, row_repeats=1)
        record.batch_stride, record.row_stride, record.column_stride = rows * columns, columns, 1
        found = (ctypes.c_int * 3)()
        self.library.shim_plan(ctypes.byref(record), ctypes.byref(self.limits), found)
        return tuple(found)

    def cuda_assignment_workspace(self, problem, limits=None):
        record = ShimProblem(*(problem[n] for n in NAMES))
        return self.library.shim_workspace(ctypes.byref(record), self._limits(limits))

    def cuda_assignment_solve(self, problem, workspace, stream, limits=None):
        assert stream == STREAM
        record = ShimProblem(*(problem[n] for n in NAMES))
        self.library.shim_solve(ctypes.byref(record), self._limits(limits), ctypes.c_void_p(workspace))

    def _limits(self, named):
        if named is None:
            return ctypes.byref(self.limits)
        multiprocessors, shared, clusters, only = named
        return ctypes.byref(ShimLimits(multiprocessors, shared, (ctypes.c_int * 4)(*clusters), only))


def poisoned(shape, dtype, like):
    """A tensor of bytes that no solve could have written."""
    count = int(np.prod(shape))
    memory = torch.full((max(count, 1) * 8,), 0xA5, dtype=torch.uint8)
    return memory.view(getattr(torch, dtype))[:count].reshape(shape)


def install(assign, multiprocessors, shared_per_block):
    """Give `loomfast.assignment.cuda` the shim; ``assign(object, name, value)`` is ``setattr`` or alike."""
    kind = cuda._torch_kind()._replace(
        empty=poisoned, scope=lambda a: contextlib.nullcontext(), stream=lambda a: STREAM
    )
    assign(cuda, "_engine", ShimEngine(multiprocessors, shared_per_block))
    assign(cuda, "_torch_kind", lambda: kind)
    assign(cuda, "_library_of", lambda value: "torch" if isinstance(value, torch.Tensor) else None)
