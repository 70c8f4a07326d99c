"""Every way that the launcher has to solve a problem: which kernel, and of how many blocks a cluster is."""

from contextlib import contextmanager

from loomfast.assignment import cuda

# Name -> (bits of assignment_cuda.hpp's Way, multiprocessors to plan for or None, blocks of a cluster or
# None).
WAYS = {
    "a block": (2, None, None),
    "a team of one block": (4, 1, None),
    "teams": (4, None, None),
    **{f"a cluster of {blocks}": (8, None, blocks) for blocks in (2, 4, 8, 16)},
}
SIZES = (2, 4, 8, 16)


def is_for_warps(cost):
    """Whether a warp solves it, by another algorithm with other counters (kWarpRows, kWarpColumns)."""
    return min(cost.shape[-2:]) <= 64 and max(cost.shape[-2:]) <= 128


@contextmanager
def only(name):
    """Within it `loomfast.assignment.cuda.solve` goes this way, or by teams where it cannot."""
    bits, multiprocessors, blocks = WAYS[name]
    engine = cuda._engine
    found, shared, clusters, _ = engine.cuda_limits()
    kept = [n if size == blocks else 0 for size, n in zip(SIZES, clusters, strict=True)]
    cuda._engine = _Limited(engine, (multiprocessors or found, shared, kept, bits))
    try:
        yield blocks is None or any(kept)
    finally:
        cuda._engine = engine


class _Limited:
    """The engine, with other limits than the device's."""

    def __init__(self, engine, limits):
        self._engine, self._limits = engine, limits

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def cuda_assignment_workspace(self, problem):
        return self._engine.cuda_assignment_workspace(problem, self._limits)

    def cuda_assignment_solve(self, problem, workspace, stream):
        return self._engine.cuda_assignment_solve(problem, workspace, stream, self._limits)
