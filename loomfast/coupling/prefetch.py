"""Couplings computed ahead: while the network trains on one step, the next one is prepared."""

import dataclasses
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

from loomfast._arrays import is_tensor


class Ahead:
    """Takes steps one after the other, and prepares the next while the caller works with this one.

    What a step changes is written back when the step is taken, never before: a checkpoint made after step s
    holds nothing of step s + 1. The results are those of ``coupler.couple`` in the same order, as exactly as
    the BLAS underneath rounds alike on one thread and on several: the thread here has one, to leave the
    others to the network.

    Args:
        coupler: a `Coupling`.
        batch_at: ``batch_at(step)`` gives the batch of a step as a mapping with ``x`` and ``index``, and
            ``labels`` and ``fields`` where there are any. Called in the thread.
        enabled: whether to work ahead; otherwise, and where no thread can be had, all happens in `take`.
        device: a torch CUDA device to prepare on, in a stream of its own; None on the CPU. Where the cache of
            the coupling is there too (``Loom(device=...)``), nothing waits for the device: the streams wait
            for each other.
    """

    def __init__(self, coupler, batch_at, *, enabled=True, device=None):
        self.coupler, self.batch_at = coupler, batch_at
        self._stream = _side_stream(device) if enabled else None
        self._written = None  # after what was written back last, where it is written on a device
        self._thread = None
        self._next = None, None  # the step worked at, and its future
        if enabled:
            self._thread = _one_thread()

    def take(self, step, *, last=False):
        """The batch and the Pair of a step, written back; then the next is begun, unless this is the last.

        Raises whatever ``batch_at`` and ``coupler.couple`` raise for this step.
        """
        ahead, future = self._next
        self._next = None, None
        if future is not None and ahead != step:  # a jump, after a restart say
            future.cancel()
            future = None
        if self._thread is None:
            batch, prepared = self._prepare(step)
        else:
            # The thread prepares every step, also one nobody expected: its one BLAS thread rounds alike.
            future = future or self._thread.submit(self._prepare_aside, step)
            batch, prepared = future.result()
            self._join_stream(batch, prepared)
        pair = self.coupler.commit(prepared)
        if self._stream is not None:
            self._written = _callers_stream(self._stream).record_event()
        if self._thread is not None and not last:
            self._next = step + 1, self._thread.submit(self._prepare_aside, step + 1)
        return batch, pair

    def close(self):
        """Stop working ahead; what was prepared and not taken is dropped."""
        self._next = None, None
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)
            self._thread = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _prepare(self, step):
        batch = self.batch_at(step)
        return batch, self.coupler.prepare(**batch, step=step)

    def _prepare_aside(self, step):
        if self._written is not None:  # the cache is read by this stream and written by the caller's
            self._stream.wait_event(self._written)
        with self._on_stream():
            return self._prepare(step)

    def _on_stream(self):
        if self._stream is None:
            return nullcontext()
        import torch

        return torch.cuda.stream(self._stream)

    def _join_stream(self, batch, prepared):
        """Have the caller's stream wait for the side stream, and own what was made there."""
        if self._stream is None:
            return
        current = _callers_stream(self._stream)
        current.wait_stream(self._stream)
        for value in tensors_in((batch, prepared)):
            if value.is_cuda:
                value.record_stream(current)


def tensors_in(value):
    """Yield the torch tensors in dicts, tuples, lists and dataclasses, however deep."""
    if is_tensor(value):
        yield value
    elif isinstance(value, dict):
        yield from tensors_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from tensors_in(part)
    elif dataclasses.is_dataclass(value):
        yield from tensors_in(tuple(getattr(value, field.name) for field in dataclasses.fields(value)))


def _callers_stream(side):
    import torch

    return torch.cuda.current_stream(side.device)


def _side_stream(device):
    if device is None:
        return None
    import torch

    device = torch.device(device)
    return torch.cuda.Stream(device) if device.type == "cuda" else None


def _one_thread():
    """Return a pool of one thread; None, with a warning, where the process may not start another."""
    pool = ThreadPoolExecutor(1, "loomfast-ahead")
    try:
        pool.submit(int).result()
        _use_one_torch_thread(pool)
    except RuntimeError as error:  # can't start new thread
        warnings.warn(f"couplings are not computed ahead: {error}", RuntimeWarning, stacklevel=3)
        return None
    return pool


def _use_one_torch_thread(pool):
    """Give the pool's thread one BLAS thread, and leave the number of every other thread as it is.

    torch keeps the number for each thread, and a default for threads to come; only the first is to change.
    """
    torch = sys.modules.get("torch")
    if torch is not None:
        before = torch.get_num_threads()
        pool.submit(torch.set_num_threads, 1).result()
        torch.set_num_threads(before)
