"""Batches of problems of different sizes: padded arrays with ``sizes``, and lists of matrices."""

import numpy as np
import pytest
import torch
from checks import check_assignment

import loomfast

BACKENDS = ["cpu", "reference"]


def one_of(result, k, n, m):
    """Problem k of a batch alone, cut to its size, after a look at what lies past it."""
    parts = {}
    for name, size, empty in [("col4row", n, -1), ("row4col", m, -1), ("u", n, 0), ("v", m, 0)]:
        part = np.asarray(getattr(result, name))[k]
        assert np.all(part[size:] == empty)
        parts[name] = part[:size]
    numbers = {"total": float(result.total[k]), "gap": float(result.gap[k])}
    return loomfast.Assignment(**parts, **numbers, status=result.status[k], stats=result.stats[k])


def check_batch(costs, result, **options):
    """Every problem is solved as it is alone, by matching, prices and numbers."""
    for k, cost in enumerate(costs):
        found = one_of(result, k, *cost.shape)
        check_assignment(cost, found, **options)
        alone = loomfast.solve(cost, **options)
        if "reference" not in found.stats["path"]:
            np.testing.assert_array_equal(found.col4row, alone.col4row)
            np.testing.assert_array_equal(found.u, alone.u)
            np.testing.assert_array_equal(found.v, alone.v)
        assert found.total == pytest.approx(alone.total, rel=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_sizes(backend, dtype, order):
    rng = np.random.default_rng(1)
    costs = np.asarray(rng.random((30, 9, 12)) * 100, dtype, order=order)
    rows, columns = rng.integers(0, 10, 30), rng.integers(0, 13, 30)
    for k in range(30):  # what lies past the sizes is not read
        if dtype != "int16":
            costs[k, rows[k] :], costs[k, :, columns[k] :] = np.nan, -np.inf
    problems = [cost[:n, :m] for cost, n, m in zip(costs, rows, columns, strict=True)]
    for maximize in (False, True):
        options = {"maximize": maximize, "backend": backend}
        result = loomfast.solve(costs, sizes=(rows, columns), threads=3, **options)
        check_batch(problems, result, maximize=maximize)
    whole = loomfast.solve(np.abs(np.nan_to_num(costs, neginf=0)), sizes=(rows, None), backend=backend)
    check_batch([np.abs(np.nan_to_num(c, neginf=0))[:n] for c, n in zip(costs, rows, strict=True)], whole)


@pytest.mark.parametrize("backend", BACKENDS)
def test_lists(backend):
    rng = np.random.default_rng(2)
    problems = [
        rng.random((4, 7)).astype(np.float32),
        rng.random((9, 3)),
        np.zeros((5, 0), np.float16),
        rng.integers(-9, 9, (6, 6)),
        rng.random((1, 8)).T[::-1],
        np.asfortranarray(rng.random((5, 5))),
        rng.integers(0, 2, (3, 4)).astype(bool),
    ]
    result = loomfast.solve(problems, backend=backend, threads=2)
    assert result.col4row.shape == (7, 9)
    assert result.row4col.shape == (7, 7)
    check_batch(problems, result)
    for (rows, columns), problem in zip(result.pairs(), problems, strict=True):
        expected = loomfast.linear_sum_assignment(problem)
        assert problem[rows, columns].sum() == pytest.approx(problem[expected].sum(), rel=1e-12)
        assert rows.tolist() == sorted(rows)


def test_lists_of_what_is_no_array():
    known = loomfast.solve([np.array([[1, 2], [3, 5]]), np.array([[4.5]])])
    assert known.total.tolist() == [5, 4.5]
    found = loomfast.solve(([[1, 2], [3, 5]], [[4.5]]))
    assert found.total.tolist() == [5, 4.5]
    assert found.col4row.tolist() == [[1, 0], [0, -1]]
    assert loomfast.solve([[1, 2], [3, 5]]).col4row.tolist() == [1, 0]  # one matrix
    assert loomfast.solve([np.array([1, 2]), np.array([3, 5])]).col4row.tolist() == [1, 0]
    assert loomfast.solve(np.ones((3, 2, 2)).tolist()).total.tolist() == [2, 2, 2]
    halves = loomfast.solve([torch.tensor([[1.0, 2], [3, 5]], dtype=torch.bfloat16), np.ones((1, 1))])
    assert isinstance(halves.col4row, torch.Tensor)
    assert halves.total.tolist() == [5, 1]
    assert [pair[1].tolist() for pair in halves.pairs()] == [[1, 0], [0]]


def test_starts_limits_and_repeats():
    rng = np.random.default_rng(3)
    problems = [rng.random(shape) for shape in [(30, 40), (0, 5), (50, 20), (35, 35)]]
    cold = loomfast.solve(problems)
    assert loomfast.solve(problems, start=cold).total.tolist() == cold.total.tolist()
    limited = loomfast.solve(problems, cost_limit=0.05)
    for k, problem in enumerate(problems):
        assert limited.total[k] == loomfast.solve(problem, cost_limit=0.05).total
    again = loomfast.solve(problems, cost_limit=0.05, start=limited)
    np.testing.assert_array_equal(again.total, limited.total)
    rows = [rng.random(len(problem)) / 20 for problem in problems]
    columns = [rng.random(problem.shape[1]) / 20 for problem in problems]
    paid = loomfast.solve(problems, unmatched_cost=(rows, columns))
    padded = np.full((4, 50, 40), np.nan)
    shapes = np.array([problem.shape for problem in problems]).T
    pads = np.full((4, 50), np.nan), np.full((4, 40), np.nan)
    for k, problem in enumerate(problems):
        n, m = problem.shape
        padded[k, :n, :m], pads[0][k, :n], pads[1][k, :m] = problem, rows[k], columns[k]
        alone = loomfast.solve(problem, unmatched_cost=(rows[k], columns[k]))
        assert paid.total[k] == alone.total
        assert np.array_equal(paid.v[k, :m], alone.v)
    by_size = loomfast.solve(padded, unmatched_cost=pads, sizes=tuple(shapes))
    np.testing.assert_array_equal(by_size.total, paid.total)
    np.testing.assert_array_equal(by_size.u, paid.u)
    repeated = loomfast.solve(problems, row_repeats=2)
    assert repeated.col4row.shape == (4, 100)
    assert repeated.total[0] == loomfast.solve(problems[0], row_repeats=2).total


def test_one_large_problem_among_many_small_ones():
    rng = np.random.default_rng(4)
    problems = [rng.random((20, 30)) for _ in range(200)]
    problems[150] = rng.random((300, 300))
    totals = loomfast.solve(problems, threads=1).total
    for threads in (2, 5):
        np.testing.assert_array_equal(loomfast.solve(problems, threads=threads).total, totals)


def test_images_without_targets():
    rng = np.random.default_rng(5)
    targets = rng.integers(0, 6, 20)
    outputs = loomfast.solve(torch.rand((20, 10, 5)), sizes=(None, torch.from_numpy(targets).to(torch.int32)))
    assert [len(rows) for rows, _ in outputs.pairs()] == targets.tolist()
    nobody = loomfast.solve([np.zeros((10, 0))] * 3)
    assert nobody.col4row.shape == (3, 10)
    assert nobody.row4col.shape == (3, 0)
    assert nobody.total.tolist() == [0, 0, 0]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        ([1, 2, 3], TypeError, r"sizes must be a pair \(rows, columns\) of integer arrays, got list"),
        (np.ones((2, 3), int), TypeError, "sizes must be a pair .* got ndarray"),
        ((1, 2), ValueError, r"sizes rows must have shape \(3,\), one for each problem, got \(\)"),
        (([1, 2], None), ValueError, r"sizes rows must have shape \(3,\), one for each problem, got \(2,\)"),
        ((None, np.ones((3, 1), int)), ValueError, r"sizes columns must have shape \(3,\)"),
        ((None, [1.0, 2, 3]), TypeError, "sizes columns must be integers, got float64"),
        ((None, [True, False, True]), TypeError, "sizes columns must be integers, got bool"),
        (([1, 2, 8], None), ValueError, "sizes rows must be between 0 and 7, got 8"),
        ((torch.tensor([1, 2, 8]), None), ValueError, "sizes rows must be between 0 and 7, got 8"),
        (([1, 2, -1], None), ValueError, "sizes rows must be between 0 and 7, got -1"),
        ((np.array([1, 2, 2**63], np.uint64), None), ValueError, f"between 0 and 7, got {2**63}"),
        (([], None), ValueError, r"sizes rows must have shape \(3,\)"),
    ],
)
def test_wrong_sizes_are_one_clear_error(sizes, error, message, backend):
    with pytest.raises(error, match=message):
        loomfast.solve(np.zeros((3, 7, 9)), sizes=sizes, backend=backend)


