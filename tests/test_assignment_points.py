"""Points to points: equal to `solve` on their matrix of costs, with the certificate of every pair."""

import signal

import numpy as np
import pytest
import torch
from checks import check_assignment
from hypothesis import given, settings
from hypothesis import strategies as st

import loomfast
from loomfast.assignment import points as module

METRICS = ("sqeuclidean", "euclidean", "dot")


def costs(x, z, metric):
    """The obvious version, coordinate by coordinate as the engine adds them up."""
    total = np.zeros((len(x), len(z)))
    for k in range(x.shape[1]):
        a, b = x[:, k, None].astype(float), z[None, :, k].astype(float)
        total += a * b if metric == "dot" else (a - b) ** 2
    return {"sqeuclidean": total, "euclidean": np.sqrt(abs(total)), "dot": -total}[metric]


def check(x, z, metric="sqeuclidean"):
    found, cost = loomfast.solve_points(x, z, metric=metric), costs(x, z, metric)
    check_assignment(cost, found)
    expected = loomfast.solve(cost)
    assert abs(found.total - expected.total) <= found.gap + expected.gap + 1e-13 * abs(cost).sum()
    return found


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("d", [1, 2, 3, 5, 16, 17, 40])
@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (7, 7), (60, 60), (50, 63), (63, 50), (20, 300), (300, 300)]
)
def test_is_the_optimum_of_the_matrix(metric, d, shape):
    rng = np.random.default_rng(d)
    check(rng.standard_normal((shape[0], d)), rng.random((shape[1], d)), metric)


POINTS = {
    "a grid": lambda rng, n: rng.integers(0, 4, (n, 2)),
    "all equal": lambda rng, n: np.full((n, 2), 0.1),
    "two places": lambda rng, n: rng.integers(0, 2, (n, 1)) * np.array([[1.0, 3.0]]),
    "a line": lambda rng, n: rng.random((n, 1)) * np.array([[1.0, 2.0]]),
    "clusters": lambda rng, n: 10.0 ** rng.integers(-6, 6, (n, 1)) * rng.standard_normal((n, 2)),
    "huge": lambda rng, n: 1e30 * rng.standard_normal((n, 2)),
    "tiny": lambda rng, n: 1e-30 * rng.standard_normal((n, 2)),
    "far from zero": lambda rng, n: 1e8 + rng.standard_normal((n, 2)),
    "float16": lambda rng, n: rng.standard_normal((n, 2)).astype(np.float16),
}


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(120, 120), (80, 120)])
@pytest.mark.parametrize("family", POINTS)
@pytest.mark.parametrize("repeats", [1, 10])
def test_points_of_every_kind(metric, shape, family, repeats):
    """In a plane, and with every coordinate ten times, in too many dimensions for a tree."""
    rng = np.random.default_rng(1)
    check(*(np.tile(POINTS[family](rng, n), repeats) for n in shape), metric)


@pytest.mark.parametrize("shape", [(90, 90), (70, 90), (90, 70)])
def test_options_in_many_dimensions(monkeypatch, tmp_path, shape):
    rng = np.random.default_rng(13)
    x, z = rng.standard_normal((shape[0], 24)), rng.random((shape[1], 24))
    cold, cost = check(x, z), costs(x, z, "sqeuclidean")
    for start in (cold, cold.v, cold.u if shape[0] == 90 else cold.v, cold.col4row, (None, cold.u, None)):
        start = (None, start, None) if start is cold.u and shape[1] != 90 else start
        check_assignment(cost, loomfast.solve_points(x, z, start=start))
    assert loomfast.solve_points(x, z, start=cold).stats["bids"] <= 0.1 * cold.stats["bids"]
    near = loomfast.solve_points(x, z, tolerance=0.1)
    few = cost if shape[0] <= shape[1] else cost.T
    assert near.gap <= 0.1 * (few.mean(1) - few.min(1)).sum()
    assert near.total - near.gap <= cold.total * (1 + 1e-12)
    check_assignment(np.repeat(cost, 2, 0), loomfast.solve_points(x, z, row_repeats=2))
    path = tmp_path / "unfinished"
    assert killed(monkeypatch, path, 2, x, z)
    assert same(loomfast.solve_points(x, z, checkpoint=path), cold)


