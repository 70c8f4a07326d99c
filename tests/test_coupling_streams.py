"""LOOM on a device around its steps: as a CUDA graph, ahead on a stream, for a whole dataset, in training."""

import contextlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from loomfast.cli import main
from loomfast.config import PRESETS
from loomfast.coupling import Ahead, Loom, captured, whole_dataset
from loomfast.coupling.cache import is_permutation
from loomfast.coupling.prefetch import tensors_in
from loomfast.files import read_tensors

SHAPE = (20,)
OPTIONS = [{}, {"metric": "euclidean", "num_caches": 1}, {"label_weight": 3.0}]


@pytest.fixture
def data():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32))


def index_of(step):
    return torch.from_numpy(np.random.default_rng(step).permutation(60)[:24])


def assert_same(one, two):
    one, two = one.state_dict(), two.state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert np.array_equal(two[name], value), name


@pytest.mark.parametrize("options", OPTIONS)
def test_captured_steps_are_the_steps(data, options):
    coupler, host = Loom(60, SHAPE, device="cpu", **options), Loom(60, SHAPE, **options)
    untouched = coupler.state_dict()
    steps = coupler.captured(data[:24])
    for name in ("ids", "prices"):  # the step that warms up is none
        assert np.array_equal(coupler.state_dict()[name], untouched[name])
    for step in (0, 1, 5, 6):
        index = index_of(step)
        labels = index % 3 if coupler.labels is not None else None
        want = host.couple(data[index], index, step=step, labels=index % 3)
        pair = steps.couple(data[index], index, step=step, labels=labels)
        assert torch.equal(pair.noise, want.noise)
        assert pair.on_host().cost_after == want.cost_after
        assert_same(coupler, host)
    assert coupler.step == 7


def test_what_a_captured_step_refuses(data):
    with pytest.raises(ValueError, match="its cache on a device"):
        Loom(60, SHAPE).captured(data[:5])
    coupler = Loom(60, SHAPE, device="cpu")
    with pytest.raises(ValueError, match=r"x must be \(B, 20\) on cpu"):
        coupler.captured(data[:5, :7])
    steps = coupler.captured(data[:5])
    with pytest.raises(ValueError, match=r"x must be \(5, 20\)"):
        steps.couple(data[:6], torch.arange(6))
    with pytest.raises(ValueError, match="labels must not be given"):
        steps.couple(data[:5], torch.arange(5), labels=torch.arange(5))
    steps.couple(data[:5], torch.tensor([1, 1, 2, 3, 4]))
    with pytest.raises(ValueError, match="more than once"):
        coupler.check()
    coupler.load_state_dict(coupler.state_dict())
    with pytest.raises(ValueError, match="capture anew"):
        steps.couple(data[:5], torch.arange(5))


class FakeCuda:
    """torch.cuda in writing: which stream does what, what waits for what."""

    def __init__(self, monkeypatch):
        self.calls = []
        names = {"Stream": lambda _: FakeStream(self, "side"), "stream": self.stream}
        names |= {"current_stream": lambda _: FakeStream(self, "main"), "CUDAGraph": FakeGraph}
        for name, value in (names | {"graph": self.graph}).items():
            monkeypatch.setattr(torch.cuda, name, value)

    @contextlib.contextmanager
    def stream(self, stream):
        self.calls.append(f"on {stream.name}")
        yield
        self.calls.append(f"off {stream.name}")

    @contextlib.contextmanager
    def graph(self, graph):
        self.calls.append("capture")
        yield
        self.calls.append("captured")


class FakeStream:
    device = torch.device("cuda:0")

    def __init__(self, cuda, name):
        self.cuda, self.name = cuda, name

    def wait_stream(self, other):
        self.cuda.calls.append(f"{self.name} waits for {other.name}")

    def record_event(self):
        self.cuda.calls.append(f"{self.name} records")
        return f"event of {self.name}"

    def wait_event(self, event):
        self.cuda.calls.append(f"{self.name} waits for {event}")


class FakeGraph:
    def replay(self):
        return None


def test_a_graph_is_captured_after_a_call_aside(monkeypatch):
    cuda = FakeCuda(monkeypatch)
    replay, result = captured._captured(lambda: cuda.calls.append("run") or 7, torch.device("cuda"))
    aside = ["side waits for main", "on side", "run", "off side", "main waits for side"]
    assert cuda.calls == [*aside, "capture", "run", "captured"]
    assert result == 7
    assert replay() is None


def test_working_ahead_on_a_stream_orders_what_writes_the_cache_and_what_reads_it(data, monkeypatch):
    cuda = FakeCuda(monkeypatch)
    coupler, straight = Loom(60, SHAPE, device="cpu"), Loom(60, SHAPE)
    commit, prepare = coupler.commit, coupler.prepare
    monkeypatch.setattr(coupler, "commit", lambda p: cuda.calls.append("commit") or commit(p))
    monkeypatch.setattr(coupler, "prepare", lambda *a, **k: cuda.calls.append("prepare") or prepare(*a, **k))

    def batch_at(step):
        return {"x": data[index_of(step)], "index": index_of(step)}

    with Ahead(coupler, batch_at, device="cuda") as ahead:
        for step in range(4):
            _, pair = ahead.take(step, last=step == 3)
            assert torch.equal(pair.noise, straight.couple(**batch_at(step), step=step).noise)
    assert_same(coupler, straight)
    aside = ["on side", "prepare", "off side"]
    written = ["main waits for side", "commit", "main records"]
    again = ["side waits for event of main", *aside, *written]
    assert cuda.calls == [*aside, *written, *again, *again, *again]


