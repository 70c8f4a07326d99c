"""The report of bench/science.py: up to date, and made of whatever is there; its measures."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loomfast.metrics import bootstrap_interval, frechet_at_infinity, frechet_distance, neighbour_scores

BENCH = Path(__file__).resolve().parents[1] / "bench"


@pytest.fixture
def science(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    import science

    yield science
    for name in [n for n in sys.modules if n.split(".")[0] in ("science", "report")]:
        monkeypatch.delitem(sys.modules, name)


def test_what_is_made_of_the_results_is_up_to_date(science):
    for path, text in science.report_files().items():
        if path.suffix != ".svg":  # drawn by whichever matplotlib is here
            assert path.read_text(encoding="utf-8") == text, f"{path} is old: run make report"
        assert path.exists()


def test_a_report_of_nothing_says_that_nothing_is_run(science):
    from report.page import page
    from report.tables import all_tables

    text = all_tables({})
    assert "not run" in text
    assert "0 of" in text
    assert "http" not in page({}).replace("http-equiv", "")


def test_jobs_have_names_of_their_own_and_bases_that_exist(science):
    from report.table import all_jobs

    jobs = all_jobs()
    names = [job.name for job in jobs]
    assert len(set(names)) == len(names)
    assert {job.base for job in jobs} - {""} <= set(names)


def of_stages(name, seed, distances):
    """A result of a run of digits that was measured at quarters of its steps."""
    stages = [{"step": 200 * (k + 1), "frechet": {"1": d, "8": d / 10}} for k, d in enumerate(distances)]
    samples = [{"nfe": nfe, "frechet": distances[-1] / nfe} for nfe in (1, 2, 4, 8, 40)]
    return {
        f"digits-{name}-seed{seed}": {"seed": seed, "stages": stages, "samples": samples, "curvature": 0.1}
    }


def test_equal_time_is_by_the_clock_and_between_stages(science):
    from report.equal_time import at_time, price_of, times_of
    from report.tables import equal_time_table

    clock = {
        "independent": {"step_cpu_seconds": 0.2, "preparation_cpu_seconds": 0.0},
        "Sinkhorn": {"step_cpu_seconds": 0.4, "preparation_cpu_seconds": 0.0},
        "nearest of 4": {"step_cpu_seconds": 0.2, "preparation_cpu_seconds": 20.0},
        "global from the start": {"step_cpu_seconds": 0.2, "preparation_cpu_seconds": 140.0},
    }
    results = {"digits-clock": {"clock": clock}}
    for name in ("independent", "sinkhorn", "nearest", "global"):
        results |= of_stages(name, 0, [80.0, 40.0, 20.0, 10.0])
    assert price_of(results, "Sinkhorn") == (2, 0)
    assert price_of(results, "mixed") is None
    assert times_of(results, "nearest of 4", [200, 400]) == [300, 500]
    halfway = at_time(results["digits-nearest-seed0"], [300, 500, 700, 900], (500 * 700) ** 0.5, 1)
    assert halfway == pytest.approx((40 * 20) ** 0.5)  # straight in logarithms
    rows = [line.split(" | ") for line in equal_time_table(results).splitlines()[2:]]
    found = {row[0].removeprefix("| "): row[4:] for row in rows}
    assert found["independent"] == ["800", "10.0", "1.00 |"]
    assert found["Sinkhorn"] == ["400", "40.0", "4.00 |"]
    assert found["nearest of 4"][0] == "700"
    assert found["global from the start"] == ["100", "not reached", "not reached |"]


def test_what_was_to_be_reached_is_told_of_the_seeds_that_both_have(science):
    from report.claims import Claim, claims, verdict

    results = of_stages("loom-16", 0, [8.0]) | of_stages("loom-16", 1, [4.0])
    results |= of_stages("minibatch-ot", 1, [10.0])
    claim = Claim("LOOM", ("digits-loom-16", 1), ("digits-minibatch-ot", 1), 0.5)
    assert verdict(results, claim) == ([1], 0.4, True)
    results |= of_stages("minibatch-ot", 0, [10.0])
    assert verdict(results, claim) == ([0, 1], 0.6, False)
    assert verdict(results, Claim("", ("digits-loom-16", 1), ("digits-global+lsd", 1), 1.0)) is None
    from report.table import all_jobs

    names = {job.name for job in all_jobs()}
    for one in claims():
        for name, _ in (one.above, one.below):
            base, _, route = name.partition("+")
            assert f"{base}-seed0" + (f"-{route}" if route else "") in names


def brute_scores(real, made, k):
    """Return the four scores by their definitions, ball by ball."""

    def radius(points, i):
        return np.sort(np.linalg.norm(points - points[i], axis=1))[k]  # the first is itself

    inside = np.array([[np.linalg.norm(m - r) <= radius(real, i) for m in made] for i, r in enumerate(real)])
    of_made = np.array([[np.linalg.norm(m - r) <= radius(made, j) for j, m in enumerate(made)] for r in real])
    return {
        "precision": inside.any(axis=0).mean(),
        "recall": of_made.any(axis=1).mean(),
        "density": inside.sum() / (k * len(made)),
        "coverage": inside.any(axis=1).mean(),
    }


@pytest.mark.parametrize("dim", [3, 20])
def test_neighbour_scores_are_their_definitions(dim, monkeypatch):
    monkeypatch.setattr("loomfast.metrics.neighbours.BLOCK", 7)  # several blocks, the last of them short
    rng = np.random.default_rng(dim)
    real, made = rng.normal(size=(30, dim)), 0.8 * rng.normal(size=(25, dim)) + 0.3
    assert neighbour_scores(real, made, k=3) == pytest.approx(brute_scores(real, made, 3), abs=1e-12)


def test_neighbour_scores_refuse_a_neighbour_that_is_not_there():
    with pytest.raises(ValueError, match="k must be less than the items of each set, 5 and 9; got 5"):
        neighbour_scores(np.zeros((5, 2)), np.zeros((9, 2)), k=5)


def test_a_bootstrap_interval_of_a_mean_is_that_of_theory():
    values = np.random.default_rng(0).normal(3, 2, size=400)
    found = bootstrap_interval(np.mean, values, resamples=2000)
    error = values.std() / 20
    assert found.value == values.mean()
    assert found.standard_error == pytest.approx(error, rel=0.1)  # 2000 resamples give it within 1.6 % (1 sd)
    assert (found.low, found.high) == pytest.approx(
        (found.value - 1.96 * error, found.value + 1.96 * error), abs=0.3 * error
    )
    for options in ({"resamples": 1}, {"level": 1.0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            bootstrap_interval(np.mean, values, **options)


def test_the_distance_at_infinity_is_nearer_to_that_of_the_laws():
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(100_000, 16))
    found = []
    for _ in range(10):
        samples = rng.normal(size=(400, 16))
        found.append((frechet_distance(samples, reference), frechet_at_infinity(samples, reference)))
    plain, extrapolated = np.abs(np.mean(found, axis=0))  # of equal laws: 0
    assert extrapolated < plain / 3
    with pytest.raises(ValueError, match="at least 16 samples, got 15"):
        frechet_at_infinity(samples[:15], reference)


@pytest.mark.timeout(900)  # seconds of work, on a machine that may have much else to do
def test_kill_9_at_random_moments_of_reflow_distill_and_report(tmp_path):
    program = Path(__file__).with_name("kills_run.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, program, tmp_path], env=environment, capture_output=True, text=True, timeout=880
    )
    assert ran.returncode == 0, ran.stderr
    assert [line.split(",")[0] for line in ran.stdout.splitlines()] == [
        f"{work}: 3 kills" for work in ("reflow", "distill", "report")
    ]
