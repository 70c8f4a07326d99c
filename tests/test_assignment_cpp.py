"""The standalone C++ interface: the example compiles and runs, and fuzzing under sanitizers finds nothing."""

import subprocess

import native
import pytest

pytestmark = pytest.mark.skipif(native.COMPILER is None, reason="no C++ compiler")


def test_example(tmp_path):
    subprocess.run([native.build(tmp_path, "assignment_example.cpp", "assignment", "-O1")], check=True)


@pytest.mark.timeout(240)
def test_fuzz_under_sanitizers(tmp_path):
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    binary = native.build(tmp_path, "assignment_fuzz.cpp", "assignment", *flags)
    done = subprocess.run([binary, "3000", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
