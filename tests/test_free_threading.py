"""Many threads call the engine at once, with the GIL and, where Python has none, without."""

import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

import loomfast
from loomfast import _engine

THREADS = 8


def problems():
    """Costs of every way through the solver: tiny, easy, contended, wide, gated, whole numbers, a batch."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2, 300, 2))
    contended = ((points[0][:, None] - points[1][None]) ** 2).sum(-1).astype(np.float32)
    gated = np.where(rng.random((120, 150)) < 0.5, np.inf, rng.random((120, 150)))
    whole = rng.integers(0, 9, (90, 70))
    uniform = [rng.random(shape) for shape in ((5, 5), (200, 200), (6, 40, 40))]
    return [*uniform, contended, contended[:100], gated, whole]


def everything(costs):
    """What each operation makes of them, in an order of its own."""
    found = []
    for cost in costs:
        solved = loomfast.solve(cost, threads=2)
        found += [solved.col4row, solved.u, solved.v, np.asarray(solved.total)]
        if cost.ndim == 2:
            found += loomfast.linear_sum_assignment(cost)
    noise = loomfast.noise_from_ids(np.arange(50), (7,), seed=3)
    return [*found, noise, loomfast.pairwise_cost(noise, noise, threads=2)]


def test_eight_threads_at_once_find_what_one_finds():
    costs = problems()
    expected, together = everything(costs), Barrier(THREADS)

    def work(_):
        together.wait()
        return [everything(costs) for _ in range(3)]

    with ThreadPoolExecutor(THREADS) as pool:
        for rounds in pool.map(work, range(THREADS)):
            for found in rounds:
                for got, want in zip(found, expected, strict=True):
                    assert got.dtype == want.dtype
                    assert np.array_equal(got, want)


def test_errors_in_one_thread_do_not_reach_the_others():
    good, bad, together = np.eye(30), np.full((30, 30), np.inf), Barrier(THREADS)

    def work(k):
        together.wait()
        for _ in range(50):
            if k % 2:
                with pytest.raises(ValueError, match="infeasible"):
                    loomfast.linear_sum_assignment(bad)
            else:
                assert loomfast.solve(good).total == 0
        return True

    with ThreadPoolExecutor(THREADS) as pool:
        assert all(pool.map(work, range(THREADS)))


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has a GIL")
def test_the_engine_leaves_the_gil_off():
    assert _engine.__file__
    assert not sys._is_gil_enabled()
