"""The operations of ``loomfast.cost`` on torch tensors: custom ops, as ``loomfast.ops`` describes them."""

import torch

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import REAL, apart, check_dtype, flat
from loomfast.cost import api as cost_room
from loomfast.cost import reference as cost_reference
from loomfast.noise.torch_ops import (
    check_ids,
    check_out,
    choose_backend,
    detached,
    fill_noise,
    fill_ordinary,
    ordinary,
    signed,
)

WIDE = {torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}
TRITON_PRECISIONS = {"float32": "ieee", "tf32": "tf32", "bfloat16": "bf16"}


def cost_at_once(x, z, metric, drop_norms, out, threads):
    """The cost where the engine's tiles take float32 tensors as they are, else None and nothing done."""
    tensors = (x, z) if out is None else (x, z, out)
    if not ordinary(*tensors):
        return None
    x_shape, z_shape = x.shape, z.shape
    if len(x_shape) != 2 or len(z_shape) != 2:
        return None
    (n, d), (m, e) = x_shape, z_shape
    plan = _tiled(n, m, d, drop_norms, threads)
    float32 = torch.float32
    if plan is None or d != e or x.dtype is not float32 or z.dtype is not float32:
        return None
    if not (x.is_contiguous() and z.is_contiguous()):
        return None
    if out is None:
        result, stride = x.new_empty((n, m)), m
    elif out.shape != (n, m) or out.dtype is not float32 or out.requires_grad:
        return None
    else:
        result, (stride, step) = out, out.stride()
        if step != 1 or stride < m:
            return None
    form, threads = plan
    sizes = (n, m, d, stride, form, metric == "euclidean", threads)
    if not _engine.cost_tiles_at(x.data_ptr(), z.data_ptr(), result.data_ptr(), *sizes):
        return None
    if out is not None and not out.is_inference():
        torch.autograd.graph.increment_version(out)
    return result


def _tiled(n, m, d, drop_norms, threads):
    """``loomfast.cost.tiled``, by itself on no more threads than torch would take for the product."""
    plan = cost_room.tiled(n, m, d, drop_norms, threads)
    if plan is None or threads or plan[1] == 1:
        return plan
    return plan[0], min(plan[1], torch.get_num_threads())


def cost(x, z, metric, labels, label_weight, assignment_only, precision, out, backend, threads):
    """``pairwise_cost`` for tensors, its plain arguments already checked."""
    _check_pair(x, z)
    n, m, device = x.shape[0], z.shape[0], x.device  # every look at a tensor takes time
    backend = _cost_backend("pairwise_cost", backend, precision, device)
    labels = _labels(labels, n, m, device)
    options = (metric, *labels, label_weight, assignment_only, precision or "", backend, threads or 0)
    plain = ordinary(*(part for part in (x, z, *labels, out) if part is not None))
    x, z = detached(x, plain), detached(z, plain)
    if out is None:
        return (make_cost if plain else torch.ops.loomfast.pairwise_cost)(x, z, *options)
    check_out(out, (n, m), torch.float32, device)
    if out.is_neg():  # its memory holds the opposite of what it says
        return out.copy_(torch.ops.loomfast.pairwise_cost(x, z, *options))
    if plain and not out.requires_grad:
        fill_ordinary(fill_cost, out, x, z, *options)
    else:
        torch.ops.loomfast.pairwise_cost_out(x, z, *options, out)
    return out


