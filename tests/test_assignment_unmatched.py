"""Rows and columns that stay unmatched at a price: brute force, the padded problem, proofs, bad input."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
import torch
from cases import FAMILIES

import loomfast

BACKENDS = ["cpu", "reference"]
TINY = Fraction(5e-324)  # half of it is no float64


def paid(cost, limit=None, rows=None, columns=None):
    """What unmatched rows and columns pay, as exact numbers."""
    n, m = cost.shape
    if limit is not None:
        half = Fraction(float(limit)) / 2
        return [half] * n, [half] * m
    return [Fraction(float(r)) for r in np.broadcast_to(rows, n)], [
        Fraction(float(k)) for k in np.broadcast_to(columns, m)
    ]


def fraction(x):
    return Fraction(int(x)) if isinstance(x, np.integer) else Fraction(float(x))


def check(cost, result, limit=None, rows=None, columns=None, maximize=False, best=None, bound=12):
    """A matching without dear pairs, prices that prove it, and a gap and a total that hold as rationals."""
    cost = np.asarray(cost)
    n, m = cost.shape
    r, k = paid(cost, limit, rows, columns)
    sign = -1 if maximize else 1
    x, y = np.asarray(result.col4row), np.asarray(result.row4col)
    u, v = np.asarray(result.u), np.asarray(result.v)
    assert (x.shape, y.shape, u.shape, v.shape) == ((n,), (m,), (n,), (m,))
    matched = np.flatnonzero(x >= 0)
    assert np.array_equal(y[x[matched]], matched)
    assert np.count_nonzero(y >= 0) == len(matched)
    allowed = np.isfinite(cost)
    assert allowed[matched, x[matched]].all()
    entries = [fraction(cost[i, x[i]]) for i in matched]
    for i, entry in zip(matched, entries, strict=True):
        assert sign * entry <= sign * (r[i] + k[x[i]])
    left = [r[i] for i in range(n) if x[i] < 0] + [k[j] for j in range(m) if y[j] < 0]
    total = sum(entries + left)
    used = [abs(value) for value in entries + left] + [Fraction(abs(p)) for p in [*u, *v]]
    scale = float(max(used, default=0))
    assert abs(Fraction(result.total) - total) <= Fraction(2.0**-51) * sum(map(abs, entries + left)) + TINY
    prices = [Fraction(p) for p in u], [Fraction(p) for p in v]
    for i, j in zip(*np.nonzero(allowed), strict=True):
        assert sign * (prices[0][i] + prices[1][j]) <= sign * fraction(cost[i, j])
    assert all(sign * a <= sign * b for a, b in zip(prices[0], r, strict=True))
    assert all(sign * a <= sign * b for a, b in zip(prices[1], k, strict=True))
    proven = sign * (total - sum(prices[0]) - sum(prices[1]))
    whole = cost.dtype.kind in "biu" and all((a + b).denominator == 1 for a in r for b in k)
    assert result.gap >= (math.floor(proven) if whole else proven)
    assert result.status == "optimal"
    if whole and rows is None:
        assert result.gap == 0
    assert bound == math.inf or result.gap <= bound * max(min(n, m), 1) * 2.0**-53 * scale + (n + m) * float(
        TINY
    )
    if best is not None:
        assert (
            sign * (total - best) <= 0 if whole else abs(float(total - best)) <= bound * n * 2.0**-53 * scale
        )


def brute_force(cost, r, k, maximize=False):
    """The best total over every matching, as a rational."""
    n, m = cost.shape
    best, sign = None, -1 if maximize else 1
    for size in range(min(n, m) + 1):
        for rows in itertools.combinations(range(n), size):
            for columns in itertools.permutations(range(m), size):
                if not np.isfinite(cost[rows, columns]).all():
                    continue
                total = sum(map(fraction, cost[rows, columns]), Fraction(0))
                total += sum(r[i] for i in range(n) if i not in rows)
                total += sum(k[j] for j in range(m) if j not in columns)
                best = total if best is None else min(best, total, key=lambda t: sign * t)
    return best


def draw(rng, shape, sentinels):
    """Costs of any dtype, forbidden pairs and ``sentinels`` among floating-point ones."""
    kind = rng.integers(7)
    if kind == 0:
        return rng.integers(-9, 9, shape).astype(rng.choice(["int8", "int32", "int64"]))
    if kind == 1:
        return rng.integers(0, 9, shape).astype(rng.choice(["uint8", "uint64", "float16"]))
    cost = rng.random(shape) * rng.choice([1, 20, 1e-300, 1e30]) - rng.choice([0, 0.5])
    if kind == 2:
        cost[rng.random(shape) < 0.3] = np.inf
    if kind == 3 and sentinels:
        cost[rng.random(shape) < 0.3] = 1e300
    return cost.astype(np.float32) if kind == 4 and np.abs(cost).max(initial=0) < 1e31 else cost


def draw_limit(rng, cost):
    finite = cost[np.isfinite(cost)].astype(np.float64)
    if finite.size == 0 or rng.random() < 0.1:
        return float(rng.choice([0.0, -1.0, 3.0]))
    picked = float(rng.choice(finite))
    return float(rng.choice([picked, np.nextafter(picked, 1e9), picked * 0.7, np.quantile(finite, 0.5), 4]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_limits_by_brute_force(backend):
    rng = np.random.default_rng(1)
    for _ in range(150):
        cost = draw(rng, tuple(rng.integers(0, 5, 2)), backend == "cpu")
        maximize = bool(rng.integers(2)) and not np.isinf(cost.astype(np.float64)).any()
        limit = draw_limit(rng, cost)
        if backend == "reference" and abs(limit) < 1e-320:
            limit = 0.0  # it halves the limit in float64
        result = loomfast.solve(cost, cost_limit=limit, maximize=maximize, backend=backend)
        best = brute_force(cost, *paid(cost, limit), maximize)
        bound = 12 if backend == "cpu" else 1e9
        check(cost, result, limit, maximize=maximize, best=best, bound=bound)


@pytest.mark.parametrize("backend", BACKENDS)
def test_unmatched_costs_by_brute_force(backend):
    rng = np.random.default_rng(2)
    for _ in range(150):
        shape = n, m = tuple(rng.integers(0, 5, 2))
        cost = draw(rng, shape, backend == "cpu")
        maximize = bool(rng.integers(2)) and not np.isinf(cost.astype(np.float64)).any()
        scale = abs(draw_limit(rng, cost)) + 0.5
        rows, columns = (scale * (rng.random(size) - 0.2) for size in shape)
        if rng.integers(3) == 0:
            rows, columns = np.rint(rows), np.rint(columns)
        pair = (rows, columns) if rng.integers(3) else (rows, float(scale))
        if pair[1] is not columns:
            columns = scale
        result = loomfast.solve(cost, unmatched_cost=pair, maximize=maximize, backend=backend)
        best = brute_force(cost, *paid(cost, None, rows, columns), maximize)
        # What a pair costs less what its column pays is rounded on the scale of both.
        paid_together = np.add.outer(np.broadcast_to(rows, n), np.broadcast_to(columns, m))
        wide = cost.astype(np.float64)
        worth = wide >= paid_together if maximize else wide <= paid_together
        size = max([scale, *np.abs(wide[worth])])
        check(cost, result, None, rows, columns, maximize=maximize, bound=math.inf)
        assert result.gap <= 40 * (n + m) * 2.0**-53 * size
        assert abs(float(Fraction(result.total) - best)) <= 40 * (n + m) * 2.0**-53 * size


def padded_total(cost, r, k):
    """scipy's optimum of the (n + m) square problem."""
    n, m = cost.shape
    square = np.zeros((n + m, n + m))
    square[:n, :m], square[:n, m:], square[n:, :m] = cost, np.reshape(r, (-1, 1)), k
    return square[scipy.optimize.linear_sum_assignment(square)].sum()


