"""The launchers of the CUDA kernels, on runtimes without a device: errors stay where they belong."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import cuda_compiled
import pytest

from loomfast import backends

ROOT = Path(__file__).parents[1]
NVCC, COMPILER = shutil.which("nvcc"), shutil.which("g++")
pytestmark = pytest.mark.skipif(NVCC is None or COMPILER is None, reason="needs nvcc and g++")
COMMON = ["-std=c++17", f"-I{ROOT / 'csrc'}", "-c"]


def include_folders():
    """Where this nvcc has its headers."""
    plan = subprocess.run([NVCC, "--dryrun", "-c", "x.cu"], capture_output=True, text=True, check=True).stderr
    return re.findall(r'"(-I[^"]+)"', plan)


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """The launchers with their kernels; those of the noise compiled as fast as they may be."""
    noise = tmp_path_factory.mktemp("objects") / "noise.o"
    device = [NVCC, *COMMON, "-O0", "-Xptxas", "-O0", "-arch=sm_90", '-DLOOMFAST_CUDA_ARCHITECTURES="90"']
    subprocess.run([*device, ROOT / "csrc/noise/noise.cu", "-o", noise], check=True)
    return [cuda_compiled.kernels(90)[0], noise]


def test_a_failed_launch_is_reported_once_and_leaves_nothing_behind(objects, tmp_path):
    fake = ROOT / "tests/cpp/fake_cudart.cpp"
    compile_fake = [COMPILER, *COMMON, *include_folders(), fake, "-o", tmp_path / "fake.o"]
    subprocess.run(list(map(str, compile_fake)), check=True)
    link = [COMPILER, *objects, tmp_path / "fake.o", "-pthread", "-o", tmp_path / "launch"]
    subprocess.run(link, check=True)
    done = subprocess.run([tmp_path / "launch"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("as it should") >= 15


def test_an_old_driver_or_none_is_one_clear_sentence(objects, tmp_path):
    """The runtime that is linked into the library, with the libcuda of a driver for 12.4 and with none."""
    program = tmp_path / "report"
    command = [NVCC, "-std=c++17", "-arch=sm_90", f"-I{ROOT / 'csrc'}", *objects]
    subprocess.run([*command, ROOT / "tests/cpp/driver_report.cpp", "-o", program], check=True)
    library = tmp_path / "libcuda.so.1"
    subprocess.run(
        [COMPILER, "-x", "c", "-shared", "-fPIC", ROOT / "tests/cpp/old_driver.c", "-o", library], check=True
    )

    def why(folder):
        environment = os.environ | {"LD_LIBRARY_PATH": str(folder)}
        done = subprocess.run([program], capture_output=True, text=True, env=environment, check=True)
        driver, runtime, message = done.stdout.split("\n")[:3]

        def no_device():
            raise RuntimeError(f"CUDA: {message}")

        engine = {"cuda_architectures": "90", "cuda_device": no_device}
        engine["cuda_versions"] = lambda: (int(driver), int(runtime))
        return int(runtime), message, backends.cuda_unavailable(SimpleNamespace(**engine))

    runtime, message, text = why(tmp_path)
    assert "the driver is for CUDA 12.4 and older" in text
    assert f"this build of loomfast has the runtime of CUDA {runtime // 1000}." in text
    assert message
    assert text.count("no CUDA device can be used") == 1
    if runtime >= 13000:  # one of 12 runs on it
        assert "driver version is insufficient" in message
        assert "install loomfast again with an nvcc of CUDA 12" in text
    (tmp_path / "nothing").mkdir()
    _, message, text = why(tmp_path / "nothing")
    if message:
        assert "there is no NVIDIA driver here" in text or "the driver is for CUDA" in text
