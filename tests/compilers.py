"""The engine by other compilers, for other machines, as wheels need it: ``make test-compilers``, minutes.

Every source file is compiled with warnings as errors: by clang++ where it is on PATH, and by the clang of the
package ziglang (in the extra [compilers]) with libc++ for Linux on aarch64 with musl, macOS and Windows.
Nothing is run.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Wshadow", "-Werror")
AVX2 = ("-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mpopcnt")
AVX512 = (*AVX2, "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw")
# Sets of instructions, and their options.
SETS = {"portable": (), "sse2": (), "avx2": AVX2, "avx512": AVX512, "neon": ()}
X86 = ("portable", "sse2", "avx2", "avx512")
ZIG = (sys.executable, "-m", "ziglang", "c++")
# By what it is called here: the command, and the sets of instructions that CMakeLists.txt builds there.
COMPILERS = {
    "clang": (("clang++",), X86),
    "aarch64-linux-musl": ((*ZIG, "-target", "aarch64-linux-musl"), ("portable", "neon")),
    "aarch64-macos": ((*ZIG, "-target", "aarch64-macos"), ("portable", "neon")),
    "x86_64-windows-gnu": ((*ZIG, "-target", "x86_64-windows-gnu"), X86),
}


def sources(compiled_per_set):
    found = [p for p in sorted((ROOT / "csrc").rglob("*.cpp")) if "bindings" not in p.parts]
    return [p for p in found if p.name.endswith(".simd.cpp") == compiled_per_set]


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("name", COMPILERS)
def test_the_engine_compiles_without_warnings(name, tmp_path):
    command, sets = COMPILERS[name]
    if command[0] == "clang++" and shutil.which("clang++") is None:
        pytest.skip("clang++ is not on PATH")
    if "ziglang" in command and importlib.util.find_spec("ziglang") is None:
        pytest.skip("needs ziglang: pip install 'loomfast[compilers]'")
    jobs = [(path, ()) for path in sources(False)]
    jobs += [(path, (f"-DLOOMFAST_TARGET={s}", *SETS[s])) for path in sources(True) for s in sets]
    failed = []
    for path, options in jobs:
        arguments = [
            "-std=c++20",
            "-O1",
            "-Icsrc",
            *WARNINGS,
            *options,
            "-c",
            path,
            "-o",
            tmp_path / "object.o",
        ]
        done = subprocess.run([*command, *arguments], cwd=ROOT, capture_output=True, text=True)
        if done.returncode:
            failed.append(f"{path.relative_to(ROOT)} {' '.join(options)}\n{done.stderr[:2000]}")
    assert not failed, "\n".join(failed)
