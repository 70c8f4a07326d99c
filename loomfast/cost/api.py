"""Pairwise cost between data and noise: (n, d) and (m, d) to (n, m), never n x m x d.

LOOM-CFM's cost is the squared distance (paper, eq. 7); the authors' code uses the distance itself. Both come
from one matrix product by |x - z|^2 = |x|^2 + |z|^2 - 2 x.z, clamped at zero; up to d = 16, where that
expansion loses the digits that matter, differences are taken directly. On the CPU small products are the
engine's own, whose tiles are finished before they are stored; large ones those of NumPy's or torch's BLAS.
The label term is C2OT's (Cheng and Schwing, 2025).
"""

import math

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import (
    apart,
    check_backend,
    check_numpy_out,
    check_threads,
    count,
    default_threads,
    flat,
    integer,
    is_tensor,
    real_array,
)
from loomfast.noise import api as noise_room

METRICS = ("sqeuclidean", "euclidean")
PRECISIONS = (None, "float64", "float32", "tf32", "bfloat16")
BACKENDS = ("auto", "reference", "cpu", "triton")
DIRECT_DIMENSIONS = 16  # up to here differences are taken directly
BLOCK = 1 << 22  # entries of the result computed at a time: they stay in the last-level cache
LEAST_ROWS = 1024  # but as many rows at least, so that the product does not repack z too often
NOISE_BLOCK = 1 << 22  # numbers of noise held at a time by pairwise_cost_from_ids
LEAST_PER_THREAD = 1 << 18  # entries; below this a thread costs more to wake than it saves
CACHED_BLOCK = 1 << 16  # entries that stay in the second-level cache
# Where the engine's tiles are no slower than a BLAS (see bench/cost.py): multiply-adds, the same where n
# or m is 1 (a BLAS has kernels for a vector), and numbers an item up to which any number of items will do.
MOST_TILED = 1 << 27
MOST_OF_ONE_TILED = 1 << 16
LONGEST_TILED = 64
TILED_PER_THREAD = 1 << 22  # multiply-adds; below this a thread costs more to wake than it saves
FLOAT64, NEITHER = 1, 2  # what holds the squares, where float32 does not: the engine's enum class Range
PRODUCTS, FULL, DIFFERENCES = 0, 1, 2  # what the tiles compute: the engine's enum class Form
LEAST_SURE = 1e-140  # of a sum of squares, or its root: smaller ones may have lost some below float64's range
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))  # what the engine takes


def pairwise_cost(
    x,
    z,
    *,
    metric="sqeuclidean",
    labels=None,
    label_weight=0.0,
    assignment_only=False,
    precision=None,
    out=None,
    backend="auto",
    threads=None,
):
    """Cost of every pair: (n, m) float32.

    Args:
        x, z: (n, ...) and (m, ...) real arrays of one kind, NumPy or torch; items are flattened to d numbers.
        metric: "sqeuclidean" (paper, eq. 7) or "euclidean" (the authors' code).
        labels: adds ``label_weight`` where labels differ (C2OT): a pair ``(labels_x, labels_z)`` of shapes
            (n,) and (m,), or one (n,) array for both when n = m.
        label_weight: a finite number, in the units of the metric.
        assignment_only: allows any matrix with the same optimal assignments. "sqeuclidean" then drops the
            norms and returns -2 x.z (+ labels); "euclidean" has nothing to drop.
        precision: of the product. None keeps the inputs' own (float32 at least); "float32"; "float64" (CPU);
            "tf32" (GPU); "bfloat16": inputs rounded to it, and on the CPU the product too, which loses about
            .01 % of the transport gain (needs torch).
        out: (n, m) float32 to write to, of the inputs' kind and device.
        backend: "auto" is "cpu" on the CPU and "triton" on an NVIDIA GPU; or "reference", "cpu", "triton".
        threads: CPU threads of the parts that are loomfast's own (small products, the pass after a large one,
            direct differences); a large product runs on the threads of the BLAS underneath NumPy or torch, as
            set there.

    Returns:
        (n, m) float32 of the inputs' kind. No gradient flows through it. On the CPU finite numbers of any
        size give their cost, infinite where float32 cannot hold it, never NaN.

    Raises:
        ValueError: shapes that do not fit, unknown metric, precision or backend.
        TypeError: x and z of different kinds or not real numbers.
        RuntimeError: the named backend or precision cannot run here.
    """
    _check_options(metric, precision, backend, label_weight, threads)
    drop = drops_norms(assignment_only, metric)
    simple = labels is None and precision in (None, "float32") and backend in ("auto", "cpu")
    if is_tensor(x) or is_tensor(z):
        from loomfast.cost import torch_ops as cost_torch

        result = cost_torch.cost_at_once(x, z, metric, drop, out, threads) if simple else None
        if result is not None:
            return result
        options = (metric, labels, float(label_weight), bool(assignment_only), precision)
        return cost_torch.cost(x, z, *options, out, backend, threads)
    result = _cost_at_once(x, z, metric, drop, out, threads) if simple else None
    if result is not None:
        return result
    options = (metric, labels, label_weight, assignment_only, precision)
    return _cost_of_arrays(x, z, *options, out, backend, threads)


