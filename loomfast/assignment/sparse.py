"""The assignment problem on a sparse graph: `solve_sparse` and `min_weight_full_bipartite_matching`."""

import sys
import warnings

import numpy as np

from loomfast import _engine
from loomfast._arrays import INTEGERS, REAL, check_dtype, is_tensor, name_of_dtype, real_array
from loomfast.assignment.infeasible import infeasible
from loomfast.assignment.result import SOLVED, Assignment, raise_for
from loomfast.assignment.start import host_start

_FORMATS = ("csr", "csc", "coo")


def solve_sparse(cost, *, shape=None, maximize=False, start=None) -> Assignment:
    """Solve the assignment problem on the stored pairs of a sparse matrix exactly, with its certificate.

    Minimises the sum of the costs of min(n, m) stored pairs, no two in a row or column. A pair that is not
    stored is forbidden. The prices hold on the stored pairs: minimising with n <= m,
    ``u[i] + v[j] <= cost[i, j]`` for all of them, ``v <= 0`` and ``v = 0`` on unmatched columns; see
    `loomfast.Assignment`.

    Pairs without an alternative are taken first. Then bids and shortest augmenting paths for one row after
    the other (R. Jonker and A. Volgenant, Computing 38, 1987) or, where these would take longer, an auction
    with epsilon scaling (D. P. Bertsekas, "The auction algorithm", Annals of Operations Research 14, 1988),
    finished by shortest augmenting paths from many rows at once (H. N. Gabow and R. E. Tarjan, "Faster
    scaling algorithms for network problems", SIAM J. Comput. 18(5), 1989).

    Args:
        cost: (n, m) sparse: a scipy sparse array or matrix, a torch tensor of layout ``sparse_csr``,
            ``sparse_csc`` or ``sparse_coo`` on the CPU, or a tuple ``(data, indices, indptr)`` of compressed
            rows, which needs ``shape``. Any real dtype. Stored zeros are costs, ``+inf`` (``-inf`` when
            maximising) forbids a pair as its absence does, and a pair stored more than once costs the sum,
            taken in float64. At most 2^30 rows and columns.
        shape: ``(n, m)`` of a tuple; otherwise left out.
        maximize: maximise the total instead.
        start: where to start from, as in `loomfast.solve`. It changes the time, never what is optimal.

    Returns:
        An `Assignment` of NumPy arrays, of torch tensors where the cost was one.

    Raises:
        InfeasibleError: no complete matching exists; ``rows`` and ``columns`` of the error prove it. It is a
            ValueError.
        ValueError: NaN, an infinity of the wrong sign, indices that are out of range or pointers that make no
            sense, integers too large to be summed exactly.
        TypeError: something else than a sparse matrix, or a dtype that is not real.
    """
    layout, (rows, columns), data, major, minor, wrap = _parts(cost, shape)
    found = _solve(layout, (rows, columns), data, major, minor, maximize, False, start)
    if found["status"] == "infeasible":
        what = "cost is infeasible, no complete matching avoids the pairs that are not stored"
        raise infeasible(found["crowded"], found["neighbours"], rows <= columns, what)
    _raise_unless_solved(found, layout)
    arrays = tuple(wrap(array) for array in found["arrays"])
    return Assignment(*arrays, found["total"], found["gap"], found["status"], found["stats"])


def min_weight_full_bipartite_matching(biadjacency, maximize=False):
    """Drop-in for `scipy.sparse.csgraph.min_weight_full_bipartite_matching`, faster.

    Its contract and messages (SciPy 1.17): stored zeros are left out with a warning, ``+inf`` forbids an
    edge, duplicates of a COO array are summed. NaN and ``-inf``, which scipy takes for weights, are refused,
    and duplicates of a CSR or CSC array are summed, too.

    Args:
        biadjacency: (n, m) scipy sparse array or matrix in CSR, CSC or COO format; its entries are the
            weights of the edges between rows and columns.
        maximize: maximise the sum of the weights instead.

    Returns:
        ``(row_ind, col_ind)``, int64 arrays (min(n, m),): the edges of the matching by increasing row.

    Raises:
        TypeError: no sparse array, or one of another format.
        ValueError: entries that are no numbers, or no full matching exists.
    """
    if hasattr(biadjacency, "to_scipy_sparse"):
        biadjacency = biadjacency.to_scipy_sparse()
    if not _is_scipy(biadjacency):
        raise TypeError("graph must be sparse")
    if biadjacency.format not in _FORMATS:
        raise TypeError("graph must be in CSC, CSR, or COO format.")
    dtype = biadjacency.dtype
    if not (np.issubdtype(dtype, np.number) or dtype == np.bool_):
        raise ValueError(f"expected a matrix containing numerical entries, got {dtype}")
    if name_of_dtype(dtype) not in REAL:
        biadjacency = biadjacency.astype(np.float64)
    if not np.all(biadjacency.data):
        warnings.warn("explicit zero weights are removed before matching", stacklevel=2)
        biadjacency = biadjacency.copy()
        biadjacency.eliminate_zeros()
    layout, shape, data, major, minor, _ = _scipy_parts(biadjacency)
    found = _solve(layout, shape, data, major, minor, maximize, True, None)
    if found["status"] == "infeasible":
        raise infeasible(
            found["crowded"], found["neighbours"], shape[0] <= shape[1], "no full matching exists"
        )
    if found["status"] == "invalid_entry" and not found["fault"][0]:
        raise ValueError("matrix contains invalid numeric entries")
    _raise_unless_solved(found, layout)
    col4row, *_ = found["arrays"]
    if shape[0] <= shape[1]:
        return np.arange(shape[0]), col4row
    rows = np.flatnonzero(col4row >= 0)
    return rows, col4row[rows]


