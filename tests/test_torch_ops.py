"""The torch custom ops: opcheck, fake kernels, one graph under torch.compile, and the ops made of others."""

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter

import loomfast
from loomfast import (
    _engine,
    interpolate_from_ids,
    noise_from_ids,
    pairwise_cost,
    pairwise_cost_from_ids,
)
from loomfast._torch import ordinary
from loomfast.cost import reference as cost_reference
from loomfast.cost import torch_ops  # noqa: F401  (registers torch.ops.loomfast)
from loomfast.cost.spec import FromIdsSpec, cost_spec
from loomfast.noise import reference
from loomfast.noise.spec import noise_spec

IDS = torch.tensor([3, -1, 2**40, 7, 0])
LABELS = (torch.tensor([0, 1, 0, 1, 2, 2]), torch.tensor([0, 1, 1, 2, 0]))
KINDS = {"numpy": np.asarray, "torch": torch.as_tensor}


def x_of(n=6, d=20, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).standard_normal((n, d), dtype=np.float32))


def cost_text(metric="sqeuclidean", *, weight=0.0, only=False, precision=None, backend="auto", threads=1):
    return cost_spec(metric, weight, only, precision, backend, threads).text()


def noise_text(seed, domain=0, backend="auto", threads=1):
    return noise_spec(seed, domain, backend, threads).text()


def op_calls():
    x, z = x_of(), x_of(5, seed=1)
    cost, noise = cost_text(weight=0.5, threads=2), noise_text(2**64 - 5, 1)
    from_ids = f"{noise} | {cost}"
    op = torch.ops.loomfast
    return {
        "noise_from_ids": (op.noise_from_ids, (IDS, noise, (3, 4), torch.float32)),
        "noise_from_ids bf16": (op.noise_from_ids, (IDS, noise, (3, 4), torch.bfloat16)),
        "noise_from_ids_out": (op.noise_from_ids_out, (IDS, noise, torch.empty(5, 7))),
        "interpolate_from_ids": (op.interpolate_from_ids, (z, IDS, torch.rand(5), noise)),
        "pairwise_cost": (op.pairwise_cost, (x, z, *LABELS, cost)),
        "pairwise_cost no labels": (op.pairwise_cost, (x, z, None, None, cost_text("euclidean", only=True))),
        "pairwise_cost_out": (op.pairwise_cost_out, (x, z, *LABELS, cost, torch.empty(6, 5))),
        "pairwise_cost_from_ids": (op.pairwise_cost_from_ids, (x, IDS, *LABELS, from_ids)),
        "pairwise_cost_from_ids_out": (
            op.pairwise_cost_from_ids_out,
            (x, IDS, *LABELS, from_ids, torch.empty(6, 5)),
        ),
    }


@pytest.mark.parametrize("precision", [None, "float64", "bfloat16"])
@pytest.mark.parametrize("threads", [None, 3])
def test_specs_come_back_from_their_text(precision, threads):
    cost = cost_spec("euclidean", -1e-17 / 3, True, precision, "cpu", threads)
    noise = noise_spec(2**64 - 1, 2**31 - 1, "reference", threads)
    both = FromIdsSpec(noise, cost)
    assert cost.parse(cost.text()) == cost
    assert noise.parse(noise.text()) == noise
    assert both.parse(both.text()) == both


@pytest.mark.parametrize("name", op_calls())
def test_opcheck(name):
    torch.library.opcheck(*op_calls()[name])


@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
def test_one_graph_over_noise_cost_and_interpolation():
    def step(x, ids, t):
        noise = noise_from_ids(ids, x.shape[1:], seed=2**64 - 1, domain=2)
        cost = pairwise_cost(x, noise, metric="euclidean")
        cost = cost + pairwise_cost_from_ids(x, ids, seed=2**64 - 1, domain=2)
        point, velocity = interpolate_from_ids(x, ids, t, seed=2**64 - 1, domain=2)
        return cost, point * 2, velocity + noise

    arguments = (x_of(5).reshape(5, 4, 5), IDS, torch.rand(5))
    compiled = torch.compile(step, fullgraph=True)
    for got, want in zip(compiled(*arguments), step(*arguments), strict=True):
        assert torch.allclose(got, want, rtol=1e-6)