def _cost_at_once(x, z, metric, drop_norms, out, threads):
    """The cost where the engine's tiles take float32 arrays as they are, else None and nothing done.

    A small cost would spend more time in the checks and conversions of the whole way than in the engine.
    """
    if not type(x) is type(z) is np.ndarray or x.ndim != 2 or z.ndim != 2:
        return None
    (n, d), (m, e) = x.shape, z.shape
    plan = tiled(n, m, d, drop_norms, threads)
    if plan is None or d != e or not x.dtype == z.dtype == np.float32:
        return None
    if out is None:
        out = np.empty((n, m), np.float32)
    elif type(out) is not np.ndarray:
        return None
    return out if _engine.cost_tiles(x, z, out, plan[0], metric == "euclidean", plan[1]) else None


@default_arithmetic()
def _cost_of_arrays(x, z, metric, labels, label_weight, assignment_only, precision, out, backend, threads):
    """``pairwise_cost`` for NumPy arrays, its plain arguments already checked."""
    drop = drops_norms(assignment_only, metric)
    x, z = _real_items(x, "x"), _real_items(z, "z")
    check_shapes(x.shape, z.shape)
    labels = _check_labels(labels, len(x), len(z))
    if backend == "triton":
        raise RuntimeError("backend='triton' needs torch tensors on a GPU; NumPy arrays are on the CPU")
    result = check_numpy_out(out, (len(x), len(z)), np.float32, "x")
    if backend == "reference":
        from loomfast.cost import reference as reference

        options = {"metric": metric, "labels": labels, "label_weight": label_weight}
        write_narrowed(result, reference.pairwise_cost(x, z, assignment_only=assignment_only, **options))
        return result
    if precision in ("bfloat16", "tf32"):
        raise RuntimeError(f"precision={precision!r} needs torch tensors; NumPy takes float32 and float64")
    dtype = np.dtype(precision or np.result_type(x, z, np.float32))
    x, z = (apart(np.ascontiguousarray(flat(part), dtype), result) for part in (x, z))
    plan = tiled(*result.shape, x.shape[1], drop, threads) if dtype == np.float32 else None
    fill_cpu(result, x, z, product_of(x, z), plan, metric, drop, labels, label_weight, threads)
    return result


