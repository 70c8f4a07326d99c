"""Where the time of a solve goes: seconds by phase in `Assignment.stats`."""

import time

import numpy as np
import pytest
from cases import image_costs

import loomfast
from loomfast.assignment import PHASES


def solved(cost, **options):
    """The seconds by phase of a solve, and those that the whole call took."""
    begin = time.perf_counter()
    found = loomfast.solve(cost, **options)
    return found.stats["seconds"], time.perf_counter() - begin, found


@pytest.mark.parametrize("shape", [(300, 300), (200, 230), (230, 200)])
def test_the_phases_make_up_the_call(shape):
    seconds, whole, found = solved(image_costs(np.random.default_rng(0), *shape))
    assert tuple(seconds) == PHASES
    assert min(seconds.values()) >= 0
    assert sum(seconds.values()) <= whole
    assert "auction" in found.stats["path"]
    for phase in ("read", "auction", "repair", "paths", "certify"):
        assert seconds[phase] > 0, phase


def test_easy_problems_have_no_auction():
    seconds, _, found = solved(np.random.default_rng(0).random((200, 200)))
    assert found.stats["path"] == "column reductions"
    assert seconds["auction"] == 0
    assert seconds["reduce"] > 0


def test_auxiliary_problems_are_the_rest():
    cost = np.random.default_rng(0).random((200, 200))
    cost[cost > 0.02] = 1e12  # matched as seldom as can be, which a problem of its own finds out
    seconds, whole, _ = solved(cost)
    assert 0 < seconds["rest"] <= sum(seconds.values()) <= whole


def test_small_problems_are_not_timed():
    assert "seconds" not in loomfast.solve(np.eye(5)).stats
    assert "seconds" not in loomfast.solve(np.eye(63)).stats
    assert "seconds" in loomfast.solve(np.eye(64)).stats


def test_problems_of_a_batch_are_timed_each():
    found = loomfast.solve(np.random.default_rng(0).random((3, 100, 100)), threads=2)
    assert all(tuple(stats["seconds"]) == PHASES for stats in found.stats)
