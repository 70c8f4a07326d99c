"""What the steps need of a device: tensors on it, its clock, its graphs. `Gpu` is the real one.

The dry run's (bench/gpu/dry.py) has the same names, CPU tensors and the execution shim behind them.
"""

import statistics
import time

import torch

from loomfast.assignment import cuda


class Gpu:
    """The current CUDA device."""

    dry = False
    noise_backends = ("cuda", "triton")
    cost_backend = "triton"
    kind = "cuda"

    def __init__(self):
        if not torch.cuda.is_available():
            raise RuntimeError("torch sees no CUDA device here")
        reason = cuda.unavailable()
        if reason:
            raise RuntimeError(reason)
        self.solve = cuda.solve

    def name(self):
        return torch.cuda.get_device_name()

    def put(self, tensor):
        return tensor.cuda()

    def synchronize(self):
        torch.cuda.synchronize()

    def seconds(self, function, repeats=7):
        """Median seconds of a call by CUDA events, and by the host's clock until the call returns."""
        function()
        device, host = [], []
        for _ in range(repeats):
            self.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            started = time.perf_counter()
            function()
            host.append(time.perf_counter() - started)
            end.record()
            end.synchronize()
            device.append(begin.elapsed_time(end) / 1e3)
        return statistics.median(device), statistics.median(host)

    def graph(self, function):
        """The function captured in a CUDA graph, after a call outside it; returns (replay, its result)."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            function()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = function()
        return graph.replay, result

    def on_side_stream(self, function):
        """The function's result, computed on another stream that the current one then waits for."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            result = function()
        torch.cuda.current_stream().wait_stream(side)
        return result

    def poison(self, megabytes=512):
        """Leave garbage in the memory that the allocator will hand out next."""
        blocks = [
            torch.full((size << 20,), 0xA5, dtype=torch.uint8, device="cuda") for size in (1, 8, megabytes)
        ]
        small = [
            torch.full((size,), 0xA5, dtype=torch.uint8, device="cuda") for size in (64, 512, 4096, 65536)
        ]
        del blocks, small
