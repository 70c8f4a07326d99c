"""What runs here, what does not, and why: the facts behind ``backend=`` and ``loomfast doctor``."""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata, util

from loomfast._arrays import cores


@dataclass(frozen=True)
class Fact:
    """One line of the report: what, whether it is there, and the version or the way to get it."""

    name: str
    found: bool
    detail: str


# How to get the CUDA kernels: the one text for every error and for `loomfast doctor`.
HOW_TO_BUILD = (
    "install it again (pip install --force-reinstall --no-binary loomfast loomfast, or pip install . in its "
    "sources) with nvcc on PATH, or with CUDACXX set to the nvcc of the packages nvidia-cuda-nvcc, "
    "nvidia-cuda-runtime and nvidia-cuda-cccl"
)

# package, the extra that brings it, what it is for
OPTIONAL = (
    ("torch", "train", "training, sampling, torch tensors"),
    ("torchdiffeq", "train", "adaptive solvers"),
    ("tyro", "train", "the command `train`"),
    ("rich", "train", "progress bars and tables"),
    ("safetensors", "train", "checkpoints and caches"),
    ("pillow", "train", "pictures"),
    ("matplotlib", "train", "figures"),
    ("scikit-learn", "train", "the data of the presets"),
    ("scipy", "train", "the beta law of training times, and the peer of the benchmarks"),
    ("h5py", "data", "latents in HDF5 files"),
    ("triton", "gpu", "noise and cost on a GPU"),
)


def engine():
    """The compiled engine, as a Fact."""
    try:
        from loomfast import _engine
    except ImportError as broken:
        return Fact("engine", False, f"{broken}; reinstall with: pip install --force-reinstall loomfast")
    return Fact("engine", True, f"loomfast {_engine.__version__}, C++ for {platform.machine()}")


def instruction_sets():
    """The instruction set that the engine uses on this processor and the others it could, as a Fact."""
    from loomfast import _engine

    *others, fastest = _engine.instruction_sets()
    detail = f"assignment, noise and cost use {fastest}"
    return Fact("instructions", True, f"{detail} (here are also {', '.join(others)})" if others else detail)


def cuda_kernels():
    """Whether the engine has its CUDA kernels, and for which architectures, as a Fact."""
    from loomfast import _engine

    if _engine.cuda_architectures:
        return Fact("CUDA kernels", True, f"built for compute capability {_engine.cuda_architectures}")
    return Fact("CUDA kernels", False, f"to get them, {HOW_TO_BUILD}")


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


def optional_packages():
    """One Fact for each optional dependency."""
    return [_package(*entry) for entry in OPTIONAL]


def gpu():
    """Whether torch sees a GPU, as a Fact."""
    if util.find_spec("torch") is None:
        return Fact("GPU", False, "torch is not installed")
    import torch

    if not torch.cuda.is_available():
        return Fact("GPU", False, "torch finds no CUDA device; everything runs on the CPU")
    return Fact("GPU", True, torch.cuda.get_device_name())


def report():
    """All Facts, in the order in which ``loomfast doctor`` prints them."""
    here = Fact(
        "machine",
        True,
        f"Python {sys.version.split()[0]} on {platform.system()} {platform.machine()}, {cores()} cores",
    )
    found = engine()
    parts = [instruction_sets(), cuda_kernels()] if found.found else []
    numpy = Fact("numpy", True, metadata.version("numpy"))
    return [here, found, *parts, numpy, *optional_packages(), gpu()]


def _package(name, extra, purpose):
    try:
        return Fact(name, True, f"{metadata.version(name)} ({purpose})")
    except metadata.PackageNotFoundError:
        return Fact(name, False, f"for {purpose}: pip install 'loomfast[{extra}]'")
