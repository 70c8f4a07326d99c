"""The engine's pool of threads, under sanitizers."""

import os
import subprocess

import native
import pytest

pytestmark = pytest.mark.skipif(native.COMPILER is None, reason="no C++ compiler")


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_pool(tmp_path, sanitizers):
    program = native.build(tmp_path, "threads_pool.cpp", "threads", "-O1", "-g1", f"-fsanitize={sanitizers}")
    # The thread sanitizer lets no child of several threads start one, unless told to.
    environment = os.environ | {"TSAN_OPTIONS": "halt_on_error=1 die_after_fork=0"}
    done = subprocess.run([program], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "right\n"
