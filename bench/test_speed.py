"""Every case of the registry by pytest-benchmark: one thread, one core, a test a contestant.

    pytest bench                                            all cases; a table for each
    pytest bench -k "assignment and img" --benchmark-json runs/bench/speed.json
    python bench/speed_table.py runs/bench/speed.json       ratios, and a figure

A contestant is timed only if its answer was right. Those of a case follow each other, so that what else the
machine does concerns them alike; whoever wants turns takes the scripts beside this one (``make bench-full``).
"""

from functools import lru_cache

import pytest
import registry
import torch
from peers import one_core

PAIRS = [(case, name) for case in registry.CASES for name in case.names]


@lru_cache(maxsize=1)
def contestants(case):
    return case.make()


@pytest.mark.parametrize(("case", "name"), PAIRS, ids=lambda part: str(part).replace(" ", "_"))
def test_speed(benchmark, case, name):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_core():
            found = contestants(case)
            if name not in found:
                pytest.skip(f"{name} is not installed, takes no such problem, or is wrong")
            benchmark.group = str(case)
            benchmark.name = name
            benchmark.extra_info.update(
                operation=case.operation, family=case.family, size=case.size, work=case.work, unit=case.unit
            )
            benchmark(found[name])
    finally:
        torch.set_num_threads(threads)