@pytest.mark.parametrize("shape", [(60, 60), (40, 70), (70, 40), (3, 400), (400, 3)])
@pytest.mark.parametrize("family", ["image", "plane", "uniform", "small integers", "constant", "lognormal"])
def test_families_against_the_padded_problem(family, shape):
    rng = np.random.default_rng(6)
    cost = FAMILIES[family](rng, *shape)
    for share in (0.05, 0.5):
        limit = float(np.quantile(cost, share))
        for array in (cost, np.asfortranarray(cost), cost[::-1, ::-1]):
            result = loomfast.solve(array, cost_limit=limit)
            check_quickly(array, result, np.full(shape[0], limit / 2), np.full(shape[1], limit / 2))
        opposite = loomfast.solve(-cost, cost_limit=-limit, maximize=True)
        assert opposite.total == -loomfast.solve(cost, cost_limit=limit).total
        rows, columns = limit * rng.random(shape[0]), limit * rng.random(shape[1])
        check_quickly(cost, loomfast.solve(cost, unmatched_cost=(rows, columns)), rows, columns)


def check_quickly(cost, result, r, k):
    """The total of the padded problem, prices that hold in long double."""
    expected = padded_total(cost, r, k)
    assert result.total == pytest.approx(expected, rel=1e-12, abs=1e-12 * np.abs(cost).max())
    u, v, wide = result.u.astype(np.longdouble), result.v.astype(np.longdouble), cost.astype(np.longdouble)
    rounding = 2.0**-60 * (np.abs(u).max() + np.abs(v).max())
    assert np.all(u[:, None] + v <= wide + rounding)
    assert np.all(u <= r)
    assert np.all(v <= k)
    proven = float(result.total - u.sum() - v.sum())
    assert proven <= result.gap + 1e-15 * abs(result.total)
    s = max(np.abs(result.u).max(), np.abs(result.v).max(), np.abs(cost[result.pairs()]).max(initial=0))
    assert result.gap <= 40 * min(cost.shape) * 2.0**-53 * s
    assert np.all(cost[result.pairs()] <= r[result.pairs()[0]] + k[result.pairs()[1]])


