"""The examples run, where the packages that they show are installed."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
NEEDS = {
    "with_accelerate.py": "accelerate",
    "with_flow_matching.py": "flow_matching",
    "with_lightning.py": "pytorch_lightning",
}


@pytest.mark.parametrize("name", NEEDS)
def test_an_example_runs(name, tmp_path):
    if importlib.util.find_spec(NEEDS[name]) is None:
        pytest.skip(f"{NEEDS[name]} is not installed: it is no dependency of the tests")
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 0, found.stderr
    assert "cost of a pair" in found.stdout


def test_no_example_is_left_out():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(NEEDS)
