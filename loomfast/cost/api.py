"""`pairwise_cost`, `pairwise_cost_from_ids` and `paired_cost`: NumPy arrays, and by ``torch_ops`` tensors."""

import numpy as np

from loomfast._arrays import check_out, count, flat, library, module, to_numpy
from loomfast.cost import cpu
from loomfast.cost.spec import (
    check_as_many,
    check_metric,
    check_shapes,
    cost_spec,
    known_cost_spec,
    numpy_labels,
    real_items,
)
from loomfast.noise.cpu import noise_of_array
from loomfast.noise.spec import check_ids, noise_spec

_TORCH_OPS = "loomfast.cost.torch_ops"  # imported when a tensor first arrives, since it imports torch


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
        x, z: (n, ...) and (m, ...) real arrays of one kind, NumPy or torch, or another library's on a GPU,
            CuPy's say; items are flattened to d numbers.
        metric: "sqeuclidean" (paper, eq. 7) or "euclidean" (the authors' code).
        labels: adds ``label_weight`` where labels differ (C2OT): a pair ``(labels_x, labels_z)`` of shapes
            (n,) and (m,), or one (n,) array for both when n = m.
        label_weight: a finite number, in the units of the metric.
        assignment_only: allows any matrix with the same optimal assignments. "sqeuclidean" then drops the
            norms and returns -2 x.z (+ labels); "euclidean" has nothing to drop.
        precision: of the product. None keeps the inputs' own (float32 at least); "float32"; "float64";
            "tf32" (GPU); "bfloat16": inputs rounded to it, and on the CPU the product too, which loses about
            .01 % of the transport gain (needs torch). 64-bit integers are refused on a GPU, where nobody
            looks whether float64 holds them.
        out: (n, m) float32 to write to, of the inputs' kind and device.
        backend: "auto" is "cpu" on the CPU and "triton" on an NVIDIA GPU; or "reference", "cpu", "triton".
        threads: CPU threads of the parts that are loomfast's own (small products, the pass after a large one,
            direct differences); a large product runs on the threads of the BLAS underneath NumPy or torch, as
            set there.

    Returns:
        (n, m) float32 of the inputs' kind. No gradient flows through it. Finite numbers of any size give
        their cost, infinite where float32 cannot hold it, never NaN.

    Raises:
        ValueError: shapes that do not fit, unknown metric, precision or backend.
        TypeError: x and z of different kinds or not real numbers.
        RuntimeError: the named backend or precision cannot run here.
    """
    owner = library(x, z)
    if owner == "torch":
        request = metric, label_weight, assignment_only, precision, backend, threads
        return module(_TORCH_OPS).cost_of_tensors(x, z, labels, request, out)
    if owner == "cuda":
        from loomfast._torch import through_tensors

        options = {"metric": metric, "labels": labels, "label_weight": label_weight, "precision": precision}
        options |= {"assignment_only": assignment_only, "backend": backend, "threads": threads, "out": out}
        return through_tensors(pairwise_cost, x, z, **options)
    spec = known_cost_spec(metric, label_weight, assignment_only, precision, backend, threads)
    return cpu.cost_of_arrays(x, z, labels, spec, out)


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
    noise is held at most 16 MB at a time on the CPU, and 20 MB on a GPU; there it is never stored where the
    rows of x are one tile of a fused product, 32 to 128 of them.

    Args:
        x: (n, ...) real array, NumPy or torch.
        ids: (m,) integers.
        seed, domain, threads: as in ``noise_from_ids``.
        metric, labels, label_weight, assignment_only, precision, out, backend: as in ``pairwise_cost``.

    Raises:
        ValueError, TypeError, RuntimeError: as the two.
    """
    spec = cost_spec(metric, label_weight, assignment_only, precision, backend, threads)
    noise = noise_spec(seed, domain, backend, threads)
    owner = library(x)
    if owner == "torch":
        return module(_TORCH_OPS).cost_from_ids_of_tensor(x, ids, labels, (noise, spec), out)
    if owner == "cuda":
        from loomfast._torch import through_tensors

        options = {"metric": metric, "labels": labels, "label_weight": label_weight, "precision": precision}
        options |= {"assignment_only": assignment_only, "backend": backend, "threads": threads, "out": out}
        return through_tensors(pairwise_cost_from_ids, x, ids, seed=seed, domain=domain, **options)
    x, ids = real_items(x, "x"), check_ids(ids)
    shape = len(x), len(ids)
    labels = numpy_labels(labels, *shape)
    if out is None:
        out = np.empty(shape, cpu.FLOAT32)
    else:
        check_out(out, shape, cpu.FLOAT32, "x")
    for columns in cpu.row_blocks(len(ids), count(x.shape[1:]), cpu.NOISE_BLOCK):
        z = noise_of_array(ids[columns], x.shape[1:], "float32", noise, None)
        part = labels and (labels[0], labels[1][columns])
        cpu.cost_of_arrays(x, z, part, spec, out[:, columns])
    return out


def paired_cost(x, z, *, metric="sqeuclidean"):
    """Cost of each pair (x_i, z_i), by direct differences in float64: (n,) float64, in O(n d).

    Args:
        x, z: (n, ...) real arrays of one kind and shape, NumPy or torch.
        metric: "sqeuclidean" or "euclidean".

    Raises:
        ValueError, TypeError: as ``pairwise_cost``.
    """
    check_metric(metric)
    owner = library(x, z)
    if owner == "torch":
        return module(_TORCH_OPS).paired_cost_of_tensors(x, z, metric)
    if owner == "cuda":
        from loomfast._torch import through_tensors

        return through_tensors(paired_cost, x, z, metric=metric)
    x, z = real_items(x, "x"), real_items(z, "z")
    check_shapes(x.shape, z.shape)
    check_as_many(x, z)
    cost = np.empty(len(x))
    cpu.fill_paired(cost, flat(x), flat(z), metric == "euclidean")
    return cost


def reassigned_cost(x, z, order, *, items=None, metric="sqeuclidean"):
    """Costs of the pairs (x_i, z_i) and, after a reassignment, (x_i, z_order[i]): NumPy float64 (2, n).

    Args:
        x, z: (n, ...) real arrays of one kind and shape, NumPy or torch.
        order: (n,) int64 NumPy array, numbers of items of z.
        items: None, or as order, and the pairs of the reassignment are (x_items[k], z_order[k]).
        metric: "sqeuclidean" or "euclidean".

    Raises:
        ValueError, TypeError: as ``paired_cost``, and for a number in order or items that is no item's.
    """
    check_metric(metric)
    if type(x) is type(z) is np.ndarray:
        costs = cpu.reassigned(x, z, order, items, metric == "euclidean")
        if costs is not None:
            return costs
    before = to_numpy(paired_cost(x, z, metric=metric))
    x, z = (_chosen(part, of, name) for part, of, name in ((x, items, "items"), (z, order, "order")))
    return np.stack([before, to_numpy(paired_cost(x, z, metric=metric))])


def _chosen(x, numbers, name):
    """The items of x (n, ...) by their ``numbers`` (n,), all of them where that is None."""
    if numbers is None:
        return x
    if len(numbers) != len(x) or (len(x) and (numbers.min() < 0 or numbers.max() >= len(x))):
        raise ValueError(f"{name} must hold numbers of the {len(x)} items, as many")
    return x[module("torch").from_numpy(numbers).to(x.device) if library(x) == "torch" else numbers]
