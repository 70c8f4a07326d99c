"""The fast CPU solver beyond small sizes: every path, instruction set and start, certified every time."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import FAMILIES, forbid, image_costs, machol_wien, plane_costs
from checks import check_assignment, optimal_total

import loomfast


def reference_bound(cost):
    finite = np.abs(cost[np.isfinite(cost)].astype(np.float64))
    return 8 * min(cost.shape) * 2.0**-53 * finite.max(initial=0.0)


@pytest.mark.parametrize("shape", [(65, 65), (200, 200), (150, 163), (97, 400), (230, 210)])
@pytest.mark.parametrize("family", FAMILIES)
def test_families_on_every_instruction_set(family, shape, instruction_set):
    rng = np.random.default_rng(len(family))
    cost = FAMILIES[family](rng, *shape)
    for variant in (cost, cost.astype(np.float32) if cost.dtype.kind == "f" else cost):
        result = loomfast.solve(variant)
        check_assignment(variant, result)
        slack = reference_bound(variant) + 1e-15 * abs(result.total)
        assert abs(result.total - optimal_total(variant)) <= slack


FEW = [(1, 1), (1, 64), (7, 8), (15, 64), (16, 65), (17, 40), (20, 20), (31, 33), (32, 32), (33, 33)]


@pytest.mark.parametrize("family", ["image", "uniform", "small integers", "bits"])
def test_few_rows_on_every_instruction_set(family, instruction_set):
    """Up to 64 columns are vectors of one kernel: whole and partly filled ones, all of a word's bits."""
    rng = np.random.default_rng(20)
    for n, m in FEW:
        cost = np.asarray(FAMILIES[family](rng, n, m), np.float64)
        for turned in (cost, cost.T):
            result = loomfast.solve(turned)
            check_assignment(turned, result)
            slack = reference_bound(turned) + 1e-15 * abs(result.total)
            assert abs(result.total - optimal_total(turned)) <= slack
        forbidden = forbid(rng, cost, 0.5)
        check_assignment(forbidden, loomfast.solve(forbidden))
        same = loomfast.solve(np.full((n, m), 3.0))
        assert same.col4row.tolist() == list(range(n))
        repeated = loomfast.solve(cost[: n // 2], row_repeats=2) if n > 1 else None
        if repeated:
            assert repeated.total == loomfast.solve(cost[: n // 2].repeat(2, 0)).total


@pytest.mark.parametrize("family", ["image", "plane", "uniform", "bits", "low rank", "lognormal", "offset"])
@pytest.mark.parametrize("n", [1100, 1500])
def test_cached_sizes(family, n):
    cost = FAMILIES[family](np.random.default_rng(n), n).astype(np.float32)
    check_assignment(cost, loomfast.solve(cost))


def test_cached_path_on_every_instruction_set(instruction_set):
    cost = image_costs(np.random.default_rng(8), 1100).astype(np.float32)
    result = loomfast.solve(cost)
    assert result.stats["path"] == "cached auction"
    check_assignment(cost, result)
    check_assignment(cost.astype(np.float64) / 3, loomfast.solve(cost.astype(np.float64) / 3))


@pytest.mark.parametrize("family", ["image", "uniform", "small integers", "bits"])
def test_forbidden_pairs(family, instruction_set):
    rng = np.random.default_rng(7)
    for shape in [(120, 120), (100, 130), (130, 100)]:
        for share in (0.3, 0.9, 0.98):
            cost = forbid(rng, FAMILIES[family](rng, *shape), share)
            check_assignment(cost, loomfast.solve(cost))
            check_assignment(-cost, loomfast.solve(-cost, maximize=True), maximize=True)


def test_infeasible_is_found():
    rng = np.random.default_rng(0)
    cost = rng.random((200, 200))
    cost[:120, :100] = np.inf  # 120 rows share 100 columns
    for problem in (cost, cost.astype(np.float32), cost[:, :199].T, cost.T):
        with pytest.raises(ValueError, match="infeasible"):
            loomfast.solve(problem)


@pytest.mark.parametrize("shape", [(130, 130), (90, 130), (130, 90)])
@pytest.mark.parametrize("family", ["image", "uniform", "small integers", "constant"])
def test_any_start_gives_the_optimum(family, shape):
    rng = np.random.default_rng(11)
    cost = FAMILIES[family](rng, *shape)
    cold = loomfast.solve(cost)
    n, m = shape
    junk = np.full(n, -1)
    junk[: n // 2] = rng.integers(-1, m, n // 2)
    starts = [
        cold,
        cold.col4row,
        cold.v,
        (cold.col4row, cold.v),
        (rng.permutation(max(n, m))[:n] % m, cold.u, cold.v),
        (cold.col4row, cold.u * 1.01, cold.v * 0.99),
        (junk, rng.normal(size=n), rng.normal(size=m) * 1e3),
        (cold.col4row, np.full(n, 1e300), np.full(m, -1e300)),
        (np.arange(n) % m, np.full(n, np.inf), np.full(m, np.nan)),
    ]
    for start in starts:
        result = loomfast.solve(cost, start=start)
        check_assignment(cost, result)
        assert abs(result.total - cold.total) <= 2 * reference_bound(cost)


def test_a_good_start_is_used():
    cost = image_costs(np.random.default_rng(1), 300)
    cold = loomfast.solve(cost)
    again = loomfast.solve(cost, start=cold)
    assert again.stats["path"] == "warm start"
    assert again.stats["bids"] == 0
    nearly = cost + np.random.default_rng(2).normal(size=cost.shape) * 1e-3
    warm = loomfast.solve(nearly, start=cold)
    assert warm.stats["path"] == "warm start"
    check_assignment(nearly, warm)


@pytest.mark.parametrize("shape", [(200, 200), (1100, 1100), (200, 260), (260, 200), (200, 900)])
@pytest.mark.parametrize("family", ["image", "uniform"])
def test_starts_of_every_age(family, shape):
    """From a start that is nearly optimal to one that says nothing, pushing is used and is given up."""
    rng = np.random.default_rng(12)
    cost = FAMILIES[family](rng, *shape)
    cold = loomfast.solve(cost)
    nearest = np.sort(cost - cold.v, axis=1)
    near = np.median(nearest[:, 9] - nearest[:, 0])
    paths, loose = [], []
    for change in (0.003, 0.03, 0.1, 0.3, 1.0, 10.0):
        changed = cost + rng.normal(size=shape) * change * near
        result = loomfast.solve(changed, start=cold)
        check_assignment(changed, result)
        assert abs(result.total - optimal_total(changed)) <= 2 * reference_bound(changed)
        paths.append(result.stats["path"])
        loose.append(result.stats["loose"] / min(shape))
    assert loose[0] < loose[-1]
    assert paths[-1] != "warm start"
    if family == "image":
        assert paths[0] == "warm start"
        from_start = [p for p, share in zip(paths, loose, strict=True) if 0.58 < share <= 0.9]
        assert from_start
        assert all(p.endswith("auction") for p in from_start)


@pytest.mark.parametrize("tolerance", [1e-1, 1e-2, 1e-4])
@pytest.mark.parametrize("shape", [(200, 200), (150, 200)])
def test_tolerance(tolerance, shape):
    cost = image_costs(np.random.default_rng(5), *shape)
    result = loomfast.solve(cost, tolerance=tolerance)
    check_assignment(cost, result, tolerance=tolerance)
    assert result.total - optimal_total(cost) <= result.gap + 1e-9
    shifted = loomfast.solve(cost + np.arange(shape[0])[:, None] * 10.0, tolerance=tolerance)
    assert shifted.status == result.status


@pytest.mark.parametrize("shape", [(6, 300, 300), (7, 90, 120)])
def test_threads_change_nothing(shape):
    costs = np.random.default_rng(3).random(shape, np.float32)
    one, two = (loomfast.solve(costs, threads=t) for t in (1, 2))
    for name in ("col4row", "row4col", "u", "v", "total", "gap"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
    counts = [[{k: v for k, v in s.items() if k != "seconds"} for s in found.stats] for found in (one, two)]
    assert counts[0] == counts[1]


@pytest.mark.parametrize(("n", "repeats", "m"), [(80, 4, 320), (80, 4, 400), (60, 5, 200)])
def test_row_repeats(n, repeats, m):
    cost = image_costs(np.random.default_rng(4), n, m).astype(np.float32)
    result = loomfast.solve(cost, row_repeats=repeats)
    check_assignment(cost, result, row_repeats=repeats)
    assert result.total == pytest.approx(optimal_total(np.repeat(cost, repeats, 0)), rel=1e-12)


PITFALLS = {
    **{name: (lambda n, f=f: f(np.random.default_rng(0), n)) for name, f in FAMILIES.items()},
    "Machol-Wien": machol_wien,
    "Machol-Wien reversed": lambda n: machol_wien(n)[::-1],
    "plane float32": lambda n: plane_costs(np.random.default_rng(0), n).astype(np.float32),
    "sparse": lambda n: forbid(np.random.default_rng(0), np.random.default_rng(1).random((n, n)), 0.98),
    "one good column": lambda n: np.where(np.arange(n) == 3, 0.0, np.random.default_rng(0).random((n, n))),
    "big M integers": lambda n: np.where(
        np.random.default_rng(0).random((n, n)) < 0.5, 10**6, np.random.default_rng(1).integers(0, 10, (n, n))
    ),
}


@pytest.mark.parametrize("name", PITFALLS)
def test_pitfalls_are_not_slow(name):
    """At most three times scipy's CPU time, with a floor of 5 ms against the noise of a shared machine.

    The least of several times is what a call takes; beside busy processes it shows itself only now and then.
    """
    import scipy.optimize

    cost = PITFALLS[name](512)
    wide = np.ascontiguousarray(cost, np.float64)
    ours, scipys = [], []
    for turn in range(30):
        start = time.process_time()
        result = loomfast.solve(cost)
        ours.append(time.process_time() - start)
        start = time.process_time()
        scipy.optimize.linear_sum_assignment(wide)
        scipys.append(time.process_time() - start)
        if turn >= 2 and min(ours) <= max(3 * min(scipys), 5e-3):
            break
    check_assignment(cost, result)
    assert min(ours) <= max(3 * min(scipys), 5e-3)


def cpu_seconds(pid):
    """What a child has computed, all its threads together; it may have ended, but not been waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("target", ["matrix", "batch"])
def test_interrupt_stops_within_a_second(target):
    """Ctrl-C during a solve that would take many seconds.

    Counted is what the process computes after it: others may keep it waiting for as long as they like.
    """
    shape = {"matrix": "(9000, 9000)", "batch": "(4000, 300, 300)"}[target]
    script = f"""
import signal
import numpy as np, loomfast
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs inherit that it is ignored
i = np.arange({shape}[-1], dtype=np.float32)
cost = np.broadcast_to(np.outer(i, i) % 1009 + np.outer(i, i) / 1e3, {shape})
print("ready", flush=True)
try:
    loomfast.solve(cost, threads=2)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "ready\n"
        begun = cpu_seconds(child.pid)
        while cpu_seconds(child.pid) < begun + 0.7:
            time.sleep(0.01)
        interrupted = cpu_seconds(child.pid)
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "interrupted\n"
        assert cpu_seconds(child.pid) - interrupted < 1.0
    finally:
        child.kill()
        child.communicate()
