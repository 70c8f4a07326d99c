"""The compile gate: warnings as errors, no local memory, and the table of resources of every architecture.

``make test`` compiles for one architecture; ``tests/kernels_full.py`` for all.
"""

import re
import shutil
import subprocess

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
    90: (96, 128, 114),
    100: (102, 106, 110),
    120: (104, 112, 108),
}

# The list of rows and the reductions of a block that scans rows as a crew.
STATIC_SHARED = (0, 0, 9744)

nvcc = shutil.which("nvcc")
pytestmark = pytest.mark.skipif(nvcc is None, reason="nvcc is not on PATH")


def resources(architecture, folder):
    """(registers, stack, spills, static shared memory) of each kernel; raises on any warning."""
    command = [nvcc, "-std=c++17", f"-arch=sm_{architecture}", "-cubin", "-o", str(folder / "out.cubin")]
    command += ["-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills,-warn-lmem-usage"]
    command += [f"-I{ROOT / 'csrc'}", '-DLOOMFAST_CUDA_ARCHITECTURES=""']
    command.append(str(ROOT / "csrc" / "assignment" / "assignment.cu"))
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
