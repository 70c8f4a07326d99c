"""Noise of torch tensors: the operators ``loomfast::noise_from_ids`` and ``loomfast::interpolate_from_ids``.

Imported when a tensor first arrives. `loomfast._torch` says what an operator is.
"""

import math

import numpy as np
import torch

from loomfast import _engine
from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import FLOATS, INTEGERS, REAL, check_dtype, check_out, default_threads, is_tensor
from loomfast._torch import CPU, call, ordinary, register
from loomfast.backends import choose_backend
from loomfast.noise import reference
from loomfast.noise.cpu import LEAST_PER_THREAD, fill, fill_interpolated
from loomfast.noise.format import STEP_BIT
from loomfast.noise.spec import NoiseSpec, check_batch, known_noise_spec, noise_spec
from loomfast.noise.spec import check_ids as check_numpy_ids

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float64": torch.float64}


def noise_of_tensor(ids, shape, name, device, request, out):
    """`noise_from_ids` for torch ids or a named device; ``request`` is what `noise_spec` takes."""
    return call(NOISE, (ids, device), request, (shape, DTYPES[name]), out)


def _at_once(ids, device, spec, shape, dtype, out):
    """The noise where the engine takes CPU tensors as they are, int64 and float32, else None.

    At addresses: a NumPy array takes longer to make of a tensor than a small request takes. So would the
    checks of all other requests.
    """
    if spec.backend not in ("auto", "cpu") or ids.dtype is not torch.int64 or dtype is not torch.float32:
        return None
    if ids.dim() != 1 or not ids.is_contiguous():
        return None
    num, size = ids.shape[0], math.prod(shape)
    if out is None:
        result = torch.empty((num, *shape), dtype=dtype, device=CPU)  # faster than ids.new_empty
    else:
        result = out
        fits = out.shape == (num, *shape) and out.dtype is torch.float32 and out.is_contiguous()
        if not fits or out.requires_grad or _share_memory(ids, out):
            return None
    seed, domain, _, threads = spec
    threads = threads or default_threads(num * size, LEAST_PER_THREAD)
    _engine.noise_fill_at(ids.data_ptr(), num, size, seed, domain, result.data_ptr(), threads)
    return result


def _check_request(ids, device, spec, shape, dtype, out):
    ids = check_ids(ids, device)
    if out is not None:
        check_out(out, (ids.shape[0], *shape), dtype, "the input", ids.device)
    choose_backend("noise_from_ids", spec.backend, ids)
    return (ids,)


def check_ids(ids, device=None):
    """The ids as a contiguous int64 tensor (n,) on the device, or on their own where none is named."""
    if not is_tensor(ids):
        ids = torch.from_numpy(check_numpy_ids(np.asarray(ids)).copy())
    if ids.dim() != 1:
        raise ValueError(f"ids must be one-dimensional, got shape {tuple(ids.shape)}")
    if ids.dtype is not torch.int64:
        check_dtype(ids.dtype, "ids", INTEGERS, "be integers")
    if device is not None or ids.dtype is not torch.int64:
        ids = ids.to(device=ids.device if device is None else device, dtype=torch.int64)
    return ids.contiguous()


def fill_noise(ids, spec, out):
    """The noise of int64 ids (n,) into ``out`` (n, ...), a tensor of a dtype of `DTYPES` with any strides."""
    backend = choose_backend("noise_from_ids", spec.backend, ids)
    if backend == "cpu" and _at_once(ids, None, spec, out.shape[1:], out.dtype, out) is not None:
        return
    if backend == "reference":
        shape = tuple(out.shape[1:])
        values = reference.noise_from_ids(ids.cpu().numpy(), shape, seed=spec.seed, domain=spec.domain)
        out.copy_(torch.from_numpy(values))
        return
    if _share_memory(ids, out):
        ids = ids.clone()
    # The kernels on a GPU take items apart from each other, the engine does not.
    fits = out.is_contiguous() if backend == "cpu" else out[:1].is_contiguous()
    target = out if fits else torch.empty(out.shape, dtype=out.dtype, device=out.device)
    if backend == "cpu":
        array = target.view(torch.uint16) if target.dtype is torch.bfloat16 else target
        fill(ids.numpy(), array.numpy(), spec.seed, spec.domain, spec.threads)
    elif backend == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill(ids, target, signed(spec.seed), spec.domain)
    else:
        _fill_cuda(ids, spec, target)
    if target is not out:
        out.copy_(target)


def _fill_cuda(ids, spec, out):
    if not out.numel():
        return
    with torch.cuda.device(out.device):
        stream = torch.cuda.current_stream().cuda_stream
        sizes = (len(ids), out[0].numel(), out.stride(0))
        tail = (spec.seed, spec.domain, out.element_size(), out.data_ptr(), stream)
        _engine.noise_fill_cuda(ids.data_ptr(), *sizes, *tail)


