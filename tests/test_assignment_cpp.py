"""The standalone C++ interface, under sanitizers: the example compiles and runs, fuzzing finds nothing."""

import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
COMPILER = shutil.which(os.environ.get("CXX", "c++"))
pytestmark = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")

AVX2 = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mlzcnt", "-mpopcnt"]
LEVELS = {"avx2": AVX2, "avx512": [*AVX2, "-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw"]}


FLAGS = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """(compiler and flags, object files): the engine's assignment sources, without Python or CMake."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    common = [COMPILER, "-std=c++20", "-ffp-contract=off", f"-I{ROOT / 'csrc'}", *FLAGS]
    common += ["-DLOOMFAST_X86"] if x86 else []
    folder, jobs, objects = tmp_path_factory.mktemp("engine"), [], []
    for source in sorted((ROOT / "csrc" / "assignment").glob("*.cpp")):
        level = source.stem.removeprefix("kernels_")
        if level in LEVELS and not x86:
            continue
        objects.append(folder / f"{source.stem}.o")
        jobs.append([*common, *LEVELS.get(level, []), "-c", str(source), "-o", str(objects[-1])])
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: subprocess.run(job, check=True), jobs))
    return common, list(map(str, objects))


def build(program, engine, folder):
    """One program of ``tests/cpp`` linked with the engine; its path."""
    common, objects = engine
    binary = folder / Path(program).stem
    source = str(ROOT / "tests" / "cpp" / program)
    subprocess.run([*common, source, *objects, "-pthread", "-o", str(binary)], check=True)
    return binary


def test_example(engine, tmp_path):
    subprocess.run([build("assignment_example.cpp", engine, tmp_path)], check=True)


@pytest.mark.timeout(240)
def test_fuzz_under_sanitizers(engine, tmp_path):
    binary = build("assignment_fuzz.cpp", engine, tmp_path)
    done = subprocess.run([binary, "3000", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
