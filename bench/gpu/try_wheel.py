"""The kit's wheel under Python 3.12 with the torch and triton of the GPU machine, as far as a CPU allows.

    python bench/gpu/try_wheel.py --kit gpu-kit [--folder build/gpu-kit-check] [--python PYTHON3.12]

Makes an environment (several GB: PyPI's torch comes with CUDA's libraries), installs the kit's wheels into a
folder beside it, as the check does, and runs the tests of every part that meets torch or triton, and the dry
run. It finds what these versions do differently before a card is at hand.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gpu.kit import ROOT, find_python

# NumPy: the interpreter of Triton 3.6, which a GPU does without, calls int() on arrays of one dimension.
PACKAGES = (
    *(
        "torch==2.11.0",
        "triton==3.6.0",
        "torchdiffeq==0.2.5",
        "safetensors",
        "numpy<2.4",
        "scipy",
        "scikit-learn",
    ),
    *(
        "pillow",
        "matplotlib",
        "rich",
        "h5py",
        "ml_dtypes",
        "pytest",
        "pytest-timeout",
        "pytest-xdist",
        "hypothesis",
    ),
    "pybind11",
)
TESTS = (
    *("assignment", "assignment_binding", "assignment_fast", "cost", "coupling", "prefetch", "flow"),
    *(
        "whole_dataset",
        "models",
        "noise",
        "noise_cuda",
        "torch_ops",
        "sample",
        "semidiscrete",
        "train",
        "triton",
        "gpu_check",
    ),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kit", default="gpu-kit")
    parser.add_argument("--folder", default="build/gpu-kit-check")
    parser.add_argument("--python", default="", help="a CPython 3.12; by default one that is found")
    arguments = parser.parse_args()
    folder = Path(arguments.folder).resolve()
    python, site = folder / "venv" / "bin" / "python", folder / "site"
    wheels = sorted((Path(arguments.kit) / "wheels").glob("*.whl"))
    if not wheels:
        parser.error(f"--kit {arguments.kit} holds no wheels: make it with `make gpu-kit`")
    if not python.exists():
        subprocess.run([find_python(arguments.python), "-m", "venv", folder / "venv"], check=True)
    pip = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *PACKAGES], check=True)
    subprocess.run([*pip, "--no-index", "--no-deps", "--upgrade", "--target", site, *wheels], check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONSAFEPATH": "1"}
    command = [python, "-m", "pytest", "-q", "-c", ROOT / "pyproject.toml", "--rootdir", ROOT, "-n", "2"]
    command += ["-o", "filterwarnings=", "-p", "no:cacheprovider"]
    files = [ROOT / "tests" / f"test_{name}.py" for name in TESTS]
    return subprocess.run([*command, *files], cwd=folder, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