def pairwise_cost_from_ids(
    x,
    ids,
    *,
    seed,
    domain=0,
    metric="sqeuclidean",
    labels=None,
    label_weight=0.0,
    assignment_only=False,
    precision=None,
    out=None,
    backend="auto",
    threads=None,
):
    """Cost of every pair (x_i, noise of id_j), the noise generated inside: (n, m) float32.

    The same as ``pairwise_cost(x, noise_from_ids(ids, x.shape[1:], seed=seed, domain=domain), ...)``, but the
    noise is held at most 16 MB at a time on the CPU and never stored on a GPU, where every tile of rows of x
    makes its noise again.

    Args:
        x: (n, ...) real array, NumPy or torch.
        ids: (m,) integers.
        seed, domain, threads: as in ``noise_from_ids``.
        metric, labels, label_weight, assignment_only, precision, out, backend: as in ``pairwise_cost``.

    Raises:
        ValueError, TypeError, RuntimeError: as the two.
    """
    _check_options(metric, precision, backend, label_weight, threads)
    seed, domain = integer(seed, "seed", 0, 1 << 64), integer(domain, "domain", 0, 1 << 31)
    options = {"metric": metric, "label_weight": label_weight, "assignment_only": bool(assignment_only)}
    if is_tensor(x):
        from loomfast.cost import torch_ops as cost_torch

        options |= {"labels": labels, "precision": precision, "out": out}
        return cost_torch.cost_from_ids(x, ids, seed, domain, backend=backend, threads=threads, **options)
    x, ids = _real_items(x, "x"), noise_room.check_ids(ids)
    labels = _check_labels(labels, len(x), len(ids))
    result = check_numpy_out(out, (len(x), len(ids)), np.float32, "x")
    options |= {"precision": precision, "backend": backend, "threads": threads}
    where = {"seed": seed, "domain": domain, "backend": backend, "threads": threads}
    for columns in row_blocks(len(ids), count(x.shape[1:]), NOISE_BLOCK):
        z = noise_room.noise_from_ids(ids[columns], x.shape[1:], **where)
        part = labels and (labels[0], labels[1][columns])
        pairwise_cost(x, z, labels=part, out=result[:, columns], **options)
    return result


def paired_cost(x, z, *, metric="sqeuclidean"):
    """Cost of each pair (x_i, z_i), by direct differences in float64: (n,) float64, in O(n d).

    Args:
        x, z: (n, ...) real arrays of one kind and shape, NumPy or torch.
        metric: "sqeuclidean" or "euclidean".

    Raises:
        ValueError, TypeError: as ``pairwise_cost``.
    """
    _check_options(metric, None, "auto", 0.0, None)
    if is_tensor(x) or is_tensor(z):
        from loomfast.cost import torch_ops as cost_torch

        return cost_torch.paired_cost(x, z, metric)
    x, z = _real_items(x, "x"), _real_items(z, "z")
    check_shapes(x.shape, z.shape)
    if len(x) != len(z):
        raise ValueError(f"x and z must hold as many items, got {len(x)} and {len(z)}")
    cost = np.empty(len(x))
    fill_paired(cost, flat(x), flat(z), metric)
    return cost


@default_arithmetic()
def fill_paired(out, x, z, metric, threads=None):
    """The costs of the pairs of NumPy x and z (n, d) into float64 ``out`` (n,)."""
    threads = threads or default_threads(x.size, LEAST_PER_THREAD)
    if x.dtype == z.dtype and x.dtype in FLOATS and x.flags.c_contiguous and z.flags.c_contiguous:
        _engine.cost_paired(x, z, out, metric == "euclidean", threads)
    else:
        for rows in row_blocks(*x.shape, CACHED_BLOCK):
            part = [np.ascontiguousarray(array[rows], np.float64) for array in (x, z)]
            _engine.cost_paired(*part, out[rows], metric == "euclidean", threads)
    if np.float64 not in (x.dtype, z.dtype):  # float64 holds the squares of all others
        return
    lost = np.flatnonzero(~((out > LEAST_SURE) & (out < np.inf)))
    if lost.size:
        with np.errstate(over="ignore", invalid="ignore"):
            x, z = (np.asarray(part[lost], np.float64) for part in (x, z))
            half = np.where(np.maximum(abs(x), abs(z)).max(axis=1, initial=0) > 1e300, 0.5, 1.0)
            root = _lengths(x * half[:, None] - z * half[:, None]) / half
            out[lost] = root if metric == "euclidean" else root * root