def cost_from_ids(
    x, ids, seed, domain, metric, labels, label_weight, assignment_only, precision, out, backend, threads
):
    """``pairwise_cost_from_ids`` for tensors, its plain arguments already checked."""
    _check_real(x, "x")
    ids = check_ids(ids, x.device)
    backend = _cost_backend("pairwise_cost_from_ids", backend, precision, x.device)
    labels = _labels(labels, x.shape[0], ids.shape[0], x.device)
    options = (metric, *labels, label_weight, assignment_only, precision or "", backend)
    tail = (signed(seed), domain, threads or 0)
    plain = ordinary(*(part for part in (x, ids, *labels, out) if part is not None))
    x = detached(x, plain)
    if out is None:
        make = make_cost_from_ids if plain else torch.ops.loomfast.pairwise_cost_from_ids
        return make(x, ids, *options, *tail)
    check_out(out, (x.shape[0], ids.shape[0]), torch.float32, x.device)
    if out.is_neg():
        return out.copy_(torch.ops.loomfast.pairwise_cost_from_ids(x, ids, *options, *tail))
    if plain and not out.requires_grad:
        fill_ordinary(fill_cost_from_ids, out, x, ids, *options, *tail)
    else:
        torch.ops.loomfast.pairwise_cost_from_ids_out(x, ids, *options, *tail, out)
    return out


def paired_cost(x, z, metric):
    """``paired_cost`` for tensors."""
    _check_pair(x, z)
    if x.shape[0] != z.shape[0]:
        raise ValueError(f"x and z must hold as many items, got {x.shape[0]} and {z.shape[0]}")
    plain = ordinary(x, z)
    x, z = flat(detached(x, plain)), flat(detached(z, plain))
    total = torch.empty(x.shape[0], dtype=torch.float64, device=x.device)
    if plain:
        dtype = _cost_dtype(x, z, None)
        with default_arithmetic():
            points = (_as_cpu(x, dtype, "x").numpy(), _as_cpu(z, dtype, "z").numpy())
            cost_room.fill_paired(total.numpy(), *points, metric)
        return total
    for rows in cost_room.row_blocks(x.shape[0], x.shape[1], cost_room.BLOCK):
        total[rows] = (x[rows].double() - z[rows].double()).square_().sum(dim=1)
    return total.sqrt_() if metric == "euclidean" else total


def _cost_backend(operation, backend, precision, device):
    backend = choose_backend(operation, backend, device)
    if backend == "cpu" and precision == "tf32":
        raise RuntimeError("precision='tf32' needs a GPU; the CPU takes float64, float32 and bfloat16")
    if backend == "triton" and precision == "float64":
        raise RuntimeError("precision='float64' needs the CPU; Triton takes float32, tf32 and bfloat16")
    return backend


@default_arithmetic()
def fill_cost(
    x: torch.Tensor,
    z: torch.Tensor,
    metric: str,
    labels_x: torch.Tensor | None,
    labels_z: torch.Tensor | None,
    label_weight: float,
    assignment_only: bool,
    precision: str,
    backend: str,
    threads: int,
    out: torch.Tensor,
) -> None:
    _check_pair(x, z)
    x, z = flat(x), flat(z)
    labels = None if labels_x is None else (labels_x, labels_z)
    options = {"metric": metric, "label_weight": label_weight}
    if backend == "triton":
        _triton_cost(x, z, labels, assignment_only, precision, options, out)
        return
    labels = labels and tuple(part.cpu().numpy() for part in labels)
    drop_norms = cost_room.drops_norms(assignment_only, metric)
    if backend == "reference":
        x, z = (item.double().cpu().numpy() for item in (x, z))
        values = cost_reference.pairwise_cost(x, z, labels=labels, assignment_only=assignment_only, **options)
        out.copy_(torch.from_numpy(values))
        return
    dtype, rounded = _cost_dtype(x, z, precision), precision == "bfloat16"
    plan = _tiled(*out.shape, x.shape[1], drop_norms, threads) if dtype is torch.float32 else None
    if rounded and plan and plan[0] != cost_room.DIFFERENCES:
        plan = None
    points = [_as_cpu(part, dtype, name).contiguous() for part, name in ((x, "x"), (z, "z"))]
    points = [torch.from_numpy(apart(part.numpy(), out.numpy())) for part in points]
    if drop_norms and not plan and _engine.cost_range(*(part.numpy() for part in points), False) == 0:
        _fill_product(*points, precision, out)
        if labels is not None:
            cost_room.add_labels(out.numpy(), *labels, label_weight)
        return
    product = _cpu_product(*([part.bfloat16() for part in points] if rounded else points))
    x, z = points[0].numpy(), points[1].numpy()
    tail = (metric, drop_norms, labels, label_weight, threads)
    cost_room.fill_cpu(out.numpy(), x, z, product, plan, *tail)


