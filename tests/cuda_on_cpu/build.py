"""Compile the kernel sources for the CPU: one program per sanitizer, its objects cached by content.

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
# What each program is made of. TSan must not see the scheduler: its memory is not the kernel's.
PARTS = {
    "assignment": ("runtime", "kernels", "assignment"),
    "assignment_library": ("runtime", "kernels", "assignment_library"),
    "selftest": ("runtime", "selftest"),
}
RUNTIME = {"plain": KERNEL["plain"], "asan": KERNEL["asan"], "tsan": ["-O1", "-DSHIM_TSAN"]}
OF_RUNTIME = ("runtime.cpp", "fibers.hpp", "cuda_on_cpu.hpp")


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
    objects = [_object(part, build, csrc, cache) for part in PARTS[name]]
    library = ["-shared"] if name.endswith("_library") else []
    command = [*KERNEL[build], *library, *map(str, objects)]
    return _made(f"{name}-{build}", _fingerprint([], command), cache, command)


def _object(part, build, csrc, cache):
    """The object of ``<part>.cpp``."""
    if part == "runtime":
        sources, flags = [HERE / name for name in OF_RUNTIME], RUNTIME[build]
    else:
        sources = [HERE / f"{part}.cpp", *HERE.glob("*.hpp"), *csrc.rglob("*.cuh"), *csrc.rglob("*_cuda.hpp")]
        flags = [*KERNEL[build], f"-I{csrc}"]
    command = [*COMMON, *flags, "-c", str(HERE / f"{part}.cpp")]
    return _made(f"{part}.o-{build}", _fingerprint(sources, command), cache, command)


def _made(name, key, cache, command):
    """What g++ makes of ``command``, kept in ``cache``."""
    target = cache / f"{name}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            for old in cache.glob(f"{name}-*"):
                old.unlink()
            part = target.with_name(f"{target.name}.part")
            _compile([*command, "-o", str(part)])
            part.rename(target)
    return target


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
