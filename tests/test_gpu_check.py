"""The check that a GPU is waiting for, run dry: every line of it but the launches, and what may go wrong."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cuda_compiled
import numpy as np
import pytest
import torch
from cuda_on_cpu import build

import loomfast
from loomfast.coupling import captured

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "bench" / "gpu_check.py"
sys.path.insert(0, str(ROOT / "bench"))

import gpu_check  # noqa: E402
import gpu_table  # noqa: E402
from gpu import correct, goldens, kit, machine, speed, table, target, ways  # noqa: E402
from gpu import device as gpu_device  # noqa: E402

pytestmark = [
    pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable())),
    pytest.mark.timeout(280),
]

CONSTANTS = {"multiprocessors": 132, "grid_barrier_us_132": 1.5, "copy_gb_per_s": 2900}
# Programs in the place of those that need a card. racecheck fails; ncu prints what it would.
PROGRAMS = {
    "compute-sanitizer": """case "$2" in racecheck) echo '= RACECHECK SUMMARY: 3 hazards displayed'; exit 99;;
        *) echo '= ERROR SUMMARY: 0 errors';; esac""",
    "ncu": "echo 'Duration us 12.5'; echo 'Achieved Occupancy % 50'",
    "nvidia-smi": "echo 'NVIDIA Dry, 999.1, 81559 MiB, 700 W, 1980 MHz, 2619 MHz, Disabled'",
}


def program(path, body):
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def small_kit(tmp_path_factory):
    """A kit with the golden results that the dry run repeats, and programs that need no card."""
    folder = tmp_path_factory.mktemp("kit")
    (folder / "goldens").mkdir()
    wanted = [golden for golden in goldens.instances() if golden.small or golden.name == "cold"]
    goldens.save(answers_of(wanted), folder / "goldens" / "assignment.npz")
    goldens.save_noise_and_cost(folder / "goldens" / "noise_and_cost.npz")
    program(folder / "micro", f"echo '{json.dumps(CONSTANTS)}'")
    program(folder / "driver", "echo 'all right'")
    kit.write_manifest(folder, None, "90")
    return folder


def answers_of(wanted):
    """Goldens are answered in a process of their own: the shim stays out of this one."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; from gpu import goldens as g; "
        "names = sys.argv[3].split('|'); "
        "g.save(g.answer([x for x in g.instances() if x.name in names]), sys.argv[2])"
    )
    path = build.CACHE / f"goldens-{os.getpid()}.npz"
    names = "|".join(golden.name for golden in wanted)
    subprocess.run([sys.executable, "-c", code, str(ROOT / "bench"), str(path), names], check=True)
    try:
        return goldens.load(path)
    finally:
        path.unlink()