def test_a_product_of_any_order_of_summation_will_do(monkeypatch):
    """It only has to be as near as its bound says: the answer is that of float64."""
    rng = np.random.default_rng(14)
    x, z = 100.0 + rng.standard_normal((2, 150, 30))
    exact = module._product

    def off(*what):
        a, b, unscale, multiply = exact(*what)

        def multiply_worse(rows, first, past, out):
            multiply(rows, first, past, out)
            norms = np.linalg.norm(a[rows], axis=1)[:, None] * np.linalg.norm(b[first:past], axis=1)
            out += (30 * 2.0**-24 * norms * rng.uniform(-1, 1, out.shape)).astype(np.float32)

        return a, b, unscale, multiply_worse

    monkeypatch.setattr(module, "_product", off)
    check(x, z)


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.sampled_from(METRICS)
)
def test_small_ones_with_ties(seed, n, m, d, metric):
    rng = np.random.default_rng(seed)
    check(rng.integers(-2, 3, (n, d)), rng.integers(-2, 3, (m, d)), metric)


def test_a_sample_of_a_sample_comes_first_and_the_certificate_is_that_of_all_pairs():
    rng = np.random.default_rng(2)
    x, z = rng.random((9000, 2)), rng.random((9500, 2))
    found = loomfast.solve_points(x, z)
    assert found.status == "optimal"
    assert found.gap <= 1e-12 * found.total
    assert (found.v <= 0).all()
    assert (found.v[found.row4col < 0] == 0).all()
    for some in np.array_split(np.arange(len(x)), 30):
        assert (found.u[some, None] + found.v <= costs(x[some], z, "sqeuclidean")).all()
    matched = ((x - z[found.col4row]) ** 2).sum()
    assert matched == pytest.approx(found.total, rel=1e-12)
    assert found.u.sum() + found.v.sum() == pytest.approx(found.total, rel=1e-10)


def test_kinds_of_arrays():
    rng = np.random.default_rng(3)
    x, z = rng.random((40, 3), np.float32), rng.random((40, 3), np.float32)
    known = loomfast.solve_points(x, z)
    for kind in (np.asfortranarray(x), x.astype(np.float64), x.tolist(), np.repeat(x, 2, 0)[::2]):
        assert (loomfast.solve_points(kind, z).col4row == known.col4row).all()
    tensors = loomfast.solve_points(torch.from_numpy(x), torch.from_numpy(z))
    assert isinstance(tensors.u, torch.Tensor)
    assert torch.equal(tensors.col4row, torch.from_numpy(known.col4row))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_to_match(shape):
    found = loomfast.solve_points(np.zeros((shape[0], 2)), np.zeros((shape[1], 2)))
    assert (found.total, found.gap, found.status) == (0, 0, "optimal")
    assert (found.col4row == -1).all()
    assert (found.row4col == -1).all()


@pytest.mark.parametrize(
    ("x", "options", "error", "message"),
    [
        (np.ones(3), {}, ValueError, r"x must be points \(n, d\), got 1 dimensions"),
        (np.ones((3, 0)), {}, ValueError, r"x must have at least 1 dimension, got shape \(3, 0\)"),
        (np.ones((3, 3)), {}, ValueError, r"x and z must have as many dimensions as each other"),
        ([[0.0, np.nan]], {}, ValueError, r"x must hold finite numbers .* in row 0"),
        ([[0.0, 1.0], [np.inf, 0.0]], {}, ValueError, r"in row 1"),
        (np.ones((3, 2), complex), {}, TypeError, r"x must hold real numbers"),
        (np.ones((3, 2)), {"metric": "l1"}, ValueError, r"metric must be one of sqeuclidean, .*, got 'l1'"),
        (np.ones((3, 2)), {"tolerance": -1}, ValueError, r"tolerance must be .* got -1"),
        (np.ones((3, 2)), {"row_repeats": 0}, ValueError, r"row_repeats must be in \[1"),
        (np.ones((3, 2)), {"row_repeats": 1.0}, TypeError, r"row_repeats must be an integer"),
        (
            np.ones((3, 2)),
            {"row_repeats": 2**29},
            ValueError,
            r"x must be at most 2\*\*30 points \(row_repeats",
        ),
        (np.ones((3, 2)), {"threads": 0}, ValueError, r"threads must be"),
        (np.ones((3, 2)), {"start": np.zeros(4, int)}, ValueError, r"start col4row must have shape \(3,\)"),
        (np.ones((3, 2)), {"start": np.zeros(4)}, ValueError, r"start v must have shape \(3,\), got \(4,\)"),
    ],
)
def test_bad_input(x, options, error, message):
    with pytest.raises(error, match=message):
        loomfast.solve_points(x, np.ones((3, 2)), **options)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(200, 200), (150, 200), (200, 150)])
