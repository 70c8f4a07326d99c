"""A step of LOOM as a CUDA graph: ids, noise, cost, assignment and write-back, started by one call."""

from dataclasses import replace

import torch

from loomfast.coupling.on_device import commit, pair_up


class CapturedStep:
    """The steps of a `Loom` on a GPU for batches of one size, captured once and replayed.

    What a step reads, its data, items, number and labels, is copied to where the graph looks for it; the
    graph does the rest, and the host launches nothing else. The results are those of ``coupler.couple``, to
    the bit.

    Args:
        coupler: a Loom with a device. Its cache has to stay where it is: not to be moved nor loaded anew.
        x: (B, *shape) floating point tensor on that device, for its size and dtype alone.

    Raises:
        ValueError: a coupling without a device, or ``x`` of another shape or elsewhere.
    """

    def __init__(self, coupler, x):
        if coupler.device is None:
            raise ValueError("coupler must have its cache on a device, as Loom(..., device='cuda') has")
        if tuple(x.shape[1:]) != coupler.shape or x.device != coupler.device:
            wanted = f"(B, {', '.join(map(str, coupler.shape))}) on {coupler.device}"
            raise ValueError(f"x must be {wanted}, got {tuple(x.shape)} on {x.device}")
        self.coupler, self._cache = coupler, _cache_of(coupler)
        device = coupler.device
        self._x = torch.zeros_like(x)
        self._rows = torch.arange(len(x), device=device) % coupler.num_items
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._labels = None if coupler.labels is None else torch.zeros_like(self._rows)
        held = [tensor.clone() for tensor in self._cache]  # the steps to warm up and to capture are no steps
        self._replay, self._pair = _captured(self._run, device)
        for tensor, before in zip(self._cache, held, strict=True):
            tensor.copy_(before)

    def couple(self, x, index, *, step=None, labels=None):
        """As ``coupler.couple`` for ``x`` (B, *shape), ``index`` (B,); the Pair holds until the next call.

        Args:
            index, labels: integers on the coupling's device, or on the host, from where they are copied.
            step: an integer, one more than the last by default.

        Raises:
            ValueError: another batch size, labels that are missing, or a cache that is elsewhere by now.
        """
        coupler = self.coupler
        if any(now is not then for now, then in zip(_cache_of(coupler), self._cache, strict=True)):
            raise ValueError("coupler's cache was moved or loaded after this step was captured: capture anew")
        if x.shape != self._x.shape or len(index) != len(x):
            raise ValueError(f"x must be {tuple(self._x.shape)}, and index as long, got {tuple(x.shape)}")
        if (labels is None) != (self._labels is None):
            raise ValueError(f"labels must {'not ' * (labels is not None)}be given to this coupling")
        step = coupler.step if step is None else step
        self._x.copy_(x, non_blocking=True)
        self._rows.copy_(torch.as_tensor(index), non_blocking=True)
        self._step.fill_(step)
        if labels is not None:
            self._labels.copy_(torch.as_tensor(labels), non_blocking=True)
        self._pair = self._replay() or self._pair
        coupler.step = step + 1
        return replace(self._pair, seconds={})

    def _run(self):
        prepared = pair_up(self.coupler, self._x, self._rows, self._step, self._labels)
        commit(self.coupler, prepared.update)
        return prepared.pair


def _cache_of(coupler):
    tensors = (coupler.ids, coupler.prices, coupler.trouble, coupler.labels)
    return [tensor for tensor in tensors if tensor is not None]


def _captured(run, device):
    """(replay, what it computes into): ``run`` as a CUDA graph, after one call that makes what it needs.

    Where there are no graphs, on the CPU, replay is ``run`` itself, whose result is new each time.
    """
    if device.type != "cuda":
        return run, run()
    current, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        run()
    current.wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return graph.replay, result
