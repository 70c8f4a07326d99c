"""The assignment of torch tensors inside torch.compile and torch.func, and the gradient of its total."""

import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from checks import check_assignment
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad
from torch.func import grad, jacfwd, jacrev, jvp

import loomfast
from loomfast.assignment import (
    STATUS,
    Assignment,
    torch_ops,  # noqa: F401  (registers torch.ops.loomfast)
)

# torch's own, where it compiles
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
SHAPES = [(6, 9), (9, 6), (7, 7), (2, 5, 8)]
whole = partial(torch.compile, fullgraph=True, backend="eager")
with_autograd = partial(torch.compile, fullgraph=True, backend="aot_eager")


def costs(*shape, dtype=torch.float32, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def total_of(cost, **options):
    return loomfast.solve(cost, **options).total


def matching(found, like):
    """(..., n, m) with 1 where a row and a column are matched."""
    col4row, out = torch.as_tensor(found.col4row), torch.zeros_like(like)
    out.scatter_(-1, col4row.clamp(min=0).unsqueeze(-1), (col4row >= 0).to(out.dtype).unsqueeze(-1))
    return out


# ---- torch.compile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "maximize"), [*zip(SHAPES, (False, True, True, False), strict=True)])
def test_a_graph_gives_the_assignment_that_solve_gives(shape, maximize):
    cost = costs(*shape)
    found = whole(lambda c: loomfast.solve(c + 1, maximize=maximize))(cost)
    expected = loomfast.solve(cost + 1, maximize=maximize)
    assert type(found) is Assignment
    for name in ("col4row", "row4col", "u", "v"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    for name in ("total", "gap"):
        assert getattr(found, name).shape == shape[:-2]
        assert torch.equal(
            getattr(found, name), torch.as_tensor(getattr(expected, name), dtype=torch.float64)
        )
    assert found.status.dtype == torch.int32
    assert not found.status.any()
    assert found.stats == {}
    assert found.check() is found


@pytest.mark.parametrize(("shape", "maximize"), [*zip(SHAPES[:3], (True, False, True), strict=True)])
def test_a_graph_gives_the_pairs_that_linear_sum_assignment_gives(shape, maximize):
    cost = costs(*shape)
    found = whole(lambda c: loomfast.linear_sum_assignment(c * 2, maximize))(cost)
    for got, want in zip(found, loomfast.linear_sum_assignment(cost * 2, maximize=maximize), strict=True):
        assert torch.equal(got, want)


def test_a_step_that_couples_compiles():
    def step(x, z):
        cost = loomfast.pairwise_cost(x, z)
        _, order = loomfast.linear_sum_assignment(cost)
        return (x - z[order]).square().sum(), loomfast.solve(cost).total

    x, z = costs(8, 5), costs(8, 5, seed=1)
    moved, total = with_autograd(step)(x, z)
    assert moved.item() == pytest.approx(total.item(), rel=1e-5)


def test_sizes_that_change_do_not_make_a_graph_be_compiled_again():
    counter = CompileCounter()

    def step(cost):
        return loomfast.solve(cost).col4row, loomfast.linear_sum_assignment(cost)[1]

    compiled = torch.compile(step, fullgraph=True, backend=counter)
    for n in range(5, 17):
        for got, want in zip(compiled(costs(n, n + 2)), step(costs(n, n + 2)), strict=True):
            assert torch.equal(got, want)
    assert counter.frame_count <= 2  # the second is that of a size that is known to change


def test_starts_and_options_go_into_a_graph():
    cost = costs(9, 9)
    cold = loomfast.solve(cost)
    for start in (cold, cold.v, (cold.col4row, None, cold.v)):
        found = whole(lambda c, s: loomfast.solve(c, start=s, threads=2, backend="cpu"))(cost, start)
        assert torch.equal(found.col4row, cold.col4row)
    again = whole(lambda c: loomfast.solve(c, start=loomfast.solve(c + 0.5)))(cost)
    assert torch.equal(again.col4row, cold.col4row)
    repeated = whole(lambda c: loomfast.solve(c[:3], row_repeats=3))(cost)
    assert torch.equal(repeated.col4row, loomfast.solve(cost[:3], row_repeats=3).col4row)
    within = whole(lambda c: loomfast.solve(c, tolerance=0.5))(costs(300, 300))
    assert STATUS[int(within.status)] == loomfast.solve(costs(300, 300), tolerance=0.5).status
    reference = whole(lambda c: loomfast.solve(c, backend="reference"))(cost)
    assert reference.total.item() == pytest.approx(cold.total, rel=1e-12)


def test_limits_and_sizes_go_into_a_graph():
    batch = costs(3, 6, 8)
    sizes = torch.tensor([6, 0, 4]), torch.tensor([8, 5, 3])
    paid = torch.linspace(0.1, 0.3, 6), 0.05
    for options in (
        *({"cost_limit": 0.2}, {"unmatched_cost": 0.1}, {"unmatched_cost": paid}, {"sizes": sizes}),
        *({"sizes": (sizes[0], None), "cost_limit": 0.3}, {"unmatched_cost": -0.5, "maximize": True}),
    ):
        found = whole(lambda c, o=options: loomfast.solve(c, **o))(batch)
        expected = loomfast.solve(batch, **options)
        assert torch.equal(found.col4row, expected.col4row)
        assert torch.equal(found.total, torch.as_tensor(expected.total))
    gated = torch.vmap(lambda c: loomfast.solve(c, cost_limit=0.2).col4row)(batch)
    assert torch.equal(gated, loomfast.solve(batch, cost_limit=0.2).col4row)
    with pytest.raises(ValueError, match="cannot be used inside torch"):
        torch.vmap(lambda c: loomfast.solve(c, unmatched_cost=paid).total)(batch)


def test_what_cannot_be_solved_is_refused_from_a_graph():
    with pytest.raises(ValueError, match=r"entry \(0, 1\) must be a number"):
        whole(loomfast.solve)(torch.tensor([[0.0, torch.nan], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="cost matrix is infeasible"):
        whole(loomfast.solve)(torch.full((2, 2), torch.inf))
    with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
        whole(lambda c: loomfast.linear_sum_assignment(c))(torch.full((2, 2), torch.nan))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="got 1 dimensions with shape"):
        whole(lambda c: loomfast.solve(c))(torch.ones(4))
    with pytest.raises(ValueError, match="threads must be"):
        whole(lambda c: loomfast.solve(c, threads=0))(torch.ones(2, 2))
    with pytest.raises(RuntimeError, match="backend='cuda' cannot run here"):
        whole(lambda c: loomfast.solve(c, backend="cuda"))(torch.ones(2, 2))


def test_a_graph_can_be_the_first_use_of_all():
    """Though loomfast was imported before torch, and nothing of it was used before."""
    code = """
from loomfast import linear_sum_assignment as pairs, noise_from_ids, pairwise_cost, solve
import torch
def f(i):
    cost = pairwise_cost(noise_from_ids(i, 4, seed=0), noise_from_ids(i, 4, seed=0))
    return *pairs(cost), solve(cost).col4row
for part in torch.compile(f, fullgraph=True, backend="eager")(torch.arange(3)):
    assert part.tolist() == [0, 1, 2]
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_the_operators_are_sound():
    operators, cost = torch.ops.loomfast, costs(2, 5, 8)
    start = {"start_col4row": torch.zeros((2, 5), dtype=torch.int64), "tolerance": 0.1, "backend": "auto"}
    paid = {"unmatched_rows": torch.rand(2, 5), "unmatched_columns": torch.rand(8), "row_repeats": 3}
    for options in (start, paid, {"size_rows": torch.tensor([2, 5]), "cost_limit": 0.3, "threads": 2}):
        torch.library.opcheck(operators.solve_assignment, (cost, True), options)
    torch.library.opcheck(operators.linear_sum_assignment, (cost[0].T,), {"maximize": True})


def test_fake_and_meta_tensors_carry_shapes():
    with FakeTensorMode():
        found = loomfast.solve(torch.empty(2, 5, 8, device="cuda", dtype=torch.bfloat16), row_repeats=3)
        rows, cols = loomfast.linear_sum_assignment(torch.empty(9, 4, device="cuda"))
    assert (found.u.shape, found.v.shape, found.col4row.shape) == ((2, 15), (2, 8), (2, 15))
    assert found.total.shape == found.status.shape == (2,)
    assert rows.shape == cols.shape == (4,)
    assert {part.device.type for part in (found.u, found.total, found.status, rows)} == {"cuda"}
    outputs = torch.ops.loomfast.solve_assignment(torch.empty(5, 8, device="meta"))
    assert [part.shape for part in outputs] == [(5,), (8,), (5,), (8,), (), (), ()]


# ---- the gradient of the total ----------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("shape", "maximize"), [*zip(SHAPES, (False, False, True, True), strict=True)])
def test_the_gradient_of_the_total_is_the_matching(shape, maximize, compiled):
    cost = costs(*shape).requires_grad_()

    def loss(cost):
        found = loomfast.solve(2 * cost, maximize=maximize)
        return (found.total * found.total).sum(), found

    value, found = (with_autograd(loss) if compiled else loss)(cost)
    value.backward()
    expected = matching(found, cost) * (4 * found.total.detach()[..., None, None])
    assert cost.grad.dtype == cost.dtype
    torch.testing.assert_close(cost.grad, expected.to(cost.dtype), rtol=1e-6, atol=0)
    assert not any(getattr(found, name).requires_grad for name in ("u", "v"))
    assert torch.as_tensor(found.gap).requires_grad is False


@pytest.mark.parametrize(
    "options", [{}, {"maximize": True}, {"row_repeats": 2}, {"row_repeats": 5}, {"cost_limit": 0.2}]
)
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 7)])
def test_gradcheck(shape, options):
    """Of random costs, so that one matching alone is optimal; with repeats or a limit some are unmatched."""
    cost = costs(*shape, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(partial(total_of, **options), cost, check_forward_ad=True)


def test_only_the_problem_itself_of_a_padded_batch_has_a_gradient():
    batch = costs(3, 6, 8).requires_grad_()
    found = loomfast.solve(batch, sizes=(torch.tensor([6, 0, 4]), torch.tensor([8, 5, 3])))
    found.total.sum().backward()
    assert batch.grad.sum((1, 2)).tolist() == [6, 0, 3]
    assert torch.equal(batch.grad, matching(found, batch.detach()))


def test_forbidden_pairs_have_no_gradient():
    cost = costs(6, 6)
    cost[0, :5] = cost[1:, 5] = torch.inf
    cost.requires_grad_()
    found = loomfast.solve(cost)
    found.total.backward()
    assert found.total.item() == pytest.approx(float(cost.detach()[range(6), found.col4row].double().sum()))
    assert torch.equal(cost.grad, matching(found, cost.detach()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_gradient_has_the_dtype_of_the_cost(dtype):
    cost = (8 * costs(3, 4, dtype=torch.float64)).to(dtype).requires_grad_()
    found = loomfast.solve(cost, row_repeats=1)
    assert found.total.dtype == torch.float64
    found.total.backward()
    assert torch.equal(cost.grad, matching(found, cost.detach()))


def test_an_assignment_with_a_gradient_is_otherwise_as_without():
    cost = costs(30, 30)
    plain, followed = loomfast.solve(cost), loomfast.solve(cost.requires_grad_())
    assert followed.total.item() == plain.total
    assert (followed.status, followed.stats["path"]) == (plain.status, plain.stats["path"])
    check_assignment(cost.detach().numpy(), Assignment(**{**vars(followed), "total": followed.total.item()}))
    assert torch.equal(loomfast.solve(cost * 2, start=followed).col4row, followed.col4row)
    with torch.no_grad():
        assert isinstance(loomfast.solve(cost).total, float)


@pytest.mark.parametrize("shape", [(5, 0), (0, 5), (0, 3, 3)])
def test_problems_without_pairs_have_a_gradient(shape):
    cost = torch.ones(shape, requires_grad=True)
    loomfast.solve(cost).total.sum().backward()
    assert cost.grad.shape == shape


def test_the_total_is_differentiated_once():
    cost = costs(4, 4).requires_grad_()
    (first,) = torch.autograd.grad(total_of(cost) ** 2, cost, create_graph=True)  # no harm yet
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        first.sum().backward()
    with pytest.raises(RuntimeError, match="can be differentiated once only"):
        grad(lambda c: grad(lambda c: total_of(c) ** 2)(c).sum())(cost.detach())


def test_transforms():
    batch = costs(3, 5, 7, dtype=torch.float64)
    found = loomfast.solve(batch)
    mapped = torch.vmap(loomfast.solve)(batch)
    assert torch.equal(mapped.col4row, found.col4row)
    assert torch.equal(torch.vmap(total_of, in_dims=2)(batch.movedim(0, 2)), found.total)
    nested = torch.vmap(total_of)(batch.expand(2, 3, 5, 7))
    assert torch.equal(nested, found.total.expand(2, 3))
    warm = torch.vmap(lambda c, v: loomfast.solve(c, start=v).col4row, in_dims=(0, None))(batch, found.v[0])
    assert torch.equal(warm, found.col4row)
    expected = matching(found, batch)
    assert torch.equal(torch.vmap(grad(total_of))(batch), expected)
    assert torch.equal(jacrev(total_of)(batch).sum(0), expected)
    assert torch.equal(jacfwd(total_of)(batch).sum(0), expected)
    value, slope = jvp(total_of, (batch,), (batch,))
    torch.testing.assert_close(slope, value, rtol=1e-14, atol=0)
    with forward_ad.dual_level():
        slope = forward_ad.unpack_dual(total_of(forward_ad.make_dual(batch, torch.ones_like(batch)))).tangent
    assert slope.tolist() == [5, 5, 5]


def test_transforms_inside_a_graph():
    batch = costs(3, 5, 7, dtype=torch.float64)
    expected = matching(loomfast.solve(batch), batch)
    assert torch.equal(with_autograd(lambda c: torch.vmap(grad(total_of))(c))(batch), expected)
    assert torch.equal(with_autograd(lambda c: jacrev(total_of)(c))(batch).sum(0), expected)
    value, slope = with_autograd(lambda c: jvp(total_of, (c,), (c,)))(batch)
    torch.testing.assert_close(slope, value, rtol=1e-14, atol=0)


def test_numpy_costs_are_solved_as_ever():
    cost = costs(6, 6).numpy()
    found = loomfast.solve(cost)
    assert type(found.total) is float
    assert isinstance(found.u, np.ndarray)
