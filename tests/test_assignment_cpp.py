"""The standalone C++ interface, under sanitizers: the example compiles and runs, fuzzing finds nothing."""

import subprocess

import native
import pytest

pytestmark = pytest.mark.skipif(native.COMPILER is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds a program; the engine's objects are shared."""
    folder = tmp_path_factory.mktemp("engine")
    flags = ["-O0", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return lambda program: native.build(folder, program, "assignment", *flags)


def test_example(built):
    subprocess.run([built("assignment_example.cpp")], check=True)


@pytest.mark.timeout(240)
def test_fuzz_under_sanitizers(built):
    done = subprocess.run([built("assignment_fuzz.cpp"), "3000", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