def test_arguments_that_change_in_place_are_read_anew():
    x, seed, weight = x_of(5), torch.tensor(1), torch.tensor(1.0)
    for kind in KINDS.values():
        for number in (1, 2):
            seed.fill_(number), weight.fill_(number)
            noise = noise_from_ids(kind(IDS), 3, seed=seed)
            assert np.array_equal(noise, noise_from_ids(kind(IDS), 3, seed=number))
            cost = pairwise_cost(kind(x), kind(x), labels=kind(IDS), label_weight=weight)
            assert np.array_equal(
                cost, pairwise_cost(kind(x), kind(x), labels=kind(IDS), label_weight=number)
            )


@pytest.mark.parametrize("kind", KINDS)
def test_a_number_of_the_wrong_kind_is_refused_after_the_right_one(kind):
    x, ids = KINDS[kind](x_of(5)), KINDS[kind](IDS)
    noise_from_ids(ids, 3, seed=1, domain=1, threads=1)
    pairwise_cost(x, x, threads=1)
    for wrong in (True, 1.0):
        for name in ("seed", "domain", "threads"):
            with pytest.raises(TypeError, match=f"{name} must be an integer"):
                noise_from_ids(ids, 3, **{"seed": 1, "domain": 1, "threads": 1, name: wrong})
        with pytest.raises(TypeError, match="threads must be an integer"):
            pairwise_cost(x, x, threads=wrong)


def test_other_requests_do_not_make_a_graph_be_compiled_again():
    counter = CompileCounter()

    def step(x, ids):
        labelled = pairwise_cost(x, x, labels=ids, label_weight=0.5)
        return labelled, noise_from_ids(ids, 3, seed=7), pairwise_cost_from_ids(x, ids, seed=7)

    compiled, x = torch.compile(step, fullgraph=True, backend=counter), x_of(5)
    for k in range(12):  # more often than torch would compile anew
        pairwise_cost(x, x, labels=IDS, label_weight=100.0 + k)
        noise_from_ids(IDS, 3, seed=100 + k)
        for got, want in zip(compiled(x, IDS), step(x, IDS), strict=True):
            assert torch.equal(got, want)
    assert counter.frame_count == 1


def test_ordinary_tensors():
    from torch._subclasses.fake_tensor import FakeTensorMode

    class Marked(torch.Tensor):
        pass

    x, seen = x_of(), []
    assert ordinary(x, torch.nn.Parameter(x), IDS, x.T, x.clone().requires_grad_())
    for other in (x.as_subclass(Marked), x.to("meta"), x.to_sparse(), torch._neg_view(x), [0.0]):
        assert not ordinary(x, other)
    torch.vmap(lambda row: seen.append(ordinary(row)) or row)(x)
    torch.func.grad(lambda y: seen.append(ordinary(x)) or y.sum())(x)
    with pytest.warns(DeprecationWarning, match="torch.jit.trace"):
        torch.jit.trace(lambda y: seen.append(ordinary(y)) or y * 2, x, check_trace=False)
    with FakeTensorMode():
        seen.append(ordinary(x))
    assert seen == [False] * 4


def test_ordinary_tensors_get_what_the_op_gives():
    op, x, z = torch.ops.loomfast, x_of(), x_of(5, seed=1)
    labelled, euclidean = cost_text(weight=0.5), cost_text("euclidean")
    for got, want in [
        (noise_from_ids(IDS, (3, 4), seed=5), op.noise_from_ids(IDS, noise_text(5), (3, 4), torch.float32)),
        (
            pairwise_cost(x, z, labels=LABELS, label_weight=0.5),
            op.pairwise_cost(x, z, *LABELS, labelled),
        ),
        (
            pairwise_cost_from_ids(x, IDS, seed=5, metric="euclidean"),
            op.pairwise_cost_from_ids(x, IDS, None, None, f"{noise_text(5)} | {euclidean}"),
        ),
    ]:
        assert torch.equal(got, want)
    assert torch.equal(pairwise_cost(torch._neg_view(x), z), pairwise_cost(-x, z))


@pytest.mark.parametrize("seed", [5, 2**64 - 1])
def test_noise_whether_or_not_the_engine_takes_the_tensors_as_they_are(seed):
    many = torch.arange(-4, 6)
    for ids in (many, many[::2], many.int(), many.flip(0), many[:0]):
        want = torch.from_numpy(noise_from_ids(ids.numpy().copy(), (3, 5), seed=seed, backend="reference"))
        wide = torch.full((len(ids), 5, 3), torch.nan).mT
        for out in (None, torch.full(want.shape, torch.nan), wide):
            got = noise_from_ids(ids, (3, 5), seed=seed, out=out, threads=2)
            assert torch.equal(got, want)
            assert out is None or got is out


def test_a_mode_sees_the_op():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seen(TorchDispatchMode):
        names = ()

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names = (*self.names, str(func))
            return func(*args, **kwargs or {})

    with Seen() as mode:
        pairwise_cost(x_of(), x_of())
        noise_from_ids(IDS, 3, seed=0, out=torch.empty(5, 3))
    names = " ".join(mode.names)
    assert "loomfast.pairwise_cost.default" in names
    assert "loomfast.noise_from_ids_out.default" in names


@pytest.mark.parametrize("call", ["noise", "cost", "product", "cost from ids"])
def test_writing_to_out_is_known_to_autograd(call):
    weight, out, x = torch.ones(5, 5, requires_grad=True), torch.ones(5, 5), x_of(5)
    loss = (weight * out).sum()
    if call == "noise":
        noise_from_ids(IDS, 5, seed=0, out=out)
    elif call == "cost from ids":
        pairwise_cost_from_ids(x, IDS, seed=0, out=out)
    else:
        pairwise_cost(x, x, out=out, assignment_only=call == "product")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_inference_mode():
    with torch.inference_mode():
        x, out = x_of(), torch.full((6, 6), torch.nan)
        assert torch.equal(pairwise_cost(x, x, out=out), pairwise_cost(x, x))
        assert noise_from_ids(IDS, 3, seed=0, out=torch.empty(5, 3)).isfinite().all()


def test_no_gradient_flows():
    x, t = x_of(5).requires_grad_(), torch.rand(5)
    results = [pairwise_cost(x, x_of()), pairwise_cost_from_ids(x, IDS, seed=0), loomfast.paired_cost(x, x)]
    for result in (*results, *interpolate_from_ids(x, IDS, t, seed=0)):
        assert not result.requires_grad


def test_fake_tensors_carry_shapes():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        ids, x = torch.arange(7), torch.empty(9, 2, 3)
        assert noise_from_ids(ids, (2, 3), seed=0, dtype="bfloat16").dtype == torch.bfloat16
        assert pairwise_cost_from_ids(x, ids, seed=0).shape == (9, 7)
        point, velocity = interpolate_from_ids(x, torch.arange(9), torch.empty(9), seed=0)
        assert point.shape == velocity.shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("shape", [(), (1,), (5,), (3, 8, 8), (130,)])
def test_interpolation_has_the_bits_of_its_definition(kind, backend, shape):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((5, *shape), dtype=np.float32)
    t = rng.random(5, dtype=np.float32)
    t[:2] = 0, 1
    z = reference.noise_from_ids(IDS.numpy(), shape, seed=4, domain=1)
    column = t.reshape(5, *[1] * len(shape))
    expected = (column * x + (np.float32(1) - column) * z, x - z)
    arguments = (KINDS[kind](x), KINDS[kind](IDS), KINDS[kind](t))
    for got, want in zip(
        interpolate_from_ids(*arguments, seed=4, domain=1, backend=backend), expected, strict=True
    ):
        assert type(got) is type(arguments[0])
        assert np.asarray(got).tobytes() == want.tobytes()
        assert got.shape == want.shape


