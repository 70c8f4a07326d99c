"""The benchmarks of the solver run, on little."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment as scipys

import loomfast

BENCH = Path(__file__).resolve().parents[1] / "bench"
sys.path.insert(0, str(BENCH))

import assignment  # noqa: E402
import families  # noqa: E402
import known_families  # noqa: E402
import peers  # noqa: E402
import timing  # noqa: E402


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
    assert peers.excess(cost, best, best) == (0, 16 * 2.0**-53)
    above, allowed = peers.excess(cost, worse, best)
    assert above == 2 > allowed
    assert peers.excess(cost, ((0, 1), (0, 0)), best)[0] == np.inf


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


def test_assignment_runs_and_names_the_best_peer(tmp_path):
    path = tmp_path / "assignment.json"
    done = run("assignment.py", "--sizes", "12,24", "--families", "unif,geo2d", "--json", path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(path.read_text())["table"]
    assert [(row["family"], row["n"]) for row in rows] == [
        (f, n) for f in ("unif", "geo2d") for n in (12, 24)
    ]
    for row in rows:
        right = {peer: found for peer, found in row["peers"].items() if "ratio" in found}
        assert set(row["peers"]) == set(peers.PEERS)
        assert row["best"] == min(right, key=lambda peer: right[peer]["ratio"])
        assert {"float32", "float64"} == set(row["ours"])
        wide = row["float64"]
        assert wide["best"] in right
        assert wide["ratio"] > 0
    assert "| costs | shape |" in done.stdout
    assert "all in float64: geometric mean" in done.stdout


def test_peers_not_installed_or_wrong_are_never_the_best(monkeypatch):
    cost = np.random.default_rng(0).random((9, 9), np.float32)

    def no_solution(package, cost, wide):
        return {"": (lambda: np.arange(9), np.asarray)}

    few = {
        "scipy": ("scipy", "scipy.optimize"),
        "bad": ("numpy", "numpy"),
        "absent": ("absent", "no_such_module"),
    }
    for module in (peers, assignment):
        monkeypatch.setattr(module, "PEERS", few)
    monkeypatch.setitem(peers.SOLVERS, "bad", no_solution)
    row = assignment.result(*assignment.race(cost, 1, set()))
    assert row["best"] == "scipy"
    assert row["peers"]["absent"] == {"why not": "not installed"}
    assert row["peers"]["bad"]["why not"] == "WRONG"
    assert row["peers"]["bad"]["wrong"][""] > 0


def test_assignment_refuses_families_it_does_not_know():
    done = run("assignment.py", "--families", "cubes")
    assert done.returncode == 2
    assert "not cubes" in done.stderr


def spin():
    while True:
        pass


def test_calls_that_take_too_long_or_fail_are_ended():
    assert timing.bounded(lambda: 3, 5) == (3, None)
    assert timing.bounded(spin, 0.1) == (None, "over 0.1 s")
    found, why = timing.bounded(lambda: os.kill(os.getpid(), signal.SIGSEGV), 5)
    assert found is None
    assert str(int(signal.SIGSEGV)) in why


def test_a_peer_that_takes_too_long_has_no_ratio(monkeypatch):
    few = {"scipy": ("scipy", "scipy.optimize"), "endless": ("numpy", "numpy")}
    for module in (peers, assignment):
        monkeypatch.setattr(module, "PEERS", few)
    monkeypatch.setitem(peers.SOLVERS, "endless", lambda package, cost, wide: {"": (spin, np.asarray)})
    hopeless = set()
    row = assignment.result(*assignment.race(np.eye(9, dtype=np.float32), 1, hopeless, 0.1))
    assert row["peers"]["endless"] == {"why not": "over 0.1 s"}
    assert row["best"] == "scipy"
    assert hopeless == {("endless", "")}


@pytest.mark.parametrize("family", known_families.SHAPES)
def test_families_of_others_have_solutions_that_scipy_finds(family):
    for n, m in ((20, 20), (12, 24), (24, 12)):
        cost = known_families.known_costs(family, n, m)
        assert (cost.shape, cost.dtype) == ((n, m), np.float32)
        found = assignment.certified(cost), scipys(cost)
        total, optimum = (cost[pairs].astype(float).sum() for pairs in found)
        assert total == pytest.approx(optimum, rel=1e-12)


def test_hopeless_variants_are_not_called_again():
    cost, hopeless = np.random.default_rng(0).random((9, 9), np.float32), {("scipy", "")}
    assert ("scipy", "") not in assignment.race(cost, 1, hopeless)[0]


@pytest.mark.parametrize("peer", [peer for peer in peers.PEERS if peers.installed(peer)])
@pytest.mark.parametrize("shape", [(11, 11), (7, 12)])
def test_peers_are_read_rightly(peer, shape):
    cost = np.random.default_rng(1).integers(0, 50, shape).astype(np.float32)
    known = loomfast.linear_sum_assignment(cost)
    for solve, columns in peers.solvers(peer, cost).values():
        assert peers.excess(cost, (np.arange(len(cost)), columns(solve())), known)[0] == 0


@pytest.mark.parametrize("peer", [peer for peer in peers.PEERS if peers.installed(peer)])
def test_batches_of_peers_are_read_rightly(peer):
    batch = np.random.default_rng(1).integers(0, 50, (3, 10, 10)).astype(np.float32)
    for solve, columns in peers.batch_solvers(peer, batch, 1).values():
        for cost, chosen in zip(batch, columns(solve()), strict=True):
            known = loomfast.linear_sum_assignment(cost)
            assert peers.excess(cost, (np.arange(10), chosen), known)[0] == 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores cannot be chosen on this system")
def test_one_core_is_left_again():
    cores = os.sched_getaffinity(0)
    with peers.one_core():
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == cores


def test_forms_run_and_report(tmp_path):
    path = tmp_path / "forms.json"
    done = run("assignment_forms.py", "--size", 40, "--count", 2, "--rounds", 1, "--json", path)
    assert done.returncode == 0, done.stderr
    found = json.loads(path.read_text())
    assert {"rectangles", "batches", "points", "tiny"} < set(found)
    assert all(row["best"] for row in found["rectangles"])
    assert "loomfast" in {row["name"] for row in found["batches"]}


def test_forms_refuse_what_they_do_not_know():
    done = run("assignment_forms.py", "--only", "circles")
    assert done.returncode == 2
    assert "--only knows batches, rectangles, points, tiny, not circles" in done.stderr


def test_the_page_of_phases_is_written(tmp_path):
    path = tmp_path / "phases.json"
    words = ("--families", "unif,img", "--sizes", 64, "--rounds", 1, "--out", tmp_path, "--json", path)
    assert run("phases.py", *words).returncode == 0
    page = (tmp_path / "profile.md").read_text()
    assert "| unif | 64 |" in page
    assert "| img | 64 |" in page
    assert (tmp_path / "profile.png").read_bytes().startswith(b"\x89PNG")
    assert [row["family"] for row in json.loads(path.read_text())["rows"]] == ["unif", "img"]


def test_warm_starts_run(tmp_path):
    path = tmp_path / "warm.json"
    words = ("--sizes", "16", "--epochs", "1,2", "--items", 48, "--batches", 2, "--rounds", 1)
    done = run("warm_starts.py", *words, "--json", path)
    assert done.returncode == 0, done.stderr
    assert [row["epoch"] for row in json.loads(path.read_text())["rows"]] == [1, 2]


def test_peers_are_pinned_alike():
    root = BENCH.parent
    pinned = set(
        tomllib.loads((root / "pyproject.toml").read_text())["project"]["optional-dependencies"]["bench"]
    )
    pinned.remove("pytest-benchmark>=5")  # no peer
    makefile = (root / "Makefile").read_text()
    assert pinned - {"scipy>=1.11"} == {word for word in makefile.split() if word in pinned}
    assert {name for name, _ in peers.PEERS.values()} == {
        pin.replace(">=", "==").split("==")[0] for pin in pinned
    }


def test_the_forms_run_and_report(tmp_path):
    sparse, ranked, bottleneck = (tmp_path / f"{name}.json" for name in ("sparse", "ranked", "bottleneck"))
    words = ("--sizes", 60, "--families", "random 4,wide 4,infeasible", "--json", sparse)
    assert run("assignment_sparse.py", *words).returncode == 0
    rows = json.loads(sparse.read_text())["rows"]
    assert [row["family"] for row in rows] == ["random 4", "wide 4", "infeasible"]
    assert all(row["ratios"]["scipy"] > 0 for row in rows)
    words = ("--sizes", 5, "--ks", "3", "--families", "unif,wide", "--json", ranked)
    assert run("assignment_k_best.py", *words).returncode == 0
    assert all(row["ratios"]["plain"] > 0 for row in json.loads(ranked.read_text())["rows"])
    assert run("assignment_bottleneck.py", "--sizes", 6, "--json", bottleneck).returncode == 0
    assert all(row["ratios"]["thresholds"] > 0 for row in json.loads(bottleneck.read_text())["rows"])
    gated, batches = tmp_path / "gated.json", tmp_path / "batches.json"
    assert run("assignment_unmatched.py", "--sizes", 9, "--json", gated).returncode == 0
    rows = json.loads(gated.read_text())["rows"]
    assert len(rows) == 12
    assert all(row["ratios"]["scipy"] > 0 and not row["wrong"] for row in rows)
    assert run("assignment_batches.py", "--scale", 16, "--rounds", 1, "--json", batches).returncode == 0
    rows = json.loads(batches.read_text())["rows"]
    assert [row["form"] for row in rows] == ["alike", "ragged", "detr"]
    assert all({"loomfast, list", "loomfast, sizes", "scipy"} <= set(row["seconds"]) for row in rows)
