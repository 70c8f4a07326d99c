"""The standalone C++ interface, under sanitizers: the example compiles and runs, fuzzing finds nothing."""

import os
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


def test_costs_that_change_under_address_sanitizer(built):
    done = subprocess.run(
        [built("assignment_changing.cpp"), "4"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_costs_that_change_under_thread_sanitizer(tmp_path):
    """The writer's race is meant, and left out by name; there is no other."""
    flags = ["-O0", "-g1", "-fsanitize=thread"]
    other_forms = ("sparse", "points", "k_best", "bottleneck", "cardinality")
    program = native.build(tmp_path, "assignment_changing.cpp", "assignment", *flags, without=other_forms)
    suppressed = tmp_path / "meant"
    suppressed.write_text("race:scribble\n")
    # Of the longest history: a stack that is lost has no name.
    environment = os.environ | {"TSAN_OPTIONS": f"suppressions={suppressed} halt_on_error=1 history_size=7"}
    done = subprocess.run([program, "2"], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fuzz_of_the_forms_under_sanitizers(built):
    done = subprocess.run([built("assignment_forms_fuzz.cpp"), "3000", "1"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_fuzz_of_points_under_sanitizers(built):
    program = built("assignment_points_fuzz.cpp")
    done = subprocess.run([program, "4500", "7", "4000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
