"""The engine's C++ sources compiled without Python or CMake, with one program that calls them."""

import os
import platform
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from loomfast._arrays import cores

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
X86 = platform.machine() in ("x86_64", "AMD64")

AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mpopcnt"]
PARTS = ("avx512f", "avx512dq", "avx512vl", "avx512bw")
CPUINFO = Path("/proc/cpuinfo")
FEATURES = set(CPUINFO.read_text().split()) if CPUINFO.exists() else set()
EVERY_TARGET = (
    X86 and {"avx2", "fma", "bmi1", "bmi2", "popcnt"} <= FEATURES
)  # AVX-512 runs anywhere, see below


def avx512_flags():
    """A processor without AVX-512 runs the same sources on intrinsics written out lane by lane."""
    if set(PARTS) <= FEATURES:
        return [*AVX2, *(f"-m{part}" for part in PARTS), "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    return [*AVX2, f"-I{ROOT / 'tests/cpp/without_avx512'}", "-Wno-psabi"]


def targets_of(machine):
    """The targets of csrc/simd/target.hpp on a machine, with the flags of each, as in CMakeLists.txt."""
    if machine in ("x86_64", "AMD64"):
        return {"portable": [], "sse2": [], "avx2": AVX2, "avx512": avx512_flags()}
    return {"portable": [], "neon": []} if machine in ("aarch64", "arm64") else {"portable": []}


def standard_headers(out, sources, command):
    """Flags that take the standard headers of ``sources`` precompiled in ``out``: a third less time.

    Whether each source includes what it needs, the build of the engine finds.
    """
    header = out / "standard.hpp"
    if not header.exists():
        text = "\n".join(path.read_text() for path in sources)
        included = sorted(set(re.findall(r"^#include <\w+>$", text, re.MULTILINE)))
        header.write_text("\n".join(included) + "\n")
        subprocess.run([*command, "-x", "c++-header", str(header), "-o", f"{header}.gch"], check=True)
    return ["-include", str(header)]


def build(out, program, room, *flags, compiler=COMPILER, machine=None, without=()):
    """Builds tests/cpp/PROGRAM with csrc/ROOM and what all rooms share; the path of the result, in ``out``.

    Objects that an earlier call, with the same flags, left in ``out`` are taken as they are. ``machine`` is
    what ``compiler`` compiles for, if not this one; on this one the program finds that every target runs.
    Sources whose names begin with one of ``without``, which the program must not need, are left out.
    """
    common = [compiler, "-std=c++20", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *flags]
    common += ["-D__builtin_cpu_supports(feature)=1"] if EVERY_TARGET and machine is None else []
    targets = targets_of(machine or platform.machine())
    jobs, objects = [], []

    def add(source, stem, *extra):
        objects.append(out / f"{stem}.o")
        if not objects[-1].exists():
            jobs.append([*common, *extra, "-c", str(source), "-o", str(objects[-1])])

    folders = [ROOT / "csrc" / folder for folder in dict.fromkeys((room, "simd", "threads"))]
    files = sorted(path for folder in folders for path in folder.rglob("*.[ch]pp"))
    precompiled = standard_headers(out, files, common)
    for source in files:
        if source.suffix != ".cpp" or source.name.startswith(tuple(without)):
            continue
        if source.name.endswith(".simd.cpp"):
            for target, options in targets.items():
                add(source, f"{source.stem}.{target}", f"-DLOOMFAST_TARGET={target}", *options)
        else:
            add(source, source.stem, *precompiled)
    add(ROOT / "tests/cpp" / program, Path(program).stem, *precompiled)
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True), jobs))
    binary = out / Path(program).stem
    subprocess.run([*common, *map(str, objects), "-pthread", "-o", str(binary)], check=True)
    return binary
