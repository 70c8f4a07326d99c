"""The launchers of the CUDA kernels, on a runtime without a device: errors stay where they belong."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NVCC, COMPILER = shutil.which("nvcc"), shutil.which("g++")
pytestmark = pytest.mark.skipif(NVCC is None or COMPILER is None, reason="needs nvcc and g++")


def include_folders():
    """Where this nvcc has its headers."""
    plan = subprocess.run([NVCC, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=True).stderr
    return re.findall(r'"(-I[^"]+)"', plan)


def test_a_failed_launch_is_reported_once_and_leaves_nothing_behind(tmp_path):
    sources = {
        "assignment": ROOT / "csrc/assignment/cuda/assignment.cu",
        "noise": ROOT / "csrc/noise/noise.cu",
    }
    common = ["-std=c++17", f"-I{ROOT / 'csrc'}", "-c"]
    device = [NVCC, *common, "-O0", "-Xptxas", "-O0", "-arch=sm_90", '-DLOOMFAST_CUDA_ARCHITECTURES="90"']
    commands = [[*device, source, "-o", tmp_path / f"{name}.o"] for name, source in sources.items()]
    fake = ROOT / "tests/cpp/fake_cudart.cpp"
    commands.append([COMPILER, *common, *include_folders(), fake, "-o", tmp_path / "fake.o"])
    running = [subprocess.Popen(list(map(str, command))) for command in commands]
    assert [process.wait() for process in running] == [0, 0, 0]
    objects = [tmp_path / f"{name}.o" for name in (*sources, "fake")]
    subprocess.run([COMPILER, *objects, "-pthread", "-o", tmp_path / "launch"], check=True)
    done = subprocess.run([tmp_path / "launch"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("as it should") >= 15
