"""Hard inputs: sentinels, every scale, chains, huge starts, costs that change. Totals are rationals."""

import math
import sys
import threading
from fractions import Fraction

import numpy as np
import pytest
import scipy.optimize
from exact import exact_matching, exact_sum

import loomfast

LARGEST = float(np.finfo(float).max)


def check_exact(cost, result, reference):
    """The contract of DESIGN: total, gap and duals against the optimum ``reference``, all as rationals."""
    n = len(reference)
    chosen = [cost[i, j] for i, j in enumerate(result.col4row)]
    best = [cost[i, j] for i, j in enumerate(reference)]
    excess = exact_sum(chosen) - exact_sum(best)
    assert excess <= Fraction(8 * n) * Fraction(2) ** -53 * Fraction(max(map(abs, best)))
    assert result.status == "optimal"
    assert result.gap >= excess
    assert np.all(result.v <= 0)
    assert np.all(result.v[result.row4col < 0] == 0)
    assert np.all(np.isfinite(result.u))
    assert np.all(np.isfinite(result.v))
    for i, j in np.argwhere(np.isfinite(cost)):
        assert Fraction(float(result.u[i])) + Fraction(float(result.v[j])) <= Fraction(float(cost[i, j]))
    if max(np.abs(result.u).max(), np.abs(result.v).max()) < LARGEST:  # else cut to what float64 holds
        assert result.gap >= exact_sum(chosen) - exact_sum(result.u) - exact_sum(result.v)


def check_sentinels(cost, result, reference, sentinel):
    """As few sentinels as can be, and the rest optimal on its own scale."""

    def split(matching):
        ordinary = [c for i, j in enumerate(matching) if abs(c := cost[i, j]) < abs(sentinel) / 2]
        return len(matching) - len(ordinary), exact_sum(ordinary), max(map(abs, ordinary), default=0.0)

    count, rest, _ = split(result.col4row)
    fewest, best, scale = split(reference)
    assert count == fewest
    assert rest - best <= Fraction(8 * len(reference)) * Fraction(2) ** -53 * Fraction(scale)


def draw(rng):
    """A matrix that is hard in one of many ways, and its sentinel, if it has one."""
    n = int(rng.integers(17, 22)) if rng.random() < 0.12 else int(rng.integers(1, 7))
    m = n if rng.random() < 0.6 else n + int(rng.integers(0, 5))
    family = rng.integers(4)
    if family == 0:
        cost = rng.integers(0, 5, (n, m)).astype(float)
    elif family == 1:
        cost = np.hypot(*(rng.random((n, 1)) - rng.random((1, m)) for _ in range(2)))
    else:
        cost = rng.random((n, m)) - (0.5 if family == 2 else 0.0)
    share = rng.choice([0.05, 0.3, 0.6, 0.9])
    chosen = rng.random((n, m)) < share
    sentinel = float(rng.choice([1e12, 1e15, 1e18, 1e100, 1e300, LARGEST / n, LARGEST]))
    kind = rng.integers(8)
    if kind == 0:
        cost = 10.0 ** rng.uniform(-300, 300, (n, m))
    elif kind == 1:
        cost = 10.0 ** rng.uniform(-20, 20, (n, m)) * rng.choice([-1, 1], (n, m))
    elif kind == 2:
        cost = cost * float(rng.choice([1e-310, 5e-324, 1e-300, 1e300, 1.7e308 / 5]))
    elif kind == 3:
        cost[chosen] = np.inf
    elif kind == 4:
        cost[:, rng.integers(m)] = sentinel
        cost[rng.integers(n)] = sentinel
        return cost, sentinel
    else:
        cost[chosen] = -sentinel if kind == 5 else sentinel
        if kind == 6:
            cost[rng.random((n, m)) < 0.1] = np.inf
        return cost, sentinel
    return cost, None


@pytest.mark.parametrize("seed", range(6))
def test_hard_matrices_against_rationals(seed):
    rng = np.random.default_rng(seed)
    for _ in range(250):
        cost, sentinel = draw(rng)
        cost = np.asarray(cost, order=rng.choice(["C", "F"]))
        start = rng.normal(size=cost.shape[1]) * 10.0 ** rng.uniform(-5, 20) if rng.random() < 0.3 else None
        reference = exact_matching(cost)
        if reference is None:
            with pytest.raises(ValueError, match="infeasible"):
                loomfast.solve(cost, start=start)
            continue
        result = loomfast.solve(cost, start=start)
        check_exact(cost, result, reference)
        if sentinel is not None:
            check_sentinels(cost, result, reference, sentinel)


