"""The Python side of the CUDA solver, run as it is with the shim in the place of the GPU's engine."""

import contextlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import image_costs
from checks import check_assignment
from cuda_on_cpu import build, engine

import loomfast
from loomfast import _engine, backends, doctor
from loomfast.assignment import COUNTERS, STATUS, cuda
from loomfast.assignment.result import check_status
from loomfast.assignment.torch_ops import solve_assignment


@pytest.fixture
def on_shim(monkeypatch):
    """CPU tensors pass for device arrays, and the shim solves them on a small device, in poisoned memory."""
    if build.unavailable():
        pytest.skip(build.unavailable())
    engine.install(monkeypatch.setattr, multiprocessors=4, shared_per_block=99 << 10)


def check(cost, result, maximize=False):
    """One instance, with the device's status in words."""
    fields = {name: getattr(result, name) for name in ("col4row", "row4col", "u", "v")}
    assert int(result.status) == 0
    numbers = {"total": float(result.total), "gap": float(result.gap), "status": "optimal", "stats": None}
    check_assignment(np.asarray(cost.double()), loomfast.Assignment(**fields, **numbers), maximize=maximize)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32])
@pytest.mark.parametrize("maximize", [False, True])
def test_tensors_of_every_dtype(on_shim, dtype, maximize):
    cost = torch.from_numpy(image_costs(np.random.default_rng(0), 12, 9) * 100).to(dtype)
    check(cost, cuda.solve(cost, maximize=maximize), maximize)


def test_views_batches_and_starts(on_shim):
    generator = torch.Generator().manual_seed(0)
    cost = torch.rand((3, 16, 20), generator=generator).transpose(1, 2)[:, 1::2]
    cold = cuda.solve(cost)
    warm = cuda.solve(cost, start=cold)
    prices = cuda.solve(cost, start=(None, cold.v))
    tall = cuda.solve(cost, start=(cold.col4row, cold.u, None))
    for k in range(3):
        for result in (cold, warm, prices, tall):
            parts = {
                n: getattr(result, n)[k] for n in ("col4row", "row4col", "u", "v", "total", "gap", "status")
            }
            check(cost[k], loomfast.Assignment(**parts, stats=None))
    assert torch.equal(warm.total, cold.total)
    assert cold.stats.shape == (3, len(COUNTERS))


def test_problems_of_a_batch_have_sizes(on_shim):
    cost = torch.rand((3, 7, 9), generator=torch.Generator().manual_seed(5))
    rows, columns = torch.tensor([7, 2, 0], dtype=torch.int32), [9, 9, 4]
    result = cuda.solve(cost, sizes=(rows, columns)).check()
    for k, (n, m) in enumerate([(7, 9), (2, 9), (0, 4)]):
        parts = {
            "col4row": result.col4row[k, :n],
            "row4col": result.row4col[k, :m],
            "status": result.status[k],
        }
        parts |= {"u": result.u[k, :n], "v": result.v[k, :m], "total": result.total[k], "gap": result.gap[k]}
        if n:
            check(cost[k, :n, :m], loomfast.Assignment(**parts, stats=None))
        assert (result.col4row[k, n:] == -1).all()
    assert torch.equal(cuda.solve(cost, sizes=(rows, None)).col4row[0], cuda.solve(cost).col4row[0])
    with pytest.raises(ValueError, match="sizes must be between 0 and the rows"):
        cuda.solve(cost, sizes=(None, torch.tensor([9, 10, 9]))).check()


