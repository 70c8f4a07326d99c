"""The assignment of points to points without their cost matrix: `solve_points`."""

import hashlib
import json
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from loomfast import _engine
from loomfast._arrays import REAL, check_threads, cores, finite, integer, is_tensor, module, real_array
from loomfast.assignment.result import SOLVED, Assignment
from loomfast.assignment.start import host_start
from loomfast.files import atomic

METRICS = ("sqeuclidean", "euclidean", "dot")
MOST = 1e150  # of a coordinate: squares and their sums stay far from overflow
KEEP_EVERY = 30.0  # seconds between two states that are written to a checkpoint
FORMAT = b"loomfast points 1\n"  # what a checkpoint begins with


def solve_points(
    x,
    z,
    *,
    metric="sqeuclidean",
    start=None,
    tolerance=0.0,
    row_repeats=1,
    threads=None,
    progress=None,
    checkpoint=None,
) -> Assignment:
    """Match points of x to points of z at the least total cost, exactly, in O((n + m) d) memory.

    The same problem and the same certificate as `loomfast.solve` of the (n, m) matrix of costs, of which
    nothing is stored: ``u[i] + v[j]`` is at most the cost of every pair, as verified by a search for each
    point at the end. Costs are those that float64 gives, coordinate by coordinate: nothing cancels.

    Auction with epsilon scaling over each point's ten cheapest partners, which a k-d tree with prices finds
    by branch and bound (J. L. Bentley, CACM 18(9), 1975), from the prices of a sample of the points; finished
    by shortest augmenting paths. Beyond 16 dimensions partners are found by products in float32 of a thousand
    points at a time instead, which bound every cost from below; what may be cheapest is computed in float64.

    Args:
        x: (n, d), z: (m, d), d from 1 on, of any real dtype; NumPy arrays, torch CPU tensors or what NumPy
            takes for an array. Coordinates are finite and at most 1e150 in magnitude. It is made for few
            dimensions, and for matrices that do not fit: in many, the matrix is faster where it fits.
        metric: the cost of a pair: ``"sqeuclidean"``, |x - z|^2; ``"euclidean"``, |x - z|; ``"dot"``, -x.z.
        start: where to start from, as for `loomfast.solve`: a previous `Assignment`, a matching, prices, or
            both. It changes the time, never what is optimal; prices that fit badly are dropped.
        tolerance: may stop once ``gap <= tolerance * sum_i(mean_j cost - min_j cost)``, the sum over the
            points of x, or of z where those are fewer.
        row_repeats: point i of x stands for rows ``i * row_repeats ... (i + 1) * row_repeats - 1`` of the
            problem.
        threads: threads that search; by default the cores this process may run on. The answer does not
            depend on it.
        progress: called as ``progress(done, total, note)`` a few times a second while it takes longer.
        checkpoint: a file to keep unfinished work in, every half minute and on Ctrl-C; it is removed at the
            end. A call with the same arguments goes on from it, and ends with the very result of one that
            was not interrupted.

    Returns:
        An `Assignment`; its arrays are torch tensors if x is one.

    Raises:
        ValueError: a shape, NaN or infinities, an unknown metric, other options out of range; a checkpoint of
            another problem, or a damaged one.
        TypeError: a dtype that is not real; row_repeats or threads that are not integers.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    row_repeats = integer(row_repeats, "row_repeats", 1, _engine.most_rows + 1)
    tolerance = finite(tolerance, "tolerance")
    threads = check_threads(threads) or cores()
    points = [_points(x, "x", row_repeats), _points(z, "z")]
    if points[0].shape[1] != points[1].shape[1]:
        raise ValueError(
            f"x and z must have as many dimensions as each other, got {points[0].shape} and {points[1].shape}"
        )
    known = host_start(start, (1, len(points[0]), len(points[1])), False)
    product = None
    if points[0].shape[1] > _engine.most_dimensions:
        turned = len(points[0]) > len(points[1])
        if turned:
            points, known = points[::-1], _turned(known, len(points[1]))
        product = _product(*points, metric)
    with _kept(checkpoint, (metric, tolerance), (*points, *known)) as (keep, state):
        found = _engine.assignment_solve_points(
            *points, metric, *known, tolerance, threads, progress, keep, KEEP_EVERY, state, product
        )
    if found["status"] not in SOLVED:
        raise RuntimeError(
            f"the solver stopped with status {found['status']}: the costs of these points differ too much in "
            "magnitude for a proof in float64"
        )
    wrap = module("torch").from_numpy if is_tensor(x) else np.asarray
    arrays = [wrap(array) for array in found["arrays"]]
    if product is not None and turned:
        arrays = [arrays[k] for k in (1, 0, 3, 2)]
    return Assignment(*arrays, found["total"], found["gap"], found["status"], found["stats"])


def _turned(known, columns):
    """A start, of (1, n) and (1, m) arrays or None, with rows and columns exchanged."""
    col4row, u, v = known
    if col4row is not None:
        rows = np.flatnonzero((col4row[0] >= 0) & (col4row[0] < columns))
        row4col = np.full((1, columns), -1)
        row4col[0, col4row[0, rows]] = rows
        col4row = row4col
    return col4row, v, u


def _product(x, z, metric):
    """What the engine multiplies by: (x, z, unscale, multiply), x and z scaled to float32 of at most 1."""
    if metric != "dot":  # whose costs change with the origin
        middle = z.mean(axis=0) if len(z) else 0.0
        x, z = x - middle, z - middle
    most = max(np.abs(part).max(initial=0.0) for part in (x, z))
    scale = 2.0 ** -max(-1000, np.frexp(most)[1]) if most > 0 else 1.0
    x, z = ((part * scale).astype(np.float32) for part in (x, z))

    def multiply(rows, first, past, out):
        np.matmul(x[rows], z[first:past].T, out=out)

    return x, z, 1.0 / scale**2, multiply


def _points(value, name, repeats=1):
    """Contiguous float64 (n * repeats, d)."""
    array = real_array(value if hasattr(value, "dtype") else np.asarray(value), name, REAL)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be points (n, d), got {array.ndim} dimensions with shape {array.shape}"
        )
    if array.shape[1] < 1:
        raise ValueError(f"{name} must have at least 1 dimension, got shape {array.shape}")
    if len(array) * repeats > _engine.most_rows:
        raise ValueError(
            f"{name} must be at most 2**30 points (row_repeats included), got {len(array)} x {repeats}"
        )
    array = np.ascontiguousarray(array, np.float64)
    wrong = ~(np.abs(array) <= MOST).all(axis=1)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"{name} must hold finite numbers of at most {MOST:g} in magnitude, got {array[i]} in row {i}"
        )
    return array if repeats == 1 else np.repeat(array, repeats, axis=0)


@contextmanager
def _kept(path, options, arrays):
    """(what writes a state, the state to go on from) of a checkpoint, which is removed on a clean exit.

    The file: `FORMAT`, SHA-256 of the problem (32 bytes), SHA-256 of the state (32 bytes), the state.
    """
    if path is None:
        yield None, b""
        return
    path = Path(path)
    digest = hashlib.sha256(json.dumps(options).encode())
    for array in arrays:
        digest.update(b"none" if array is None else f"{array.shape}".encode() + array.tobytes())
    problem = digest.digest()
    state = _read(path, problem) if path.exists() else b""

    yield lambda state: write_checkpoint(path, problem, state), state
    path.unlink(missing_ok=True)


def write_checkpoint(path, problem, state):
    """Write what `_kept` describes, whole or not at all."""
    with atomic(path) as aside:
        aside.write_bytes(FORMAT + problem + hashlib.sha256(state).digest() + state)


def _read(path, problem):
    """The state in a checkpoint of this problem."""
    content, size = path.read_bytes(), hashlib.sha256().digest_size
    begin, of, checksum, state = (
        content[: len(FORMAT)],
        content[len(FORMAT) : len(FORMAT) + size],
        content[len(FORMAT) + size : len(FORMAT) + 2 * size],
        content[len(FORMAT) + 2 * size :],
    )
    if begin != FORMAT or hashlib.sha256(state).digest() != checksum:
        raise ValueError(f"checkpoint {str(path)!r} is damaged or no checkpoint of solve_points: remove it")
    if of != problem:
        raise ValueError(
            f"checkpoint {str(path)!r} holds the unfinished work of other points or options: remove it or "
            "choose another"
        )
    return state
