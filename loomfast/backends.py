"""Which backend does the work: the rule of ``backend="auto"``, and why a named backend cannot run here."""

# How to get the CUDA kernels: one text for every error and for ``loomfast doctor``.
HOW_TO_BUILD = (
    "install it again (pip install --force-reinstall --no-binary loomfast loomfast, or pip install . in its "
    "sources) with nvcc on PATH, or with CUDACXX set to the nvcc of the packages nvidia-cuda-nvcc, "
    "nvidia-cuda-runtime and nvidia-cuda-cccl"
)

# How to get the Triton kernels, likewise.
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


def auto_solver(rows, columns, batch=1, *, prefetched=False):
    """Where ``backend="auto"`` solves a cost that is on a GPU: ``"cuda"`` or ``"cpu"``.

    The CPU is better for a single instance of at most 64 on its shorter side, whose solve takes less than
    the barriers of a GPU; and, when the coupling is computed ahead of the training step that needs it
    (``prefetched``), for a single instance of up to 2048, which the CPU solves in about 20 ms that the GPU
    can spend on the network. Everything else stays on the GPU. The rule rests on estimates from counted
    work (bench/gpu_model.py), not on measurements. Moving a cost to the CPU waits for the device.
    """
    if batch > 1:
        return "cuda"
    return "cpu" if min(rows, columns) <= (2048 if prefetched else 64) else "cuda"


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
    from loomfast import _engine

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
    if engine is None:
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
