"""The compile gate: warnings as errors, no local memory, and the table of resources of every architecture.

``make test`` compiles for one architecture; ``tests/kernels_full.py`` for all.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cuda_on_cpu.build import ROOT

KERNELS = ("solve_block<16>", "solve_grid<16>", "solve_grid<32>")
# Registers a thread, by architecture and in the order of KERNELS, with this compiler; none has a stack.
# 512 threads of 128 registers fill a multiprocessor, so 128 is the limit.
PINNED_COMPILER = "V13.0.88"
REGISTERS = {
    75: (80, 106, 104),
    80: (80, 128, 110),
    86: (93, 106, 116),
    89: (93, 106, 116),
    90: (96, 124, 114),
    100: (102, 106, 110),
    120: (104, 112, 108),
}

# The list of rows and the reductions of a block that scans rows as a crew.
STATIC_SHARED = (0, 0, 9744)

nvcc, cmake = shutil.which("nvcc"), shutil.which("cmake")
pytestmark = pytest.mark.skipif(nvcc is None or cmake is None, reason="needs nvcc and cmake on PATH")


def resources(architecture, folder):
    """(registers, stack, spills, static shared memory) of each kernel; raises on any warning."""
    command = [nvcc, "-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-o", str(folder / "out.cubin")]
    command += ["-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
    command += [f"-I{ROOT / 'csrc'}", '-DLOOMFAST_CUDA_ARCHITECTURES=""']
    command.append(str(ROOT / "csrc" / "assignment" / "cuda" / "assignment.cu"))
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found = {}
    for text in result.stderr.split("Compiling entry function")[1:]:
        wide = "Ii" in text.split("'")[1]
        name = f"{'solve_block' if 'solve_block' in text else 'solve_grid'}<{32 if wide else 16}>"
        stack, stores, loads = map(int, re.search(r"(\d+) bytes stack.*?(\d+) bytes.*?(\d+)", text).groups())
        shared = re.search(r"(\d+) bytes smem", text)
        registers = int(re.search(r"Used (\d+) registers", text).group(1))
        found[name] = (registers, stack, stores + loads, int(shared.group(1)) if shared else 0)
    return found


def check_architecture(architecture, folder):
    found = resources(architecture, folder)
    assert set(found) == set(KERNELS)
    assert tuple(found[name][3] for name in KERNELS) == STATIC_SHARED
    for registers, stack, spills, _ in found.values():
        assert registers <= 128
        assert (stack, spills) == (0, 0)
    version = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    if PINNED_COMPILER in version:
        assert tuple(found[name][0] for name in KERNELS) == REGISTERS[architecture]


def test_the_kernels_compile_without_local_memory(tmp_path):
    check_architecture(90, tmp_path)


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