def row_blocks(num_rows, num_columns, entries, least=1):
    """Slices of rows that hold about ``entries`` entries each, ``least`` rows at least."""
    step = max(least, entries // max(1, num_columns))
    return [slice(begin, min(begin + step, num_rows)) for begin in range(0, num_rows, step)]


def fill_cpu(out, x, z, product, plan, metric, drop_norms, labels, label_weight, threads=None):
    """The cost into float32 ``out`` (n, m), or -2 x.z where the norms are dropped.

    x (n, d), z (m, d): contiguous NumPy apart from ``out``, float32 or float64; computed in their dtype,
    or in more where that cannot hold their squares. plan: by ``tiled``; if None, product (rows, block) writes
    x[rows] z^T into the block, (len(rows), m) of that dtype.
    """
    (n, m), euclidean = out.shape, metric == "euclidean"
    held_by = _engine.cost_range(x, z, euclidean)
    if held_by == NEITHER:
        _fill_rows(out, x, z, metric, drop_norms, labels, label_weight)
        return
    if held_by == FLOAT64 and x.dtype == np.float32:
        x, z, plan = x.astype(np.float64), z.astype(np.float64), None
        product = product_of(x, z)
    if plan:
        _fill_tiles(out, x, z, *plan, euclidean)
        if labels is not None:
            add_labels(out, *labels, label_weight)
        return
    # The tiles have the rest of float32's; and where results may be too large for it, norms cancel too much.
    direct = not drop_norms and (x.shape[1] <= DIRECT_DIMENSIONS or held_by == FLOAT64)
    threads = threads or default_threads(n * m, LEAST_PER_THREAD)
    norms_x, norms_z = (None, None) if drop_norms or direct else _engine.cost_norms(x, z, threads)
    temporary = x.dtype != np.float32 or (out.size and out.strides[1] != out.itemsize)
    for rows in row_blocks(n, m, BLOCK, LEAST_ROWS):
        block = np.empty((rows.stop - rows.start, m), x.dtype) if temporary else out[rows]
        if direct:
            _engine.cost_direct(x[rows], z, block, euclidean, threads)
        else:
            product(rows, block)
            part = None if norms_x is None else norms_x[rows]
            _engine.cost_finish(block, part, norms_z, euclidean, threads)
        if labels is not None:
            add_labels(block, labels[0][rows], labels[1], label_weight)
        if temporary:
            write_narrowed(out[rows], block)


def product_of(x, z):
    """The function that writes x[rows] z^T into a block."""

    def product(rows, block):
        np.matmul(x[rows], z.T, out=block)

    return product


def write_narrowed(out, values):
    """float64 values into float32 ``out``, those beyond its range as infinities."""
    with np.errstate(over="ignore"):
        out[...] = values


def _fill_rows(out, x, z, metric, drop_norms, labels, label_weight):
    """``fill_cpu`` where float64 cannot hold squares: row by row, each of them and its differences scaled."""
    for i, row in enumerate(x):
        with np.errstate(over="ignore"):
            if drop_norms:
                cost = _scaled_products(row, z)
            else:
                root = 2 * _lengths(row / 2 - z / 2)
                cost = root if metric == "euclidean" else root * root
        if labels is not None:
            add_labels(cost[None], labels[0][i : i + 1], labels[1], label_weight)
        write_narrowed(out[i], cost)


def _scaled_products(row, z):
    """-2 z.row of rows z (m, d), each of them and ``row`` scaled by a power of two."""
    (a, k), (b, m) = _scaled(row[None]), _scaled(z)
    return np.ldexp(-2 * (b @ a[0]), k[0] + m)


def _lengths(rows):
    """(m,): the length of each of the rows (m, d), at any scale."""
    scaled, power = _scaled(rows)
    return np.ldexp(np.sqrt(np.square(scaled).sum(axis=1)), power)


def _scaled(rows):
    """(rows / 2^k, k) with the power k of each row that makes its largest magnitude about 1."""
    power = np.frexp(np.abs(rows).max(axis=1, initial=0.0))[1]
    return np.ldexp(rows, -power[:, None]), power


def tiled(n, m, d, drop_norms, threads):
    """(what the engine's tiles compute of a float32 cost, threads), or None where a BLAS is the faster."""
    work = n * m * d
    if not threads:
        threads = default_threads(work + 8 * n * m, TILED_PER_THREAD)  # an entry takes as long as 8 of them
    if d <= DIRECT_DIMENSIONS and not drop_norms:
        return DIFFERENCES, threads
    if (work > MOST_TILED and d > LONGEST_TILED) or (work > MOST_OF_ONE_TILED and (n == 1 or m == 1)):
        return None
    return PRODUCTS if drop_norms else FULL, threads


def _fill_tiles(out, x, z, form, threads, euclidean):
    """The cost of contiguous float32 x and z into ``out``, which may have any strides."""
    if _engine.cost_tiles(x, z, out, form, euclidean, threads, checked=True):
        return
    for rows in row_blocks(*out.shape, BLOCK):
        block = np.empty((rows.stop - rows.start, len(z)), np.float32)
        _engine.cost_tiles(x[rows], z, block, form, euclidean, threads, checked=True)
        out[rows] = block


def add_labels(block, labels_x, labels_z, weight):
    """The weight to where labels differ, in place."""
    for part in row_blocks(*block.shape, CACHED_BLOCK):
        block[part] += (labels_x[part, None] != labels_z) * block.dtype.type(weight)


def check_held(array, name):
    """ValueError if NumPy integers are beyond 2^53: they are computed in float64, which would round them."""
    if array.dtype.kind in "iu" and array.itemsize == 8 and array.size:
        largest = max(int(array.max()), -int(array.min()))
        if largest > 1 << 53:
            raise ValueError(f"{name} must hold integers of at most 2^53, got one of magnitude {largest}")


def drops_norms(assignment_only, metric):
    return assignment_only and metric == "sqeuclidean"


def _check_options(metric, precision, backend, label_weight, threads):
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}, got {metric!r}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(map(str, PRECISIONS))}, got {precision!r}")
    check_backend(backend, BACKENDS)
    if not math.isfinite(label_weight):
        raise ValueError(f"label_weight must be finite, got {label_weight}")
    check_threads(threads)


