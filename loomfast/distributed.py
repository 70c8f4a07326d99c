"""Training in several processes, as torchrun starts them (gloo on CPUs, NCCL on GPUs).

Every process has the data and the coupling in memory and trains on its share of each batch. One process
solves the assignment and sends the others what it found, so that all couplings are the same bit for bit
whatever the processors round; solving everywhere would rest on every BLAS to round alike.
"""

import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from loomfast.coupling.base import like
from loomfast.noise import NoiseDomain, noise_from_ids
from loomfast.processes import Processes


@dataclass(frozen=True)
class World(Processes):
    """The processes of a run, and which one this is."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    coupling_group: Any = None
    """A group of its own: couplings are sent from a thread, while the network's gradients are summed."""

    def mean_and_any(self, value, flag):
        """The mean of a number over all processes, and whether any of them raised its flag."""
        if self.world == 1:
            return value, flag
        both = torch.tensor([value / self.world, float(flag)], dtype=torch.float64)
        dist.all_reduce(both)
        return float(both[0]), bool(both[1] > 0)

    def check_same(self, arrays):
        """RuntimeError unless all processes hold the same bytes in these arrays, {name: array}."""
        if self.world == 1:
            return
        mine = {name: zlib.crc32(np.ascontiguousarray(array).data) for name, array in arrays.items()}
        all_sums = self._everyone(mine)
        for rank, sums in enumerate(all_sums):
            if sums != all_sums[0]:
                raise RuntimeError(f"the couplings of processes 0 and {rank} differ; nothing was written")

    def first_sends(self, value):
        """The first process's value, in all of them, by the couplings' own group."""
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.coupling_group)
        return box[0]


def first_of_all():
    """Whether this process is the one that prints and writes."""
    return int(os.environ.get("RANK", 0)) == 0


def resolve_device(name):
    """The torch device of ``auto``, ``cpu`` or ``cuda``; with torchrun the GPU of this process.

    Raises ValueError for ``cuda`` where torch sees no GPU.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("device is 'cuda', but torch sees no GPU here; take 'cpu', or 'auto'")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    torch.cuda.set_device(device)
    return device


@contextmanager
def world(device_name):
    """Within: the World of this process, connected with the others if torchrun started several."""
    device = resolve_device(device_name)
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield World(device=device)
        return
    connected_before = dist.is_initialized()
    if not connected_before:
        dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(
            rank=dist.get_rank(),
            world=dist.get_world_size(),
            local_rank=int(os.environ.get("LOCAL_RANK", 0)),
            device=device,
            coupling_group=dist.new_group(backend="gloo"),
        )
    finally:
        if not connected_before:
            dist.destroy_process_group()


class SharedCoupler:
    """A coupling that one process computes and all processes write back: see `Coupling` for its methods."""

    def __init__(self, coupler, world):
        self._coupler, self._world = coupler, world

    def __getattr__(self, name):
        return getattr(self._coupler, name)

    def prepare(self, x, index, **options):
        """As the coupling's ``prepare``, computed by the first process only."""
        prepared = None
        if self._world.rank == 0:
            prepared = self._coupler.prepare(x, index, **options)
            noise = prepared.pair.noise
            self._world.first_sends(replace(prepared, pair=replace(prepared.pair, noise=None)))
        else:
            prepared = self._world.first_sends(None)
            noise = self._noise(prepared.pair.ids, x)
        return replace(prepared, pair=replace(prepared.pair, noise=noise))

    def choose(self, num, *, step):
        """As `Semidiscrete.choose`, by the first process."""
        chosen = self._coupler.choose(num, step=step) if self._world.rank == 0 else None
        return self._world.first_sends(chosen)

    def _noise(self, ids, x):
        """The noise of ids, which has the same bits in every process."""
        domain = NoiseDomain.CACHE if self._coupler.method == "loom" else NoiseDomain.FRESH
        return noise_from_ids(like(ids, x), self._coupler.shape, seed=self._coupler.seed, domain=domain)
