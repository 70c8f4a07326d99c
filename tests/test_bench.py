"""The benchmarks of the solver run, on little."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import loomfast

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import families  # noqa: E402


def run(script, *words):
    command = [sys.executable, str(BENCH / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_every_two_levels_meet_in_the_families():
    cases = families.selection(400)
    assert len(set(cases)) == 400
    assert all(families.together(case) for case in cases)
    assert set(families.possible_pairs()) == set().union(*map(families.pairs, cases))
    assert cases == families.selection(400)


def small(**levels):
    """A case that is usual, but for the levels given."""
    usual = families.USUAL | {"shape": "128x128", "values": "random", "order": "C"}
    return families.Case(**(usual | levels))


@pytest.mark.parametrize("gating", families.FACTORS["gating"])
@pytest.mark.parametrize("shape", ["37x37", "20x90", "90x20"])
def test_gated_families_are_feasible(gating, shape):
    cost = families.cost_of(small(shape=shape, gating=gating))
    share = np.isfinite(cost).mean()
    assert share == 1 if gating == "none" else 0.02 < share < 0.95
    assert np.isfinite(loomfast.solve(cost).total)


@pytest.mark.parametrize("order", families.FACTORS["order"])
@pytest.mark.parametrize("dtype", families.FACTORS["dtype"])
@pytest.mark.parametrize("values", families.FACTORS["values"])
def test_families_are_what_their_case_says(values, dtype, order):
    case = small(shape="40x70", values=values, dtype=dtype, order=order)
    cost = families.cost_of(case)
    assert cost.dtype == dtype
    assert cost.shape == (40, 70)
    assert (cost.flags.c_contiguous, cost.flags.f_contiguous) == (order == "C", order == "F")
    assert cost.min() >= 0
    assert (cost.max() > cost.min()) == (values != "constant")
    np.testing.assert_array_equal(cost, families.cost_of(case._replace(order="C")))


def test_a_wrong_total_is_found():
    cost = np.array([[1.0, 2.0], [2.0, 1.0]])
    best, worse = ((0, 1), (0, 1)), ((0, 1), (1, 0))
    assert families.excess(cost, best, best) == (0, 16 * 2.0**-53)
    above, allowed = families.excess(cost, worse, best)
    assert above == 2 > allowed
    with pytest.raises(SystemExit, match="not a complete matching"):
        families.excess(cost, ((0, 1), (0, 0)), best)


def test_families_runs_and_reports(tmp_path):
    path = tmp_path / "families.json"
    done = run("families.py", "--quick", "--cases", 60, "--only", "shape=128x128", "--json", path)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert 3 <= len(found["cases"]) == found["summary"]["cases"]
    assert all(case["shape"] == "128x128" and not case["wrong"] for case in found["cases"])
    assert found["summary"]["worst"] == min(case["ratio"] for case in found["cases"])
    assert "scipy's time over ours" in done.stdout


def test_families_refuses_what_it_does_not_know():
    done = run("families.py", "--only", "shape=round")
    assert done.returncode == 2
    assert "--only shape=round is not a FACTOR=LEVEL" in done.stderr