def _share_memory(ids, out):
    """Whether contiguous ids lie in the memory that ``out`` is in, or between its elements."""
    begin, to = ids.data_ptr(), out.data_ptr()
    if out.is_contiguous():
        reach = out.numel()
    else:
        reach = 1 + sum(stride * (size - 1) for stride, size in zip(out.stride(), out.shape, strict=True))
    apart = begin >= to + out.element_size() * reach or to >= begin + ids.element_size() * ids.numel()
    return not apart and out.numel() > 0


def _empty_noise(ids, spec, shape, dtype):
    return ids.new_empty((ids.shape[0], *shape), dtype=dtype)


NOISE = register(
    *("noise_from_ids", "Tensor ids", NoiseSpec),
    known=known_noise_spec,
    parse=noise_spec,
    check=_check_request,
    empty=_empty_noise,
    fill=fill_noise,
    at_once=_at_once,
    more=", SymInt[] shape, ScalarType dtype",
)


def step_words(index, *, seed, step, domain):
    """The first word of `step_bits` of each item, an int64 tensor (n,) on the device of ``index``.

    Args:
        index: (n,) int64 tensor of items in [0, 2^32), not looked at.
        seed: as in `step_bits`. domain: a ``StepDomain`` or any integer in [0, 2^31).
        step: an integer, or an int64 tensor () on the same device, which a CUDA graph reads anew.
    """
    return call(WORDS, (index | (step << 32),), (seed, STEP_BIT + domain, "auto", 0))


def _fill_words(items, spec, out):
    if choose_backend("step_words", spec.backend, items) == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill_words(items, out, signed(spec.seed), spec.domain - (1 << 32))
        return
    words = np.empty((len(items), 1), np.uint32)
    _engine.noise_bits(items.numpy().view(np.uint64), spec.seed, spec.domain, words)
    out.numpy()[:] = words[:, 0]


WORDS = register(
    *("step_words", "Tensor items", NoiseSpec),
    parse=NoiseSpec,
    check=lambda items, *_: (items,),
    empty=lambda items, _: torch.empty_like(items),
    fill=_fill_words,
)


def interpolation_of_tensor(x, ids, t, spec):
    """`interpolate_from_ids` for a torch x, its other plain arguments checked."""
    ids, t = check_ids(ids, x.device), torch.as_tensor(t, device=x.device)
    check_batch(x.shape, ids.shape, t.shape)
    _check_point(x, t)
    choose_backend("interpolate_from_ids", spec.backend, x)
    x, t = x.detach(), t.detach()
    if ordinary(x, ids, t):
        return make_interpolation(x, ids, t, spec)
    return torch.ops.loomfast.interpolate_from_ids(x, ids, t, spec.text())


@default_arithmetic()
def make_interpolation(x, ids, t, spec):
    """(t x + (1 - t) z, x - z) of tensors x (n, ...), int64 ids (n,) and t (n,): float32, contiguous."""
    _check_point(x, t)
    backend = choose_backend("interpolate_from_ids", spec.backend, x)
    x, t = (tensor.to(torch.float32).contiguous() for tensor in (x, t))
    point, velocity = torch.empty_like(x), torch.empty_like(x)
    if backend == "triton":
        from loomfast.kernels import noise as kernels

        kernels.fill_interpolated(ids, x, t, point, velocity, signed(spec.seed), spec.domain)
        return point, velocity
    arrays = [tensor.cpu().numpy() for tensor in (x, ids, t)]
    if backend == "reference":
        results = reference.interpolate_from_ids(*arrays, seed=spec.seed, domain=spec.domain)
        for out, values in zip((point, velocity), results, strict=True):
            out.copy_(torch.from_numpy(values))
    else:
        fill_interpolated(*arrays, point.numpy(), velocity.numpy(), spec)
    return point, velocity


@torch.library.custom_op(
    "loomfast::interpolate_from_ids",
    mutates_args=(),
    schema="(Tensor x, Tensor ids, Tensor t, str spec) -> (Tensor, Tensor)",
)
def _interpolate(x, ids, t, spec):
    return make_interpolation(x, ids, t, NoiseSpec.parse(spec))


@_interpolate.register_fake
def _(x, ids, t, spec):
    return tuple(torch.empty(x.shape, dtype=torch.float32, device=x.device) for _ in range(2))


def _check_point(x, t):
    check_dtype(x.dtype, "x", FLOATS, "hold floating-point numbers")
    check_dtype(t.dtype, "t", REAL, "hold real numbers")


def signed(seed):
    """The int64 whose two's complement is the seed, as Triton's kernels take it."""
    return seed - (1 << 64) if seed >> 63 else seed
