"""What runs here, what does not, and why: the facts that ``loomfast doctor`` prints."""

import platform
import sys
from dataclasses import dataclass
from importlib import metadata, util

from loomfast._arrays import cores
from loomfast.backends import HOW_TO_BUILD


@dataclass(frozen=True)
class Fact:
    """One line of the report: what, whether it is there, and the version or the way to get it."""

    name: str
    found: bool
    detail: str


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