def test_a_start_changes_no_optimum(metric, shape):
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((shape[0], 2)), rng.random((shape[1], 2))
    cold = check(x, z, metric)
    near = loomfast.solve_points(x + 1e-4 * rng.standard_normal(x.shape), z, metric=metric)
    wild = rng.standard_normal(shape[1]) * 10.0 ** rng.integers(-300, 300, shape[1])
    wild[:3] = np.nan, np.inf, -np.inf
    matchings = np.full(shape[0], 3), np.full(shape[0], -7), rng.integers(-5, 500, shape[0])
    for start in (
        *(cold, near, cold.v, near.v, (near.col4row, near.v), (None, cold.u, cold.v), (None, near.u, None)),
        *(cold.col4row, (near.col4row, wild), (None, 1e300 * cold.u, wild), *matchings),
    ):
        found = loomfast.solve_points(x, z, metric=metric, start=start)
        check_assignment(costs(x, z, metric), found)
        assert found.total == pytest.approx(cold.total, rel=1e-12)


def test_a_good_start_takes_fewer_searches():
    rng = np.random.default_rng(5)
    x, z = rng.random((2000, 2)), rng.random((2000, 2))
    cold = loomfast.solve_points(x, z)
    for start in (cold, cold.v, (None, None, cold.v)):
        assert loomfast.solve_points(x, z, start=start).stats["bids"] < 0.5 * cold.stats["bids"]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("shape", [(300, 300), (250, 300), (300, 250)])
@pytest.mark.parametrize("tolerance", [0.3, 1e-2, 1e-4])
def test_tolerance_is_kept_and_the_gap_is_proven(metric, shape, tolerance):
    rng = np.random.default_rng(6)
    x, z = rng.standard_normal((shape[0], 2)), rng.random((shape[1], 2))
    cost = costs(x, z, metric)
    found = loomfast.solve_points(x, z, metric=metric, tolerance=tolerance)
    check_assignment(cost, found, tolerance=np.inf)
    few = cost if shape[0] <= shape[1] else cost.T
    assert found.gap <= tolerance * (few.mean(1) - few.min(1)).sum() * (1 + 1e-9)
    assert 0 <= found.total - loomfast.solve(cost).total <= found.gap * (1 + 1e-9)
    if tolerance == 0.3:
        assert found.status == "within_tolerance"


@pytest.mark.parametrize("shape", [(40, 120), (40, 100), (40, 200)])
def test_repeated_rows(shape):
    rng = np.random.default_rng(7)
    x, z = rng.random((shape[0], 2)), rng.random((shape[1], 2))
    found = loomfast.solve_points(x, z, row_repeats=3)
    check_assignment(costs(x, z, "sqeuclidean"), found, row_repeats=3)


