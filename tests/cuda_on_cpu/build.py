"""Compile the kernel sources for the CPU: one program per sanitizer, cached by content.

``program(name, build)`` returns the path of ``tests/cuda_on_cpu/<name>.cpp`` built as ``plain``,
``asan`` (AddressSanitizer and UndefinedBehaviorSanitizer) or ``tsan`` (ThreadSanitizer, one TSan
fiber per CUDA thread); ``run`` starts it without address randomisation, which TSan needs. Processes that
want the same program wait for the one that compiles it.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = ROOT / "build" / "cuda_on_cpu"

BUILDS = ("plain", "asan", "tsan")
COMMON = [
    "-std=c++20",
    "-g1",
    "-fPIC",
    "-ffp-contract=off",
    "-Wall",
    "-Wextra",
    "-Wno-unknown-pragmas",  # nvcc's
    f"-I{HERE}",
]
KERNEL = {
    "plain": ["-O2"],
    "asan": [
        "-O1",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        "-fno-omit-frame-pointer",
        "-DSHIM_ASAN",
    ],
    "tsan": ["-O1", "-fsanitize=thread", "-fno-omit-frame-pointer"],
}
# TSan must not see the scheduler: its memory is not the kernel's.
RUNTIME = {"plain": KERNEL["plain"], "asan": KERNEL["asan"], "tsan": ["-O1", "-DSHIM_TSAN"]}


def unavailable():
    """Why the shim cannot be built here, or None."""
    if platform.machine() != "x86_64":
        return f"the shim switches fibers with x86-64 assembly; this machine is {platform.machine()}"
    if shutil.which("g++") is None:
        return "g++ is not on PATH"
    return None


def _fingerprint(sources, flags):
    digest = hashlib.sha256(repr(flags).encode())
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def program(name, build, csrc=ROOT / "csrc", cache=CACHE):
    """The path of the program ``name`` in the given build; compiled at first use."""
    headers = [*HERE.glob("*.?pp"), *csrc.rglob("*.cuh"), *csrc.rglob("*_cuda.hpp")]
    include = [f"-I{csrc}"]
    key = _fingerprint(headers, [COMMON, KERNEL[build], RUNTIME[build], include])
    target = cache / f"{name}-{build}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f".{name}-{build}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            for old in cache.glob(f"{name}-{build}-*"):
                old.unlink()
            _build(name, build, include, target)
    return target


def _build(name, build, include, target):
    part = target.with_suffix(".part")
    runtime, kernels = part.with_suffix(".runtime.o"), part.with_suffix(".kernels.o")
    _compile([*COMMON, *RUNTIME[build], "-c", str(HERE / "runtime.cpp"), "-o", str(runtime)])
    _compile([*COMMON, *KERNEL[build], *include, "-c", str(HERE / f"{name}.cpp"), "-o", str(kernels)])
    library = ["-shared"] if name.endswith("_library") else []
    _compile([*KERNEL[build], *library, str(runtime), str(kernels), "-o", str(part)])
    runtime.unlink()
    kernels.unlink()
    part.rename(target)


def _compile(arguments):
    result = subprocess.run(["g++", *arguments], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"g++ {' '.join(arguments)}\n{result.stderr}")


def run(path, *arguments, timeout=600):
    """Run a program of any build; returns the CompletedProcess (66: a sanitizer's report)."""
    environment = dict(os.environ)
    environment["TSAN_OPTIONS"] = "exitcode=66 halt_on_error=1 report_signal_unsafe=0"
    environment["ASAN_OPTIONS"] = "exitcode=66 detect_stack_use_after_return=0"
    environment["UBSAN_OPTIONS"] = "exitcode=66 print_stacktrace=1"
    command = ["setarch", platform.machine(), "-R"] if shutil.which("setarch") else []
    return subprocess.run(
        [*command, str(path), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )
