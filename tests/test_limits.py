"""What a process may take: threads that cannot be had, cores it may not use, memory that is not there."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import loomfast
from loomfast import _arrays, _engine, _limits, cli
from loomfast.coupling import Loom, whole_dataset

# ---- threads --------------------------------------------------------------------------------------------

WITHOUT_THREADS = """
import threading, warnings
import numpy as np
import loomfast
from loomfast.coupling import Ahead, Independent
from loomfast.coupling.row_store import RowStore

try:
    threading.Thread(target=int).start()
    raise SystemExit("a thread could be had")
except RuntimeError:
    pass

costs = np.random.default_rng(0).random((6, 50, 60))
x = costs.reshape(-1, 60).astype(np.float32)
assert loomfast.solve(costs, threads=1).total.tolist() == loomfast.solve(costs, threads=4).total.tolist()
for threads in (1, 4):
    noise = loomfast.noise_from_ids(np.arange(2000), 300, seed=0, threads=threads)
    costs = loomfast.pairwise_cost(x, x, threads=threads)
    print(noise.tobytes() == loomfast.noise_from_ids(np.arange(2000), 300, seed=0).tobytes(), costs.sum() > 0)

warnings.simplefilter("error")
try:
    Ahead(Independent(100, (60,)), None)
except RuntimeWarning as warning:
    print(warning)
warnings.simplefilter("ignore")
with Ahead(Independent(100, (60,)), lambda step: {"x": x[:10], "index": np.arange(10)}) as ahead:
    print(len(ahead.take(0)[1].ids))
store = RowStore("store", x, "key")
store.finished(10)
store.finished(20)
store.close()
print("done")
"""


def take_all_threads_away():
    """Stacks of threads to come would be larger than all the memory there may be."""
    import resource

    resource.setrlimit(resource.RLIMIT_STACK, (1 << 36, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_AS, (1 << 35, 1 << 35))


@pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")
def test_without_threads_everything_is_done_by_the_caller(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_THREADS],
        preexec_fn=take_all_threads_away,
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    ahead = "couplings are not computed ahead: can't start new thread"
    assert result.stdout.splitlines() == ["True True", "True True", ahead, "10", "done"]


def test_threads_follow_the_cores_the_process_may_run_on(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    assert _arrays.cores() == 1
    assert _arrays.default_threads(1 << 30, 1) == 1
    seen = []
    engine = _engine.assignment_solve
    monkeypatch.setattr(
        _engine,
        "assignment_solve",
        lambda *arguments: seen.append(arguments[-1]) or engine(*arguments),
    )
    loomfast.solve(np.ones((2, 3, 3)))
    loomfast.solve(np.ones((2, 3, 3)), threads=np.int8(2))
    assert seen == [1, 2]


def test_many_threads_are_taken_for_as_many_as_help():
    costs = np.random.default_rng(0).random((300, 4, 4))
    expected = loomfast.solve(costs, threads=1).total
    assert np.array_equal(loomfast.solve(costs, threads=65535).total, expected)
    x = np.ones((3000, 3), np.float32)
    assert not loomfast.pairwise_cost(x, x, threads=65535).any()


# ---- sizes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"row_repeats": 2**62},
            ValueError,
            r"row_repeats must be in .*, got 4611686018427387904",
        ),
        ({"row_repeats": 2**30}, ValueError, r"cost must have at most 2\*\*30 rows"),
        ({"row_repeats": 2.0}, TypeError, "row_repeats must be an integer, got 2.0 of type float"),
        ({"row_repeats": True}, TypeError, "row_repeats must be an integer, got True"),
        ({"threads": 2**40}, ValueError, r"threads must be in \[1, 65536\), got 1099511627776"),
        ({"threads": 1.5}, TypeError, "threads must be an integer, got 1.5"),
        ({"tolerance": True}, ValueError, "tolerance must be a finite number"),
    ],
)
def test_options_of_solve_out_of_range(options, error, text):
    with pytest.raises(error, match=text):
        loomfast.solve(np.ones((2, 3)), **options)


def test_row_repeats_do_not_wrap():
    found = loomfast.solve(np.arange(6.0).reshape(2, 3), row_repeats=np.int8(100))
    assert found.col4row.shape == (200,)
    assert found.total == 0 + 1 + 2


@pytest.mark.parametrize("solve", [loomfast.solve, loomfast.linear_sum_assignment])
def test_more_columns_than_the_solver_counts_are_refused(solve):
    for shape in ((1, 2**31 + 1), (2**30 + 1, 2)):
        with pytest.raises(ValueError, match=r"cost must have at most 2\*\*30 rows"):
            solve(np.broadcast_to(np.int8(1), shape))


# ---- memory ---------------------------------------------------------------------------------------------

GIB = 1 << 30
FILES = {  # of a group, by version: the limit, the use, and the entry for cached files in memory.stat
    1: ("sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
}


def machine(root, membership, groups):
    """A machine of 16 GiB, 12 of them free, as /proc and /sys show it. groups: (version, path) to numbers."""
    texts = {
        "proc/meminfo": "MemTotal: 16777216 kB\nMemAvailable: 12582912 kB\n",
        "proc/self/cgroup": membership,
    }
    for (version, path), (limit, used, cached) in groups.items():
        top, *names, entry = FILES[version]
        stat = f"anon 5\n{entry} {cached}\nactive_file 7\n"
        for name, text in zip((*names, "memory.stat"), (limit, used, stat), strict=True):
            texts[f"{top}/{path}/{name}"] = f"{text}\n"
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("membership", "groups", "most", "free"),
    [
        ("", {}, 16, 12),
        ("0::/\n", {(2, ""): ("max", 7, 0)}, 16, 12),
        ("0::/\n", {(2, ""): (4 * GIB, GIB, 0)}, 4, 3),
        ("0::/a\n", {(2, "a"): (4 * GIB, 3 * GIB, 2 * GIB)}, 4, 3),  # cached files are free
        ("0::/a/b\n", {(2, "a"): (2 * GIB, GIB, 0), (2, "a/b"): (8 * GIB, GIB, 0)}, 2, 1),  # the one above
        ("0::/\n", {(2, ""): (4096, 8192, 0)}, 4096 / GIB, 0),  # more in use than allowed
        ("5:cpu,cpuacct:/a\n4:memory:/a\n0::/a\n", {(1, "a"): (GIB, GIB, GIB // 2)}, 1, 0.5),
        ("4:memory:/a\n", {(1, "a"): (9223372036854771712, 5, 0)}, 16, 12),  # no limit, as version 1 says it
        ("4:memory:/host/7\n", {(1, ""): (3 * GIB, GIB, 0)}, 3, 2),  # the host's path, not to be seen here
    ],
)
def test_memory_is_what_the_machine_and_its_control_groups_have(tmp_path, membership, groups, most, free):
    root = machine(tmp_path, membership, groups)
    assert _limits.most_memory(root) == most * GIB
    assert _limits.free_memory(root) == free * GIB


def test_memory_of_a_machine_that_says_nothing(tmp_path):
    assert 0 < _limits.free_memory(tmp_path) < _limits.most_memory(tmp_path)


def test_a_budget_is_what_is_left(monkeypatch):
    monkeypatch.setattr(whole_dataset, "free_memory", lambda: 1000)
    assert whole_dataset.default_memory() == 700


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"memory": 10**14}, ValueError, "memory must be at most the .* bytes there are"),
        ({"memory": 1e6 + 0.5}, TypeError, "memory must be an integer"),
        ({"memory": -1}, ValueError, "memory must be at least 1"),
        ({"max_sweeps": 0}, ValueError, "max_sweeps must be at least 1, got 0"),
        ({"max_sweeps": 1.5}, TypeError, "max_sweeps must be an integer"),
        ({"min_gain": np.nan}, ValueError, "min_gain must be a finite number"),
    ],
)
def test_options_of_a_global_solve_out_of_range(options, error, text):
    coupler = Loom(70, (2,), num_caches=1)
    before = coupler.ids.copy()
    with pytest.raises(error, match=text):
        coupler.solve_globally(np.zeros((70, 2), np.float32), **options)
    assert np.array_equal(coupler.ids, before)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("couple moons --num-items 70 --out {}/c.safetensors --memory 100T", "memory must be at most the"),
        (f"solve {{}}/cost.npy --threads {2**40}", "threads must be in [1, 65536), got 1099511627776"),
        ("solve {}/cost.npy --threads 1.5", "must be an integer, got '1.5'"),
    ],
)
def test_the_command_says_so_in_one_line(arguments, text, tmp_path, capsys):
    np.save(tmp_path / "cost.npy", np.ones((2, 2)))
    try:
        code = cli.main(arguments.format(tmp_path).split())
    except SystemExit as stopped:  # argparse's way
        code = stopped.code
    errors = capsys.readouterr().err
    assert code == cli.USER_ERROR
    assert errors.count("\n") == 1
    assert text in errors


def test_memory_that_cannot_be_had_is_said_in_one_line(tmp_path, capsys, monkeypatch):
    np.save(tmp_path / "cost.npy", np.ones((2, 2)))

    def too_much(*arguments, **options):
        raise MemoryError("Unable to allocate 7 PiB")

    monkeypatch.setattr("loomfast.cli.solve.solve", too_much)
    assert cli.main(["solve", str(tmp_path / "cost.npy")]) == cli.USER_ERROR
    assert capsys.readouterr().err == "loomfast: error: Unable to allocate 7 PiB\n"


def test_the_threads_of_a_run_are_limited():
    from loomfast.config import PRESETS, TrainConfig

    with pytest.raises(ValueError, match=r"threads must be in \[0, 65536\)"):
        TrainConfig(model=PRESETS["digits"][1].model, threads=2**40)
    assert torch.get_num_threads() == 1