def test_what_does_not_go_together():
    ones = np.ones((2, 3, 3))
    with pytest.raises(
        ValueError, match=r"sizes are those of a batch \(b, n, m\), got a cost of shape \(3, 3\)"
    ):
        loomfast.solve(ones[0], sizes=([3], [3]))
    with pytest.raises(ValueError, match="sizes cannot be combined with row_repeats, got row_repeats 2"):
        loomfast.solve(ones, sizes=([3, 3], None), row_repeats=2)
    with pytest.raises(ValueError, match="the matrices of a list have their own"):
        loomfast.solve(list(ones), sizes=([3, 3], None))
    with pytest.raises(
        ValueError, match=r"cost\[1\] must be a matrix \(n, m\) like cost\[0\], got 1 dimensions"
    ):
        loomfast.solve([ones[0], ones[0, 0]])
    with pytest.raises(ValueError, match=r"cost\[1\] contains invalid numeric entries: entry \(0, 0\)"):
        loomfast.solve([ones[0], np.array([[np.nan]])])
    with pytest.raises(ValueError, match=r"cost\[1\] matrix is infeasible"):
        loomfast.solve([ones[0], np.array([[np.inf]])])
    with pytest.raises(ValueError, match=r"cost\[1\] holds int64 values too large"):
        loomfast.solve([ones[0], np.full((2, 2), 2**60)])
    with pytest.raises(ValueError, match=r"start col4row must have shape \(2, 3\), got \(2, 2\)"):
        loomfast.solve([ones[0], ones[1, :2]], start=np.zeros((2, 2), int))
    with pytest.raises(ValueError, match="one array for each of the 2 problems, got 1"):
        loomfast.solve([ones[0], ones[1, :2]], unmatched_cost=([np.ones(3)], 1))
    with pytest.raises(ValueError, match=r"rows \[1\] must have shape \(2,\), got \(3,\)"):
        loomfast.solve([ones[0], ones[1, :2]], unmatched_cost=([np.ones(3), np.ones(3)], 1))
    with pytest.raises(TypeError, match="Cannot cast array data"):
        loomfast.solve([ones[0], np.array([["a"]])])
