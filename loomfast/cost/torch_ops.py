"""Costs of torch tensors: the operators ``loomfast::pairwise_cost`` and ``loomfast::pairwise_cost_from_ids``.

Imported when a tensor first arrives. `loomfast._torch` says what an operator is.
"""

import torch

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import REAL, apart, check_dtype, check_out, flat, is_tensor
from loomfast._torch import CPU, call, ordinary, register
from loomfast.backends import choose_backend
from loomfast.cost import cpu, reference
from loomfast.cost.spec import (
    CostSpec,
    FromIdsSpec,
    check_as_many,
    check_held,
    check_shapes,
    cost_spec,
    known_cost_spec,
    split_labels,
)
from loomfast.noise.torch_ops import check_ids, fill_noise

_WIDE = {torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}


def cost_of_tensors(x, z, labels, request, out):
    """`pairwise_cost` for torch tensors; ``request`` is what `cost_spec` takes."""
    return call(COST, (x, z, labels), request, (), out)


def _check_request(x, z, labels, spec, out):
    _check_pair(x, z)
    n, m = x.shape[0], z.shape[0]
    if out is not None:
        check_out(out, (n, m), torch.float32, "the input", x.device)
    _choose_backend("pairwise_cost", spec, x)
    return x, z, *_labels(labels, n, m, x)


def _at_once(x, z, labels, spec, out):
    """The cost without labels where the engine's tiles take CPU tensors as they are, else None.

    As `cpu.at_once`, at addresses: a NumPy array takes longer to make of a tensor than a small cost takes.
    """
    x_shape, z_shape = x.shape, z.shape  # every look at a tensor takes time
    if labels is not None or not spec.takes_tiles or len(x_shape) != 2 or len(z_shape) != 2:
        return None
    (n, d), (m, e) = x_shape, z_shape
    plan, float32 = _tiled(n, m, d, spec), torch.float32
    if plan is None or d != e or x.dtype is not float32 or z.dtype is not float32:
        return None
    if not (x.is_contiguous() and z.is_contiguous()):
        return None
    if out is None:
        result, stride = torch.empty((n, m), dtype=float32, device=CPU), m  # faster than x.new_empty
    elif out.shape != (n, m) or out.dtype is not float32 or out.requires_grad:
        return None
    else:
        result, (stride, step) = out, out.stride()
        if step != 1 or stride < m:
            return None
    sizes = (n, m, d, stride, plan[0], spec.euclidean, plan[1])
    taken = _engine.cost_tiles_at(x.data_ptr(), z.data_ptr(), result.data_ptr(), *sizes)
    return result if taken else None


def _tiled(n, m, d, spec):
    """`cpu.tiled`, by itself on no more threads than torch would take for the product."""
    plan = cpu.tiled(n, m, d, spec)
    if plan is None or spec.threads or plan[1] == 1:
        return plan
    return plan[0], min(plan[1], torch.get_num_threads())


def fill_cost(x, z, labels_x, labels_z, spec, out):
    """The cost of x (n, ...) and z (m, ...) into float32 ``out`` (n, m), on the device that all are on."""
    backend = _choose_backend("pairwise_cost", spec, x)
    if backend == "cpu" and _at_once(x, z, labels_x, spec, out) is not None:
        return
    _check_pair(x, z)
    labels = None if labels_x is None else (labels_x, labels_z)
    with default_arithmetic():
        _FILL[backend](flat(x.detach()), flat(z.detach()), labels, spec, out)


def _fill_triton(x, z, labels, spec, out, noise=None):
    """The cost on a GPU. z holds (m, d) numbers or, where there is a ``noise`` spec, (m,) ids."""
    from loomfast.cost import gpu

    target = out if out.stride(1) == 1 else torch.empty(out.shape, dtype=out.dtype, device=out.device)
    labels = labels and tuple(part.contiguous() for part in labels)
    if noise is None:
        gpu.fill(x, z, labels, spec, target)
    else:
        gpu.fill_from_ids(x, z, noise, labels, spec, target)
    if target is not out:
        out.copy_(target)


