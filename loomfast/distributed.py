"""The processes torchrun started (gloo on CPUs, NCCL on GPUs): how they share work, and fail as one.

In training every process has the data and the coupling in memory and trains on its share of each batch. One
process solves the assignment and sends the others what it found, so that all couplings are the same bit for
bit whatever the processors round; solving everywhere would rest on every BLAS to round alike. In sampling
each takes a part of the ids.
"""

import os
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist


class FailedElsewhere(Exception):
    """Raised in every process but the first where any has failed; the first raises the error itself."""


@dataclass(frozen=True)
class World:
    """The processes that work together, and which one this is. By default a single one, on the CPU.

    rank: number of this process, from 0. size: how many there are. device: the one this process computes on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    coupling_group: Any = None
    """A group of its own: couplings are sent from a thread, while the network's gradients are summed."""

    @contextmanager
    def together(self):
        """Within, an error in one process fails all: the first raises it, the others FailedElsewhere.

        The body must not communicate, so that nobody waits for a process that has left it.
        """
        error = None
        try:
            yield
        except Exception as raised:
            error = raised
        messages = self._everyone(None if error is None else str(error) or type(error).__name__)
        failed = [rank for rank, message in enumerate(messages) if message is not None]
        if failed and self.rank:
            raise FailedElsewhere from error
        if error is not None:
            raise error
        if failed:
            raise OSError(f"process {failed[0]}: {messages[failed[0]]}")

    def _everyone(self, value):
        values = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(values, value)
        return values

    def total(self, value):
        """Return the sum of the processes' numbers, in all of them."""
        return sum(self._everyone(value))

    def from_first(self, value):
        """Return the first process's value, in all of them."""
        return self._everyone(value)[0]

    def collect(self, part, counts):
        """The processes' tensors one behind the other in their second dimension, in the first; else None.

        Args:
            part: a CPU tensor (T, counts[rank], ...), equal in all else; not looked at where the count is 0,
                which the first process's must not be.
            counts: list of int, one a process.
        """
        if self.size == 1:
            return part
        if self.rank:
            if counts[self.rank]:
                dist.send(part.contiguous(), 0)
            return None
        whole = part.new_empty(len(part), sum(counts), *part.shape[2:])
        pieces = whole.split(counts, dim=1)
        pieces[0].copy_(part)
        for rank, piece in enumerate(pieces[1:], 1):
            if counts[rank]:
                received = part.new_empty(piece.shape)
                dist.recv(received, rank)
                piece.copy_(received)
        return whole

    def mean_and_any(self, value, flag):
        """Return the mean of a number over all processes, and whether any of them raised its flag."""
        if self.size == 1:
            return value, flag
        both = torch.tensor([value / self.size, float(flag)], dtype=torch.float64, device="cpu")
        dist.all_reduce(both)
        return float(both[0]), bool(both[1] > 0)

    def check_alike(self, settings):
        """Raise ValueError, in the first process, naming one of the settings {name: value} if one differs.

        The others raise FailedElsewhere then.
        """
        for rank, others in enumerate(everyone := self._everyone(settings)):
            for name, value in everyone[0].items():
                if others.get(name) == value:
                    continue
                if self.rank:
                    raise FailedElsewhere
                raise ValueError(
                    f"all processes must be started alike, but {name} is {value!r} in process 0 and "
                    f"{others.get(name)!r} in process {rank}"
                )

    def check_same(self, arrays):
        """Raise RuntimeError unless all processes hold the same bytes in these arrays, {name: array}."""
        if self.size == 1:
            return
        mine = {name: zlib.crc32(np.ascontiguousarray(array).data) for name, array in arrays.items()}
        all_sums = self._everyone(mine)
        for rank, sums in enumerate(all_sums):
            if sums != all_sums[0]:
                raise RuntimeError(f"the couplings of processes 0 and {rank} differ; nothing was written")

    def first_sends(self, value):
        """Return the first process's value in all of them, sent by the group of the couplings.

        An exception is what it failed with: the others raise FailedElsewhere.
        """
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.coupling_group)
        if self.rank and isinstance(box[0], Exception):
            raise FailedElsewhere from box[0]
        return box[0]


@contextmanager
def world(device="auto", *, patience=timedelta(minutes=30)):
    """Within: the World of this process, connected with the others if torchrun started several.

    A process group that is there already is taken as it is, and kept.

    Args:
        device: as in `resolve_device`.
        patience: how long the processes wait for each other before they give up.

    Raises:
        ValueError: for a device that is not here; OSError if it is missing in another process only.
        FailedElsewhere: in all processes but the first, in both cases.
    """
    connected = dist.is_available() and dist.is_initialized()
    ours = not connected and started() > 1
    if ours:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=patience)
    try:
        joined = World(dist.get_rank(), dist.get_world_size()) if connected or ours else World()
        with joined.together():
            device = resolve_device(device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        group = dist.new_group(backend="gloo", timeout=patience) if joined.size > 1 else None
        yield replace(joined, device=device, coupling_group=group)
    finally:
        if ours:
            dist.destroy_process_group()


def started():
    """Return how many processes torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "RANK" in os.environ else 1


def first_of_all():
    """Return whether this process is the one that prints and writes; known before they are connected."""
    return int(os.environ.get("RANK", 0)) == 0


def resolve_device(name):
    """The torch device of ``auto``, ``cpu``, ``cuda`` or ``cuda:N``; ``cuda`` is this process's own GPU.

    Raises ValueError for another name, and for a GPU that torch does not see.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cuda") or (":" in name and not (kind == "cuda" and index.isdecimal())):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}")
    if not torch.cuda.is_available():
        raise ValueError(f"device is {name!r}, but torch sees no GPU here; take 'cpu', or 'auto'")
    count = torch.cuda.device_count()
    if index and int(index) >= count:
        raise ValueError(f"device is {name!r}, but there are {count} GPUs, numbered from 0")
    return torch.device("cuda", int(index) if index else int(os.environ.get("LOCAL_RANK", 0)) % count)
