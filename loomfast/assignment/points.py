"""The assignment of points to points in few dimensions, without their cost matrix: `solve_points`."""

import numpy as np

from loomfast import _engine
from loomfast._arrays import REAL, is_tensor, module, real_array
from loomfast.assignment.result import SOLVED, Assignment

METRICS = ("sqeuclidean", "euclidean", "dot")
MOST = 1e150  # of a coordinate: squares and their sums stay far from overflow


def solve_points(x, z, *, metric="sqeuclidean") -> Assignment:
    """Match points of x to points of z at the least total cost, exactly, in O(n + m) memory.

    The same problem and the same certificate as `loomfast.solve` of the (n, m) matrix of costs, of which
    nothing is stored: ``u[i] + v[j]`` is at most the cost of every pair, as verified by a search for each
    point at the end. Costs are those that float64 gives, coordinate by coordinate: nothing cancels.

    Auction with epsilon scaling over each point's ten cheapest partners, which a k-d tree with prices finds
    by branch and bound (J. L. Bentley, CACM 18(9), 1975), from the prices of a sample of the points; finished
    by shortest augmenting paths.

    Args:
        x: (n, d), z: (m, d), d from 1 to 16, of any real dtype; NumPy arrays, torch CPU tensors or what
            NumPy takes for an array. Coordinates are finite and at most 1e150 in magnitude. It is made for
            few dimensions: in more, the matrix is faster where it fits.
        metric: the cost of a pair: ``"sqeuclidean"``, |x - z|^2; ``"euclidean"``, |x - z|; ``"dot"``, -x.z.

    Returns:
        An `Assignment`; its arrays are torch tensors if x is one.

    Raises:
        ValueError: a shape, more than 16 dimensions, NaN or infinities, an unknown metric.
        TypeError: a dtype that is not real.
    """
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    points = [_points(value, name) for value, name in ((x, "x"), (z, "z"))]
    if points[0].shape[1] != points[1].shape[1]:
        raise ValueError(
            f"x and z must have as many dimensions as each other, got {points[0].shape} and {points[1].shape}"
        )
    found = _engine.assignment_solve_points(*points, metric)
    if found["status"] not in SOLVED:
        raise RuntimeError(
            f"the solver stopped with status {found['status']}: the costs of these points differ too much in "
            "magnitude for a proof in float64"
        )
    wrap = module("torch").from_numpy if is_tensor(x) else np.asarray
    arrays = (wrap(array) for array in found["arrays"])
    return Assignment(*arrays, found["total"], found["gap"], found["status"], found["stats"])


def _points(value, name):
    """Contiguous float64 (n, d)."""
    array = real_array(value if hasattr(value, "dtype") else np.asarray(value), name, REAL)
    if array.ndim != 2:
        raise ValueError(
            f"{name} must be points (n, d), got {array.ndim} dimensions with shape {array.shape}"
        )
    if not 1 <= array.shape[1] <= _engine.most_dimensions:
        raise ValueError(
            f"{name} must have 1 to {_engine.most_dimensions} dimensions, got shape {array.shape}; where the "
            "matrix fits, loomfast.solve(loomfast.pairwise_cost(x, z)) takes any"
        )
    if len(array) > _engine.most_rows:
        raise ValueError(f"{name} must be at most 2**30 points, got {len(array)}")
    array = np.ascontiguousarray(array, np.float64)
    wrong = ~(np.abs(array) <= MOST).all(axis=1)
    if wrong.any():
        i = int(wrong.argmax())
        raise ValueError(
            f"{name} must hold finite numbers of at most {MOST:g} in magnitude, got {array[i]} in row {i}"
        )
    return array