def _fill_reference(x, z, labels, spec, out):
    x, z = (item.double().cpu().numpy() for item in (x, z))
    options = {"metric": spec.metric, "label_weight": spec.label_weight}
    options["labels"] = labels and tuple(part.cpu().numpy() for part in labels)
    cost = reference.pairwise_cost(x, z, assignment_only=spec.assignment_only, **options)
    out.copy_(torch.from_numpy(cost))


def _fill_cpu(x, z, labels, spec, out):
    labels = labels and tuple(part.numpy() for part in labels)
    dtype, rounded = _cost_dtype(x, z, spec.precision), spec.precision == "bfloat16"
    plan = _tiled(*out.shape, x.shape[1], spec) if dtype is torch.float32 else None
    if rounded and plan and plan[0] != cpu.DIFFERENCES:
        plan = None
    points = [_as_cpu(part, dtype, name).contiguous() for part, name in ((x, "x"), (z, "z"))]
    arrays = [apart(part.numpy(), out.numpy()) for part in points]
    points = [torch.from_numpy(array) for array in arrays]
    if rounded:
        points = [part.bfloat16() for part in points]
    if spec.drops_norms and not plan and _engine.cost_range(*arrays, False) == 0:
        _fill_product(*points, out)
        if labels is not None:
            cpu.add_labels(out.numpy(), *labels, spec.label_weight)
        return
    cpu.fill(out.numpy(), *arrays, labels, spec, plan, _product_of(*points))


_FILL = {"cpu": _fill_cpu, "reference": _fill_reference, "triton": _fill_triton}


def _empty_cost(x, z, *_):
    return x.new_empty((x.shape[0], z.shape[0]), dtype=torch.float32)


_LABELS = "Tensor? labels_x, Tensor? labels_z"
COST = register(
    *("pairwise_cost", f"Tensor x, Tensor z, {_LABELS}", CostSpec),
    known=known_cost_spec,
    parse=cost_spec,
    check=_check_request,
    empty=_empty_cost,
    fill=fill_cost,
    at_once=_at_once,
)


def cost_from_ids_of_tensor(x, ids, labels, request, out):
    """`pairwise_cost_from_ids` for a torch x; ``request`` are the specs of noise and cost."""
    return call(COST_FROM_IDS, (x, ids, labels), request, (), out)


def _check_request_from_ids(x, ids, labels, spec, out):
    _check_real(x, "x")
    ids = check_ids(ids, x.device)
    n, m = x.shape[0], ids.shape[0]
    if out is not None:
        check_out(out, (n, m), torch.float32, "the input", x.device)
    _choose_backend("pairwise_cost_from_ids", spec.cost, x)
    return x, ids, *_labels(labels, n, m, x)


def fill_cost_from_ids(x, ids, labels_x, labels_z, spec, out):
    """The cost of x (n, ...) and the noise of int64 ids (m,) into float32 ``out`` (n, m)."""
    _check_real(x, "x")
    noise, x = spec.noise, flat(x.detach())
    backend = _choose_backend("pairwise_cost_from_ids", spec.cost, x)
    if backend == "triton":
        labels = None if labels_x is None else (labels_x, labels_z)
        _fill_triton(x, ids, labels, spec.cost, out, noise)
        return
    for columns in cpu.row_blocks(ids.shape[0], x.shape[1], cpu.NOISE_BLOCK):
        z = torch.empty((columns.stop - columns.start, x.shape[1]), dtype=torch.float32, device=x.device)
        fill_noise(ids[columns], noise, z)
        part = None if labels_z is None else labels_z[columns]
        fill_cost(x, z, labels_x, part, spec.cost, out[:, columns])


COST_FROM_IDS = register(
    *("pairwise_cost_from_ids", f"Tensor x, Tensor ids, {_LABELS}", FromIdsSpec),
    parse=FromIdsSpec,
    check=_check_request_from_ids,
    empty=_empty_cost,
    fill=fill_cost_from_ids,
)


