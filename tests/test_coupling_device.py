"""LOOM with its cache on a device: the host's bits, nothing copied to the host, and what goes wrong."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from loomfast.coupling import Loom, Prepared
from loomfast.coupling.cache import cycle_labels, cycle_sums, improving_cycles, is_permutation, mean_of
from loomfast.coupling.interface import exchanged

SHAPE = (20,)
OPTIONS = [
    {},
    {"num_caches": 1},
    {"metric": "euclidean"},
    {"label_weight": 3.0},
    {"label_weight": 1e18, "num_caches": 2},
    {"tolerance": 0.05},
]


@pytest.fixture
def data():
    return torch.from_numpy(np.random.default_rng(0).normal(size=(60, 20)).astype(np.float32))


def index_of(step, size=24):
    return torch.from_numpy(np.random.default_rng(step).permutation(60)[:size])


def labels_of(index):
    return index % 3


def assert_same(one, two):
    one, two = one.state_dict(), two.state_dict()
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert np.array_equal(two[name], value), name


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("place", ["host", "device"])
def test_a_step_on_the_device_is_the_hosts_to_the_bit(data, options, place):
    host, coupler = Loom(60, SHAPE, seed=5, **options), Loom(60, SHAPE, seed=5, device="cpu", **options)
    assert coupler.ids.dtype == torch.int32
    assert coupler.prices.dtype == torch.float64
    for step in range(12):
        index = index_of(step, size=(24, 1, 60)[step % 3])
        labels = labels_of(index)
        want = host.couple(data[index], index, labels=labels.numpy())
        given = (index.numpy(), labels.numpy()) if place == "host" else (index.clone(), labels.clone())
        pair = coupler.couple(data[index], given[0], labels=given[1])
        assert torch.is_tensor(pair.ids)
        assert torch.is_tensor(pair.cost_after)
        found = pair.on_host()
        assert torch.equal(found.noise, want.noise)
        assert np.array_equal(found.ids, want.ids)
        for name in ("swaps", "cost_before", "cost_after", "gap", "domain"):
            assert getattr(found, name) == getattr(want, name), name
        assert_same(coupler, host)
        recalled = coupler.recall(data[index], given[0], step=step).on_host()
        assert np.array_equal(recalled.ids, want.ids)
        assert recalled.cost_after == host.recall(data[index], index, step=step).cost_after
    assert host.ids.tolist() != Loom(60, SHAPE, **options).ids.tolist()  # something was learnt


class NothingToTheHost(TorchFunctionMode):
    """What would wait for a device raises, but inside the operators of this project, which have kernels."""

    FORBIDDEN = (
        *("cpu", "numpy", "item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__array__"),
        *("nonzero", "argwhere", "masked_select", "unique", "equal", "allclose"),
    )

    def __init__(self):
        super().__init__()
        self.operators = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", str(func))
        assert name not in self.FORBIDDEN, f"{name} waits for the device"
        if str(func).startswith("loomfast."):
            self.operators.add(str(func).split(".")[1])
        return func(*args, **kwargs or {})


class NoDataDependence(TorchDispatchMode):
    """The same below Python; and it makes the operators be called, which ordinary CPU tensors go past."""

    FORBIDDEN = ("_local_scalar_dense", "nonzero", "masked_select", "_unique", "unique_dim", "is_nonzero")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().partition("::")[2].partition(".")[0]
        assert not name.startswith(self.FORBIDDEN), f"{name} waits for the device"
        if name == "index" and any(i is not None and i.dtype is torch.bool for i in args[1]):
            raise AssertionError("an index by a mask waits for the device")
        return func(*args, **kwargs or {})


@pytest.mark.parametrize("options", OPTIONS)
def test_nothing_of_a_step_is_copied_to_the_host_or_waited_for(data, options):
    coupler, host = Loom(60, SHAPE, device="cpu", **options), Loom(60, SHAPE, **options)
    index = index_of(0)
    x, labels = data[index], labels_of(index)
    step = torch.tensor(7)
    with NothingToTheHost() as mode, NoDataDependence():
        pair = coupler.couple(x, index, step=step, labels=labels)
        coupler.recall(x, index, step=7)
    wanted = {"noise_from_ids", "pairwise_cost", "solve_from_prices", "step_words"}
    assert wanted <= mode.operators
    host.couple(x, index, step=7, labels=labels)
    assert np.array_equal(coupler.ids.numpy(), host.ids)
    assert pair.on_host().swaps > 0


@pytest.mark.parametrize("forbidden", ["cpu", "item", "tolist", "numpy", "bool", "mask", "nonzero"])
def test_a_copy_to_the_host_is_caught(forbidden):
    x = torch.arange(3)
    actions = {
        "bool": lambda: bool(x.any()),
        "mask": lambda: x[x > 1],
        "nonzero": lambda: torch.nonzero(x),
        "item": lambda: x.sum().item(),
    }
    with pytest.raises(AssertionError, match="waits for the device"), NothingToTheHost(), NoDataDependence():
        actions.get(forbidden, lambda: getattr(x, forbidden)())()


@pytest.mark.parametrize("options", OPTIONS)
def test_a_step_needs_no_numbers_at_all(options):
    """Tensors that are shapes alone, which raise where a number is asked for, as in tracing for a graph."""
    from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

    with FakeTensorMode():
        coupler = Loom(60, SHAPE, **options)
        coupler.to("cpu")
        for name in ("ids", "prices", "labels"):
            value = getattr(coupler, name)
            if value is not None:
                setattr(coupler, name, torch.empty(value.shape, dtype=value.dtype))
        x, index = torch.empty(24, 20), torch.empty(24, dtype=torch.int64)
        pair = coupler.couple(x, index, step=torch.empty((), dtype=torch.int64), labels=index)
        assert pair.noise.shape == (24, 20)
        assert pair.ids.dtype is torch.int64
        for value in (pair.swaps, pair.cost_before, pair.cost_after, pair.gap, pair.status):
            assert value.shape == ()
        with pytest.raises(DataDependentOutputException):
            coupler.check()


def broken_steps(data):
    index = index_of(0)
    labels, outside, twice = labels_of(index), index.clone(), index.clone()
    outside[3], twice[3] = 60, twice[5]
    negative = index.clone()
    negative[0] = -1
    return {
        "outside": (outside, labels, "outside those of this coupling"),
        "negative": (negative, labels, "outside those of this coupling"),
        "twice": (twice, labels, "more than once"),
        "labels": (index, labels + 1, "labels differ"),
        "below 0": (index, labels - 9, "labels differ"),
    }


@pytest.mark.parametrize("name", ["outside", "negative", "twice", "labels", "below 0"])
def test_a_step_that_cannot_be_made_changes_nothing_and_is_told_later(data, name):
    index, labels, message = broken_steps(data)[name]
    coupler = Loom(60, SHAPE, label_weight=1.0, device="cpu")
    everything = torch.arange(60)
    coupler.couple(data, everything, labels=labels_of(everything))
    held = [value.clone() for value in (coupler.ids, coupler.prices, coupler.labels)]
    pair = coupler.couple(data[index.clamp(0, 59)], index, labels=labels)
    for value, before in zip((coupler.ids, coupler.prices, coupler.labels), held, strict=True):
        assert torch.equal(value, before)
    with pytest.raises(ValueError, match=message):
        pair.on_host()
    with pytest.raises(ValueError, match=message):
        coupler.state_dict()
    assert is_permutation(coupler.check().state_dict()["ids"])  # told once


def test_a_step_that_the_solver_could_not_solve_changes_nothing(data, monkeypatch):
    from loomfast.coupling import on_device

    def unsolved(cost, v, tolerance):
        n = len(cost)
        status = torch.tensor(1, dtype=torch.int32)  # invalid_entry
        return torch.full((n,), -1), torch.full((n,), torch.nan), torch.tensor(torch.nan), status

    monkeypatch.setattr(on_device, "solve_from_prices", unsolved)
    coupler = Loom(60, SHAPE, device="cpu")
    held = coupler.state_dict()
    pair = coupler.couple(data[:9], torch.arange(9))
    with pytest.raises(ValueError, match="NaN or infinity"):
        pair.on_host()
    with pytest.raises(ValueError, match="NaN or infinity"):
        coupler.check()
    for name in ("ids", "prices"):
        assert np.array_equal(coupler.state_dict()[name], held[name])


def test_a_step_prepared_before_another_moved_its_noises_is_not_written(data):
    coupler = Loom(60, SHAPE, num_caches=1, device="cpu")
    late = coupler.prepare(data, torch.arange(60))
    assert isinstance(late, Prepared)
    assert coupler.couple(data, torch.arange(60)).on_host().swaps > 0
    settled = coupler.ids.clone()
    coupler.commit(late)
    assert torch.equal(coupler.ids, settled)
    with pytest.raises(ValueError, match="out of date"):
        coupler.check()


def test_what_the_host_can_see_is_raised_at_once(data):
    coupler = Loom(60, SHAPE, device="cpu", label_weight=1.0)
    for x, index, labels, message in [
        (data[:2].numpy(), np.arange(2), np.zeros(2, int), "x must be a tensor on cpu"),
        (data[:2], np.array([1, 1]), np.zeros(2, int), "item 1 more than once"),
        (data[:2], np.array([1, 60]), np.zeros(2, int), "outside the 60 items"),
        (data[:2], torch.zeros(2), torch.zeros(2), "vector of integers"),
        (data[:2], torch.arange(3), torch.arange(3), "x must have shape"),
        (data[:2], torch.arange(2), None, "labels are needed"),
        (data[:2], torch.arange(2), torch.zeros(2), "labels must be 2 integers"),
        (data[:2], torch.arange(2), torch.arange(3), "labels must be 2 integers"),
    ]:
        with pytest.raises(ValueError, match=message):
            coupler.couple(x, index, labels=labels)


def test_a_gpu_without_the_kernels_is_refused(monkeypatch):
    from loomfast.assignment import cuda

    monkeypatch.setattr(cuda, "unavailable", lambda: "built without them")
    with pytest.raises(RuntimeError, match="device='cuda' cannot hold a coupling: built without them"):
        Loom(60, SHAPE, device="cuda")
    assert not Loom(60, SHAPE).can_be_on(torch.device("cuda"))
    monkeypatch.setattr(cuda, "unavailable", lambda: None)
    assert Loom(60, SHAPE).can_be_on(torch.device("cuda"))


def test_a_coupling_moves_between_host_and_device_and_files(data, tmp_path):
    coupler, host = Loom(60, SHAPE, device="cpu"), Loom(60, SHAPE)
    for step in range(3):
        index = index_of(step)
        coupler.couple(data[index], index), host.couple(data[index], index)
    coupler.save(tmp_path / "c.safetensors")
    again = Loom(60, SHAPE, device="cpu")
    again.load(tmp_path / "c.safetensors")
    assert torch.is_tensor(again.ids)
    assert_same(again, host)
    assert isinstance(again.to(None).ids, np.ndarray)
    index = index_of(9)
    again.couple(data[index], index), host.couple(data[index], index)
    assert_same(again, host)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 100])
def test_sums_over_cycles_have_the_same_bits_everywhere(size):
    rng = np.random.default_rng(size)
    for _ in range(5):
        order, values = rng.permutation(size), rng.standard_normal((3, size))
        found = cycle_sums(order, values)
        assert np.array_equal(found, cycle_sums(torch.from_numpy(order), torch.from_numpy(values)).numpy())
        label = cycle_labels(order)
        for row, sums in zip(values, found, strict=True):
            assert np.allclose(sums, np.bincount(label, row, minlength=size)[label], rtol=0, atol=1e-13)
        change = rng.integers(-1, 2, size).astype(np.float64)
        parts = order, abs(values[0]), abs(values[1]), change
        both = [
            improving_cycles(*map(kind, parts[:3]), 1e-15, weight=0.3, change=kind(change))
            for kind in (np.asarray, torch.from_numpy)
        ]
        assert np.array_equal(both[0], both[1].numpy())
        both = [mean_of(kind(values[0])) for kind in (np.asarray, torch.from_numpy)]
        assert np.float64(both[0]).tobytes() == both[1].numpy().tobytes()
        assert size == 0 or abs(both[0] - values[0].mean()) <= 1e-15 * size


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 32, 32), (5000,)])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_noises_change_places(shape, kind):
    rng = np.random.default_rng(1)
    for order in (rng.permutation(400), np.arange(400), np.zeros(400, np.int64)):
        values = rng.standard_normal((400, *shape), np.float32)
        found = exchanged(kind(values.copy()), order)
        assert np.array_equal(found, values[order])
    with pytest.raises(ValueError, match="permutation"):
        cycle_sums(np.array([0, 0]), np.zeros((1, 2)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("options", OPTIONS)
def test_gpu_steps_wait_for_nothing_and_captured_ones_are_the_same(data, options):
    """torch itself raises where it waits for the device; what the kernels do is checked by the result."""
    data = data.cuda()
    coupler, again = (Loom(60, SHAPE, device="cuda", **options) for _ in range(2))
    steps = again.captured(data[:24])
    batches = [index_of(step).cuda() for step in range(8)]
    coupler.couple(data[batches[0]], batches[0], step=0, labels=labels_of(batches[0]))  # compiles the kernels
    pairs = []
    torch.cuda.set_sync_debug_mode("error")
    try:
        for step, index in enumerate(batches[1:], start=1):
            pairs.append(coupler.couple(data[index], index, step=step, labels=labels_of(index)))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for step, index in enumerate(batches):
        labels = labels_of(index) if again.labels is not None else None
        pair = steps.couple(data[index], index, step=step, labels=labels)
        if step:
            assert torch.equal(pair.ids, pairs[step - 1].ids)
    assert_same(coupler, again)
    for pair in pairs:
        found = pair.on_host()
        assert found.cost_after <= found.cost_before
    assert is_permutation(coupler.state_dict()["ids"])
