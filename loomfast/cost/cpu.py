"""The cost on the CPU: the engine's tiles, or a BLAS and the engine's passes over its product.

Small products are the engine's own, whose tiles are finished before they are stored; large ones those of a
BLAS. Up to d = 16, where the norm expansion loses the digits that matter, differences are taken directly.
What float32 cannot hold is computed in float64, and what that cannot hold row by row, scaled.
"""

import numpy as np

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import apart, check_out, default_threads, flat, real_array
from loomfast.backends import check_backend_of_arrays
from loomfast.cost import reference
from loomfast.cost.spec import check_held, check_shapes, numpy_labels

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
IN_FLOAT64, IN_NEITHER = 1, 2  # what holds the squares, where float32 does not: the engine's enum class Range
PRODUCTS, FULL, DIFFERENCES = 0, 1, 2  # what the tiles compute: the engine's enum class Form
LEAST_SURE = 1e-140  # of a sum of squares, or its root: smaller ones may have lost some below float64's range
FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)  # what the engine takes


def cost_of_arrays(x, z, labels, spec, out):
    """`pairwise_cost` for NumPy arrays."""
    if labels is None:
        result = at_once(x, z, spec, out)
        if result is not None:
            return result
    x, z = real_array(x, "x"), real_array(z, "z")
    check_held(x, "x")
    check_held(z, "z")
    check_shapes(x.shape, z.shape)
    shape = len(x), len(z)
    labels = numpy_labels(labels, *shape)
    check_backend_of_arrays(spec.backend)
    if out is None:
        out = np.empty(shape, FLOAT32)
    else:
        check_out(out, shape, FLOAT32, "x")
    _fill_any(out, x, z, labels, spec)
    return out


@default_arithmetic()
def _fill_any(out, x, z, labels, spec):
    """The cost of NumPy x (n, ...) and z (m, ...) of any dtype and strides into float32 ``out`` (n, m)."""
    if spec.backend == "reference":
        options = {"metric": spec.metric, "labels": labels, "label_weight": spec.label_weight}
        cost = reference.pairwise_cost(x, z, assignment_only=spec.assignment_only, **options)
        with np.errstate(over="ignore"):
            out[...] = cost
        return
    if spec.precision in ("bfloat16", "tf32"):
        raise RuntimeError(
            f"precision={spec.precision!r} needs torch tensors; NumPy takes float32 and float64"
        )
    dtype = np.dtype(spec.precision or np.result_type(x, z, np.float32))
    x, z = (apart(np.ascontiguousarray(flat(part), dtype), out) for part in (x, z))
    plan = tiled(*out.shape, x.shape[1], spec) if dtype == FLOAT32 else None
    fill(out, x, z, labels, spec, plan)


def tiled(n, m, d, spec):
    """(what the engine's tiles compute of a float32 cost, threads), or None where a BLAS is the faster."""
    work, drops_norms, threads = n * m * d, spec.drops_norms, spec.threads
    if not threads:
        threads = default_threads(work + 8 * n * m, TILED_PER_THREAD)  # an entry takes as long as 8 of them
    if d <= DIRECT_DIMENSIONS and not drops_norms:
        return DIFFERENCES, threads
    if (work > MOST_TILED and d > LONGEST_TILED) or (work > MOST_OF_ONE_TILED and (n == 1 or m == 1)):
        return None
    return PRODUCTS if drops_norms else FULL, threads


def at_once(x, z, spec, out):
    """The cost without labels where the engine's tiles take NumPy arrays as they are, else None.

    They take contiguous float32 matrices apart from ``out`` whose squares float32 holds: those need no other
    check. A small cost would spend more time in `fill` and in what comes before it than in the engine.
    """
    if not type(x) is type(z) is np.ndarray or not spec.takes_tiles or x.ndim != 2 or z.ndim != 2:
        return None
    (n, d), (m, e) = x.shape, z.shape
    plan = tiled(n, m, d, spec)
    if plan is None or d != e or not x.dtype == z.dtype == FLOAT32:
        return None
    if out is None:
        out = np.empty((n, m), FLOAT32)
    elif type(out) is not np.ndarray:
        return None
    return out if _engine.cost_tiles(x, z, out, plan[0], spec.euclidean, plan[1]) else None


def fill(out, x, z, labels, spec, plan, product=None):
    """The cost into float32 ``out`` (n, m) of any strides.

    Args:
        out: where the cost goes.
        x, z: (n, d) and (m, d), contiguous, apart from ``out``, float32 or float64; computed in their dtype,
            or in more where that cannot hold their squares.
        labels: (labels_x, labels_z) or None.
        spec: the `CostSpec`.
        plan: what `tiled` says for float32; None for the product of a BLAS.
        product: ``product(rows, block)`` writes x[rows] z^T into a block (len(rows), m) of x's dtype; NumPy's
            where it is None.
    """
    held_by = _engine.cost_range(x, z, spec.euclidean)
    if held_by == IN_NEITHER:
        _fill_rows(out, x, z, labels, spec)
        return
    if held_by == IN_FLOAT64 and x.dtype == FLOAT32:
        x, z, plan, product = x.astype(np.float64), z.astype(np.float64), None, None
    if plan:
        _fill_tiles(out, x, z, *plan, spec.euclidean)
        if labels is not None:
            add_labels(out, *labels, spec.label_weight)
        return
    # The tiles have the rest of float32's; and where results may be too large for it, norms cancel too much.
    direct = not spec.drops_norms and (x.shape[1] <= DIRECT_DIMENSIONS or held_by == IN_FLOAT64)
    _fill_blocks(out, x, z, labels, spec, direct, product or _product_of(x, z))


