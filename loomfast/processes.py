"""The processes torchrun started: how one of them shares work on the CPU's side, and how all of them fail."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist


class FailedElsewhere(Exception):
    """Raised in every process but the first where any has failed; the first raises the error itself."""


@dataclass(frozen=True)
class Processes:
    """rank: number of this process. world: how many there are. local_rank: its number on this machine."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

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
        values = [value] * self.world
        if self.world > 1:
            dist.all_gather_object(values, value)
        return values

    def total(self, value):
        """The sum of the processes' numbers, in all of them."""
        return sum(self._everyone(value))

    def from_first(self, value):
        """The first process's value, in all of them."""
        return self._everyone(value)[0]

    def collect(self, part, counts):
        """The processes' tensors one behind the other in their second dimension, in the first; else None.

        Args:
            part: a CPU tensor (T, counts[rank], ...), equal in all else; not looked at where the count is 0,
                which the first process's must not be.
            counts: list of int, one a process.
        """
        if self.world == 1:
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


@contextmanager
def processes():
    """The Processes of a torchrun, joined by gloo meanwhile; a single one where there is no torchrun.

    A process group that is there already is taken as it is, and kept.
    """
    ours = not dist.is_initialized() and int(os.environ.get("WORLD_SIZE", 1)) > 1 and "RANK" in os.environ
    if ours:
        # The first process may have to wait for the others' samples for as long as its own took it.
        dist.init_process_group("gloo", timeout=timedelta(days=1))
    try:
        if dist.is_initialized():
            yield Processes(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", 0)))
        else:
            yield Processes()
    finally:
        if ours:
            dist.destroy_process_group()