def test_the_answer_does_not_depend_on_threads():
    rng = np.random.default_rng(8)
    x, z = rng.random((900, 2)), rng.standard_normal((950, 2))
    one, *others = (loomfast.solve_points(x, z, threads=threads) for threads in (1, 2, 5))
    for other in others:
        for name in ("col4row", "u", "v", "total", "gap", "stats"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


ORDERS = {
    "sorted": lambda points: points[np.lexsort(points.T)],
    "backwards": lambda points: points[np.lexsort(points.T)][::-1],
    "each a hundred times": lambda points: np.repeat(points[: len(points) // 100], 100, axis=0),
    "on whole numbers": lambda points: np.rint(20 * points),
    "on a line, sorted": lambda points: np.sort(points[:, :1], axis=0) * np.array([[1.0, -3.0]]),
    "two heaps far apart": lambda points: points + 1000.0 * (points[:, :1] < 0.5),
    "three places": lambda points: np.floor(3 * points[:, :1]) * np.ones((1, 2)),
}


@pytest.mark.parametrize("order", ORDERS)
def test_orders_and_ties_that_would_take_long(order):
    """What contends for longer than 64 searches a row is solved with the matrix, where that is small."""
    rng = np.random.default_rng(9)
    x, z = (ORDERS[order](rng.random((800, 2))) for _ in range(2))
    found = check(x, z)
    assert found.stats["scans"] <= 100 * len(x)


class Killed(Exception):
    pass


def killed(monkeypatch, path, at, *arguments, **options):
    """Whether a solve got so far as to write its state `at` times, of which the last killed it."""
    write, written = module.write_checkpoint, []

    def write_and_die(*what):
        write(*what)
        written.append(what)
        if len(written) == at:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_checkpoint", write_and_die)
        patch.setattr(module, "KEEP_EVERY", 0.0)
        try:
            loomfast.solve_points(*arguments, checkpoint=path, **options)
        except Killed:
            return True
    return False


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in vars(one))


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((8100, 8100), {}),
        ((700, 900), {"metric": "euclidean"}),
        ((900, 700), {"tolerance": 1e-4}),
        ((300, 600), {"row_repeats": 2, "start": "near"}),
    ],
)
def test_a_killed_solve_goes_on_and_ends_with_the_same_bits(monkeypatch, tmp_path, shape, options):
    rng = np.random.default_rng(10)
    x, z = rng.standard_normal((shape[0], 2)), rng.random((shape[1], 2))
    if options.get("start") == "near":
        moved = x + 1e-3 * rng.standard_normal(x.shape)
        options = {**options, "start": loomfast.solve_points(moved, z, row_repeats=options["row_repeats"])}
    expected = loomfast.solve_points(x, z, **options)
    path = tmp_path / "unfinished"
    for at in (1, 2, 1, 8, 40):  # one after the other: each goes on where the one before was killed
        if not killed(monkeypatch, path, at, x, z, **options):
            break
        assert path.exists()
    assert at > 2
    assert same(loomfast.solve_points(x, z, checkpoint=path, **options), expected)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_others_is_refused(monkeypatch, tmp_path):
    rng = np.random.default_rng(11)
    x, z = rng.random((200, 2)), rng.random((200, 2))
    path = tmp_path / "unfinished"
    assert killed(monkeypatch, path, 3, x, z)
    for points, options in (((z, x), {}), ((x, z), {"metric": "dot"}), ((x, z), {"tolerance": 0.1})):
        with pytest.raises(ValueError, match="holds the unfinished work of other points or options: remove"):
            loomfast.solve_points(*points, checkpoint=path, **options)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:30], b"", whole[:200] + b"!" + whole[201:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="is damaged or no checkpoint of solve_points: remove it"):
            loomfast.solve_points(x, z, checkpoint=path)


def test_progress_is_told_and_ctrl_c_leaves_a_checkpoint(monkeypatch, tmp_path):
    x, z = np.random.default_rng(12).standard_normal((2, 9000, 2))
    path, told = tmp_path / "unfinished", []

    def interrupt(*what):
        told.append(what)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            loomfast.solve_points(x, z, progress=interrupt, checkpoint=path)
    finally:
        signal.signal(signal.SIGINT, before)
    done, total, note = told[0]
    assert 0 <= done <= total
    assert "rows left" in note
    assert path.read_bytes().startswith(module.FORMAT)
    with pytest.raises(KeyError):
        loomfast.solve_points(x, z, progress=lambda *what: {}[what])