def check_shapes(x_shape, z_shape):
    """x (n, ...) and z (m, ...) hold items of one size."""
    if len(x_shape) == len(z_shape) == 2 and x_shape[1] == z_shape[1]:
        return
    if not x_shape or not z_shape:
        raise ValueError(f"x and z must have an item axis, got shapes {tuple(x_shape)} and {tuple(z_shape)}")
    if count(x_shape[1:]) != count(z_shape[1:]):
        got = f"{tuple(x_shape)} and {tuple(z_shape)}"
        raise ValueError(f"x and z must hold items of one size, got shapes {got}")


def split_labels(labels, n, m):
    """The pair (labels_x, labels_z), or None; one array serves both when n = m."""
    if labels is None:
        return None
    if not isinstance(labels, (tuple, list)):
        labels = (labels, labels)
    if len(labels) != 2 or len(labels[0]) != n or len(labels[1]) != m:
        got = " and ".join(str(len(part)) for part in labels)
        raise ValueError(f"labels must be a pair of lengths {n} and {m}, got {got}")
    return tuple(labels)


def _real_items(array, name):
    array = real_array(array, name)
    check_held(array, name)
    return array


def _check_labels(labels, n, m):
    pair = split_labels(labels, n, m)
    return pair and tuple(real_array(part, "labels") for part in pair)