def draw_middle(rng):
    """A matrix large enough for every path of the solver: offsets, ties, gates, orders, scales."""
    n, m = (int(rng.integers(41, 90)) for _ in range(2))
    if (kind := rng.integers(4)) == 0:
        m = n
    elif kind == 1:
        n, m = int(rng.integers(2, 6)), int(rng.integers(600, 900))
    elif kind == 2:
        n, m = int(rng.integers(70, 90)), int(rng.integers(8000, 9000)) // 90
    values = rng.integers(5)
    if values == 0:
        cost = rng.integers(0, 3, (n, m)).astype(float)
    elif values == 1:
        cost = np.ones((n, m))
    elif values == 2:
        cost = rng.random((n, m))
    elif values == 3:
        cost = np.hypot(*(rng.random((n, 1)) - rng.random((1, m)) for _ in range(2)))
    else:
        cost = rng.random((-(-n // 3), m)).repeat(3, 0)[:n]
    for axis in (0, 1):
        if (size := rng.choice([0, 0, 1e3, 1e6])) > 0:
            cost = cost + np.expand_dims(rng.integers(0, size, cost.shape[axis]), 1 - axis)
    if rng.random() < 0.3:
        i, j = np.arange(n)[:, None] / n, np.arange(m) / m
        cost[np.abs(i - j) > 0.2 if rng.random() < 0.5 else rng.random((n, m)) < 0.6] = np.inf
    cost = (cost * rng.choice([1.0, 1.0, 2.0**-100, 2.0**100])).astype(rng.choice(["f8", "f4"]))
    return np.asarray(cost, order=rng.choice(["C", "F"])) if rng.random() < 0.7 else cost.repeat(2, 1)[:, ::2]


@pytest.mark.parametrize("seed", range(4))
def test_matrices_of_middle_size_prove_themselves(seed):
    """Feasible duals and a small gap, as rationals, are a proof; scipy tells which are infeasible."""
    rng = np.random.default_rng(seed)
    for _ in range(40):
        cost = draw_middle(rng)
        start = rng.normal(size=cost.shape[1]) * 10.0 ** rng.uniform(-5, 10) if rng.random() < 0.3 else None
        try:
            scipy.optimize.linear_sum_assignment(cost)
        except ValueError:
            with pytest.raises(ValueError, match="infeasible"):
                loomfast.solve(cost, start=start)
            continue
        result = loomfast.solve(cost, start=start)
        flip = cost.shape[0] > cost.shape[1]
        c, u, v, x, y = cost.astype(float), result.u, result.v, result.col4row, result.row4col
        if flip:
            c, u, v, x, y = c.T, v, u, y, x
        # sum(c) - sum(u) - sum(v) bounds the excess: where it is small, the matching is its own reference.
        chosen = [c[i, j] for i, j in enumerate(x)]
        proof = exact_sum(chosen) - exact_sum(u) - exact_sum(v)
        assert proof <= Fraction(8 * len(x)) * Fraction(2) ** -53 * Fraction(max(map(abs, [*chosen, *u, *v])))
        assert 0 <= proof <= result.gap
        assert np.all(v <= 0)
        assert np.all(v[y < 0] == 0)
        close = c - u[:, None] - v <= 1e-9 * (np.abs(c) + np.abs(u)[:, None] + np.abs(v))
        for i, j in np.argwhere(close & np.isfinite(c)):
            assert Fraction(u[i]) + Fraction(v[j]) <= Fraction(c[i, j])


@pytest.mark.parametrize(("n", "sentinel"), [(257, 1e12), (1200, 1e15), (1200, 1e100), (400, LARGEST)])
@pytest.mark.parametrize("share", [0.5, 0.98, 0.998])
@pytest.mark.parametrize("family", ["points", "uniform"])
def test_sentinels_beside_ordinary_costs(n, sentinel, share, family):
    """scipy with a moderate sentinel in place of the large one tells the truth."""
    rng = np.random.default_rng(n)
    ordinary = rng.random((n, n))
    if family == "points":
        ordinary = np.hypot(*(rng.random((n, 1)) - rng.random((1, n)) for _ in range(2)))
    forbidden = rng.random((n, n)) < share
    moderate = np.where(forbidden, 2.0 * n, ordinary)
    rows, columns = scipy.optimize.linear_sum_assignment(moderate)
    for result in (
        loomfast.solve(np.where(forbidden, sentinel, ordinary)),
        loomfast.solve(np.where(forbidden, -sentinel, -ordinary), maximize=True),
        loomfast.solve(np.asfortranarray(np.where(forbidden, sentinel, ordinary))),
    ):
        taken = forbidden[rows, result.col4row]
        assert taken.sum() == forbidden[rows, columns].sum()
        rest = exact_sum(ordinary[rows, result.col4row][~taken])
        best = ordinary[rows, columns][~forbidden[rows, columns]]
        assert rest - exact_sum(best) <= 8 * n * 2.0**-53 * best.max(initial=0.0)


def test_sentinels_on_several_scales():
    rng = np.random.default_rng(4)
    n = 40
    rank = rng.choice(3, (n, n), p=[0.02, 0.2, 0.78])
    cost = np.choose(rank, [rng.random((n, n)), np.full((n, n), 1e15), np.full((n, n), 1e200)])
    # The three ranks far enough apart, and near enough for float64.
    truth = np.choose(rank, [cost, np.full((n, n), 1e3), np.full((n, n), 1e6)])
    rows, columns = scipy.optimize.linear_sum_assignment(truth)
    found = loomfast.solve(cost).col4row
    for r in (1, 2):
        assert (rank[rows, found] == r).sum() == (rank[rows, columns] == r).sum()
    assert truth[rows, found].sum() == pytest.approx(truth[rows, columns].sum(), rel=1e-13)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_power_of_two_changes_nothing(dtype):
    rng = np.random.default_rng(5)
    powers = (
        (-1000, -500, -64, -1, 30, 101, 500, 1000) if dtype == np.float64 else (-100, -61, -20, 30, 100, 120)
    )
    for k in range(60):
        n = int(rng.integers(2, 70)) if k % 10 else 300
        m = n if k % 2 else n + int(rng.integers(0, 40))
        family = (rng.random, lambda s: rng.integers(1, 5, s), lambda s: np.outer(*map(rng.random, s)))[k % 3]
        cost = family((n, m)).astype(dtype)
        expected = loomfast.solve(cost)
        for power in powers:
            result = loomfast.solve(np.ldexp(cost, power))
            np.testing.assert_array_equal(result.col4row, expected.col4row)
            assert result.total == math.ldexp(expected.total, power)


def test_denormal_costs():
    cost = np.random.default_rng(6).random((12, 12)) * 1e-310
    check_exact(cost, loomfast.solve(cost), exact_matching(cost))
    cost = np.random.default_rng(6).integers(0, 9, (30, 33)) * 5e-324
    check_exact(cost, loomfast.solve(cost), exact_matching(cost))


def test_near_overflow():
    cost = np.array([[-2.0, -2.0], [2.0, 3.0]]) / 3 * 1.58e308
    assert loomfast.solve(cost).total == 0
    result = loomfast.solve(np.full((2, 2), 1.7e308))
    assert result.total == np.inf  # twice 1.7e308
    assert result.gap == 0
    np.testing.assert_array_equal(result.col4row, [0, 1])
    cost = np.random.default_rng(7).random((40, 50)) * 1.7e308
    reference = loomfast.solve(np.ldexp(cost, -200))
    np.testing.assert_array_equal(loomfast.solve(cost).col4row, reference.col4row)


@pytest.mark.parametrize("n", [50, 400])
def test_chains_have_large_duals_and_honest_gaps(n):
    """Forbidden pairs leave a chain of alternatives along which dual prices add up to n times a cost."""
    rng = np.random.default_rng(8)
    cost = np.full((n, n), np.inf)
    i = np.arange(n)
    cost[i, i] = rng.random(n)
    cost[i[1:], i[:-1]] = rng.random(n - 1) - 1
    result = loomfast.solve(cost)
    assert result.status == "optimal"
    s = max(np.abs(cost[i, i]).max(), np.abs(result.u).max(), np.abs(result.v).max())
    assert result.gap <= 8 * n * 2.0**-53 * s
    assert result.gap >= exact_sum(cost[i, i]) - exact_sum(result.u) - exact_sum(result.v)
    assert np.all(result.v <= 0)


def test_integers_near_their_limit_whatever_the_start():
    rng = np.random.default_rng(9)
    for k in range(40):
        n = int(rng.integers(17, 22))
        top = 2**53 // n - 1
        cost = top - rng.integers(0, 4, (n, n)) if k % 2 else rng.integers(-top, top, (n, n))
        cold = loomfast.solve(cost)
        best = cost.astype(object)[range(n), exact_matching(cost)].sum()
        assert int(cold.total) == best
        wild = rng.integers(-50, 50, n) * 10.0 ** rng.integers(0, 14)
        for start in (
            wild + 9e15,
            cold.v + 9e15,
            (cold.col4row, cold.v + 9e15),
            cold.v * 1.0000001,
            wild * 1e290,
        ):
            result = loomfast.solve(cost, start=start)
            assert (int(result.total), result.gap, result.status) == (best, 0, "optimal")


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("n", [5, 30, 60, 200, 1100])
def test_duals_of_square_problems_have_their_sign(n, maximize):
    rng = np.random.default_rng(n)
    sign = -1 if maximize else 1
    for cost in (
        rng.random((n, n)) - 0.5,
        rng.integers(-3, 3, (n, n)),
        np.outer(rng.normal(size=n), rng.normal(size=n)),
    ):
        for start in (None, loomfast.solve(cost, maximize=maximize), rng.normal(size=n)):
            result = loomfast.solve(cost, maximize=maximize, start=start)
            assert np.all(sign * result.v <= 0)
            assert np.any(result.v == 0)


@pytest.mark.parametrize(("n", "m"), [(3, 4000), (4000, 3), (12, 1500), (1500, 12)])
@pytest.mark.parametrize("ties", [False, True])
def test_skinny_problems(n, m, ties):
    rng = np.random.default_rng(n)
    cost = rng.integers(0, 2, (n, m)).astype(float) if ties else rng.normal(size=(n, m))
    cost[rng.random((n, m)) < 0.2] = np.inf
    for given in (cost, np.asfortranarray(cost), cost.astype(np.float32)):
        result = loomfast.solve(given)
        assert result.stats["path"] == "nearest columns"
        rows, columns = scipy.optimize.linear_sum_assignment(given)
        assert result.total == pytest.approx(given[rows, columns].astype(float).sum(), rel=1e-12, abs=1e-12)
        slack = given - result.u[:, None] - result.v[None, :]
        assert slack.min() >= -1e-12
    rows, columns = loomfast.linear_sum_assignment(np.zeros((n, m)))
    np.testing.assert_array_equal(rows, np.arange(min(n, m)))
    np.testing.assert_array_equal(columns, np.arange(min(n, m)))
    cost[-1, -1] = np.nan
    with pytest.raises(ValueError, match=rf"entry \({n - 1}, {m - 1}\)"):
        loomfast.solve(cost)
    with pytest.raises(ValueError, match="infeasible"):
        loomfast.solve(np.full((n, m), np.inf))


@pytest.mark.parametrize("shape", [(300, 300), (200, 900)])
def test_offsets_of_rows_and_columns(shape):
    """They change duals alone; hiding the ties and eating the digits that float32 has."""
    rng = np.random.default_rng(10)
    for base in (rng.random(shape), rng.integers(0, 3, shape).astype(float), np.zeros(shape)):
        rows = rng.integers(0, 1000, (shape[0], 1)) * 1024.0
        columns = rng.integers(0, 1000, (1, shape[1])) * 1024.0 if shape[0] == shape[1] else 0.0
        plain, moved = loomfast.solve(base), loomfast.solve(base + rows + columns)
        kept = base[range(shape[0]), moved.col4row].sum()
        assert kept == pytest.approx(plain.total, abs=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_costs_that_change_during_a_solve(dtype):
    """An answer or an error, but an end: a thread keeps writing NaN and infinities."""
    rng = np.random.default_rng(11)
    stop, cost, messages = threading.Event(), np.zeros((300, 300), dtype), []

    def scribble():
        values = np.array([np.nan, np.inf, -np.inf, 0.5], dtype)
        while not stop.is_set():
            cost[rng.integers(300), rng.integers(300)] = values[rng.integers(4)]

    pristine = rng.random((300, 300)).astype(dtype)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer = threading.Thread(target=scribble)
    writer.start()
    try:
        for _ in range(40):
            cost[:] = pristine
            try:
                result = loomfast.solve(cost)
            except ValueError as error:
                messages.append(str(error))
            else:
                assert len(set(result.col4row.tolist())) == 300
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(interval)
    for message in messages:
        assert any(word in message for word in ("invalid numeric entries", "infeasible", "changed"))


def test_tiny_costs_beside_large_ones_keep_their_digits():
    """The factor that keeps sums of the large ones in range would take all digits from the small ones."""
    cost = np.array([[np.inf], [2.0**-935], [np.inf], [2.0**247]])
    for one in (cost, cost.T):
        found = loomfast.solve(one)
        assert found.total == 2.0**-935
        assert 0 <= found.gap <= 2.0**-985
