"""Every dtype is read exactly or refused by name on every path; subnormals too, where they are flushed."""

import re
from contextlib import contextmanager
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
import torch

import loomfast
from loomfast import _engine
from loomfast._arrays import FLOATS, INTEGERS, REAL
from loomfast.assignment import cuda
from loomfast.assignment.torch_ops import solve_assignment
from loomfast.cost.spec import cost_spec
from loomfast.noise.spec import noise_spec

PLAIN = ("complex64", "complex128", "clongdouble", "longdouble", "object", "M8[s]", "m8[s]", "S3", "U3", "V8")
SMALL = [n for n, kind in vars(ml_dtypes).items() if isinstance(kind, type) and n not in ("finfo", "iinfo")]
REFUSED_NUMPY = {
    **{name: np.dtype(name) for name in PLAIN},
    **{name: np.dtype(getattr(ml_dtypes, name)) for name in SMALL if name != "bfloat16"},
    "structured": np.dtype([("a", "f4")]),
}
TORCH = {
    str(kind).removeprefix("torch."): kind for kind in vars(torch).values() if isinstance(kind, torch.dtype)
}
REFUSED_TORCH = [
    name for name in TORCH if name not in REAL and name[0] != "q"
]  # those have a test of their own


class Export:
    """What has nothing but DLPack, like an array of another library."""

    def __init__(self, tensor, versioned=True):
        self._tensor, self._versioned = tensor, versioned

    def __dlpack_device__(self):
        return self._tensor.__dlpack_device__()

    def __dlpack__(self, **options):
        if options and not self._versioned:
            raise TypeError("no options are known")
        return self._tensor.__dlpack__(**options)


class OnDevice:
    """What says that it is in the memory of a GPU, by ``__cuda_array_interface__``."""

    def __init__(self, typestr):
        self.__cuda_array_interface__ = {"typestr": typestr, "shape": (2, 2), "data": (0, True), "version": 3}


def numbers(name):
    """(5, 7) float64 numbers that the dtype of that name holds, some of them at its ends."""
    values = np.random.default_rng(3).integers(0, 2 if name == "bool" else 100, (5, 7)).astype(np.float64)
    if name == "float16":
        values[0, 0], values[1, 1] = 2.0**-24, 65504
    if name == "bfloat16":
        values[0, 0], values[1, 1] = 2.0**-133, 255 * 2.0**60
    return values


def every_path(cost):
    """The ways a cost (n, m) comes in, as functions of nothing."""
    row, column, batch, index = cost[0], cost[:, 0], cost.reshape(1, *cost.shape), np.arange(len(cost))
    yield lambda: loomfast.solve(cost)
    yield lambda: loomfast.linear_sum_assignment(cost)
    yield lambda: loomfast.solve(batch, threads=2)
    yield lambda: loomfast.solve(cost, backend="reference")
    yield lambda: loomfast.pairwise_cost(cost, cost)
    yield lambda: loomfast.paired_cost(cost, cost)
    yield lambda: loomfast.pairwise_cost_from_ids(cost, [1, 2], seed=0)
    yield lambda: loomfast.interpolate_from_ids(cost, index, np.zeros(len(cost)), seed=0)
    yield lambda: loomfast.noise_from_ids(row, 2, seed=0)
    yield lambda: loomfast.solve(np.ones(cost.shape), start=row)
    yield lambda: loomfast.solve(np.ones(cost.shape), start=(column, None))
    yield lambda: loomfast.Independent(9, (cost.shape[1],)).couple(cost, index)


def every_operator(cost):
    """The same for torch's operators, and for what is written to or only compared."""
    operators = torch.ops.loomfast
    spec = cost_spec("sqeuclidean", 0.0, False, None, "cpu", 1).text()
    noise = noise_spec(0, 0, "cpu", 1).text()
    good, ids = torch.zeros(2, 2), torch.arange(2)
    yield lambda: solve_assignment(cost)
    yield lambda: operators.pairwise_cost(cost, good, None, None, spec)
    yield lambda: operators.pairwise_cost_out(good, cost, None, None, spec, torch.zeros(2, 2))
    yield lambda: operators.pairwise_cost_from_ids(cost, ids, None, None, f"{noise} | {spec}")
    yield lambda: operators.interpolate_from_ids(cost, ids, good[0], noise)
    yield lambda: loomfast.pairwise_cost(good, good, out=cost)
    yield lambda: loomfast.noise_from_ids(ids, 2, seed=0, out=cost)
    yield lambda: loomfast.pairwise_cost(good, good, labels=cost[0], label_weight=1.0)


