"""The registry of ``make bench``: its cases run, its table says what was measured."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bench"))

import registry  # noqa: E402
import speed_table  # noqa: E402


def test_cases_have_names_of_their_own_and_all_operations_are_there():
    assert len({str(case) for case in registry.CASES}) == len(registry.CASES)
    operations = {case.operation for case in registry.CASES}
    assert operations == {"assignment", "batch", "sparse", "k best", "bottleneck", "noise", "cost"}
    assert all(case.names[0] == registry.OURS and case.work >= 1 for case in registry.CASES)


def test_a_wrong_contestant_is_not_timed():
    def contestants():
        return {
            registry.OURS: lambda: 3.0,
            "right": lambda: 3.0,
            "wrong": lambda: 3.1,
            "stranger": lambda: 3.0,
        }

    case = registry.alike("x", "y", "z", "problems", (registry.OURS, "right", "wrong"), contestants)
    assert set(case.make()) == {registry.OURS, "right"}


def test_the_smallest_of_each_operation_is_timed_and_shown(tmp_path):
    words = "assignment_unif_20 or (batch and detr) or bottleneck_geo2d or 512_x_64-"
    report, figure = tmp_path / "speed.json", tmp_path / "speed.svg"
    command = [sys.executable, "-m", "pytest", "bench", "-q", "-k", words, "-p", "no:cacheprovider"]
    command += [f"--benchmark-json={report}", "--benchmark-max-time=0.01", "--benchmark-min-time=0.0001"]
    # A worker of pytest-xdist does not measure, and a child of one takes itself for one.
    alone = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    command = [sys.executable, str(ROOT / "bench" / "speed_table.py"), str(report), f"--figure={figure}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    for name in ("assignment unif 20 x 20", "batch detr", "bottleneck geo2d", "noise float32 512 x 64"):
        assert re.search(rf"^\| {name}.* a second \| .*\d", said, re.MULTILINE), said
    assert re.search(r"^noise: fastest other over ours, geometric mean \d+\.\d+", said, re.MULTILINE)
    assert "time of the fastest other over ours" in figure.read_text()


def test_ratios_are_of_medians_the_fastest_peer_first():
    info = {"operation": "noise", "family": "f", "size": "1", "work": 10, "unit": "normals"}
    entries = [
        {"group": "g", "name": name, "extra_info": info, "stats": {"median": median, "iqr": 0.1}}
        for name, median in ((registry.OURS, 2.0), ("slow", 8.0), ("near", 3.0))
    ]
    (row,) = speed_table.cases({"benchmarks": json.loads(json.dumps(entries))}).values()
    assert row["ratios"] == pytest.approx({"near": 1.5, "slow": 4.0})
    assert list(row["ratios"]) == ["near", "slow"]
    assert row["rate"] == "5 normals a second"