def _solve(layout, shape, data, major, minor, maximize, round_integers, start):
    """The engine's report of a problem; the arguments are what `_parts` returns."""
    rows, columns = shape
    if max(shape) > _engine.most_rows:
        raise ValueError(f"cost must have at most 2**30 rows and columns, got {rows} x {columns}")
    values = real_array(data, "cost", REAL)
    known = (None, None, None)
    if start is not None:
        known = host_start(start, (1, rows, columns), False)
    return _engine.assignment_solve_sparse(
        layout,
        np.ascontiguousarray(values),
        name_of_dtype(values.dtype),
        _indices(major, "indices" if layout == "coo" else "indptr"),
        _indices(minor, "indices"),
        rows,
        columns,
        bool(maximize),
        round_integers,
        *known,
    )


def _raise_unless_solved(found, layout):
    if found["status"] in SOLVED:
        return
    what, at = found["fault"]
    if what:
        name = {"row index": "row"}.get(what, "indptr" if "pointer" in what else "indices")
        raise ValueError(f"cost has a wrong {layout} structure: {what} at {name}[{at}]")
    row, column = found["bad"]
    raise_for(found["status"], entry=f"entry ({row}, {column})")
    raise RuntimeError(f"the solver stopped with status {found['status']}")


# ---- what callers may pass ------------------------------------------------------------------------------


def _is_scipy(value):
    scipy = sys.modules.get("scipy.sparse")
    return scipy is not None and scipy.issparse(value)


def _parts(cost, shape):
    """(layout, shape, data, major, minor, wrapper of results) of a sparse matrix of any kind."""
    if isinstance(cost, tuple):
        return _tuple_parts(cost, shape)
    if shape is not None:
        raise TypeError(
            "shape goes with a tuple (data, indices, indptr) only: a sparse matrix has one of its own"
        )
    if _is_scipy(cost):
        return _scipy_parts(cost)
    if is_tensor(cost):
        return _torch_parts(cost)
    raise TypeError(
        "cost must be a scipy sparse array, a sparse torch tensor or a tuple (data, indices, indptr), "
        f"got {type(cost).__name__}; loomfast.solve takes dense costs, +inf where a pair is forbidden"
    )


def _tuple_parts(cost, shape):
    if len(cost) != 3 or shape is None or len(shape) != 2:
        raise ValueError(
            f"cost as a tuple must be (data, indices, indptr) with shape=(n, m), got {len(cost)} parts and "
            f"shape {shape}"
        )
    data, indices, indptr = (part if is_tensor(part) else np.asarray(part) for part in cost)
    rows, columns = (int(size) for size in shape)
    if min(rows, columns) < 0:
        raise ValueError(f"shape must hold sizes of at least 0, got {shape}")
    for name, part in (("data", data), ("indices", indices), ("indptr", indptr)):
        if part.ndim != 1:
            raise ValueError(f"{name} must be one-dimensional, got shape {tuple(part.shape)}")
    if len(indptr) != rows + 1:
        raise ValueError(f"indptr must have {rows + 1} entries for {rows} rows, got {len(indptr)}")
    if len(indices) != len(data):
        raise ValueError(
            f"indices and data must be as long as each other, got {len(indices)} and {len(data)}"
        )
    return "csr", (rows, columns), data, indptr, indices, np.asarray


def _scipy_parts(cost):
    if cost.ndim != 2:
        raise ValueError(f"cost must be a matrix (n, m), got {cost.ndim} dimensions with shape {cost.shape}")
    if cost.format not in _FORMATS:
        cost = cost.tocsr()
    major, minor = (
        (cost.row, cost.col) if cost.format == "coo" else (cost.indptr, cost.indices[: cost.indptr[-1]])
    )
    return cost.format, cost.shape, cost.data[: len(minor)], major, minor, np.asarray


def _torch_parts(cost):
    import torch

    if cost.device.type != "cpu":
        raise RuntimeError(
            f"cost is on {cost.device}: sparse problems are solved on the CPU; pass cost.cpu()"
        )
    if cost.ndim != 2:
        raise ValueError(
            f"cost must be a matrix (n, m), got {cost.ndim} dimensions with shape {tuple(cost.shape)}"
        )
    cost = cost.detach()
    if cost.layout == torch.sparse_csr:
        layout, data, major, minor = "csr", cost.values(), cost.crow_indices(), cost.col_indices()
    elif cost.layout == torch.sparse_csc:
        layout, data, major, minor = "csc", cost.values(), cost.ccol_indices(), cost.row_indices()
    elif cost.layout == torch.sparse_coo:
        layout, data, (major, minor) = "coo", cost._values(), cost._indices()
    else:
        raise TypeError(
            f"cost must be a tensor of a sparse layout, got {cost.layout}; loomfast.solve takes dense ones"
        )
    if data.ndim != 1:
        raise ValueError(f"cost must have one number a pair, got values of shape {tuple(data.shape)}")
    return layout, tuple(cost.shape), data, major, minor, torch.from_numpy


def _indices(values, name):
    """Contiguous int32 or int64."""
    array = values.numpy() if is_tensor(values) else np.asarray(values)
    if array.dtype in (np.int32, np.int64):
        return np.ascontiguousarray(array)
    if array.size == 0:
        return array.astype(np.int64)
    check_dtype(array.dtype, name, INTEGERS, "be integers")
    return array.astype(np.int64)
