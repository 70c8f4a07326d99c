"""The operations on torch tensors: custom ops with fake kernels. Imported when a tensor first arrives.

The public functions in ``loomfast.noise`` and ``loomfast.cost`` check what is common and come here. Each op
is ``torch.ops.loomfast.<name>``, opaque to ``torch.compile``, so code that calls them compiles as one graph.
On ordinary CPU tensors (``_ordinary``) the function behind the op is called without torch's dispatcher, which
costs as much as a small request itself. Seeds travel as int64, two's complement. No gradient flows through an
op.
"""

from collections.abc import Sequence

import numpy as np
import torch

from loomfast import _engine
from loomfast import cost as cost_room
from loomfast import noise as noise_room
from loomfast._arrays import flat
from loomfast.reference import cost as cost_reference
from loomfast.reference import noise as noise_reference

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
TRITON_PRECISIONS = {"float32": "ieee", "tf32": "tf32", "bfloat16": "bf16"}


def choose_backend(operation, backend, device):
    """The rule of ``auto``, "cpu" on the CPU and "triton" on a GPU, and why a named backend cannot run."""
    if backend == "auto":
        backend = {"cpu": "cpu", "cuda": "triton"}.get(device.type)
        if backend is None:
            raise ValueError(f"{operation} has no backend for device {device}; it takes cpu and cuda")
    if backend == "cpu" and device.type != "cpu":
        raise RuntimeError(f"backend='cpu' needs tensors on the CPU, got {device}")
    if backend == "cuda":
        _check_cuda(operation, device)
    if backend == "triton":
        _check_triton(device)
    return backend


def _check_cuda(operation, device):
    if operation != "noise_from_ids":
        raise RuntimeError(f"{operation} has no CUDA kernel of its own: use backend='triton' on a GPU")
    if not hasattr(_engine, "noise_fill_cuda"):
        raise RuntimeError(
            "backend='cuda' is not in this build: install nvcc and build with LOOMFAST_CUDA=ON"
        )
    if device.type != "cuda":
        raise RuntimeError(f"backend='cuda' needs tensors on an NVIDIA GPU, got {device}")


def _check_triton(device):
    try:
        import triton
    except ImportError:
        raise RuntimeError("backend='triton' needs triton: pip install 'loomfast[gpu]'") from None
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise RuntimeError(
            f"backend='triton' needs tensors on an NVIDIA GPU, got {device}; on the CPU it runs only in "
            "Triton's interpreter, which TRITON_INTERPRET=1 turns on before Python starts"
        )


