"""The sparse solver: certificates, brute force, proofs of infeasibility, every kind of input."""

import itertools
import math
import warnings

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from scipy.optimize import linear_sum_assignment
from scipy.sparse.csgraph import maximum_bipartite_matching

import loomfast


def check_sparse(graph, result, maximize=False):
    """The matching is complete and on stored pairs, the prices prove it on them, the gap meets its bound."""
    graph = sp.csr_array(graph)
    n, m = graph.shape
    x, y = np.asarray(result.col4row), np.asarray(result.row4col)
    u, v = (np.asarray(part).astype(np.longdouble) for part in (result.u, result.v))
    rows = np.flatnonzero(x >= 0)
    assert len(rows) == min(n, m) == np.count_nonzero(y >= 0)
    assert np.array_equal(y[x[rows]], rows)
    of = {}
    entries = graph.tocoo()
    for i, j, c in zip(entries.row, entries.col, entries.data.astype(np.float64), strict=True):
        of[i, j] = of.get((i, j), 0.0) + c
    matched = np.array([of[i, x[i]] for i in rows], np.longdouble)
    assert abs(result.total - matched.sum()) <= 2.0**-51 * np.abs(matched).sum()
    sign = -1 if maximize else 1
    pairs = [(i, j, c) for (i, j), c in of.items() if np.isfinite(c)]
    i, j, c = (np.array(part) for part in zip(*pairs, strict=True)) if pairs else (np.empty(0, int),) * 3
    slack = sign * (c.astype(np.longdouble) - u[i] - v[j])
    assert slack.min(initial=0) >= -(2.0**-60) * (np.abs(u).max(initial=0) + np.abs(v).max(initial=0))
    longer, partner = (v, y) if n <= m else (u, x)
    assert np.all(sign * longer <= 0)
    assert np.all(longer[partner < 0] == 0)
    gap = sign * (matched.sum() - u.sum() - v.sum())
    largest = max(np.abs(part).max(initial=0) for part in (matched, u, v))
    integers = graph.dtype.kind in "biu"
    assert result.gap >= (np.floor(gap) if integers else gap - 2.0**-60 * (n + m) * largest)
    bound = 0 if integers else 8 * min(n, m) * 2.0**-53 * largest + np.longdouble(2.0**-1074)  # rounded up
    assert result.gap <= bound
    assert result.status == "optimal"


def random_graph(rng, n, m, density, values, feasible=True):
    mask = rng.random((n, m)) < density
    if feasible:
        k = min(n, m)
        mask[rng.permutation(n)[:k], rng.permutation(m)[:k]] = True
    i, j = np.nonzero(mask)
    order = rng.permutation(len(i))
    return sp.coo_array((values(len(i)), (i[order], j[order])), shape=(n, m))


def values_of(rng, family):
    return {
        "uniform": lambda k: rng.random(k),
        "ties": lambda k: rng.integers(0, 3, k).astype(np.float64),
        "integers": lambda k: rng.integers(-1000, 1000, k),
        "bytes": lambda k: rng.integers(-100, 100, k).astype(np.int8),
        "large integers": lambda k: rng.integers(-(2**40), 2**40, k),
        "constant": lambda k: np.full(k, 2.5),
        "lognormal": lambda k: rng.lognormal(0, 4, k),
        "float32": lambda k: rng.normal(size=k).astype(np.float32),
        "huge": lambda k: rng.random(k) * 1e305,
        "tiny": lambda k: rng.random(k) * 1e-310,
        "zeros": lambda k: np.zeros(k),
        "sentinels": lambda k: np.where(rng.random(k) < 0.3, 1e15, rng.random(k)),
    }[family]


FAMILIES = (
    "uniform", "ties", "integers", "bytes", "large integers", "constant", "lognormal", "float32", "huge",
    "tiny", "zeros", "sentinels",
)  # fmt: skip


def dense_of(graph):
    """float64 (n, m), +inf where nothing is stored."""
    entries = sp.coo_array(graph)
    dense = np.full(graph.shape, np.inf)
    dense[entries.row, entries.col] = entries.data
    return dense


@pytest.mark.parametrize("family", FAMILIES)
def test_against_the_dense_solver(family):
    rng = np.random.default_rng(FAMILIES.index(family))
    for _ in range(60):
        n, m = rng.integers(1, 40, 2)
        graph = random_graph(rng, n, m, rng.random(), values_of(rng, family))
        maximize = bool(rng.integers(2))
        result = loomfast.solve_sparse(graph, maximize=maximize)
        check_sparse(graph, result, maximize)
        dense = dense_of(-graph if maximize else graph).astype(np.float64)
        known = loomfast.solve(dense)
        expected = -known.total if maximize else known.total
        scale = max(np.abs(known.u).max(), np.abs(known.v).max(), 1e-300)
        assert abs(result.total - expected) <= 1e-12 * scale * min(n, m)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (3, 3), (2, 4), (4, 2), (4, 4), (3, 5), (5, 5)])
