"""The engine's C++ sources compiled without Python or CMake, with one program that calls them."""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
X86 = platform.machine() in ("x86_64", "AMD64")

AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]
PARTS = ("avx512f", "avx512dq", "avx512vl", "avx512bw")
CPUINFO = Path("/proc/cpuinfo")
FEATURES = set(CPUINFO.read_text().split()) if CPUINFO.exists() else set()
EVERY_LEVEL = X86 and {"avx2", "fma", "bmi2"} <= FEATURES  # AVX-512 runs anywhere, see avx512_flags


def avx512_flags():
    """A processor without AVX-512 runs the same sources on intrinsics written out lane by lane."""
    if set(PARTS) <= FEATURES:
        return [*AVX2, *(f"-m{part}" for part in PARTS), "-Wno-uninitialized", "-Wno-maybe-uninitialized"]
    macros = [f"-D__{part.upper()}__" for part in PARTS[:3]]  # what the sources ask for
    return [*AVX2, *macros, f"-I{ROOT / 'tests/cpp/without_avx512'}", "-Wno-psabi"]


def build(out, program, room, *flags):
    """tests/cpp/PROGRAM with csrc/ROOM and the pool of threads, into the folder ``out``; the path of the result.

    Objects that an earlier call, with the same flags, left in ``out`` are taken as they are.
    """
    common = [COMPILER, "-std=c++20", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *flags]
    levels = {"avx2": AVX2, "avx512": avx512_flags()} if X86 else {}
    common += ["-DLOOMFAST_X86"] if X86 else []
    common += ["-D__builtin_cpu_supports(feature)=1"] if EVERY_LEVEL else []
    jobs, objects = [], []
    rooms = sorted((ROOT / "csrc" / room).glob("*.cpp"))
    for source in [*rooms, ROOT / "csrc/threads/pool.cpp", ROOT / "tests/cpp" / program]:
        level = source.stem.rpartition("_")[2]
        if level in ("sse2", "avx2", "avx512") and not X86:
            continue
        objects.append(out / f"{source.stem}.o")
        if not objects[-1].exists():
            jobs.append([*common, *levels.get(level, []), "-c", str(source), "-o", str(objects[-1])])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True), jobs))
    binary = out / Path(program).stem
    subprocess.run([*common, *map(str, objects), "-pthread", "-o", str(binary)], check=True)
    return binary