@pytest.mark.parametrize("threads", [1, 3])
def test_interpolation_at_every_instruction_set(instruction_set, threads):
    x, t = x_of(5, 333).numpy(), np.linspace(0, 1, 5, dtype=np.float32)
    point, velocity = np.full((2, 5, 333), np.nan, np.float32)
    ids = IDS.numpy().view(np.uint64)
    _engine.noise_interpolate(ids, 9, 0, x, t, point, velocity, threads)
    expected = reference.interpolate_from_ids(x, IDS.numpy(), t, seed=9)
    assert point.tobytes() == expected[0].tobytes()
    assert velocity.tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["cpu", "reference"])
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [2, 40])
def test_cost_from_ids(monkeypatch, kind, backend, metric, d):
    monkeypatch.setattr(loomfast.cost.cpu, "NOISE_BLOCK", 2 * d)  # so that it takes several blocks
    x = x_of(d=d)
    z = reference.noise_from_ids(IDS.numpy(), (d,), seed=6, domain=2)
    expected = cost_reference.pairwise_cost(x, z, metric=metric, labels=LABELS, label_weight=3.0)
    out = KINDS[kind](np.full((6, 5), np.nan, np.float32))
    labels = tuple(KINDS[kind](part) for part in LABELS)
    options = {"metric": metric, "labels": labels, "label_weight": 3.0, "backend": backend, "out": out}
    ids = KINDS[kind](IDS)
    assert pairwise_cost_from_ids(KINDS[kind](x), ids, seed=6, domain=2, **options) is out
    assert np.allclose(np.asarray(out), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind):
    x, ids, t = KINDS[kind](x_of(5)), KINDS[kind](IDS), KINDS[kind](np.zeros(5, np.float32))
    with pytest.raises(ValueError, match="x, ids and t must be"):
        interpolate_from_ids(x, ids[:4], t, seed=0)
    with pytest.raises(ValueError, match="x, ids and t must be"):
        interpolate_from_ids(x, ids, t[:4], seed=0)
    with pytest.raises(TypeError, match="x must hold floating-point"):
        interpolate_from_ids(ids, ids, t, seed=0)
    with pytest.raises(ValueError, match="seed must be in"):
        pairwise_cost_from_ids(x, ids, seed=-1)
    with pytest.raises(TypeError, match="ids must be integers"):
        pairwise_cost_from_ids(x, t, seed=0)
    with pytest.raises(ValueError, match="out must be"):
        pairwise_cost_from_ids(x, ids, seed=0, out=KINDS[kind](np.zeros((4, 5), np.float32)))
    with pytest.raises(RuntimeError, match="backend='triton'"):
        interpolate_from_ids(x, ids, t, seed=0, backend="triton")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(0,), (1,), (3, 0), ()])
def test_no_items_one_item_and_items_of_nothing(shape, kind, backend):
    def ones(n):
        return KINDS[kind](np.ones((n, *shape), np.float32))

    where = {"seed": 1, "backend": backend}
    for n in (0, 1):
        ids, t = KINDS[kind](np.arange(n)), KINDS[kind](np.full(n, 0.5, np.float32))
        assert noise_from_ids(ids, shape, **where).shape == (n, *shape)
        for part in interpolate_from_ids(ones(n), ids, t, **where):
            assert part.shape == (n, *shape)
        for m in (0, 1, 2):
            assert pairwise_cost_from_ids(ones(n), KINDS[kind](np.arange(m)), **where).shape == (n, m)
            for metric in ("sqeuclidean", "euclidean"):
                cost = pairwise_cost(ones(n), ones(m), metric=metric, backend=backend)
                assert cost.shape == (n, m)
                assert not cost.any()


def waiting(tensor):
    """A view of the same values whose memory holds the opposite: torch negates it when it is read."""
    view = torch.imag(torch.complex(torch.zeros_like(tensor), -tensor).conj())
    assert view.is_neg()
    return view


def test_views_that_wait_to_be_negated():
    generator = torch.Generator().manual_seed(0)
    x, z, t = (torch.rand(shape, generator=generator) for shape in ((6, 20), (5, 20), (6,)))
    ids = torch.arange(6)
    assert torch.equal(pairwise_cost(waiting(x), waiting(z)), pairwise_cost(x, z))
    for options in ({}, {"assignment_only": True}):
        out = waiting(torch.zeros(6, 5))
        assert pairwise_cost(x, z, out=out, **options) is out
        assert torch.equal(out, pairwise_cost(x, z, **options))
    out = waiting(torch.zeros(6, 6))
    pairwise_cost_from_ids(waiting(x), ids, seed=1, out=out)
    assert torch.equal(out, pairwise_cost_from_ids(x, ids, seed=1))
    out = waiting(torch.zeros(6, 20))
    noise_from_ids(ids, 20, seed=1, out=out)
    assert torch.equal(out, noise_from_ids(ids, 20, seed=1))
    got = interpolate_from_ids(waiting(x), ids, waiting(t), seed=1)
    assert torch.equal(got[0], interpolate_from_ids(x, ids, t, seed=1)[0])
    cost = x[:5, :5].double()
    solved = loomfast.solve(cost)
    again = loomfast.solve(waiting(cost), start=(solved.col4row, waiting(solved.u), waiting(solved.v)))
    assert torch.equal(again.col4row, solved.col4row)
