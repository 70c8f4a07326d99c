"""The engine on aarch64: cross-compiled, and run by an emulator on a processor of another kind.

Minutes, and two programs that not everybody has: `make test-aarch64` runs this, not `make test`.
"""

import hashlib
import shutil
import subprocess

import native
import numpy as np
import pytest
from noise_cases import GOLDEN_NOISE, IDS

COMPILER, EMULATOR = shutil.which("aarch64-linux-gnu-g++"), shutil.which("qemu-aarch64")
FLAGS = ("-O2", "-static", "-Wall")

pytestmark = pytest.mark.skipif(
    not (COMPILER and EMULATOR), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs a program of tests/cpp with a room of the engine; what it printed. Objects are shared."""
    folder = tmp_path_factory.mktemp("aarch64")

    def run(program, room, *arguments):
        (folder / room).mkdir(exist_ok=True)
        binary = native.build(folder / room, program, room, *FLAGS, compiler=COMPILER, machine="aarch64")
        return subprocess.run([EMULATOR, binary, *arguments], capture_output=True)

    return run


def test_noise(run):
    done = run("noise_targets.cpp", "noise")
    assert done.stdout == b"portable neon 0 wrong\n", done.stderr


def test_golden_noise(run):
    for (dtype, seed, domain), golden in GOLDEN_NOISE.items():
        if dtype == "float32":
            ids = IDS.view(np.uint64)
            done = run("noise_targets.cpp", "noise", *map(str, (seed, domain, 3 * 5 * 7, *ids)))
            assert len(done.stdout) == 2 * 4 * 105 * len(ids)
            for noise in (done.stdout[: len(done.stdout) // 2], done.stdout[len(done.stdout) // 2 :]):
                assert hashlib.sha256(noise).hexdigest() == golden


def test_cost(run):
    done = run("cost_tiles.cpp", "cost")
    assert done.stdout == b"portable neon ", done.stderr
    assert done.returncode == 0


@pytest.mark.timeout(600)
def test_assignment(run):
    done = run("assignment_example.cpp", "assignment")
    assert done.returncode == 0, done.stderr
    done = run("assignment_fuzz.cpp", "assignment", "300", "1")
    assert done.returncode == 0, done.stdout
