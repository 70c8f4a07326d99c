"""The CUDA kernels compiled by nvcc, once for all tests and processes that look at them.

``kernels(architecture)`` returns (an object file, what nvcc said): the object that is linked with the
launchers' tests is the one whose resources and loops are counted. It is kept by the content of the sources,
and processes that want the same one wait for the one that compiles it.
"""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "build" / "cuda_objects"
STRICT = ("-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage")

sys.path.insert(0, str(ROOT / "bench"))

from gpu import sass  # noqa: E402


def kernels(architecture):
    """The object of csrc/assignment/cuda/assignment.cu and nvcc's report; RuntimeError on any warning."""
    sources = [p for pattern in ("*.cu", "*.cuh", "*_cuda.hpp") for p in (ROOT / "csrc").rglob(pattern)]
    version = subprocess.run([shutil.which("nvcc"), "--version"], capture_output=True, check=True).stdout
    digest = hashlib.sha256(version + repr(STRICT).encode())
    for path in sorted(sources):
        digest.update(path.read_bytes())
    name = f"sm_{architecture}-{digest.hexdigest()[:16]}"
    target, report = CACHE / f"{name}.o", CACHE / f"{name}.txt"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".sm_{architecture}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not report.exists():
            for old in CACHE.glob(f"sm_{architecture}-*"):
                old.unlink()
            done = sass.compile_kernels(architecture, target, *STRICT)
            if done.returncode:
                raise RuntimeError(done.stderr)
            report.write_text(done.stderr)
    return target, report.read_text()
