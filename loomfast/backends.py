"""Which backend does the work: the rule of ``backend="auto"``, and why a named backend cannot run here."""

import math
from bisect import bisect

# How to get the CUDA kernels: one text for every error and for ``loomfast doctor``.
HOW_TO_BUILD = (
    "install it again (pip install --force-reinstall --no-binary loomfast loomfast, or pip install . in its "
    "sources) with nvcc on PATH, or with CUDACXX set to the nvcc of the packages nvidia-cuda-nvcc, "
    "nvidia-cuda-runtime and nvidia-cuda-cccl"
)

# How to get the Triton kernels.
HOW_TO_GET_TRITON = "pip install 'loomfast[gpu]'"


def check_backend(backend, takes):
    """ValueError unless ``backend`` is one of the names ``takes``."""
    if backend not in takes:
        raise ValueError(f"backend must be one of {', '.join(takes)}, got {backend!r}")


# ---- the assignment ---------------------------------------------------------------------------------------


def check_solver(backend):
    """An error unless ``solve`` knows the backend."""
    if backend == "triton":
        raise RuntimeError("solve has no backend='triton': use backend='cpu', 'cuda' or 'auto'")
    if backend not in ("auto", "cpu", "cuda", "reference"):
        raise ValueError(f"backend must be 'auto', 'cpu', 'cuda' or 'reference', got {backend!r}")


# What square problems take, in milliseconds: (n, one on a GPU, each of many on a GPU, one on one thread of
# the CPU). `auto_solver` decides by this table alone. The GPU's: an estimate of 2026-11 for an H100 by
# bench/gpu_model.py, from the instructions of the kernels built for sm_90 and the steps that
# bench/gpu_counts.json counts (img), of 512 problems where there are many; measured on no card. The CPU's:
# measured by bench/assignment.py (img), AMD EPYC with AVX-512, 2026-11; at n = 64 an estimate.
SOLVER_TIMES = (
    (64, 0.13, 0.00013, 0.08),
    (128, 0.15, 0.0019, 0.22),
    (256, 0.21, 0.0048, 0.48),
    (512, 0.33, 0.0166, 1.43),
    (1024, 0.71, 0.086, 6.1),
    (2048, 1.51, 0.45, 22.4),
    (4096, 3.3, 1.6, 112.0),
    (16384, 33.9, 30.9, 1600.0),
)
COPY_MS, COPY_BYTES_PER_MS = 0.03, 12e6  # of a cost to pageable memory, by PCIe 5; an estimate


def auto_solver(rows, columns, batch=1):
    """Where ``backend="auto"`` solves costs that are on a GPU: ``"cuda"``, or ``"cpu"`` after a copy.

    The faster by `SOLVER_TIMES`, between whose rows times are interpolated. Moving a cost to the CPU waits
    for the device: ``backend="cuda"`` never does.

    Args:
        rows, columns: of a problem. batch: how many of them there are.
    """
    one, each, on_cpu = solver_times(min(rows, columns))
    copy = COPY_MS + 4 * batch * rows * columns / COPY_BYTES_PER_MS
    return "cpu" if batch * on_cpu + copy < max(one, batch * each) else "cuda"


def solver_times(n):
    """Milliseconds of a square problem: alone on the GPU, as one of many there, and on the CPU.

    Between rows of the table and beyond them by powers of n; below the first it is fixed costs that count.
    """
    table, n = SOLVER_TIMES, max(n, SOLVER_TIMES[0][0])
    k = min(max(bisect(table, (n,)), 1), len(table) - 1)
    (low, *before), (high, *after) = table[k - 1], table[k]
    share = math.log(n / low) / math.log(high / low)
    return tuple(one * (two / one) ** share for one, two in zip(before, after, strict=True))


# ---- noise and cost ---------------------------------------------------------------------------------------


def choose_backend(operation, backend, tensor):
    """The backend for a torch tensor: ``"auto"`` is "cpu" on the CPU and "triton" on a GPU.

    Args:
        operation: the public name of the operation, for the messages.
        backend: a name that the operation takes.
        tensor: the torch tensor that says on which device the work is.

    Raises:
        RuntimeError: the named backend cannot run here, and why.
        ValueError: ``"auto"`` on a device for which there is no backend.
    """
    if tensor.is_cpu and backend in ("auto", "cpu"):
        return "cpu"
    device = tensor.device
    if backend == "auto" and device.type != "cuda":
        raise ValueError(f"{operation} has no backend for device {device}; it takes cpu and cuda")
    if backend == "cpu":
        raise RuntimeError(f"backend='cpu' needs tensors on the CPU, got {device}")
    if backend == "cuda":
        _check_cuda(operation, device)
    if backend in ("auto", "triton"):
        _check_triton(device)
    return "triton" if backend == "auto" else backend


def check_backend_of_arrays(backend):
    """RuntimeError for a backend that needs a GPU, where the arrays are NumPy's."""
    if backend in ("cuda", "triton"):
        raise RuntimeError(f"backend={backend!r} needs torch tensors on a GPU; NumPy arrays are on the CPU")


def _check_cuda(operation, device):
    if operation != "noise_from_ids":
        raise RuntimeError(f"{operation} has no CUDA kernel of its own: use backend='triton' on a GPU")
    from loomfast import _engine

    if not hasattr(_engine, "noise_fill_cuda"):
        raise RuntimeError(f"backend='cuda' cannot run here: {cuda_unavailable()}")
    if device.type != "cuda":
        raise RuntimeError(f"backend='cuda' needs tensors on an NVIDIA GPU, got {device}")


def _check_triton(device):
    try:
        import triton
    except ImportError:
        raise RuntimeError(f"backend='triton' needs triton: {HOW_TO_GET_TRITON}") from None
    if device.type != "cuda" and not triton.knobs.runtime.interpret:
        raise RuntimeError(
            f"backend='triton' needs tensors on an NVIDIA GPU, got {device}; on the CPU it runs only in "
            "Triton's interpreter, which TRITON_INTERPRET=1 turns on before Python starts"
        )


# ---- CUDA -------------------------------------------------------------------------------------------------


def cuda_unavailable(engine=None):
    """Why the CUDA kernels cannot run here and how to get them to, or None.

    ``engine`` is the extension, or what stands in for it in tests.
    """
    if engine is None:  # imported here, so that `loomfast doctor` can say that it is broken
        from loomfast import _engine as engine
    if not engine.cuda_architectures:
        return f"loomfast was built without its CUDA kernels: {HOW_TO_BUILD}"
    try:
        engine.cuda_device()
    except RuntimeError as error:
        driver, runtime = (f"{v // 1000}.{v % 1000 // 10}" for v in engine.cuda_versions())
        if driver == "0.0":
            return f"no CUDA device can be used: there is no NVIDIA driver here ({error})"
        return (
            f"no CUDA device can be used: {error}; the driver is for CUDA {driver} and older, this build of "
            f"loomfast has the runtime of CUDA {runtime}. Where the driver is older, renew it, or install "
            f"loomfast again with an nvcc of CUDA {driver.split('.')[0]}"
        )
    return None