def test_brute_force_and_halls_condition(shape):
    rng = np.random.default_rng(shape[0] * 10 + shape[1])
    n, m = shape
    for _ in range(80):
        graph = random_graph(rng, n, m, rng.uniform(0.2, 0.9), lambda k: rng.integers(0, 9, k), False)
        dense = dense_of(graph)
        short = dense if n <= m else dense.T
        best = min(
            sum(short[i, j] for i, j in enumerate(columns))
            for columns in itertools.permutations(range(max(n, m)), min(n, m))
        )
        if np.isfinite(best):
            result = loomfast.solve_sparse(graph)
            assert result.total == best
            check_sparse(graph, result)
            continue
        with pytest.raises(loomfast.InfeasibleError, match="infeasible") as found:
            loomfast.solve_sparse(graph)
        check_blocked(np.isfinite(dense), found.value)


def check_blocked(allowed, error):
    """The lines of the shorter side that the error names have no partners but those named, fewer of them."""
    by_row = allowed.shape[0] <= allowed.shape[1]
    crowded, others = (error.rows, error.columns) if by_row else (error.columns, error.rows)
    allowed = allowed if by_row else allowed.T
    assert len(crowded) > len(others)
    assert set(np.flatnonzero(allowed[crowded].any(axis=0))) <= set(others.tolist())


@pytest.mark.parametrize("shape", [(300, 300), (300, 360), (360, 300)])
def test_infeasible_at_size(shape):
    rng = np.random.default_rng(1)
    graph = random_graph(rng, *shape, 0.01, lambda k: rng.random(k), False)
    matched = np.count_nonzero(maximum_bipartite_matching(sp.csr_array(graph)) >= 0)
    assert matched < 300, "the case is feasible"
    with pytest.raises(loomfast.InfeasibleError) as found:
        loomfast.solve_sparse(graph)
    check_blocked(graph.toarray() != 0, found.value)
    assert str(len(found.value.rows)) in str(found.value)