@pytest.mark.parametrize(
    ("sizes", "options", "error", "message"),
    [
        ([1, 2, 3], {}, TypeError, "sizes must be a pair"),
        (([1, 2], None), {}, ValueError, r"sizes rows must have shape \(3,\)"),
        ((None, [1.0, 2, 3]), {}, TypeError, "sizes columns must be integers"),
        (([1, 2, 8], None), {}, ValueError, "sizes rows must be between 0 and 7, got 8"),
        (([1, 2, -1], None), {}, ValueError, "sizes rows must be between 0 and 7, got -1"),
        (([1, 2, 3], None), {"row_repeats": 2}, ValueError, "sizes cannot be combined with row_repeats"),
    ],
)
def test_sizes_that_fit_no_batch_are_refused(on_shim, sizes, options, error, message):
    with pytest.raises(error, match=message):
        cuda.solve(torch.zeros((3, 7, 9)), sizes=sizes, **options)
    with pytest.raises(ValueError, match="those of a batch"):
        cuda.solve(torch.zeros((7, 9)), sizes=([7], [9]))


def test_the_status_is_raised_when_asked_for(on_shim):
    cost = torch.rand((2, 4, 4), generator=torch.Generator().manual_seed(1))
    check_status(cuda.solve(cost).status)
    cost[1, 2] = torch.inf
    with pytest.raises(ValueError, match=r"cost\[1\] matrix is infeasible"):
        check_status(cuda.solve(cost).status)
    cost[0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"cost\[0\] contains invalid numeric entries"):
        check_status(cuda.solve(cost).status)


def test_the_public_solve_chooses_and_checks(on_shim, monkeypatch):
    monkeypatch.setattr(backends, "SOLVER_TIMES", ((32, 0.1, 0.1, 0.05), (64, 0.1, 0.1, 1.0)))
    cost = torch.rand((70, 70), generator=torch.Generator().manual_seed(4))
    result = loomfast.solve(cost, backend="cuda").check()
    check(cost, result)
    with pytest.raises(ValueError, match="infeasible"):
        loomfast.solve(torch.full((2, 2), torch.inf), backend="cuda").check()
    within = loomfast.solve(cost, backend="cuda", tolerance=0.1).check()
    assert STATUS[int(within.status)] == "within_tolerance"
    repeated = loomfast.solve(cost[:35], backend="cuda", row_repeats=2).check()
    check(cost[:35].repeat_interleave(2, 0), repeated)
    with pytest.raises(ValueError, match="too large to be summed exactly"):
        loomfast.solve(torch.full((2, 2), 2**52), backend="cuda").check()
    large = loomfast.solve(cost, start=result).check()
    assert torch.is_tensor(large.status)  # solved by the kernels, and nobody waited for them
    small = loomfast.solve(cost[:8, :9], start=cost[0, :9].double()).check()
    assert small.status == "optimal"  # solved on the CPU, the result moved to where the cost is
    assert torch.is_tensor(small.u)


@pytest.mark.parametrize("shape", [(70, 70), (40, 64), (64, 40), (5, 7), (0, 3)])
def test_linear_sum_assignment_of_a_tensor_on_a_device(on_shim, monkeypatch, shape):
    monkeypatch.setattr(backends, "SOLVER_TIMES", ((32, 0.1, 0.1, 0.05), (64, 0.1, 0.1, 1.0)))
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(6))
    for maximize in (False, True):
        found = loomfast.linear_sum_assignment(cost, maximize=maximize)
        for got, want in zip(found, loomfast.linear_sum_assignment(cost.numpy(), maximize), strict=True):
            assert got.dtype == torch.int64
            assert np.array_equal(got, want)


def test_linear_sum_assignment_on_a_device_has_scipys_words(on_shim, monkeypatch):
    monkeypatch.setattr(backends, "SOLVER_TIMES", ((32, 0.1, 0.1, 0.05), (64, 0.1, 0.1, 1.0)))
    for size in (3, 70):  # solved on the CPU, and by the kernels
        with pytest.raises(ValueError, match="cost matrix is infeasible"):
            loomfast.linear_sum_assignment(torch.full((size, size), torch.inf))
        with pytest.raises(ValueError, match="matrix contains invalid numeric entries"):
            loomfast.linear_sum_assignment(torch.full((size, size), torch.nan))
    with pytest.raises(ValueError, match="expected a matrix"):
        loomfast.linear_sum_assignment(torch.ones(3))