def _fill_blocks(out, x, z, labels, spec, direct, product):
    """`fill` by blocks of rows: by differences if ``direct``, else products that a second pass finishes."""
    n, m = out.shape
    threads = spec.threads or default_threads(n * m, LEAST_PER_THREAD)
    norms_x, norms_z = (None, None) if spec.drops_norms or direct else _engine.cost_norms(x, z, threads)
    temporary = x.dtype != np.float32 or (out.size and out.strides[1] != out.itemsize)
    for rows in row_blocks(n, m, BLOCK, LEAST_ROWS):
        block = np.empty((rows.stop - rows.start, m), x.dtype) if temporary else out[rows]
        if direct:
            _engine.cost_direct(x[rows], z, block, spec.euclidean, threads)
        else:
            product(rows, block)
            part = None if norms_x is None else norms_x[rows]
            _engine.cost_finish(block, part, norms_z, spec.euclidean, threads)
        if labels is not None:
            add_labels(block, labels[0][rows], labels[1], spec.label_weight)
        if temporary:
            write_narrowed(out[rows], block)


def _product_of(x, z):
    """The function that writes x[rows] z^T into a block."""

    def product(rows, block):
        np.matmul(x[rows], z.T, out=block)

    return product


def _fill_tiles(out, x, z, form, threads, euclidean):
    """The cost of contiguous float32 x and z into ``out``, which may have any strides."""
    if _engine.cost_tiles(x, z, out, form, euclidean, threads, checked=True):
        return
    for rows in row_blocks(*out.shape, BLOCK):
        block = np.empty((rows.stop - rows.start, len(z)), np.float32)
        _engine.cost_tiles(x[rows], z, block, form, euclidean, threads, checked=True)
        out[rows] = block


def _fill_rows(out, x, z, labels, spec):
    """`fill` where float64 cannot hold squares: row by row, each of them and its differences scaled."""
    for i, row in enumerate(x):
        with np.errstate(over="ignore"):
            if spec.drops_norms:
                cost = _scaled_products(row, z)
            else:
                root = 2 * _lengths(row / 2 - z / 2)
                cost = root if spec.euclidean else root * root
        if labels is not None:
            add_labels(cost[None], labels[0][i : i + 1], labels[1], spec.label_weight)
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


def add_labels(block, labels_x, labels_z, weight):
    """Add the weight where labels differ, in place: block (n, m), labels (n,) and (m,)."""
    for part in row_blocks(*block.shape, CACHED_BLOCK):
        block[part] += (labels_x[part, None] != labels_z) * block.dtype.type(weight)


def write_narrowed(out, values):
    """float64 values into float32 ``out``, those beyond its range as infinities."""
    with np.errstate(over="ignore"):
        out[...] = values


def row_blocks(num_rows, num_columns, entries, least=1):
    """Slices of rows that hold about ``entries`` entries each, ``least`` rows at least."""
    step = max(least, entries // max(1, num_columns))
    return [slice(begin, min(begin + step, num_rows)) for begin in range(0, num_rows, step)]


@default_arithmetic()
def fill_paired(out, x, z, euclidean):
    """The costs of the pairs of NumPy x and z (n, d) into float64 ``out`` (n,)."""
    threads = default_threads(x.size, LEAST_PER_THREAD)
    if x.dtype == z.dtype and x.dtype in (FLOAT32, FLOAT64) and x.flags.c_contiguous and z.flags.c_contiguous:
        _engine.cost_paired(x, z, out, euclidean, threads)
    else:
        for rows in row_blocks(*x.shape, CACHED_BLOCK):
            part = [np.ascontiguousarray(array[rows], np.float64) for array in (x, z)]
            _engine.cost_paired(*part, out[rows], euclidean, threads)
    if np.float64 not in (x.dtype, z.dtype):  # float64 holds the squares of all others
        return
    lost = np.flatnonzero(~((out > LEAST_SURE) & (out < np.inf)))
    if lost.size:
        with np.errstate(over="ignore", invalid="ignore"):
            x, z = (np.asarray(part[lost], np.float64) for part in (x, z))
            half = np.where(np.maximum(abs(x), abs(z)).max(axis=1, initial=0) > 1e300, 0.5, 1.0)
            root = _lengths(x * half[:, None] - z * half[:, None]) / half
            out[lost] = root if euclidean else root * root


def reassigned(x, z, order, items, euclidean):
    """`reassigned_cost` of contiguous float32 arrays of one shape (n, ...), or None for others."""
    dense = x.flags.c_contiguous and z.flags.c_contiguous
    if not (x.dtype == z.dtype == FLOAT32 and x.shape == z.shape and x.ndim and dense):
        return None
    threads = default_threads(2 * x.size, LEAST_PER_THREAD)
    return _engine.cost_paired_again(flat(x), flat(z), order, items, euclidean, threads)
