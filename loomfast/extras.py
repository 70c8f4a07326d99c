"""Optional dependencies: imported where they are used, with an error that names the extra to install."""

import os
import shutil
import sys
from importlib import import_module


def need(module, extra):
    """Import ``module``, or raise an ImportError that says which extra of loomfast brings it."""
    try:
        return import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ImportError(
            f"{module} is not installed and this part of loomfast needs it: pip install 'loomfast[{extra}]'"
        ) from None


def need_compiler(device):
    """ValueError unless torch finds the C++ compiler with which it compiles networks for this torch device.

    On the CPU that is $CXX, or else g++ (clang++ on macOS).
    """
    if device.type != "cpu" or os.environ.get("TORCH_INDUCTOR_INSTALL_GXX"):  # torch then fetches one
        return
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ValueError(
            f"compile needs a C++ compiler on the CPU, and {compiler!r} is not on PATH: install it, name "
            "another one in the environment variable CXX, or leave --compile out"
        )
