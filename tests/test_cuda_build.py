"""The compile gate: warnings as errors, no local memory, resources and inner loops of every architecture.

``make test`` compiles for one architecture; ``tests/kernels_full.py`` for all.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cuda_compiled
import pytest
from cuda_compiled import ROOT, sass

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
PINNED_COMPILER = "V13.0.88"
# 512 threads of 128 registers fill a multiprocessor, and so do 16 blocks of 128 threads of the warp kernel.
MOST_REGISTERS = {"solve_block": 128, "solve_grid": 128, "solve_cluster": 128, "solve_warp": 128}
# What plan.cuh leaves for static shared memory; a block that scans rows as a crew has a list of them, too.
MOST_STATIC_SHARED = {"solve_block": 1536, "solve_grid": 10240, "solve_cluster": 1536, "solve_warp": 1536}
# At most so many instructions on the hot path of an inner loop, at least so many loads of 128 bits, and none
# waits for another: a loop that is no longer unrolled or vectorised is not found, or is longer.
LIMITS = {
    "relax": (110, 8),
    "best_two": (125, 8),
    "row_minimum": (360, 12),
    "path": (190, 0),
    "reduction": (215, 0),
}
# For sm_100 this compiler loads only the halves of words that best_two looks at: 16 loads, all at once.
NARROWED = {("best_two", 100)}
# Prices that a block of a cluster has copied are half as wide: four loads of them.
COPIED = {("cluster float", "best_two"): 4, ("cluster double", "best_two"): 4}
BLOCKS = ("block", "grid16", "grid32", "cluster")
EXPECTED = {
    **{f"{kernel} float": ("relax", "best_two", "row_minimum") for kernel in BLOCKS},
    **{f"{kernel} double": ("relax", "best_two") for kernel in BLOCKS},
    **{f"warp {held}{of}": ("path", "reduction") for held in (2, 4) for of in ("", " double")},
}

nvcc, cmake = shutil.which("nvcc"), shutil.which("cmake")
pytestmark = pytest.mark.skipif(nvcc is None or cmake is None, reason="needs nvcc and cmake on PATH")


def resources(report):
    """{kernel: (registers, stack, spills, static shared memory)}, as nvcc reports."""
    found = {}
    for text in report.split("Compiling entry function")[1:]:
        name = next(name for name, mangled in sass.KERNELS.items() if mangled in text.split("'")[1])
        stack, stores, loads = map(int, re.search(r"(\d+) bytes stack.*?(\d+) bytes.*?(\d+)", text).groups())
        shared = re.search(r"(\d+) bytes smem", text)
        registers = int(re.search(r"Used (\d+) registers", text).group(1))
        found[name] = (registers, stack, stores + loads, int(shared.group(1)) if shared else 0)
    return found


def check_architecture(architecture):
    compiled, report = cuda_compiled.kernels(architecture)
    found = resources(report)
    assert set(found) == set(sass.KERNELS)
    for name, (registers, stack, spills, shared) in found.items():
        kind = re.match(r"solve_[a-z]+", sass.KERNELS[name]).group()
        assert registers <= MOST_REGISTERS[kind], name
        assert (stack, spills) == (0, 0), name
        assert shared <= MOST_STATIC_SHARED[kind], name
    if sass.disassembler() is not None:
        check_loops(architecture, sass.count_loops(sass.disassemble(compiled)))


def check_loops(architecture, counted):
    """Every inner loop is there and as short as it was; recorded counts, where there are any, are these."""
    for kernel, loops in EXPECTED.items():
        for loop in loops if architecture >= 90 or "cluster" not in kernel else ():
            assert loop in counted[kernel], f"sm_{architecture}: {kernel} has no loop like {loop}"
            counts = counted[kernel][loop]
            most, wide = LIMITS[loop]
            wide = COPIED.get((kernel, loop), wide)
            assert counts["instructions"] <= most, (kernel, loop, counts)
            assert counts["loads_128"] >= wide or (loop, architecture) in NARROWED, (kernel, loop, counts)
            assert counts["chain"] <= 1, (kernel, loop, counts)
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    recorded = json.loads((ROOT / "bench" / "gpu_sass.json").read_text())
    if PINNED_COMPILER in version and str(architecture) in recorded:
        assert recorded[str(architecture)] == counted, "run bench/gpu_model.py --sass"


@pytest.mark.timeout(900)
def test_the_kernels_compile_without_local_memory():
    check_architecture(90)


# Two loops: one that loads what it has just loaded, and one that is what the counts are meant to find.
CODE = [
    (0x00, "MOV R0, RZ"),
    (0x10, "LDG.E R2, desc[UR4][R2.64]"),
    (0x20, "LDG.E R4, desc[UR4][R2.64]"),
    (0x30, "@P0 BRA 0x10"),
    (0x40, "LDG.E.128 R8, desc[UR4][R6.64]"),
    (0x50, "LDG.E.128 R12, desc[UR4][R6.64+0x200]"),
    (0x60, "FFMA R8, R8, R9, R12"),
    (0x70, "FSETP.GEU.AND P1, PT, R8, R3, PT"),
    (0x80, "@!P1 BRA 0xc0"),
    (0x90, "LDG.E R9, desc[UR4][R8.64]"),
    (0xA0, "RED.E.MIN.64 desc[UR4][R8.64], R9"),
    (0xB0, "NOP"),
    (0xC0, "@P2 BRA 0x40"),
    (0xD0, "EXIT"),
]


def test_the_hot_path_of_a_loop_and_its_chain_of_loads_are_found():
    paths = sass.hot_paths(CODE)
    assert {address: len(path) for address, path in paths.items()} == {0x10: 3, 0x40: 6}
    assert sass.longest_chain(paths[0x10]) == 2
    assert sass.longest_chain(paths[0x40]) == 1
    assert not any("RED" in text for text in paths[0x40])


# ---- what CMake chooses -----------------------------------------------------------------------------------

CHOICE = """
include("{root}/csrc/find_cuda.cmake")
cuda_architectures({version} found)
message("${{found}}")
"""


@pytest.mark.parametrize(
    ("version", "architectures"),
    [
        ("11.4", "75-real 80-real 86"),
        ("11.8", "75-real 80-real 86-real 89-real 90"),
        ("12.6", "75-real 80-real 86-real 89-real 90"),
        ("12.8", "75-real 80-real 86-real 89-real 90-real 100-real 120"),
        ("13.0", "75-real 80-real 86-real 89-real 90-real 100-real 120"),
    ],
)
def test_the_architectures_are_those_the_compiler_knows(tmp_path, version, architectures):
    script = tmp_path / "choice.cmake"
    script.write_text(CHOICE.format(root=ROOT, version=version))
    done = subprocess.run([cmake, "-P", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip().replace(";", " ") == architectures


def configure(folder, compiler=None, **settings):
    """CMake on this project, without Python; the finished process."""
    options = [f"-D{name}={value}" for name, value in settings.items()]
    environment = dict(os.environ) | ({"CUDACXX": str(compiler)} if compiler else {})
    command = [cmake, "-S", ROOT, "-B", folder, "-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def stand_in(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_a_compiler_that_does_not_work_leaves_a_build_for_the_cpu(tmp_path):
    broken = stand_in(tmp_path / "nvcc", "echo 'unsupported GNU version' >&2; exit 1")
    done = configure(tmp_path / "auto", broken, LOOMFAST_CUDA="AUTO")
    assert done.returncode == 0, done.stderr
    assert "built for the CPU alone" in " ".join(done.stderr.split())
    assert "CUDA kernels OFF" in done.stdout
    done = configure(tmp_path / "on", broken, LOOMFAST_CUDA="ON")
    assert done.returncode != 0
    assert "does not compile a program" in " ".join(done.stderr.split())
    assert configure(tmp_path / "maybe", LOOMFAST_CUDA="MAYBE").returncode != 0


def test_an_older_compiler_is_asked_for_what_it_knows(tmp_path):
    report = "echo 'Cuda compilation tools, release 12.4, V12.4.131'"
    older = stand_in(tmp_path / "nvcc", f'[ "$1" = --version ] && {report} && exit; exec {nvcc} "$@"')
    done = configure(tmp_path / "build", older, LOOMFAST_CUDA="AUTO")
    assert done.returncode == 0, done.stderr
    (command,) = cuda_commands(tmp_path / "build")
    assert set(re.findall(r"sm_(\d+)", command)) == {"75", "80", "86", "89", "90"}


REPORT = "echo 'Cuda compilation tools, release {0}, V{0}.140'"


@pytest.mark.parametrize("refuses", [False, True])
def test_nvcc_12_0_builds_what_it_knows_or_leaves_a_build_for_the_cpu(tmp_path, refuses):
    """It knows neither sm_100 nor sm_120, and it refuses a newer host compiler than it knows."""
    body = f'[ "$1" = --version ] && {REPORT.format("12.0")} && exit; '
    body += "echo 'error: unsupported GNU version!' >&2; exit 1" if refuses else f'exec {nvcc} "$@"'
    done = configure(tmp_path / "build", stand_in(tmp_path / "nvcc", body), LOOMFAST_CUDA="AUTO")
    assert done.returncode == 0, done.stderr
    if refuses:
        assert "CUDA kernels OFF" in done.stdout
        said = " ".join(done.stderr.split())
        assert said.count("loomfast is built for the CPU alone") == 1
        assert "another host compiler is named by CUDAHOSTCXX" in said
        assert cuda_commands(tmp_path / "build") == []
    else:
        assert "CUDA kernels ON" in done.stdout
        commands = cuda_commands(tmp_path / "build")
        assert commands
        assert all(set(re.findall(r"sm_(\d+)", c)) == {"75", "80", "86", "89", "90"} for c in commands)


def test_an_nvcc_that_is_too_old_leaves_a_build_for_the_cpu(tmp_path):
    body = f'[ "$1" = --version ] && {REPORT.format("10.2")} && exit; exec {nvcc} "$@"'
    done = configure(tmp_path / "build", stand_in(tmp_path / "nvcc", body), LOOMFAST_CUDA="AUTO")
    assert done.returncode == 0, done.stderr
    assert "CUDA kernels OFF" in done.stdout
    assert "is of CUDA 10.2; 11.1 or later is needed" in " ".join(done.stderr.split())


def test_without_nvcc_the_build_is_for_the_cpu_and_says_so(tmp_path):
    """On a PATH of links to everything but nvcc."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for folder in os.environ["PATH"].split(os.pathsep):
        for path in Path(folder).glob("*") if Path(folder).is_dir() else ():
            if path.name != "nvcc" and not (tools / path.name).exists():
                (tools / path.name).symlink_to(path)
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDACXX", "CUDA_PATH", "CUDA_HOME")}
    command = [cmake, "-S", ROOT, "-G", "Ninja", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON"]
    command.append("-DCMAKE_FIND_USE_CMAKE_SYSTEM_PATH=OFF")  # which has /usr/local/bin
    for cuda in ("AUTO", "ON"):
        done = subprocess.run(
            [*command, "-B", tmp_path / cuda, f"-DLOOMFAST_CUDA={cuda}"],
            capture_output=True,
            text=True,
            env=environment | {"PATH": str(tools)},
        )
        if cuda == "AUTO":
            assert done.returncode == 0, done.stderr
            assert "CUDA kernels OFF" in done.stdout
            assert cuda_commands(tmp_path / cuda) == []
        else:
            assert done.returncode != 0
            assert "there is no nvcc: put it on PATH or set CUDACXX" in " ".join(done.stderr.split())


def test_warnings_are_errors_for_developers_alone(tmp_path):
    for strict in ("OFF", "ON"):
        done = configure(tmp_path / strict, LOOMFAST_CUDA="AUTO", LOOMFAST_STRICT=strict)
        assert done.returncode == 0, done.stderr
        (command,) = cuda_commands(tmp_path / strict)
        assert ("-Werror" in command) == (strict == "ON")
        assert ("warn-spills" in command) == (strict == "ON")


def cuda_commands(folder):
    """How the assignment kernels are compiled."""
    commands = json.loads((folder / "compile_commands.json").read_text())
    return [entry["command"] for entry in commands if entry["file"].endswith("assignment.cu")]
