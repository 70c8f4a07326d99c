"""The device of the dry run: CPU tensors, the execution shim for the kernels, small sizes.

What it cannot replace is replaced by programs on the kit's own path: see tests/test_gpu_check.py.
"""

import sys
import time
from pathlib import Path

import torch

from gpu.goldens import MULTIPROCESSORS, SHARED_PER_BLOCK


class DryGpu:
    """As `gpu.device.Gpu`; nothing it times is a time of anything."""

    dry = True
    noise_backends = ("cpu",)
    cost_backend = "cpu"
    kind = "cpu"

    def __init__(self):
        sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
        from cuda_on_cpu import engine

        from loomfast.assignment import cuda

        engine.install(setattr, MULTIPROCESSORS, SHARED_PER_BLOCK)
        self.solve = cuda.solve
        torch.set_num_threads(1)

    def name(self):
        return "dry run: no GPU"

    def put(self, tensor):
        return tensor

    def synchronize(self):
        pass

    def seconds(self, function, repeats=1):
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin, 0.0

    def graph(self, function):
        result = function()

        def replay():
            again = function()
            for name in ("col4row", "row4col", "u", "v", "total", "gap", "status", "stats"):
                getattr(result, name).copy_(getattr(again, name))

        return replay, result

    def on_side_stream(self, function):
        return function()

    def poison(self, megabytes=512):
        pass
