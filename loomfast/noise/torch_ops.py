"""The operations on torch tensors: custom ops with fake kernels. Imported when a tensor first arrives.

The public functions in ``loomfast.noise`` check what is common and come here, those in ``loomfast.cost`` go
to ``loomfast.cost_torch``. Each op is ``torch.ops.loomfast.<name>``, opaque to ``torch.compile``, so code
that calls them compiles as one graph. On ordinary CPU tensors the function behind the op is called without
torch's dispatcher, which takes longer than a small request itself. Seeds travel as int64, two's complement.
No gradient flows through an op.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import FLOATS, INTEGERS, REAL, check_dtype, check_strides, default_threads
from loomfast.backends import cuda_unavailable
from loomfast.noise import api as noise_room
from loomfast.noise import reference as noise_reference

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}
PLAIN, STRIDED = (torch.Tensor, torch.nn.Parameter), torch.strided
_num_modes, _tracing = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_transform = torch._C._functorch.peek_interpreter_stack


def choose_backend(operation, backend, device):
    """The rule of ``auto``, "cpu" on the CPU and "triton" on a GPU, and why a named backend cannot run."""
    kind = device.type
    if backend == "auto":
        backend = {"cpu": "cpu", "cuda": "triton"}.get(kind)
        if backend is None:
            raise ValueError(f"{operation} has no backend for device {device}; it takes cpu and cuda")
    if backend == "cpu" and kind != "cpu":
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
        raise RuntimeError(f"backend='cuda' cannot run here: {cuda_unavailable()}")
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


def ordinary(*tensors):
    """Whether these are plain CPU tensors outside any compilation, trace, mode and transform."""
    if torch.compiler.is_compiling() or _num_modes() or _tracing() or _transform() is not None:
        return False
    for tensor in tensors:
        if type(tensor) not in PLAIN or not tensor.is_cpu or tensor.layout is not STRIDED or tensor.is_neg():
            return False
    return True


def fill_ordinary(fill, out, *arguments):
    """``fill(*arguments, out)``, told to autograd as a change of ``out``, as the dispatcher does."""
    fill(*arguments, out)
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)


def detached(tensor, plain):
    return tensor if plain and not tensor.requires_grad else tensor.detach()


def signed(seed):
    return seed - (1 << 64) if seed >> 63 else seed


def _unsigned(seed):
    return seed & ((1 << 64) - 1)


# ---- noise ------------------------------------------------------------------------------------------------


def noise_at_once(ids, shape, seed, domain, out, threads):
    """The noise where the engine takes int64 ids and float32 ``out`` as they are, else None and nothing done.

    A small request would spend more time in the checks and conversions of the whole way than in the engine.
    """
    if not (ordinary(ids) if out is None else ordinary(ids, out)):
        return None
    if ids.dtype is not torch.int64 or ids.dim() != 1 or not ids.is_contiguous():
        return None
    num, size = ids.shape[0], math.prod(shape)
    if out is None:
        result = ids.new_empty((num, *shape), dtype=torch.float32)
    else:
        result = out
        fits = out.shape == (num, *shape) and out.dtype is torch.float32 and out.is_contiguous()
        if not fits or out.requires_grad or _overlap(ids, out):
            return None
    threads = threads or default_threads(num * size, noise_room.LEAST_PER_THREAD)
    _engine.noise_fill_at(ids.data_ptr(), num, size, seed, domain, result.data_ptr(), threads)
    if out is not None and not out.is_inference():
        torch.autograd.graph.increment_version(out)
    return result


def _overlap(ids, out):
    """Whether contiguous ids share memory with ``out``, or lie between its elements."""
    begin, size = ids.data_ptr(), ids.element_size() * ids.numel()
    reach = sum(stride * (length - 1) for stride, length in zip(out.stride(), out.shape, strict=True)) + 1
    return (
        out.numel() > 0
        and begin < out.data_ptr() + out.element_size() * reach
        and out.data_ptr() < begin + size
    )


def noise(ids, shape, seed, domain, dtype, device, out, backend, threads):
    """``noise_from_ids`` for tensors, its plain arguments already checked."""
    ids = check_ids(ids, device)
    backend = choose_backend("noise_from_ids", backend, ids.device)
    tail = (signed(seed), domain, backend, threads or 0)
    if out is None:
        make = make_noise if ordinary(ids) else torch.ops.loomfast.noise_from_ids
        return make(ids, shape, DTYPES[dtype], *tail)
    check_out(out, (ids.shape[0], *shape), DTYPES[dtype], ids.device)
    if out.is_neg():
        return out.copy_(torch.ops.loomfast.noise_from_ids(ids, shape, DTYPES[dtype], *tail))
    if ordinary(ids, out) and not out.requires_grad:
        fill_ordinary(fill_noise, out, ids, *tail)
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
    ids = ids.clone() if _overlap(ids, out) else ids
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
    ids, t = check_ids(ids, x.device), torch.as_tensor(t, device=x.device)
    noise_room.check_batch(x.shape, ids.shape, t.shape)
    _check_point(x, t)
    backend = choose_backend("interpolate_from_ids", backend, x.device)
    x = x.detach()
    make = make_interpolated if ordinary(x, ids, t) else torch.ops.loomfast.interpolate_from_ids
    return make(x, ids, t.detach(), signed(seed), domain, backend, threads or 0)


@default_arithmetic()
def make_interpolated(
    x: torch.Tensor, ids: torch.Tensor, t: torch.Tensor, seed: int, domain: int, backend: str, threads: int
) -> tuple[torch.Tensor, torch.Tensor]:
    _check_point(x, t)
    x, t = (tensor.to(torch.float32).contiguous() for tensor in (x, t))
    point, velocity = torch.empty_like(x), torch.empty_like(x)
    if backend == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill_interpolated(ids, x, t, point, velocity, seed, domain)
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
    return tuple(torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in range(2))


def _check_point(x, t):
    check_dtype(x.dtype, "x", FLOATS, "hold floating-point numbers")
    check_dtype(t.dtype, "t", REAL, "hold real numbers")


def check_ids(ids, device):
    """ids as contiguous int64 (n,) on the device, or on their own if it is None."""
    if not isinstance(ids, torch.Tensor):
        ids = torch.from_numpy(noise_room.check_ids(np.asarray(ids)).copy())
    if ids.dim() != 1:
        raise ValueError(f"ids must be one-dimensional, got shape {tuple(ids.shape)}")
    check_dtype(ids.dtype, "ids", INTEGERS, "be integers")
    if device is None and ids.dtype is torch.int64:
        return ids.contiguous()
    return ids.to(device=ids.device if device is None else device, dtype=torch.int64).contiguous()


def check_out(out, shape, dtype, device):
    if not isinstance(out, torch.Tensor):
        raise TypeError(f"out must be a torch tensor, like the input, got {type(out).__name__}")
    if tuple(out.shape) != tuple(shape) or out.dtype != dtype or out.device != device:
        got = f"{tuple(out.shape)} {out.dtype} on {out.device}"
        wrong = TypeError if out.dtype != dtype else ValueError
        raise wrong(f"out must be {tuple(shape)} {dtype} on {device}, got {got}")
    check_strides(tuple(shape), out.stride())