def _ordinary(*tensors):
    """Whether these are plain CPU tensors outside any compilation, trace, mode and transform."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch._C._get_tracing_state():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    for tensor in tensors:
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter) or not tensor.is_cpu or tensor.is_neg():
            return False
        if tensor.layout is not torch.strided:
            return False
    return True


def _fill_ordinary(fill, out, *arguments):
    """``fill(*arguments, out)``, told to autograd as a change of ``out``, as the dispatcher does."""
    fill(*arguments, out)
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)


def _signed(seed):
    return seed - (1 << 64) if seed >> 63 else seed


def _unsigned(seed):
    return seed & ((1 << 64) - 1)


# ---- noise ------------------------------------------------------------------------------------------------


def noise(ids, shape, seed, domain, dtype, device, out, backend, threads):
    """``noise_from_ids`` for tensors, its plain arguments already checked."""
    ids = check_ids(ids, device)
    backend = choose_backend("noise_from_ids", backend, ids.device)
    tail = (_signed(seed), domain, backend, threads or 0)
    if out is None:
        make = make_noise if _ordinary(ids) else torch.ops.loomfast.noise_from_ids
        return make(ids, shape, DTYPES[dtype], *tail)
    _check_out(out, (ids.shape[0], *shape), DTYPES[dtype], ids.device)
    if _ordinary(ids, out) and not out.requires_grad:
        _fill_ordinary(fill_noise, out, ids, *tail)
    else:
        torch.ops.loomfast.noise_from_ids_out(ids, *tail, out)
    return out


def fill_noise(
    ids: torch.Tensor, seed: int, domain: int, backend: str, threads: int, out: torch.Tensor
) -> None:
    if backend == "reference":
        shape = tuple(out.shape[1:])
        values = noise_reference.noise_from_ids(ids.cpu().numpy(), shape, seed=_unsigned(seed), domain=domain)
        out.copy_(torch.from_numpy(values))
        return
    # The kernels on a GPU take items apart from each other, the engine does not.
    fits = out.is_contiguous() if backend == "cpu" else out[:1].is_contiguous()
    target = out if fits else torch.empty(out.shape, dtype=out.dtype, device=out.device)
    if backend == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill(ids, target, seed, domain)
    elif backend == "cuda":
        _fill_cuda(ids, target, seed, domain)
    else:
        array = target.view(torch.uint16) if target.dtype == torch.bfloat16 else target
        noise_room.fill_cpu(ids.numpy(), array.numpy(), _unsigned(seed), domain, threads)
    if target is not out:
        out.copy_(target)


def _fill_cuda(ids, out, seed, domain):
    if not out.numel():
        return
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        sizes = (len(ids), out[0].numel(), out.stride(0))
        tail = (_unsigned(seed), domain, out.element_size(), out.data_ptr(), stream)
        _engine.noise_fill_cuda(ids.data_ptr(), *sizes, *tail)


_noise_out = torch.library.custom_op("loomfast::noise_from_ids_out", fill_noise, mutates_args=("out",))


@_noise_out.register_fake
def _(ids, seed, domain, backend, threads, out):
    return None


def make_noise(
    ids: torch.Tensor,
    shape: Sequence[int],
    dtype: torch.dtype,
    seed: int,
    domain: int,
    backend: str,
    threads: int,
) -> torch.Tensor:
    out = torch.empty((ids.shape[0], *shape), dtype=dtype, device=ids.device)
    fill_noise(ids, seed, domain, backend, threads, out)
    return out


_noise = torch.library.custom_op("loomfast::noise_from_ids", make_noise, mutates_args=())


@_noise.register_fake
def _(ids, shape, dtype, seed, domain, backend, threads):
    return ids.new_empty((ids.shape[0], *shape), dtype=dtype)


def interpolate(x, ids, t, seed, domain, backend, threads):
    """``interpolate_from_ids`` for tensors, its plain arguments already checked."""
    ids, t = check_ids(ids, x.device), torch.as_tensor(t, dtype=torch.float32, device=x.device)
    noise_room.check_batch(x.shape, ids.shape, t.shape)
    if not x.dtype.is_floating_point:
        raise TypeError(f"x must hold floating-point numbers, got {x.dtype}")
    backend = choose_backend("interpolate_from_ids", backend, x.device)
    x = x.detach().to(torch.float32).contiguous()
    make = make_interpolated if _ordinary(x, ids, t) else torch.ops.loomfast.interpolate_from_ids
    return make(x, ids, t.detach(), _signed(seed), domain, backend, threads or 0)


def make_interpolated(
    x: torch.Tensor, ids: torch.Tensor, t: torch.Tensor, seed: int, domain: int, backend: str, threads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    point, velocity = torch.empty_like(x), torch.empty_like(x)
    if backend == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill_interpolated(ids, x, t.contiguous(), point, velocity, seed, domain)
        return point, velocity
    arrays = [tensor.cpu().numpy() for tensor in (x, ids, t)]
    if backend == "reference":
        results = noise_reference.interpolate_from_ids(*arrays, seed=_unsigned(seed), domain=domain)
        for out, values in zip((point, velocity), results, strict=True):
            out.copy_(torch.from_numpy(values))
    else:
        outputs = (point.numpy(), velocity.numpy())
        noise_room.fill_interpolated_cpu(*arrays, *outputs, _unsigned(seed), domain, threads)
    return point, velocity


_interpolate = torch.library.custom_op("loomfast::interpolate_from_ids", make_interpolated, mutates_args=())


@_interpolate.register_fake
def _(x, ids, t, seed, domain, backend, threads):
    return torch.empty_like(x), torch.empty_like(x)


def check_ids(ids, device):
    """ids as contiguous int64 (n,) on the device, or on their own if it is None."""
    if not isinstance(ids, torch.Tensor):
        ids = torch.from_numpy(noise_room.check_ids(np.asarray(ids)).copy())
    if ids.dim() != 1:
        raise ValueError(f"ids must be one-dimensional, got shape {tuple(ids.shape)}")
    if ids.dtype.is_floating_point or ids.dtype.is_complex or ids.dtype == torch.bool:
        raise TypeError(f"ids must be integers, got {ids.dtype}")
    return ids.to(device=ids.device if device is None else device, dtype=torch.int64).contiguous()


def _check_out(out, shape, dtype, device):
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch tensor, like the input, got {type(out).__name__}")
    if tuple(out.shape) != tuple(shape) or out.dtype != dtype or out.device != device:
        got = f"{tuple(out.shape)} {out.dtype} on {out.device}"
        raise ValueError(f"out must be {tuple(shape)} {dtype} on {device}, got {got}")


# ---- cost -------------------------------------------------------------------------------------------------


def cost(x, z, metric, labels, label_weight, assignment_only, precision, out, backend, threads):
    """``pairwise_cost`` for tensors, its plain arguments already checked."""
    _check_pair(x, z)
    backend = _cost_backend("pairwise_cost", backend, precision, x.device)
    labels = _labels(labels, x.shape[0], z.shape[0], x.device)
    options = (metric, *labels, label_weight, assignment_only, precision or "", backend, threads or 0)
    ordinary = _ordinary(x, z, *(part for part in labels if part is not None))
    x, z = _detached(x, ordinary), _detached(z, ordinary)
    if out is None:
        return (make_cost if ordinary else torch.ops.loomfast.pairwise_cost)(x, z, *options)
    _check_out(out, (x.shape[0], z.shape[0]), torch.float32, x.device)
    if ordinary and _ordinary(out) and not out.requires_grad:
        _fill_ordinary(fill_cost, out, x, z, *options)
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
    tail = (_signed(seed), domain, threads or 0)
    ordinary = _ordinary(x, ids, *(part for part in labels if part is not None))
    x = _detached(x, ordinary)
    if out is None:
        make = make_cost_from_ids if ordinary else torch.ops.loomfast.pairwise_cost_from_ids
        return make(x, ids, *options, *tail)
    _check_out(out, (x.shape[0], ids.shape[0]), torch.float32, x.device)
    if ordinary and _ordinary(out) and not out.requires_grad:
        _fill_ordinary(fill_cost_from_ids, out, x, ids, *options, *tail)
    else:
        torch.ops.loomfast.pairwise_cost_from_ids_out(x, ids, *options, *tail, out)
    return out


def paired_cost(x, z, metric):
    """``paired_cost`` for tensors."""
    _check_pair(x, z)
    if x.shape[0] != z.shape[0]:
        raise ValueError(f"x and z must hold as many items, got {x.shape[0]} and {z.shape[0]}")
    ordinary = _ordinary(x, z)
    x, z = flat(_detached(x, ordinary)), flat(_detached(z, ordinary))
    total = torch.empty(x.shape[0], dtype=torch.float64, device=x.device)
    if ordinary:
        dtype = _cost_dtype(x, z, None)
        cost_room.fill_paired(total.numpy(), x.to(dtype).numpy(), z.to(dtype).numpy(), metric)
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
    if drop_norms:
        _fill_product(x, z, precision, out)
        if labels is not None:
            cost_room.add_labels(out.numpy(), *labels, label_weight)
        return
    dtype = _cost_dtype(x, z, precision)
    points = (x.to(dtype).contiguous(), z.to(dtype).contiguous())
    product = _cpu_product(*(points if precision != "bfloat16" else (x.bfloat16(), z.bfloat16())))
    points = [part.numpy() for part in points]
    cost_room.fill_cpu(out.numpy(), *points, product, metric, False, labels, label_weight, threads)


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
    target = out if out.stride(1) == 1 else torch.empty(out.shape, device=out.device)
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
    x, z = x.to(dtype), z.to(dtype)
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
    wide = {torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64}
    if precision == "float64" or (not precision and wide & {x.dtype, z.dtype}):
        return torch.float64
    return torch.float32


def _labels(labels, n, m, device):
    pair = cost_room.split_labels(labels, n, m) or (None, None)
    return [None if part is None else torch.as_tensor(part, device=device) for part in pair]


def _detached(tensor, ordinary):
    return tensor if ordinary and not tensor.requires_grad else tensor.detach()


def _check_real(item, name):
    if not isinstance(item, torch.Tensor):
        raise TypeError(f"{name} must be a torch tensor, like the other, got {type(item).__name__}")
    if item.dtype.is_complex:
        raise TypeError(f"{name} must hold real numbers, got {item.dtype}")


def _check_pair(x, z):
    _check_real(x, "x")
    _check_real(z, "z")
    cost_room.check_shapes(x.shape, z.shape)
    if x.device != z.device:
        raise ValueError(f"x and z must be on one device, got {x.device} and {z.device}")