def structured(name, n, rng):
    i = np.arange(n)
    if name == "chain":
        rows, cols = np.concatenate([i, i[:-1]]), np.concatenate([i, i[1:]])
    elif name == "band":
        rows = np.repeat(i, 9)
        cols = rows + np.tile(np.arange(-4, 5), n)
    elif name == "arrow":
        rows, cols = np.concatenate([i, i, 0 * i]), np.concatenate([i, 0 * i, i])
    elif name == "triangle":
        rows = np.concatenate([i, np.repeat(i, 6)])
        cols = np.concatenate([i, (np.repeat(i, 6) * rng.random(6 * n) ** 0.2).astype(int)])
    elif name == "power law":
        rows = np.concatenate([i, (n * rng.random(6 * n) ** 4).astype(int)])
        cols = np.concatenate([rng.permutation(n), (n * rng.random(6 * n) ** 4).astype(int)])
    else:  # grid: a pixel may stay or go to a neighbour
        side = math.isqrt(n)
        i = np.arange(side * side)
        steps = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)]
        at = [((i // side + a), (i % side + b)) for a, b in steps]
        inside = [(p >= 0) & (p < side) & (q >= 0) & (q < side) for p, q in at]
        rows = np.concatenate([i[k] for k in inside])
        cols = np.concatenate([(p * side + q)[k] for (p, q), k in zip(at, inside, strict=True)])
        n = side * side
    ok = (cols >= 0) & (cols < n)
    pairs = np.unique(rows[ok] * n + cols[ok])
    return sp.coo_array((np.ones(len(pairs)), (pairs // n, pairs % n)), shape=(n, n))


@pytest.mark.parametrize("values", ["uniform", "ties", "lognormal"])
@pytest.mark.parametrize("name", ["chain", "band", "arrow", "triangle", "power law", "grid"])
def test_structured_graphs(name, values):
    rng = np.random.default_rng(3)
    graph = structured(name, 400, rng)
    graph.data = values_of(rng, values)(graph.nnz)
    result = loomfast.solve_sparse(graph)
    check_sparse(graph, result)
    dense = dense_of(graph)
    rows, cols = linear_sum_assignment(dense)
    assert result.total == pytest.approx(dense[rows, cols].sum(), rel=1e-12)


def forced(rng, n, core, wide):
    """Rows with a pair of their own and some earlier ones, then a core, then columns of the core's rows."""
    rows, cols = [np.arange(n)], [np.arange(n)]
    for i in range(n):
        before, after = range(min(i, core[0])), range(max(i, core[1]), n)
        inside = range(*core) if core[0] <= i < core[1] else before if i < core[0] else range(*core)
        reached = rng.choice(inside, 3) if len(inside) else []
        later = rng.choice(after, 2) if len(after) and core[0] <= i < core[1] else []
        rows.append(np.full(len(reached) + len(later), i))
        cols.append(np.array([*reached, *later], int))
    rows, cols = np.concatenate(rows), np.concatenate(cols)
    if wide:  # columns that only the core has
        rows = np.append(rows, rng.integers(*core, 3 * wide))
        cols = np.append(cols, n + np.repeat(np.arange(wide), 3))
    pairs = np.unique(rows * (n + wide) + cols)
    i, j = pairs // (n + wide), pairs % (n + wide)
    return sp.coo_array((rng.random(len(i)), (rng.permutation(n)[i], rng.permutation(n + wide)[j])))


@pytest.mark.parametrize("core", [(0, 0), (0, 40), (60, 100), (30, 70), (100, 100)])
@pytest.mark.parametrize("wide", [0, 20])
def test_forced_pairs_and_what_is_left(core, wide):
    """Prices of the pairs that have no alternative follow from those of the others, on whichever side."""
    if wide and core[0] == core[1]:
        return
    rng = np.random.default_rng(core[0])
    graph = forced(rng, 100, core, wide)
    result = loomfast.solve_sparse(graph)
    check_sparse(graph, result)
    assert result.total == pytest.approx(loomfast.solve(dense_of(graph)).total, rel=1e-12)
    check_sparse(graph.T, loomfast.solve_sparse(graph.T))


@pytest.mark.parametrize("shape", [(500, 500), (400, 500), (500, 200)])
def test_starts_change_nothing_but_the_work(shape):
    rng = np.random.default_rng(5)
    graph = random_graph(rng, *shape, 0.03, lambda k: rng.random(k))
    cold = loomfast.solve_sparse(graph)
    again = loomfast.solve_sparse(graph, start=cold)
    assert again.stats["augmentations"] == again.stats["bids"] == again.stats["loose"] == 0
    assert again.total == pytest.approx(cold.total, rel=1e-14)
    changed = sp.coo_array((graph.data + rng.normal(size=graph.nnz) * 1e-3, graph.coords), shape=shape)
    known = loomfast.solve_sparse(changed).total
    longer = cold.v if shape[0] <= shape[1] else cold.u
    garbage = rng.normal(size=len(longer)) * 100
    prices = (None, None, garbage) if shape[0] <= shape[1] else (None, garbage, None)
    starts = [cold, cold.col4row, (cold.col4row, cold.v), (None, cold.u, cold.v), cold.col4row[::-1], prices]
    for start in [*starts, (None, np.full(shape[0], np.nan), np.full(shape[1], 1e300))]:
        result = loomfast.solve_sparse(changed, start=start)
        check_sparse(changed, result)
        assert result.total == pytest.approx(known, rel=1e-13)


def test_every_kind_of_matrix_gives_the_same():
    rng = np.random.default_rng(6)
    graph = random_graph(rng, 30, 40, 0.2, lambda k: rng.random(k))
    known = loomfast.solve_sparse(graph)
    csr = graph.tocsr()
    kinds = [csr, graph.tocsc(), graph.tolil(), graph.todok(), sp.csr_matrix(csr), sp.coo_matrix(graph)]
    for kind in kinds:
        np.testing.assert_array_equal(loomfast.solve_sparse(kind).col4row, known.col4row)
    parts = (csr.data, csr.indices, csr.indptr)
    for integers in (np.int32, np.int64, np.uint16):
        data, *indices = parts
        result = loomfast.solve_sparse((data, *(part.astype(integers) for part in indices)), shape=(30, 40))
        np.testing.assert_array_equal(result.col4row, known.col4row)
    dense = torch.from_numpy(csr.toarray())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its sparse CSR support beta, once a process
        tensors = [dense.to_sparse_csr(), dense.to_sparse_csc(), dense.to_sparse_coo()]
    for tensor in tensors:
        result = loomfast.solve_sparse(tensor)
        assert isinstance(result.u, torch.Tensor)
        np.testing.assert_array_equal(result.col4row.numpy(), known.col4row)


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    result = loomfast.solve_sparse(sp.csr_array(shape))
    assert result.total == result.gap == 0
    assert result.col4row.tolist() == [-1] * shape[0]
    assert result.row4col.tolist() == [-1] * shape[1]
    rows, cols = loomfast.min_weight_full_bipartite_matching(sp.csr_array(shape))
    assert len(rows) == len(cols) == 0


def test_what_is_stored_counts():
    zeros = sp.coo_array(([0.0, 5.0, 5.0, 0.0], ([0, 0, 1, 1], [0, 1, 0, 1])), shape=(2, 2))
    assert loomfast.solve_sparse(zeros).total == 0
    twice = sp.coo_array(([1.0, 4.0, 4.0, 2.0, 2.0], ([0, 0, 0, 1, 1], [0, 0, 1, 0, 1])), shape=(2, 2))
    assert loomfast.solve_sparse(twice).total == 6  # (0, 0) costs 5
    for kind in (twice.tocsc(), sp.csr_array((twice.data, twice.col, [0, 3, 5]), shape=(2, 2))):
        assert loomfast.solve_sparse(kind).total == 6
    infinite = sp.coo_array(([np.inf, 4.0, 2.0, np.inf], ([0, 0, 1, 1], [0, 1, 0, 1])), shape=(2, 2))
    assert loomfast.solve_sparse(infinite).total == 6
    with pytest.raises(loomfast.InfeasibleError, match=r"1 row \[1\] can take only 0 columns \[\]"):
        loomfast.solve_sparse(sp.coo_array(([1.0, 1.0], ([0, 0], [0, 1])), shape=(2, 2)))


def csr(data=(1.0, 2.0), indices=(0, 1), indptr=(0, 1, 2)):
    return tuple(np.array(part) for part in (data, indices, indptr))


@pytest.mark.parametrize(
    ("cost", "options", "error", "message"),
    [
        (np.eye(2), {}, TypeError, "must be a scipy sparse array.*got ndarray.*loomfast.solve takes dense"),
        (torch.eye(2), {}, TypeError, "sparse layout.*loomfast.solve takes dense"),
        (csr(), {}, ValueError, "with shape="),
        (csr()[:2], {"shape": (2, 2)}, ValueError, "got 2 parts"),
        (csr(), {"shape": (3, 2)}, ValueError, "indptr must have 4 entries for 3 rows, got 3"),
        (csr(), {"shape": (-1, 2)}, ValueError, "sizes of at least 0"),
        (csr(indices=(0, 1, 1)), {"shape": (2, 2)}, ValueError, "as long as each other, got 3 and 2"),
        (csr(data=((1.0,), (2.0,))), {"shape": (2, 2)}, ValueError, r"data must be one-dim.*\(2, 1\)"),
        (csr(indices=(0, 2)), {"shape": (2, 2)}, ValueError, r"index at indices\[1\]"),
        (csr(indices=(-1, 1)), {"shape": (2, 2)}, ValueError, r"index at indices\[0\]"),
        (csr(indptr=(0, 2, 1)), {"shape": (2, 2)}, ValueError, r"decreasing pointer at indptr\[2\]"),
        (csr(indptr=(1, 1, 2)), {"shape": (2, 2)}, ValueError, r"first pointer at indptr\[0\]"),
        (csr(indptr=(0, 1, 1)), {"shape": (2, 2)}, ValueError, r"last pointer at indptr\[2\]"),
        (csr(indices=(0.0, 1.0)), {"shape": (2, 2)}, TypeError, "indices must be integers, got float64"),
        (csr(data=(1j, 2j)), {"shape": (2, 2)}, TypeError, "cost must hold real numbers, got complex128"),
        (csr(data=(1.0, np.nan)), {"shape": (2, 2)}, ValueError, r"invalid numeric entries: entry \(1, 1\)"),
        (csr(data=(-np.inf, 1.0)), {"shape": (2, 2)}, ValueError, r"entry \(0, 0\)"),
        (csr(data=(np.inf, 1.0)), {"shape": (2, 2), "maximize": True}, ValueError, r"entry \(0, 0\)"),
        (csr(data=(2**53, 1)), {"shape": (2, 2)}, ValueError, "too large to be summed exactly"),
        (sp.csr_array(np.eye(2)), {"shape": (2, 2)}, TypeError, "shape goes with a tuple"),
        (sp.csr_array(np.eye(2)), {"start": np.zeros(3)}, ValueError, r"start v must have shape \(2,\)"),
        (sp.csr_array(np.eye(2)), {"start": (1, 2, 3, 4)}, ValueError, "got 4 parts"),
        (sp.coo_array(np.eye(2)[0]), {}, ValueError, "must be a matrix"),
        (sp.csr_array((2**30 + 1, 1)), {}, ValueError, r"at most 2\*\*30 rows and columns"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_error(cost, options, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve_sparse(cost, **options)
