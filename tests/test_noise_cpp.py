"""Every instruction set of the noise, AVX-512 on any processor, under sanitizers."""

import subprocess

import native
import pytest

pytestmark = pytest.mark.skipif(native.COMPILER is None, reason="no C++ compiler")


def test_every_instruction_set_under_sanitizers(tmp_path):
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    binary = native.build(tmp_path, "noise_targets.cpp", "noise", *flags)
    done = subprocess.run([binary], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "portable" in done.stdout
    assert done.stdout.endswith(" 0 wrong\n")
    if native.EVERY_TARGET:
        assert done.stdout == "portable sse2 avx2 avx512 0 wrong\n"