def test_all_tensors_of_a_prepared_step_are_known_to_the_stream_that_writes_them(data):
    prepared = Loom(60, SHAPE, device="cpu", label_weight=1.0).prepare(
        data[:9], torch.arange(9), labels=torch.arange(9), fields=(torch.zeros(9),)
    )
    found = {id(tensor) for tensor in tensors_in(({"x": data}, prepared))}
    update, pair = prepared.update, prepared.pair
    for tensor in (data, *vars(update).values(), pair.noise, pair.ids, pair.gap, pair.fields[0]):
        assert id(tensor) in found


@pytest.mark.parametrize("options", [{"num_caches": 2}, {"num_caches": 1, "label_weight": 2.0}])
@pytest.mark.parametrize("blocks", [1, 3])
def test_the_whole_dataset_is_coupled_on_the_device(options, blocks, monkeypatch, tmp_path):
    rng = np.random.default_rng(3)
    data, labels = rng.normal(size=(200, 20)).astype(np.float32), rng.integers(0, 3, 200)
    host, device = Loom(200, SHAPE, **options), Loom(200, SHAPE, device="cpu", **options)
    made, costs = [], whole_dataset.pairwise_cost_from_ids
    monkeypatch.setattr(
        whole_dataset, "pairwise_cost_from_ids", lambda x, *a, **k: made.append(type(x)) or costs(x, *a, **k)
    )
    memory = whole_dataset.block_bytes(-(-200 // blocks), options["num_caches"])
    results = [
        coupler.solve_globally(data, labels=labels, memory=memory, folder=tmp_path / str(k))
        for k, coupler in enumerate((host, device))
    ]
    assert set(made) == {np.ndarray, torch.Tensor}
    assert torch.is_tensor(device.ids)
    assert results[1].num_blocks == results[0].num_blocks == blocks
    assert results[1].cost_after == pytest.approx(results[0].cost_after, rel=1e-6 if blocks == 1 else 1e-2)
    found = device.state_dict()
    assert is_permutation(found["ids"])
    assert found["duals"].shape == (200,)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_command_couples_on_the_device_it_is_told(device, monkeypatch, tmp_path, capsys):
    moved, to = [], Loom.to
    monkeypatch.setattr(Loom, "to", lambda self, where: moved.append(where) or to(self, where and "cpu"))
    out = tmp_path / "c.safetensors"
    assert main(["couple", "moons", "--num-items", "100", "--device", device, "--out", str(out)]) == 0
    assert ("cuda" in moved) == (device == "cuda")
    coupler = Loom(100, (2,), num_caches=PRESETS["moons"][1].coupling.num_caches)
    assert len(read_tensors(out)[0]["ids"]) == coupler.num_items

    def refused(self, where):
        raise RuntimeError("there are no kernels")

    monkeypatch.setattr(Loom, "to", lambda self, where: where and refused(self, where))
    code = main(["couple", "moons", "--num-items", "100", "--device", "cuda", "--out", str(out)])
    assert code == 2
    assert "--device cuda: there are no kernels" in capsys.readouterr().err


def test_a_block_that_the_device_has_no_room_for_is_solved_on_the_host(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (whole_dataset.block_bytes(100, 2), 1 << 40))
    problem = SimpleNamespace(device=torch.device("cuda"), coupler=Loom(200, SHAPE, num_caches=2))
    solve = whole_dataset._GlobalSolve(problem, 1, None, None)
    monkeypatch.setattr(torch, "empty", lambda *a, **k: k["device"])
    assert isinstance(solve._room_for(100, 200), np.ndarray)  # .9 of what is free is less
    assert solve._room_for(90, 180) == torch.device("cuda")
    problem.device = None
    assert isinstance(solve._room_for(9, 18), np.ndarray)
    problem.device = torch.device("cpu")
    monkeypatch.setattr(whole_dataset, "MOST_ON_DEVICE", 17)
    assert isinstance(solve._room_for(9, 18), np.ndarray)


def test_training_with_the_cache_on_the_device_is_training(tmp_path):
    from loomfast.runs.directory import load_data
    from loomfast.training.state import TrainingState
    from loomfast.training.step import training_step

    preset = PRESETS["moons"][1]
    config = replace(preset, batch_size=32, num_items=256, coupling=replace(preset.coupling, ot_batch=2))
    runs = [TrainingState(config, load_data(config)) for _ in range(2)]
    runs[1].batches.coupler.to("cpu")
    for run in runs:
        run.join()
    for _ in range(6):
        one, two = (training_step(run) for run in runs)
        assert one.pop("coupling_seconds") >= 0 <= two.pop("coupling_seconds")
        assert one == two
    runs[1].save(tmp_path)
    again = TrainingState(config, load_data(config), fresh=False)
    again.batches.coupler.to("cpu")
    again.load(tmp_path / "state.safetensors")
    assert torch.is_tensor(again.batches.coupler.ids)
    assert_same(again.batches.coupler, runs[1].batches.coupler)
    for run in (*runs, again):
        run.close()