def test_sizes_and_paths_of_the_solver():
    rng = np.random.default_rng(8)
    for shape in [(300, 300), (200, 900), (900, 200), (20, 3000)]:
        points = rng.random((shape[0], 1, 2)), rng.random((1, shape[1], 2))
        cost = np.linalg.norm(points[0] - points[1], axis=-1).astype(np.float32)
        for limit in (0.02, 0.1, 1.0):  # float32 holds the last alone
            result = loomfast.solve(cost, cost_limit=limit)
            half = np.full(shape[0], limit / 2), np.full(shape[1], limit / 2)
            wide = cost.astype(np.float64)
            check_quickly(wide, result, *half)
            assert loomfast.solve(cost, cost_limit=limit, start=result).total == result.total
            assert loomfast.solve(cost, cost_limit=limit, start=result.col4row).total == result.total


def test_a_limit_between_two_numbers_of_the_dtype_is_taken_as_it_is():
    cost = np.full((1, 1), 0.1, np.float32)  # a little above .1
    assert loomfast.solve(cost, cost_limit=0.1).col4row[0] == -1
    assert loomfast.solve(cost, cost_limit=0.1).total == 0.1
    assert loomfast.solve(cost, cost_limit=float(cost[0, 0])).col4row[0] == 0
    assert loomfast.solve(cost.astype(np.float16), cost_limit=float(np.float16(0.1))).col4row[0] == 0
    large = np.array([[2**53 - 1]])
    assert loomfast.solve(large, cost_limit=2.0**53 - 2).col4row[0] == -1
    assert loomfast.solve(large, cost_limit=2.0**53 - 1).col4row[0] == 0
    assert (
        loomfast.solve(np.array([[2**62, 3]]), cost_limit=5).total == 3 + 2.5
    )  # what is cut off may be huge