@pytest.mark.parametrize("name", REFUSED_NUMPY)
def test_numpy_dtypes_outside_the_table_are_refused_by_name(name):
    cost = np.zeros((2, 2), REFUSED_NUMPY[name])
    said = f"{re.escape(cost.dtype.name)}|{re.escape(repr(cost.dtype))}"
    for call in every_path(cost):
        with pytest.raises(TypeError, match=said):
            call()


@pytest.mark.parametrize("name", REFUSED_TORCH)
@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_torch_dtypes_outside_the_table_are_refused_by_name(name):
    cost = torch.empty(2, 2, dtype=TORCH[name])
    for call in (*every_path(cost), *every_operator(cost)):
        with pytest.raises(TypeError, match=name):
            call()


@pytest.mark.filterwarnings("ignore")  # quantised tensors are on their way out of torch
def test_quantised_tensors_are_refused_by_name():
    cost = torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 3, torch.quint8)
    for call in every_path(cost):
        with pytest.raises(TypeError, match="quint8"):
            call()


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("kind", ["numpy", "swapped", "torch", "dlpack", "old dlpack"])
def test_dtypes_of_the_table_are_exact(name, kind):
    values = numbers(name)
    tensor = torch.from_numpy(values).to(getattr(torch, name))
    array = values.astype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
    cost = {
        "numpy": array,
        "swapped": array if name == "bfloat16" else array.astype(array.dtype.newbyteorder()),
        "torch": tensor,
        "dlpack": Export(tensor.T.contiguous().T),
        "old dlpack": Export(tensor, versioned=False),
    }[kind]
    best = total(values, loomfast.solve(values).col4row)
    assert total(values, loomfast.solve(cost).col4row) == best
    assert total(values, loomfast.linear_sum_assignment(cost)[1]) == best
    if "dlpack" not in kind:
        other = cost.flip(0) if kind == "torch" else np.flip(cost, 0)
        assert np.array_equal(loomfast.paired_cost(cost, other), loomfast.paired_cost(values, values[::-1]))


def total(values, columns):
    return sum(Fraction(values[i, j]) for i, j in enumerate(np.asarray(columns)))


@pytest.mark.parametrize("name", ["complex64", "float8_e4m3fn", "float8_e5m2", "complex128"])
def test_dlpack_dtypes_outside_the_table_are_refused_by_name(name):
    for solve in (loomfast.solve, loomfast.linear_sum_assignment):
        with pytest.raises(TypeError, match=name):
            solve(Export(torch.zeros(2, 2).to(getattr(torch, name))))


def test_dlpack_of_a_view_is_read_where_it_lies():
    tensor = torch.arange(60, dtype=torch.bfloat16).reshape(6, 10)[1::2, 1:9:2]
    found = loomfast.solve(Export(tensor))
    assert found.total == loomfast.solve(tensor.float().numpy()).total
    capsule = tensor.__dlpack__()
    torch.utils.dlpack.from_dlpack(capsule)
    with pytest.raises(ValueError, match="used before"):
        _engine.dlpack_dtype(capsule)


@pytest.mark.parametrize(("typestr", "name"), [("<c8", "complex64"), ("|V2", "void16"), ("<u8", "uint64")])
def test_arrays_on_a_device_are_refused_by_name(typestr, name):
    with pytest.raises(TypeError, match=name):
        loomfast.solve(OnDevice(typestr))
    assert cuda.on_cuda(OnDevice(typestr))


def test_not_a_number_in_bfloat16_is_named():
    tensor = torch.ones(3, 3, dtype=torch.bfloat16)
    tensor[1, 2] = torch.nan
    array = tensor.float().numpy().astype(ml_dtypes.bfloat16)
    for cost in (tensor, array, Export(tensor)):
        with pytest.raises(ValueError, match=r"contains invalid numeric entries: entry \(1, 2\)"):
            loomfast.solve(cost)
        with pytest.raises(ValueError, match="contains invalid numeric entries"):
            loomfast.linear_sum_assignment(cost)


def test_starts_and_labels_of_every_dtype():
    cost = np.random.default_rng(0).random((4, 6))
    plain = loomfast.solve(cost)
    for name in FLOATS:
        assert loomfast.solve(cost, start=torch.zeros(6, dtype=getattr(torch, name))).total == plain.total
    for name in INTEGERS:
        assert loomfast.solve(cost, start=torch.arange(4).to(getattr(torch, name))).total == plain.total
    x, labels = torch.zeros(3, 20), torch.tensor([0, 1, 1])
    want = loomfast.pairwise_cost(x, x, labels=labels, label_weight=2.0)
    for name in REAL:
        found = loomfast.pairwise_cost(x, x, labels=labels.to(getattr(torch, name)), label_weight=2.0)
        assert torch.equal(found, want)


def test_integers_that_float64_rounds_are_refused_by_the_cost():
    x = np.array([[2**53 + 1, 0]])
    for kind in (np.asarray, torch.from_numpy):
        for call in (loomfast.pairwise_cost, loomfast.paired_cost):
            with pytest.raises(ValueError, match=r"x must hold integers of at most 2\^53"):
                call(kind(x), kind(x))


# ---- where subnormal numbers are flushed to zero ---------------------------------------------------------


@contextmanager
def flushing():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


TINY = {"float16": 2.0**-24, "bfloat16": 2.0**-133, "float32": 2.0**-149, "float64": 2.0**-1074}


def same(found, expected):
    """Equal bits, since subnormals may compare as zeros."""
    pairs = zip(found, expected, strict=True)
    return all(np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in pairs)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("n", [5, 40, 300])
def test_subnormal_costs_are_solved_where_they_would_be_flushed(name, n):
    steps = np.random.default_rng(n).integers(0, 100, (3, n, n)).astype(np.float64)
    cost = torch.from_numpy(np.ldexp(steps, int(np.log2(TINY[name])))).to(getattr(torch, name))

    def solved():
        batch, one = loomfast.solve(cost, threads=2), loomfast.solve(cost[0])
        _, columns = loomfast.linear_sum_assignment(cost[1] if name == "bfloat16" else cost[1].numpy())
        return batch.col4row, batch.total, batch.u, one.col4row, one.v, columns

    expected = solved()
    with flushing():
        found = solved()
        assert 2.0**-1074 * 1.0 == 0  # still flushing outside of the engine
    assert same(found, expected)
    assert float(expected[1][0]) == float(np.ldexp(loomfast.solve(steps[0]).total, int(np.log2(TINY[name]))))


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_subnormal_data_have_their_costs_where_they_would_be_flushed(kind):
    rng = np.random.default_rng(1)
    x, z = (np.ldexp(rng.integers(0, 200, (40, 20)), -149) for _ in range(2))  # float64
    narrow = [part.astype(np.float32) for part in (x, z)]
    t, ids = np.linspace(0, 1, 40, dtype=np.float32), np.arange(40)

    def computed():
        options = {"metric": "euclidean", "threads": 2}
        return (
            loomfast.pairwise_cost(*map(kind, narrow), **options),
            loomfast.pairwise_cost(kind(narrow[0]), kind(z), **options),
            loomfast.paired_cost(kind(narrow[0]), kind(z)),
            loomfast.pairwise_cost(*map(kind, narrow), metric="euclidean", backend="reference"),
            loomfast.interpolate_from_ids(kind(x * 0), kind(ids), kind(t), seed=0)[0],
        )

    expected = computed()
    with flushing():
        found = computed()
    assert same(found, expected)
    exact = np.sqrt(np.square(np.ldexp(x[:, None] - z, 149)).sum(axis=2))
    assert np.allclose(np.ldexp(np.asarray(expected[0], np.float64), 149), exact, atol=0.6)