@pytest.mark.parametrize(
    ("cost", "start", "error", "text"),
    [
        (torch.rand(3), None, ValueError, "got 1 dimensions"),
        (torch.rand(0, 3), None, ValueError, "1 to 1048576 rows"),
        (torch.rand(3, 3, dtype=torch.complex64), None, TypeError, "got complex64"),
        (torch.rand(3, 3), torch.zeros(2, dtype=torch.int64), ValueError, "start col4row must be"),
        (torch.rand(3, 3), torch.zeros(3, dtype=torch.float32), ValueError, "start v must be"),
        (torch.rand(3, 3), (None, torch.zeros(2), None), ValueError, "start u must be"),
        (torch.rand(3, 3), (None,) * 4, ValueError, "got 4 parts"),
    ],
)
def test_bad_arguments_are_named(on_shim, cost, start, error, text):
    with pytest.raises(error, match=text):
        cuda.solve(cost, start=start)


def test_the_extension_imports_without_a_driver_and_says_what_is_missing():
    code = (
        "import loomfast.assignment.cuda as a, sys; print(a.unavailable()); assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if torch.cuda.is_available():
        pytest.skip("a device is here, so nothing is missing")
    missing = "no CUDA device can be used" if _engine.cuda_architectures else "built without its CUDA kernels"
    assert missing in result.stdout
    with pytest.raises(RuntimeError, match=missing):
        cuda.solve(np.ones((2, 2)))


def test_views_that_wait_to_be_negated(on_shim):
    cost = torch.rand((9, 9), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    solved = cuda.solve(cost)
    waiting = [torch.imag(torch.complex(torch.zeros_like(a), -a).conj()) for a in (cost, solved.v)]
    assert all(view.is_neg() for view in waiting)
    # What is in the memory is the opposite of what the view says.
    result = cuda.solve(waiting[0], start=(solved.col4row, None, waiting[1]))
    check(cost, result)
    assert torch.equal(result.col4row, solved.col4row)
    assert int(result.stats[COUNTERS.index("rounds")]) == 0  # the prices fit


@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_everything_is_made_on_the_device_of_the_cost(on_shim, monkeypatch, dtype):
    """With another device current: a library that allocates on the current one must be told."""
    kind, current, made = cuda._torch_kind(), ["another"], []

    @contextlib.contextmanager
    def scope(array):
        before, current[0] = current[0], "the cost's"
        yield
        current[0] = before

    def watched(function):
        def run(*arguments):
            made.append(current[0])
            return function(*arguments)

        return run

    kind = kind._replace(scope=scope, empty=watched(kind.empty), as_float64=watched(kind.as_float64))
    monkeypatch.setattr(cuda, "_torch_kind", lambda: kind)
    cost = torch.randint(0, 50, (5, 6), generator=torch.Generator().manual_seed(6)).to(dtype)
    check(cost, cuda.solve(cost))
    assert len(made) >= 9
    assert set(made) == {"the cost's"}
    assert current == ["another"]


class OldDriver:
    cuda_architectures = "90"

    def __init__(self, driver):
        self.driver = driver

    def cuda_device(self):
        raise RuntimeError("CUDA: CUDA driver version is insufficient for CUDA runtime version")

    def cuda_versions(self):
        return self.driver, 13000


def test_the_versions_of_an_old_driver_are_named():
    text = backends.cuda_unavailable(OldDriver(12040))
    assert "the driver is for CUDA 12.4 and older" in text
    assert "the runtime of CUDA 13.0" in text
    assert "there is no NVIDIA driver here" in backends.cuda_unavailable(OldDriver(0))


def test_how_to_get_the_kernels_is_said_in_one_place(monkeypatch):
    """`loomfast doctor`, the solver and the noise tell the same."""
    monkeypatch.setattr(_engine, "cuda_architectures", "")
    monkeypatch.delattr(_engine, "noise_fill_cuda", raising=False)
    assert backends.HOW_TO_BUILD in doctor.cuda_kernels().detail
    with pytest.raises(RuntimeError, match="nvidia-cuda-nvcc") as solver:
        cuda.solve(np.ones((2, 2)))
    with pytest.raises(RuntimeError, match="nvidia-cuda-nvcc") as noise:
        loomfast.noise_from_ids(torch.arange(2), 3, seed=0, backend="cuda")
    assert backends.HOW_TO_BUILD in str(solver.value)
    assert backends.HOW_TO_BUILD in str(noise.value)


def test_auto_decides_by_one_table():
    """Every row of it, what lies between and beyond, and batches; the copy is part of the CPU's time."""
    for n, one, each, on_cpu in backends.SOLVER_TIMES:
        assert backends.solver_times(n) == pytest.approx((one, each, on_cpu))
        copy = backends.COPY_MS + 4 * n * n / backends.COPY_BYTES_PER_MS
        for batch in (1, 100, 1000):
            faster = batch * (on_cpu + copy - backends.COPY_MS) + backends.COPY_MS < max(one, batch * each)
            assert backends.auto_solver(n, n, batch) == ("cpu" if faster else "cuda")
    chosen = [backends.auto_solver(n, n) for n in (1, 5, 64, 100, 512, 600, 1024, 5000, 40000)]
    assert chosen == 3 * ["cpu"] + 6 * ["cuda"]
    assert backends.auto_solver(300, 300, batch=208) == "cuda"
    assert backends.auto_solver(64, 64, batch=1024) == "cuda"
    assert backends.auto_solver(64, 500_000) == "cuda"  # the copy alone takes longer
    for times in zip(*(backends.solver_times(n) for n in range(1, 20000, 97)), strict=True):
        assert list(times) == sorted(times)


def test_the_table_of_auto_says_where_it_is_from():
    """A date, a card, and whether it was measured; once a card's times are kept, they have to be in it."""
    source = inspect.getsource(backends)
    comment = source[: source.index("SOLVER_TIMES = (")].rpartition("\n\n")[2]
    assert "H100" in comment
    assert "2026-" in comment
    kept = sorted((Path(__file__).parents[1] / "bench/results/gpu").glob("*/assignment.json"))
    assert ("measured on no card" in comment) == (not kept)


@pytest.mark.parametrize("shape", [(6, 9), (2, 7, 4)])
def test_the_torch_operator(shape):
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(2))
    torch.library.opcheck(solve_assignment, (cost,), {"maximize": True})
    col4row, _, _, _, total, gap, status = solve_assignment(cost)
    expected = loomfast.solve(cost)
    assert torch.equal(col4row, torch.as_tensor(expected.col4row))
    assert total.shape == gap.shape == status.shape == shape[:-2]
    assert torch.allclose(total, torch.as_tensor(expected.total, dtype=torch.float64), rtol=1e-15)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU here")
@pytest.mark.parametrize("shape", [(40, 8, 8), (300, 300), (2000, 2100), (3, 1500, 700)])
def test_on_a_gpu(shape):
    cost = torch.rand(shape, generator=torch.Generator().manual_seed(3)).cuda()
    graph = torch.cuda.CUDAGraph()
    cuda.solve(cost)
    with torch.cuda.graph(graph):
        result = cuda.solve(cost)
    graph.replay()
    check_status(result.status)
    batch = cost.reshape(-1, *shape[-2:]).cpu()
    for k, one in enumerate(batch):
        parts = {
            n: getattr(result, n).reshape(len(batch), -1)[k].cpu() for n in ("col4row", "row4col", "u", "v")
        }
        parts |= {n: getattr(result, n).reshape(-1)[k].cpu() for n in ("total", "gap", "status")}
        check(one, loomfast.Assignment(**parts, stats=None))
