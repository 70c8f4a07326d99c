"""Two processes train as one: the same losses within rounding, the same coupling bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import distributed_run
import numpy as np
import pytest
import torch

from loomfast.cli import main
from loomfast.coupling.cache import is_permutation
from loomfast.distributed import World, resolve_device
from loomfast.files import read_tensors
from loomfast.runs.directory import read_log
from loomfast.training.loop import train


def torchrun(*words):
    """Two processes on this machine; their own port, so that runs beside each other do not meet."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The folder in which two processes have run everything in `distributed_run`."""
    folder = tmp_path_factory.mktemp("two")
    couple = ["couple", "moons", "--num-items", "256", "--num-caches", "2"]
    assert main([*couple, "--out", str(folder / "coupling.safetensors")]) == 0
    process = torchrun(Path(__file__).with_name("distributed_run.py"), folder)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return folder


def test_two_processes_train_as_one(two, tmp_path):
    threads = torch.get_num_threads()
    train(distributed_run.CONFIG, tmp_path / "one")
    torch.set_num_threads(threads)
    one, both = (read_log(folder / "log.jsonl") for folder in (tmp_path / "one", two / "straight"))
    assert [entry["step"] for entry in both] == list(range(30))
    # The same numbers summed in another order.
    np.testing.assert_allclose([e["loss"] for e in both], [e["loss"] for e in one], rtol=1e-4)
    assert [e["swaps"] for e in both] == [e["swaps"] for e in one]
    tensors = [
        read_tensors(folder / "state.safetensors")[0] for folder in (tmp_path / "one", two / "straight")
    ]
    np.testing.assert_array_equal(tensors[0]["coupling.ids"], tensors[1]["coupling.ids"])
    assert tensors[0].keys() == tensors[1].keys()


def test_the_processes_hold_the_same_coupling(two):
    first, second = (np.load(two / f"ids-straight-{rank}.npy") for rank in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert is_permutation(first)
    assert (first != np.arange(first.size).reshape(first.shape)).any()


def test_two_processes_choose_as_one(two, tmp_path):
    """Semidiscrete coupling, whose prices one process corrects for all."""
    train(distributed_run.semidiscrete(two), tmp_path / "one")
    folders = tmp_path / "one", two / "semidiscrete"
    one, both = (read_log(folder / "log.jsonl") for folder in folders)
    assert [entry["step"] for entry in both] == list(range(30))
    np.testing.assert_allclose([e["loss"] for e in both], [e["loss"] for e in one], rtol=1e-4)
    alone, shared = (read_tensors(folder / "state.safetensors")[0] for folder in folders)
    np.testing.assert_array_equal(shared["coupling.counts"], alone["coupling.counts"])
    assert shared["coupling.counts"].sum() == 30 * 32
    np.testing.assert_allclose(shared["coupling.duals"], alone["coupling.duals"], rtol=1e-12)
    prices, start = shared["coupling.duals"], read_tensors(two / "coupling.safetensors")[0]["duals"]
    assert (prices != start).all()
    for rank in (0, 1):
        np.testing.assert_array_equal(np.load(two / f"duals-semidiscrete-{rank}.npy"), prices)


@pytest.mark.parametrize("runs", [("straight", "parts"), ("semidiscrete", "semidiscrete-parts")])
def test_two_processes_resume_bit_for_bit(two, runs):
    """Step 13 is in the middle of an OT batch."""
    for name in ("state.safetensors", "model.safetensors"):
        assert (two / runs[0] / name).read_bytes() == (two / runs[1] / name).read_bytes()


def test_parts_of_parts(two):
    losses = [[e["loss"] for e in read_log(two / name / "log.jsonl")] for name in ("straight", "accumulated")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_an_error_is_the_first_processs_to_tell(two):
    wrong = "ValueError: batch_size must be a multiple of 2 processes times accumulate=1, got 31"
    assert (two / "refused-0.txt").read_text() == wrong
    assert not (two / "refused").exists()
    assert (two / "full-0.txt").read_text().startswith("OSError: [Errno 28] No space left on device")
    for name in ("refused", "full"):
        assert (two / f"{name}-1.txt").read_text().startswith("FailedElsewhere")


def test_sigterm_stops_all_processes_after_the_same_step(tmp_path):
    out = tmp_path / "run"
    words = ["train", "moons", "--threads", 1, "--device", "cpu", "--batch-size", 64, "--steps", 100_000]
    process = torchrun("-m", "loomfast", *words, "--checkpoint-every", 5, "--out", out)
    deadline = time.monotonic() + 120
    while not (out / "state.safetensors").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    tensors, _ = read_tensors(out / "state.safetensors")
    log = read_log(out / "log.jsonl")
    assert int(tensors["step"][0]) == len(log)
    assert is_permutation(tensors["coupling.ids"])


def test_couplings_that_differ_are_found(monkeypatch):
    """Two processes whose checksums differ, without the processes."""
    world = World(rank=0, size=2)

    def gather(box, mine):
        box[:] = [mine, {name: value + 1 for name, value in mine.items()}]

    monkeypatch.setattr("loomfast.distributed.dist.all_gather_object", gather)
    with pytest.raises(RuntimeError, match="couplings of processes 0 and 1 differ"):
        world.check_same({"ids": np.arange(4)})


def test_devices_by_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "3")
    own, first = torch.device("cuda", 1), torch.device("cuda", 0)
    named = {"cpu": torch.device("cpu"), "auto": own, "cuda": own, "cuda:0": first}
    assert {name: resolve_device(name) for name in named} == named
    for name in ("gpu", "cuda:", "cuda:-1", "auto:0", "cpu:0"):
        with pytest.raises(ValueError, match=f"device must be auto, cpu, cuda or cuda:N, got '{name}'"):
            resolve_device(name)
    with pytest.raises(ValueError, match="device is 'cuda:2', but there are 2 GPUs, numbered from 0"):
        resolve_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == torch.device("cpu")
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=f"device is '{name}', but torch sees no GPU here"):
            resolve_device(name)