_cost_out = torch.library.custom_op("loomfast::pairwise_cost_out", fill_cost, mutates_args=("out",))


@_cost_out.register_fake
def _(x, z, metric, labels_x, labels_z, label_weight, assignment_only, precision, backend, threads, out):
    return None


def make_cost(
    x: torch.Tensor,
    z: torch.Tensor,
    metric: str,
    labels_x: torch.Tensor | None,
    labels_z: torch.Tensor | None,
    label_weight: float,
    assignment_only: bool,
    precision: str,
    backend: str,
    threads: int,
) -> torch.Tensor:
    out = torch.empty((x.shape[0], z.shape[0]), dtype=torch.float32, device=x.device)
    options = (metric, labels_x, labels_z, label_weight, assignment_only, precision, backend, threads)
    fill_cost(x, z, *options, out)
    return out


_cost = torch.library.custom_op("loomfast::pairwise_cost", make_cost, mutates_args=())


@_cost.register_fake
def _(x, z, metric, labels_x, labels_z, label_weight, assignment_only, precision, backend, threads):
    return x.new_empty((x.shape[0], z.shape[0]), dtype=torch.float32)


@default_arithmetic()
def fill_cost_from_ids(
    x: torch.Tensor,
    ids: torch.Tensor,
    metric: str,
    labels_x: torch.Tensor | None,
    labels_z: torch.Tensor | None,
    label_weight: float,
    assignment_only: bool,
    precision: str,
    backend: str,
    seed: int,
    domain: int,
    threads: int,
    out: torch.Tensor,
) -> None:
    _check_real(x, "x")
    x = flat(x)
    labels = None if labels_x is None else (labels_x, labels_z)
    options = {"metric": metric, "label_weight": label_weight}
    if backend == "triton" and x.shape[1] > cost_room.DIRECT_DIMENSIONS:
        options |= {"seed": seed, "word3": domain}
        _triton_cost(x, ids, labels, assignment_only, precision, options, out)
        return
    for columns in cost_room.row_blocks(ids.shape[0], x.shape[1], cost_room.NOISE_BLOCK):
        z = torch.empty((columns.stop - columns.start, x.shape[1]), dtype=torch.float32, device=x.device)
        fill_noise(ids[columns], seed, domain, backend, threads, z)
        part = (None, None) if labels is None else (labels_x, labels_z[columns])
        tail = (label_weight, assignment_only, precision, backend, threads, out[:, columns])
        fill_cost(x, z, metric, *part, *tail)


_cost_from_ids_out = torch.library.custom_op(
    "loomfast::pairwise_cost_from_ids_out", fill_cost_from_ids, mutates_args=("out",)
)


@_cost_from_ids_out.register_fake
def _(
    x,
    ids,
    metric,
    labels_x,
    labels_z,
    label_weight,
    assignment_only,
    precision,
    backend,
    seed,
    domain,
    threads,
    out,
):
    return None


def make_cost_from_ids(
    x: torch.Tensor,
    ids: torch.Tensor,
    metric: str,
    labels_x: torch.Tensor | None,
    labels_z: torch.Tensor | None,
    label_weight: float,
    assignment_only: bool,
    precision: str,
    backend: str,
    seed: int,
    domain: int,
    threads: int,
) -> torch.Tensor:
    out = torch.empty((x.shape[0], ids.shape[0]), dtype=torch.float32, device=x.device)
    options = (metric, labels_x, labels_z, label_weight, assignment_only, precision, backend)
    fill_cost_from_ids(x, ids, *options, seed, domain, threads, out)
    return out


