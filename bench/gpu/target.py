"""One launch for a profiler: `target.py assignment BATCH N` or `target.py noise ITEMS SIZE`."""

import sys

import torch

import loomfast
from loomfast.assignment import cuda


def main():
    what, first, second = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    if what == "noise":
        loomfast.noise_from_ids(torch.arange(first).cuda(), (second,), seed=0, backend="cuda")
    else:
        generator = torch.Generator().manual_seed(0)
        cuda.solve(torch.rand((first, second, second), generator=generator).cuda())
    torch.cuda.synchronize()


if __name__ == "__main__":
    main()
