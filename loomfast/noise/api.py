"""`noise_from_ids` and `interpolate_from_ids`, for NumPy arrays and, by ``torch_ops``, for torch tensors."""

import numpy as np

from loomfast._arithmetic import default_arithmetic
from loomfast._arrays import FLOATS, dtype_name, item_shape, library, module, real_array
from loomfast.backends import check_backend_of_arrays
from loomfast.noise import reference
from loomfast.noise.cpu import fill_interpolated, noise_of_array
from loomfast.noise.spec import DTYPES, check_batch, check_ids, known_noise_spec, noise_spec

_TORCH_OPS = "loomfast.noise.torch_ops"  # imported when a tensor first arrives, since it imports torch


def noise_from_ids(
    ids, shape, *, seed, domain=0, dtype="float32", device=None, out=None, backend="auto", threads=None
):
    """Standard normal noise of each id: ``(len(ids), *shape)``.

    Args:
        ids: (n,) integers, NumPy or torch, or another library's on a GPU, CuPy's say; any int64, read as
            two's complement.
        shape: shape of one item. Element e (row-major) is normal e % 4 of block e // 4.
        seed: the run's seed, in [0, 2^64).
        domain: a ``NoiseDomain`` or any integer in [0, 2^31).
        dtype: float32, bfloat16 or float64 (a NumPy or torch dtype, or its name). The last two are the
            float32 values converted, bfloat16 to nearest even.
        device: torch device of the result; without it the ids' own. Naming one returns a tensor.
        out: where to write; the result's kind, shape, dtype and device, any strides.
        backend: "auto" is "cpu" on the CPU and "triton" on an NVIDIA GPU; or "reference", "cpu", "cuda",
            "triton". A named backend that cannot run here raises RuntimeError.
        threads: CPU threads; without it one per 2^17 normals up to the cores this process may use. The bits
            do not depend on it.

    Returns:
        A NumPy array for NumPy ids, a torch tensor for torch ids or a named device, and for another library's
        ids on a GPU its own array there.

    Raises:
        ValueError: seed, domain, shape, ids' shape, out or backend out of range, or out overlapping itself.
        TypeError: ids not integers, unknown dtype, out of the wrong kind or dtype.
        RuntimeError: the named backend cannot run here.
    """
    shape = item_shape(shape)
    name = dtype_name(dtype, DTYPES)
    owner = library(ids)
    if device is not None or owner == "torch":
        request = seed, domain, backend, threads
        return module(_TORCH_OPS).noise_of_tensor(ids, shape, name, device, request, out)
    if owner == "cuda":
        from loomfast._torch import through_tensors

        where = {"seed": seed, "domain": domain, "backend": backend, "threads": threads}
        return through_tensors(noise_from_ids, ids, shape, dtype=name, out=out, **where)
    return noise_of_array(ids, shape, name, known_noise_spec(seed, domain, backend, threads), out)


def interpolate_from_ids(x, ids, t, *, seed, domain=0, backend="auto", threads=None):
    """A training batch in one pass: t x + (1 - t) z and x - z, z being the noise of each id, never stored.

    LOOM-CFM, equation 3, without its epsilon. The float32 bits are those of the two expressions on
    ``noise_from_ids``, every product and sum rounded.

    Args:
        x: (n, ...) data, floating point, NumPy or torch; computed in float32.
        ids: (n,) integers, the noise of each item.
        t: (n,) times in [0, 1].
        seed, domain, backend, threads: as in ``noise_from_ids``.

    Returns:
        (point, velocity), float32 of x's shape, kind and device.

    Raises:
        ValueError, TypeError, RuntimeError: as ``noise_from_ids``, and if the batch sizes differ.
    """
    owner = library(x)
    if owner == "torch":
        spec = noise_spec(seed, domain, backend, threads)
        return module(_TORCH_OPS).interpolation_of_tensor(x, ids, t, spec)
    if owner == "cuda":
        from loomfast._torch import through_tensors

        where = {"seed": seed, "domain": domain, "backend": backend, "threads": threads}
        return through_tensors(interpolate_from_ids, x, ids, t, **where)
    return _interpolation_of_array(x, ids, t, known_noise_spec(seed, domain, backend, threads))


@default_arithmetic()
def _interpolation_of_array(x, ids, t, spec):
    """`interpolate_from_ids` for NumPy x."""
    check_backend_of_arrays(spec.backend)
    x, ids, t = real_array(x, "x", FLOATS, "hold floating-point numbers"), check_ids(ids), real_array(t, "t")
    check_batch(x.shape, ids.shape, t.shape)
    x, t = np.ascontiguousarray(x, np.float32), np.asarray(t, np.float32)
    if spec.backend == "reference":
        return reference.interpolate_from_ids(x, ids, t, seed=spec.seed, domain=spec.domain)
    point, velocity = np.empty_like(x), np.empty_like(x)
    fill_interpolated(x, ids, t, point, velocity, spec)
    return point, velocity