_cost_from_ids = torch.library.custom_op(
    "loomfast::pairwise_cost_from_ids", make_cost_from_ids, mutates_args=()
)


@_cost_from_ids.register_fake
def _(
    x,
    ids,
    metric,
    labels_x,
    labels_z,
    label_weight,
    assignment_only,
    precision,
    backend,
    seed,
    domain,
    threads,
):
    return x.new_empty((x.shape[0], ids.shape[0]), dtype=torch.float32)


def _triton_cost(x, z, labels, assignment_only, precision, options, out):
    """z is (m, d) numbers, or (m,) ids when the options hold a seed."""
    from loomfast.kernels import cost as kernels

    from_ids, drop = "seed" in options, assignment_only and options["metric"] == "sqeuclidean"
    target = out if out.stride(1) == 1 else torch.empty(out.shape, dtype=out.dtype, device=out.device)
    options = options | {"labels": labels and tuple(part.contiguous() for part in labels)}
    if x.shape[1] <= cost_room.DIRECT_DIMENSIONS and not drop:
        kernels.direct(x.float(), z.float(), target, **options)
    else:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        z = z if from_ids else z.to(dtype)
        options |= {"drop_norms": drop, "precision": TRITON_PRECISIONS[precision or "float32"]}
        (kernels.cost_from_ids if from_ids else kernels.cost)(x.to(dtype), z, target, **options)
    if target is not out:
        out.copy_(target)


def _fill_product(x, z, precision, out):
    """-2 x z^T into float32 ``out``."""
    dtype = torch.bfloat16 if precision == "bfloat16" else _cost_dtype(x, z, precision)
    x, z = _as(x, dtype), _as(z, dtype)
    if dtype == torch.float32:
        out.addmm_(x, z.T, beta=0, alpha=-2)  # beta = 0: what was there is not read
        return
    for rows in cost_room.row_blocks(*out.shape, cost_room.BLOCK, cost_room.LEAST_ROWS):
        torch.mul(x[rows] @ z.T, -2, out=out[rows])


def _cpu_product(x, z):
    """The function that writes x[rows] z^T into a NumPy block."""

    def product(rows, block):
        part = x if len(block) == len(x) else x[rows]  # a slice costs as much as a small product
        if x.dtype == torch.bfloat16:  # whose product is bfloat16 on the CPU
            torch.from_numpy(block).copy_(part @ z.T)
        else:
            torch.mm(part, z.T, out=torch.from_numpy(block))

    return product


def _cost_dtype(x, z, precision):
    """As NumPy promotes with float32: float64 for float64 and for integers that float32 does not hold."""
    if precision == "float64" or (not precision and (x.dtype in WIDE or z.dtype in WIDE)):
        return torch.float64
    return torch.float32


def _labels(labels, n, m, device):
    if labels is None:
        return None, None
    pair = [torch.as_tensor(part, device=device) for part in cost_room.split_labels(labels, n, m)]
    for part in pair:
        check_dtype(part.dtype, "labels", REAL, "hold real numbers")
    return [part.float() if part.dtype is torch.bfloat16 else part for part in pair]


def _as(tensor, dtype):
    return tensor if tensor.dtype is dtype else tensor.to(dtype)  # a conversion to itself takes a microsecond


def _check_real(item, name):
    if not isinstance(item, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, like the other, got {type(item).__name__}")
    check_dtype(item.dtype, name, REAL, "hold real numbers")


def _as_cpu(tensor, dtype, name):
    """A CPU tensor of float32 or float64; ValueError for integers that this would round."""
    if not tensor.dtype.is_floating_point:
        cost_room.check_held(tensor.numpy(), name)
    return _as(tensor, dtype)


def _check_pair(x, z):
    _check_real(x, "x")
    _check_real(z, "z")
    cost_room.check_shapes(x.shape, z.shape)
    if x.device != z.device:
        raise ValueError(f"x and z must be on one device, got {x.device} and {z.device}")