@pytest.fixture
def on_path(tmp_path):
    """An environment in which the programs that need a card are these."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for name, body in PROGRAMS.items():
        program(folder / name, body)
    return os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def check(small_kit, out, *words, env=None, **options):
    command = [sys.executable, str(SCRIPT), "--kit", str(small_kit), "--out", str(out), "--dry-run", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, **options)


def findings(out):
    return {
        step: result for file in out.glob("*.json") for step, result in json.loads(file.read_text()).items()
    }


def test_the_whole_check_runs_dry(small_kit, tmp_path, on_path):
    out = tmp_path / "out"
    done = check(small_kit, out, env=on_path)
    found = findings(out)
    outcomes = {step: result["outcome"] for step, result in found.items()}
    assert list(outcomes.values()).count("right") == len(gpu_check.STEPS) - 1, (outcomes, done.stdout)
    assert outcomes["sanitizers"] == "wrong"  # the planted hazard
    assert done.returncode == 1
    assert set(found) == set(gpu_check.STEPS)
    assert len(list(out.iterdir())) <= 8
    golden = found["golden"]["findings"]
    assert golden["right"] == golden["instances"] >= 15
    assert golden["wrong"] == {}
    assert all(golden["ways"].values())
    assert set(golden["ways"]) == set(ways.WAYS)
    assert golden["noise"] > 10_000
    assert golden["graph"] >= 3
    assert set(golden["cost"]) == {"float32", "float64"}
    assert golden["any_size"] > 500_000
    assert golden["coupling"] > 100
    assert found["tests"]["findings"]["counts"].keys() <= {"skipped", "passed"}
    assert not found["sanitizers"]["findings"]["racecheck"]["clean"]
    assert found["sanitizers"]["findings"]["memcheck"]["clean"]
    for row in found["assignment"]["findings"]["rows"]:
        assert row["wrong"] == {}
        assert len(row["seconds"]) >= 5
    (row,) = found["coupling"]["findings"]["rows"]
    assert row["agree"]
    assert set(row["seconds"]) == {"cache on the host", "on the device", "captured"}
    (row,) = found["training"]["findings"]["rows"]
    assert set(row["ms"]) == {"independent", "loom", "loom ahead"}
    assert row["ahead_equals_loom"]
    printed = done.stdout[done.stdout.index("== what became") :]
    assert (out / "table.txt").read_text().strip() == printed.strip()
    assert len(printed) < 10_000
    for text in (
        "NVIDIA Dry",
        "grid_barrier_us_132",
        "racecheck",
        "Achieved Occupancy",
        "img 1 x 40 x 40",
        "cache on the host",
    ):
        assert text in printed


def test_wrong_costs_and_couplings_are_found(monkeypatch):
    """Each of the checks of a card that count or say what is wrong, on answers that are."""
    device = SimpleNamespace(dry=True, put=lambda tensor: tensor, kind="cpu", cost_backend="cpu")
    context, right = SimpleNamespace(device=device), loomfast.pairwise_cost_from_ids
    with monkeypatch.context() as patch:
        patch.setattr(loomfast, "pairwise_cost_from_ids", lambda *a, **o: right(*a, **o) * (1 + 1e-3))
        assert "ids, d = 5, sqeuclidean, full: " in correct._any_size(context)
    x = torch.randn(4, 40)
    want = loomfast.pairwise_cost(x, x, precision="float64")
    assert correct.wrong_costs(want, want, x, x, "sqeuclidean") == 0
    assert correct.wrong_costs(torch.full_like(want, torch.nan), want, x, x, "sqeuclidean") == 16
    assert correct.wrong_costs(want + 1, want, x, x, "sqeuclidean") == 16
    with monkeypatch.context() as patch:
        other = lambda self, x, index, step: self.coupler.couple(x.flip(0), index)  # noqa: E731
        patch.setattr(captured.CapturedStep, "couple", other)
        assert correct._coupling(context) == "captured: step 0 differs"


def test_a_wrong_result_stops_the_timings_and_nothing_else(small_kit, tmp_path):
    broken = tmp_path / "kit"
    shutil.copytree(small_kit, broken)
    cases = goldens.load(broken / "goldens" / "assignment.npz")
    cases[0].answers["u"] = np.nextafter(cases[0].answers["u"], np.inf)
    goldens.save(cases, broken / "goldens" / "assignment.npz")
    out = tmp_path / "out"
    done = check(broken, out, "--only", "versions,golden,micro,assignment,profile")
    found = findings(out)
    assert found["golden"]["outcome"] == "wrong"
    assert found["golden"]["findings"]["wrong"]["image"]["first"] == ["u"]
    assert found["golden"]["findings"]["right"] == found["golden"]["findings"]["instances"] - 1
    assert found["assignment"]["outcome"] == found["profile"]["outcome"]
    assert found["assignment"]["outcome"].startswith("skipped")
    assert found["micro"]["findings"] == CONSTANTS
    assert found["versions"]["findings"]["damaged"] == ["goldens/assignment.npz"]
    assert done.returncode == 1
    assert "image: {'first': ['u']" in done.stdout


def test_a_failing_and_a_hanging_step_hide_nothing(small_kit, tmp_path):
    broken = tmp_path / "kit"
    shutil.copytree(small_kit, broken)
    program(broken / "micro", "sleep 600 & sleep 600")
    (broken / "goldens" / "assignment.npz").write_bytes(b"no goldens")
    out = tmp_path / "out"
    done = check(broken, out, "--only", "micro,golden,versions", "--timeout", "micro=2")
    found = findings(out)
    assert found["micro"]["outcome"] == "stopped: it took too long"
    assert found["golden"]["outcome"] == "wrong"
    assert "Traceback" in found["golden"]["findings"]["error"]
    assert found["versions"]["findings"]["cores"] > 0
    assert "why golden is not right" in done.stdout
    while [p for p in processes() if str(broken) in p]:  # killed, but not gone yet where others are busy
        time.sleep(0.05)


def processes():
    texts = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            texts.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:  # it has just ended
            continue
    return texts


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_check_keeps_what_it_had(small_kit, tmp_path, number):
    slow = tmp_path / "kit"
    shutil.copytree(small_kit, slow)
    program(slow / "micro", f"touch {tmp_path}/begun; sleep 600")
    out = tmp_path / "out"
    command = [sys.executable, str(SCRIPT), "--kit", str(slow), "--out", str(out), "--dry-run"]
    # A background job of a shell ignores SIGINT, and its children inherit that.
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    )
    while not (tmp_path / "begun").exists() and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(number)
    printed, _ = running.communicate()
    assert running.returncode == 130
    found = findings(out)
    assert found["versions"]["findings"]["cores"] > 0
    assert found["micro"]["outcome"] == "interrupted"
    assert set(found) == {"versions", "install", "micro"}
    assert "interrupted" in printed[printed.index("== what became") :]


def test_no_time_left_is_said(small_kit, tmp_path):
    out = tmp_path / "out"
    check(small_kit, out, "--only", "versions,micro", "--deadline", "1")
    assert {result["outcome"] for result in findings(out).values()} == {"no time left"}


def test_the_steps_on_a_card_ask_torch_for_what_they_need(monkeypatch):
    """The real device with torch.cuda in writing: events around calls, a graph after a call outside it."""
    calls = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            calls.append("record")

        def synchronize(self):
            calls.append("wait")

        def elapsed_time(self, end):
            return 2.0

    class Stream:
        def wait_stream(self, other):
            calls.append("wait_stream")

    class Graph:
        def replay(self):
            calls.append("replay")

    @contextlib.contextmanager
    def scope(_):
        calls.append("enter")
        yield
        calls.append("leave")

    cuda = {"is_available": lambda: True, "synchronize": lambda: calls.append("synchronize"), "Event": Event}
    cuda |= {"Stream": Stream, "current_stream": Stream, "CUDAGraph": Graph, "stream": scope, "graph": scope}
    for name, value in cuda.items():
        monkeypatch.setattr(gpu_device.torch.cuda, name, value)
    monkeypatch.setattr(gpu_device.cuda, "unavailable", lambda: None)
    device = gpu_device.Gpu()

    assert device.seconds(lambda: calls.append("call"), repeats=2)[0] == 2e-3
    once = ["synchronize", "record", "call", "record", "wait"]
    assert calls == ["call", *once, *once]

    calls.clear()
    replay, result = device.graph(lambda: calls.append("call") or 7)
    replay()
    assert result == 7
    captured = ["enter", "call", "leave"]
    assert calls == ["wait_stream", *captured, "wait_stream", *captured, "replay"]

    calls.clear()
    assert device.on_side_stream(lambda: 5) == 5
    assert calls == ["wait_stream", "enter", "leave", "wait_stream"]
    monkeypatch.setattr(gpu_device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="sees no CUDA device"):
        gpu_device.Gpu()


def test_the_profiled_launches_are_the_projects_own(monkeypatch):
    solved, filled = [], []
    monkeypatch.setattr(target.torch.Tensor, "cuda", lambda self: self)
    monkeypatch.setattr(target.torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(target.cuda, "solve", lambda cost: solved.append(tuple(cost.shape)))
    monkeypatch.setattr(
        target.loomfast, "noise_from_ids", lambda ids, *a, **k: filled.append((len(ids), a, k))
    )
    for words in (["assignment", "2", "30"], ["noise", "5", "64"]):
        monkeypatch.setattr(sys, "argv", ["target.py", *words])
        target.main()
    assert solved == [(2, 30, 30)]
    assert filled == [(5, ((64,),), {"seed": 0, "backend": "cuda"})]


def test_a_training_step_is_timed_on_the_device_of_its_configuration(monkeypatch):
    from loomfast.config import PRESETS
    from loomfast.training import state

    worlds = []

    class Recorded:
        def __init__(self, config, dataset, world=None):
            worlds.append(world)

        def join(self):
            pass

    monkeypatch.setattr(state, "TrainingState", Recorded)
    speed._run(replace(PRESETS["moons"][1], device="cuda"), 32, "loom", "on")
    assert [str(world.device) for world in worlds] == ["cuda"]


def test_the_timeouts_fit_the_deadlines():
    # A step is given at most what is left until the deadline.
    assert gpu_check.QUICK_DEADLINE <= 180
    assert gpu_check.DEADLINE <= 480
    assert len({step.file for step in gpu_check.STEPS.values()}) + 1 <= 8  # with table.txt


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "golden,magic"], "no step magic; the steps are versions"),
        (["--timeout", "mikro=3"], "no step mikro"),
    ],
)
def test_bad_arguments_are_one_line(small_kit, tmp_path, words, message):
    done = check(small_kit, tmp_path / "out", *words)
    assert done.returncode == 2
    assert message in done.stderr
    nothing = check(tmp_path, tmp_path / "out")
    assert nothing.returncode == 2
    assert "make it with `make gpu-kit`" in nothing.stderr


def test_the_table_stays_short_whatever_was_found():
    files = {
        "correct": {"golden": {"outcome": "wrong", "log": "x" * 99_999, "findings": {"error": "y\n" * 9999}}}
    }
    files["speed"] = {"assignment": {"outcome": "right", "findings": {"rows": 500 * [ROW]}}}
    assert len(table.table(files)) < 10_000


ROW = {
    **{"family": "img", "batch": 1, "n": 512, "m": 512, "wrong": {"lapx lapjv, with copy": "not optimal"}},
    "seconds": {
        **{"loomfast cuda": 1e-3, "loomfast cuda, host": 2e-5, "loomfast cuda, graph": 9e-4},
        **{"loomfast cpu, 1 threads, with copy": 3e-3, "torch-linear-assignment": 7e-3},
    },
}


def test_the_readme_table_is_made_from_the_findings():
    readme = (ROOT / "README.md").read_text()
    assert gpu_table.replaced(readme, gpu_table.markdown(gpu_table.read_runs(gpu_table.RESULTS))) == readme
    with pytest.raises(SystemExit, match="has no lines"):
        gpu_table.replaced("no marks", "")


def test_the_readme_table_takes_the_newest_right_run(tmp_path):
    def run(date, ms, golden="right"):
        folder = tmp_path / date
        folder.mkdir()
        versions = {"card": {"name": "H", "driver_version": "1"}, "date": date, "kit": {"commit": "abc"}}
        versions["packages"] = {"torch": "2", "triton": "3"}
        row = ROW | {"seconds": ROW["seconds"] | {"loomfast cuda": ms / 1e3}}
        write = {
            "machine": {"versions": {"outcome": "right", "findings": versions}},
            "correct": {"golden": {"outcome": golden, "findings": {}}},
            "assignment": {"assignment": {"outcome": "right", "findings": {"rows": [row]}}},
        }
        for name, value in write.items():
            (folder / f"{name}.json").write_text(json.dumps(value))

    run("2026-01-01", 1.0)
    run("2026-01-03", 2.0)
    run("2026-01-04", 9.0, golden="wrong")
    text = gpu_table.markdown(gpu_table.read_runs(tmp_path))
    assert "| img 512 × 512 | 2 ms | torch-linear-assignment 3.5, our CPU with the copy 1.5 |" in text
    assert "| img 1024 × 1024 | not measured | not measured |" in text
    assert "H, driver 1, torch 2, triton 3, 2026-01-03, commit abc" in text


def test_a_kit_too_large_to_travel_is_refused(tmp_path, monkeypatch):
    (tmp_path / "wheel").write_bytes(b"x" * 1000)
    monkeypatch.setattr(kit, "LARGEST", 1000)
    with pytest.raises(SystemExit, match="has 1000 bytes; it must stay below 1000"):
        kit.write_manifest(tmp_path, None, "90")
    monkeypatch.setattr(kit, "LARGEST", 1001)
    assert kit.write_manifest(tmp_path, None, "90")["bytes"] == 1000
    assert kit.damaged_files(tmp_path) == []
    (tmp_path / "wheel").write_bytes(b"y" * 1000)
    assert kit.damaged_files(tmp_path) == ["wheel"]


def test_a_missing_python_is_named():
    with pytest.raises(SystemExit, match=r"KIT_PYTHON=/path/to/python3\.12"):
        kit.find_python("/nowhere/python3.12")


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
def test_the_programs_of_the_kit_compile_and_say_that_there_is_no_card(tmp_path):
    kit.build_programs(tmp_path, "90", ("-O0", "-Xptxas", "-O0"), cuda_compiled.kernels(90)[0])
    for name in ("micro", "driver"):
        done = subprocess.run([tmp_path / name], capture_output=True, text=True)
        if done.returncode == 0:
            pytest.skip("a device is here")
        assert done.returncode == 3
        assert "device" in done.stderr


def test_the_wheels_are_installed_into_a_folder_of_their_own(tmp_path, monkeypatch):
    """The command of the step; the wheel itself is tried by ``make gpu-kit-check``."""
    context = gpu_check.Context(tmp_path, tmp_path / "site", False, False, True)
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "loomfast-1-cp312.whl").touch()
    commands = []

    def run(command, **options):
        commands.append(list(map(str, command)))
        return subprocess.CompletedProcess(command, 0, f"{tmp_path / 'site'}/loomfast/__init__.py 90\n", "")

    monkeypatch.setattr(machine.subprocess, "run", run)
    saved = {}
    assert machine.install(context, saved.__setitem__)
    assert commands[0][-1].endswith("loomfast-1-cp312.whl")
    assert "--no-index" in commands[0]
    assert commands[0][commands[0].index("--target") + 1] == str(tmp_path / "site")
    assert saved["imported"].endswith("90")