def test_nothing_and_everything():
    rng = np.random.default_rng(9)
    for shape in [(0, 0), (0, 3), (3, 0), (4, 6), (6, 4)]:
        cost = rng.random(shape)
        none = loomfast.solve(cost, cost_limit=-1.0)
        assert none.col4row.tolist() == [-1] * shape[0]
        assert none.total == -0.5 * sum(shape)
        assert none.gap == 0
        everything = loomfast.solve(cost, cost_limit=2.0)
        assert np.count_nonzero(everything.col4row >= 0) == min(shape)
        assert everything.total == pytest.approx(loomfast.solve(cost).total + abs(shape[0] - shape[1]))
    forbidden = loomfast.solve(np.full((3, 4), np.inf), cost_limit=3.0)
    assert (forbidden.total, forbidden.gap, forbidden.pairs()[0].size) == (10.5, 0, 0)


def test_no_limit_is_the_complete_problem():
    cost = np.random.default_rng(10).random((5, 7))
    known = loomfast.solve(cost)
    for options in ({"cost_limit": np.inf}, {"unmatched_cost": np.inf}, {"unmatched_cost": (np.inf, np.inf)}):
        found = loomfast.solve(cost, **options)
        assert (found.total, found.gap) == (known.total, known.gap)
        np.testing.assert_array_equal(found.v, known.v)
    assert (
        loomfast.solve(cost, cost_limit=-np.inf, maximize=True).total
        == loomfast.solve(cost, maximize=True).total
    )
    with pytest.raises(ValueError, match="infeasible"):
        loomfast.solve(np.full((2, 2), np.inf), cost_limit=np.inf)


def test_a_far_limit_takes_nothing_from_the_certificate():
    cost = np.random.default_rng(11).random((30, 30))
    result = loomfast.solve(cost, cost_limit=1e12)
    assert result.total == loomfast.solve(cost).total
    assert result.gap <= 8 * 30 * 2.0**-53


def test_rows_that_are_repeated():
    rng = np.random.default_rng(12)
    cost = rng.random((4, 9))
    for options in ({"cost_limit": 0.4}, {"unmatched_cost": (rng.random(4) / 3, rng.random(9) / 3)}):
        known = dict(options)
        if "unmatched_cost" in known:
            rows, columns = known["unmatched_cost"]
            known["unmatched_cost"] = np.repeat(rows, 3), columns
        found = loomfast.solve(cost, row_repeats=3, **options)
        assert found.total == pytest.approx(
            loomfast.solve(np.repeat(cost, 3, axis=0), **known).total, rel=1e-14
        )
        assert loomfast.solve(cost, row_repeats=3, backend="reference", **options).total == pytest.approx(
            found.total
        )


def test_batches():
    rng = np.random.default_rng(13)
    costs, rows, columns = rng.random((4, 6, 5)), rng.random((4, 6)) / 2, rng.random((4, 5)) / 2
    for threads in (1, 3):
        found = loomfast.solve(costs, unmatched_cost=(rows, columns), threads=threads)
        for k in range(4):
            one = loomfast.solve(costs[k], unmatched_cost=(rows[k], columns[k]))
            assert (one.total, one.gap) == (found.total[k], found.gap[k])
            np.testing.assert_array_equal(one.col4row, found.col4row[k])
    shared = loomfast.solve(costs, unmatched_cost=(rows[0], 0.25))
    assert shared.total[2] == loomfast.solve(costs[2], unmatched_cost=(rows[0], 0.25)).total
    limited = loomfast.solve(costs, cost_limit=0.5)
    np.testing.assert_array_equal(limited.total, loomfast.solve(costs, unmatched_cost=0.25).total)
    assert loomfast.solve(costs, cost_limit=0.5, start=limited).total.tolist() == limited.total.tolist()