def paired_cost_of_tensors(x, z, metric):
    """`paired_cost` for torch tensors, its metric checked."""
    _check_pair(x, z)
    check_as_many(x, z)
    plain = ordinary(x, z)
    x, z = flat(x.detach()), flat(z.detach())
    total = torch.empty(x.shape[0], dtype=torch.float64, device=x.device)
    if plain:
        dtype = _cost_dtype(x, z, None)
        with default_arithmetic():
            points = (_as_cpu(x, dtype, "x").numpy(), _as_cpu(z, dtype, "z").numpy())
            cpu.fill_paired(total.numpy(), *points, metric == "euclidean")
        return total
    for rows in cpu.row_blocks(x.shape[0], x.shape[1], cpu.BLOCK):
        total[rows] = (x[rows].double() - z[rows].double()).square_().sum(dim=1)
    return total.sqrt_() if metric == "euclidean" else total


def _choose_backend(operation, spec, tensor):
    """`choose_backend`, and a RuntimeError if the backend does not have the precision."""
    backend = choose_backend(operation, spec.backend, tensor)
    if backend == "cpu" and spec.precision == "tf32":
        raise RuntimeError("precision='tf32' needs a GPU; the CPU takes float64, float32 and bfloat16")
    return backend


def _fill_product(x, z, out):
    """-2 x z^T into float32 ``out``, the product in the dtype of x and z."""
    if x.dtype is torch.float32:
        out.addmm_(x, z.T, beta=0, alpha=-2)  # beta = 0: what was there is not read
        return
    for rows in cpu.row_blocks(*out.shape, cpu.BLOCK, cpu.LEAST_ROWS):
        torch.mul(x[rows] @ z.T, -2, out=out[rows])


def _product_of(x, z):
    """The function that writes x[rows] z^T into a NumPy block."""

    def product(rows, block):
        part = x if len(block) == len(x) else x[rows]  # a slice costs as much as a small product
        if x.dtype is torch.bfloat16:  # whose product is bfloat16 on the CPU
            torch.from_numpy(block).copy_(part @ z.T)
        else:
            torch.mm(part, z.T, out=torch.from_numpy(block))

    return product


def _cost_dtype(x, z, precision):
    """As NumPy promotes with float32: float64 for float64 and for integers that float32 does not hold."""
    if precision == "float64" or (not precision and (x.dtype in _WIDE or z.dtype in _WIDE)):
        return torch.float64
    return torch.float32


def _labels(labels, n, m, like):
    """The pair of labels as tensors on the device of ``like``, or (None, None)."""
    if labels is None:
        return None, None
    pair = [torch.as_tensor(part, device=like.device) for part in split_labels(labels, n, m)]
    for part in pair:
        check_dtype(part.dtype, "labels", REAL, "hold real numbers")
    return [part.float() if part.dtype is torch.bfloat16 else part for part in pair]


def _as_cpu(tensor, dtype, name):
    """A CPU tensor of float32 or float64; ValueError for integers that this would round."""
    if not tensor.dtype.is_floating_point:
        check_held(tensor.numpy(), name)
    return tensor if tensor.dtype is dtype else tensor.to(dtype)  # a conversion to itself takes a microsecond


def _check_pair(x, z):
    """An error unless x (n, ...) and z (m, ...) are real tensors with items of one size on one device."""
    _check_real(x, "x")
    _check_real(z, "z")
    check_shapes(x.shape, z.shape)
    if x.device != z.device:
        raise ValueError(f"x and z must be on one device, got {x.device} and {z.device}")


def _check_real(item, name):
    if not is_tensor(item):
        raise TypeError(f"{name} must be a torch tensor, like the other, got {type(item).__name__}")
    if item.dtype is not torch.float32:
        check_dtype(item.dtype, name, REAL, "hold real numbers")
