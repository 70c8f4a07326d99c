"""Solve assignment problems with the CUDA kernels, executed on the CPU by the shim."""

import struct
import tempfile
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from cuda_on_cpu import build

KERNELS = {"block16": 0, "grid16": 1, "grid32": 2, "planned": 3, "warp": 4, "cluster": 5}
TYPES = {"float16": 0, "bfloat16": 1, "float32": 2, "float64": 3}
STATUS = (
    *("optimal", "invalid", "infeasible", "out of range", "within_tolerance", "inexact integers"),
    "invalid size",
)
COUNTERS = ("barriers", "rounds", "bids", "repair_passes", "forest_passes", "forest_steps", "rows_relaxed")
SHIM_COUNTERS = (
    *("switches", "block_barriers", "grid_barriers", "cluster_barriers", "warp_collectives", "atomics"),
    "shared_bytes",
)


@dataclass
class Problem:
    """One launch: ``cost`` is (n, m) or (b, n, m); uint16 holds bfloat16 bits. ``sizes`` is (2, b).

    ``blocks`` are those of a team or of a cluster, ``teams`` those of a grid, ``crew_warps`` those that
    scan a row of grid32 together: all of a block if it is 0. With ``lists`` that kernel keeps some columns of
    each row. The kernel ``planned`` is what the launcher chooses for a device of ``blocks`` multiprocessors
    and clusters of at most ``clusters`` blocks.
    """

    cost: np.ndarray
    kernel: str = "block16"
    threads: int = 64
    blocks: int = 3
    teams: int = 1
    clusters: int = 0
    crew_warps: int = 0
    lists: bool = False
    maximize: bool = False
    start_col4row: np.ndarray | None = None
    start_u: np.ndarray | None = None
    start_v: np.ndarray | None = None
    row_repeats: int = 1
    integers: bool = False
    tolerance: float = 0.0
    label_bits: int = 0
    sizes: np.ndarray | None = None
    shared_limit: int = 227 << 10


@dataclass
class Solved:
    """The outputs of one instance, and what it took."""

    col4row: np.ndarray
    row4col: np.ndarray
    u: np.ndarray
    v: np.ndarray
    total: float
    gap: float
    status: str
    stats: dict[str, int]
    shim: dict[str, int] = field(compare=False)

    def same_as(self, other: Any) -> bool:
        """Bit-identical outputs and counters."""
        arrays = ("col4row", "row4col", "u", "v")
        numbers = np.array([self.total, self.gap]), np.array([other.total, other.gap])
        return (
            all(getattr(self, a).tobytes() == getattr(other, a).tobytes() for a in arrays)
            and numbers[0].tobytes() == numbers[1].tobytes()
            and (self.status, self.stats) == (other.status, other.stats)
        )


def solve(problems, kind="plain", seed=0, order="random", timeout=600, program=None):
    """A list, one entry a problem, of lists of Solved, one an instance.

    ``program`` replaces the build ``kind`` of the kernels. Raises RuntimeError with the report if the shim or
    a sanitizer found a defect.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "problems"), Path(folder, "solutions")
        with source.open("wb") as file:
            for problem in problems:
                _write(file, problem)
        program = program or build.program("assignment", kind)
        result = build.run(program, source, target, seed, order, timeout=timeout)
        if result.returncode:
            raise RuntimeError(f"status {result.returncode}\n{result.stdout}{result.stderr[-6000:]}")
        data = memoryview(target.read_bytes())
    solutions, at = [], 0
    for problem in problems:
        part, at = _read(data, at, problem)
        solutions.append(part)
    return solutions


def _write(file, problem):
    cost = problem.cost if problem.cost.ndim == 3 else problem.cost[None]
    name = "bfloat16" if cost.dtype == np.uint16 else cost.dtype.name
    base = cost
    while base.base is not None and isinstance(base.base, np.ndarray):
        base = base.base
    offset = cost.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    strided = base.flags.c_contiguous and base.dtype == cost.dtype and offset == 0
    strided = strided and min(cost.strides) >= 0
    stored = base if strided else np.ascontiguousarray(cost)
    view = cost if strided else stored
    strides = [s // cost.itemsize for s in view.strides]
    start, u, v = problem.start_col4row, problem.start_u, problem.start_v
    header = [
        *(KERNELS[problem.kernel], problem.threads, _blocks(problem), problem.teams, problem.clusters),
        *(problem.crew_warps or problem.threads // 32, problem.lists),
        *(TYPES[name], *_shape(problem), *strides),
        *(stored.size, problem.maximize, start is not None, u is not None, v is not None),
        *(problem.row_repeats, problem.integers, problem.sizes is not None),
        *(problem.label_bits, problem.shared_limit),
    ]
    file.write(struct.pack("<24qd", *map(int, header), problem.tolerance))
    file.write(stored.tobytes())
    if start is not None:
        file.write(np.ascontiguousarray(start, np.int64).tobytes())
    for prices in (u, v):
        if prices is not None:
            file.write(np.ascontiguousarray(prices, np.float64).tobytes())
    if problem.sizes is not None:
        file.write(np.ascontiguousarray(problem.sizes, np.int64).tobytes())


def _blocks(problem):
    """A cluster's are a power of two."""
    return 1 << problem.blocks.bit_length() - 1 if problem.kernel == "cluster" else problem.blocks


def shared_of_cluster(problem):
    """Bytes that a block of a cluster needs if the costs themselves are not held, and no more."""
    _, rows, columns = _shape(problem)
    rows, quads, blocks = min(rows, columns), ceil(max(rows, columns) / 4), _blocks(problem)
    solved = 4 * quads if 4 * quads <= rows + rows // 16 + 4 else rows
    share, rows_held = 4 * ceil(quads / blocks), 4 * ceil(ceil(solved / 4) / blocks)
    return 2048 + 512 + 132 * share + 32 * quads + 8 * quads * rows_held + 64


def _shape(problem):
    """Batch, rows and columns of the problem, whose costs may stand for several rows each."""
    b, n, m = (1, *problem.cost.shape)[-3:]
    return b, n * problem.row_repeats, m


def _read(data, at, problem):
    b, n, m = _shape(problem)

    def take(dtype, *shape):
        nonlocal at
        count = int(np.prod(shape))
        values = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += values.nbytes
        return values

    parts = [take("<i8", b, n), take("<i8", b, m), take("<f8", b, n), take("<f8", b, m)]
    total, gap, status = take("<f8", b), take("<f8", b), take("<i4", b)
    counters, shim = take("<i8", b, len(COUNTERS)), take("<u8", len(SHIM_COUNTERS))
    shim = dict(zip(SHIM_COUNTERS, map(int, shim), strict=True))
    solved = [
        Solved(
            *(part[k] for part in parts),
            float(total[k]),
            float(gap[k]),
            STATUS[status[k]],
            dict(zip(COUNTERS, map(int, counters[k]), strict=True)),
            shim,
        )
        for k in range(b)
    ]
    return solved, at