def test_kinds_of_numbers_and_arrays():
    cost = torch.rand((5, 6), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    known = loomfast.solve(cost.numpy(), cost_limit=0.5)
    found = loomfast.solve(cost, cost_limit=torch.tensor(0.5))
    assert isinstance(found.col4row, torch.Tensor)
    assert found.total == known.total
    assert torch.equal(found.pairs()[1], torch.from_numpy(known.pairs()[1]))
    for number in (np.float32(0.5), np.array(0.5), cost.new_tensor(0.5)):
        assert loomfast.solve(cost, cost_limit=number).total == known.total
    pair = torch.full((5,), 0.25), [0.25] * 6
    assert loomfast.solve(cost, unmatched_cost=pair).total == known.total
    assert loomfast.solve(cost.to(torch.bfloat16), cost_limit=0.5).status == "optimal"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cost_limit": np.nan}, ValueError, "cost_limit must be a number above -inf, got nan"),
        ({"cost_limit": -np.inf}, ValueError, "cost_limit must be a number above -inf, got -inf"),
        (
            {"cost_limit": np.inf, "maximize": True},
            ValueError,
            "cost_limit must be a number below inf when maximising, got inf",
        ),
        ({"cost_limit": -(10**400)}, ValueError, "cost_limit must be a number above -inf, got -1000"),
        ({"cost_limit": "1"}, TypeError, "cost_limit must be a real number, got '1' of type str"),
        ({"cost_limit": True}, TypeError, "cost_limit must be a real number, got True"),
        ({"cost_limit": 1j}, TypeError, "cost_limit must be a real number, got 1j"),
        ({"cost_limit": [1.0]}, TypeError, r"cost_limit must be a real number, got \[1.0\] of type list"),
        ({"cost_limit": 1, "unmatched_cost": 1}, ValueError, "pass one of them"),
        ({"unmatched_cost": np.nan}, ValueError, "unmatched_cost must be a number above -inf, got nan"),
        (
            {"unmatched_cost": (1, 2, 3)},
            ValueError,
            r"a pair \(rows, columns\) of numbers or arrays, got 3 parts",
        ),
        (
            {"unmatched_cost": ([1, 2], 0)},
            ValueError,
            r"rows must be a number or have shape \(3,\), got \(2,\)",
        ),
        (
            {"unmatched_cost": (0, np.ones((1, 4)))},
            ValueError,
            r"columns must be .* shape \(4,\), got \(1, 4\)",
        ),
        ({"unmatched_cost": ([1, 2, np.inf], 0)}, ValueError, "rows must be finite numbers.*, got .*inf"),
        ({"unmatched_cost": (1, np.inf)}, ValueError, "unmatched_cost columns must be finite, got inf"),
        (
            {"unmatched_cost": (0, [0, 1, 1e308, 0])},
            ValueError,
            "columns must be finite numbers.*, got .*1e\\+308",
        ),
        ({"unmatched_cost": (["a"] * 3, 0)}, TypeError, "unmatched_cost rows must hold real numbers"),
        ({"cost_limit": 1, "backend": "cuda"}, (ValueError, RuntimeError), "cuda"),
    ],
)
def test_bad_input_is_one_clear_error(options, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve(np.ones((3, 4)), **options)


def test_invalid_entries_stay_invalid():
    for entry in (np.nan, -np.inf):
        cost = np.ones((3, 4))
        cost[1, 2] = entry
        with pytest.raises(ValueError, match=r"entry \(1, 2\)"):
            loomfast.solve(cost, cost_limit=0.5)
        with pytest.raises(ValueError, match=r"entry \(1, 2\)"):
            loomfast.solve(cost, unmatched_cost=([1, 2, 3], [1, 2, 3, 4]))
