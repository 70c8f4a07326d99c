"""Device arrays of other libraries, in and out: of a fake library where no card is, of CuPy on one."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import loomfast
from loomfast import _torch

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")


class Array:
    """An array of the library ``fakepy``, which says that the memory of a CPU tensor is a GPU's."""

    __module__ = "fakepy.core"

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack_device__(self):
        return 2, 0  # kDLCUDA

    def __dlpack__(self, **options):
        raise AssertionError("torch was to be asked for this")


class OldArray:
    """One that knows no DLPack."""

    __module__ = "fakepy.core"

    def __init__(self, tensor, stream=None):
        self.tensor = tensor
        self.__cuda_array_interface__ = {
            "typestr": tensor.numpy().dtype.str,
            "shape": tuple(tensor.shape),
            "data": (tensor.data_ptr(), False),
            "version": 3,
            "stream": stream,
        }


@pytest.fixture
def fakepy(monkeypatch):
    """The library, and torch on a machine with two GPUs, the second of which holds its memory."""
    library = SimpleNamespace(from_dlpack=Array)
    monkeypatch.setitem(sys.modules, "fakepy", library)
    as_tensor, seen = torch.as_tensor, SimpleNamespace(devices=[], waits=[])

    def as_tensor_on(value, dtype=None, device=None):
        if not isinstance(value, OldArray):
            return as_tensor(value, dtype=dtype, device=device)
        seen.devices.append(device)
        return value.tensor if device == "cuda:1" else value.tensor.clone()

    monkeypatch.setattr(torch, "from_dlpack", lambda value: value.tensor)
    monkeypatch.setattr(torch, "as_tensor", as_tensor_on)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda stream, device: f"{stream} of {device}")
    waiting = SimpleNamespace(wait_stream=seen.waits.append)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: waiting)
    return seen


@pytest.mark.parametrize("kind", [Array, OldArray])
def test_arrays_of_another_library_in_and_out(fakepy, kind):
    rng = np.random.default_rng(0)
    x, z = (torch.from_numpy(rng.standard_normal((n, 20), dtype=np.float32)) for n in (6, 5))
    ids, t = torch.arange(6), torch.rand(6)
    labels = torch.arange(6) % 2, torch.arange(5) % 3
    given = kind(labels[0]), kind(labels[1])
    for found, want in [
        (loomfast.noise_from_ids(kind(ids), (3, 4), seed=1), loomfast.noise_from_ids(ids, (3, 4), seed=1)),
        (loomfast.pairwise_cost(kind(x), kind(z)), loomfast.pairwise_cost(x, z)),
        (
            loomfast.pairwise_cost(kind(x), kind(z), labels=given, label_weight=2.0),
            loomfast.pairwise_cost(x, z, labels=labels, label_weight=2.0),
        ),
        (
            loomfast.pairwise_cost_from_ids(kind(x), kind(ids), seed=1, domain=2),
            loomfast.pairwise_cost_from_ids(x, ids, seed=1, domain=2),
        ),
        (loomfast.paired_cost(kind(x), kind(x.flip(0))), loomfast.paired_cost(x, x.flip(0))),
    ]:
        assert type(found) is Array
        assert torch.equal(found.tensor, want)
    found = loomfast.interpolate_from_ids(kind(x), kind(ids), kind(t), seed=1)
    for part, want in zip(found, loomfast.interpolate_from_ids(x, ids, t, seed=1), strict=True):
        assert torch.equal(part.tensor, want)


@pytest.mark.parametrize("kind", [Array, OldArray])
def test_out_is_written_where_it_is_and_given_back(fakepy, kind):
    ids, x = torch.arange(4), torch.ones(4, 20)
    for shape, call in [
        ((4, 3), lambda out: loomfast.noise_from_ids(kind(ids), 3, seed=1, out=out)),
        ((4, 4), lambda out: loomfast.pairwise_cost(kind(x), kind(x), out=out)),
        ((4, 4), lambda out: loomfast.pairwise_cost_from_ids(kind(x), kind(ids), seed=1, out=out)),
    ]:
        memory = torch.full(shape, torch.nan)
        out = kind(memory)
        assert call(out) is out
        assert not memory.isnan().any()


def test_the_interface_without_a_device_is_taken_from_the_device_that_has_the_memory(fakepy):
    """torch copies from any other, the current one first: the result would be on the wrong GPU."""
    tensor = torch.arange(5)
    assert _torch.imported(OldArray(tensor)).data_ptr() == tensor.data_ptr()
    assert fakepy.devices == ["cuda:0", "cuda:1"]
    assert fakepy.waits == []
    _torch.imported(OldArray(tensor, stream=7))
    assert fakepy.waits == ["7 of cpu"]


def test_a_library_without_dlpack_gets_tensors(fakepy, monkeypatch):
    monkeypatch.setitem(sys.modules, "fakepy", SimpleNamespace())
    assert torch.is_tensor(loomfast.noise_from_ids(Array(torch.arange(3)), 2, seed=0))


@pytest.mark.gpu
@needs_gpu
def test_gpu_cupy_in_and_out():
    cupy = pytest.importorskip("cupy", reason="needs CuPy: pip install 'loomfast[gpu]'")
    ids, x = torch.arange(300), torch.randn(300, 40)
    noise = loomfast.noise_from_ids(cupy.asarray(ids.numpy()), 40, seed=3)
    assert isinstance(noise, cupy.ndarray)
    assert np.array_equal(noise.get(), loomfast.noise_from_ids(ids, 40, seed=3).numpy())
    cost = loomfast.pairwise_cost(cupy.asarray(x.numpy()), noise)
    assert isinstance(cost, cupy.ndarray)
    want = loomfast.pairwise_cost(x.double(), torch.from_numpy(noise.get()).double())
    assert np.abs(cost.get() - want.numpy()).max() <= 1e-3
    out = cupy.empty((300, 300), cupy.float32)
    assert loomfast.pairwise_cost_from_ids(cupy.asarray(x.numpy()), cupy.arange(300), seed=3, out=out) is out
    assert np.abs(out.get() - want.numpy()).max() <= 1e-3
    for given in (cost, cost.astype("float64")):
        solved = loomfast.solve(given, backend="cuda").check()
        assert isinstance(solved.col4row, cupy.ndarray)
        assert float(solved.total) == pytest.approx(loomfast.solve(given.get()).total, rel=1e-12)
