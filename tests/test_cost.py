"""Pairwise cost against float64 differences."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

import loomfast
from loomfast import _engine
from loomfast.cost import paired_cost, pairwise_cost, reassigned_cost, reference
from loomfast.noise import noise_from_ids

SIZES = [(0, 3), (3, 0), (1, 1), (1, 7), (5, 4), (33, 65), (130, 129)]
DIMENSIONS = [0, 1, 2, 15, 16, 17, 64, 200]
PATHS = ["tiles", "blas"]
KINDS = {"numpy": np.asarray, "torch": torch.as_tensor}


@pytest.fixture(params=PATHS)
def path(request, monkeypatch):
    """Both ways of a float32 product on the CPU: these sizes would all take the engine's tiles."""
    if request.param == "blas":
        monkeypatch.setattr(loomfast.cost.cpu, "LONGEST_TILED", -1)
        monkeypatch.setattr(loomfast.cost.cpu, "MOST_TILED", -1)


def items(n, d, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal((n, d))).astype(np.float32)


def bound(x, z, unit=2.0**-24):
    """Rounding error allowed to the norm expansion, in units of its largest term (seen: under half of it)."""
    size = max(np.square(part.astype(np.float64)).sum(axis=1).max(initial=0) for part in (x, z))
    return 16 * unit * max(1.0, size)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("assignment_only", [False, True])
@pytest.mark.parametrize("d", DIMENSIONS)
@pytest.mark.parametrize(("n", "m"), SIZES)
def test_sqeuclidean(kind, assignment_only, d, n, m):
    x, z = items(n, d), items(m, d, 1)
    expected = reference.pairwise_cost(x, z, assignment_only=assignment_only)
    out = KINDS[kind](np.full((n, m), np.nan, np.float32))
    result = pairwise_cost(KINDS[kind](x), KINDS[kind](z), assignment_only=assignment_only, out=out)
    assert result is out
    assert np.abs(np.asarray(out) - expected).max(initial=0) <= bound(x, z)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", DIMENSIONS)
def test_euclidean_squares_to_the_same(kind, d):
    x, z = items(20, d), items(30, d, 1)
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](z), metric="euclidean"))
    assert cost.shape == (20, 30)
    expected = reference.pairwise_cost(x, z)
    assert np.abs(cost.astype(np.float64) ** 2 - expected).max() <= 2 * bound(x, z)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [2, 16])
def test_low_dimensions_keep_their_digits_far_from_the_origin(kind, d):
    x = (1000 + items(50, d)).astype(np.float32)
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x)))
    expected = reference.pairwise_cost(x, x)
    assert np.array_equal(np.diag(cost), np.zeros(50))
    assert np.abs(cost - expected).max() <= 2.0**-20 * expected.max()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
def test_expansion_never_goes_negative(kind):
    x = (100 + items(40, 64)).astype(np.float32)
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x)))
    root = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x), metric="euclidean"))
    assert cost.min() >= 0
    assert np.isfinite(root).all()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [3, 40])
def test_labels(kind, metric, d):
    x, z = items(12, d), items(12, d, 1)
    a, b = np.arange(12) % 3, np.arange(12) % 4
    arrays = [KINDS[kind](part) for part in (x, z, a, b)]
    cost = np.asarray(pairwise_cost(*arrays[:2], metric=metric, labels=tuple(arrays[2:]), label_weight=2.5))
    expected = reference.pairwise_cost(x, z, metric=metric, labels=(a, b), label_weight=2.5)
    assert np.allclose(cost, expected, rtol=1e-5, atol=1e-4)
    one = np.asarray(pairwise_cost(*arrays[:2], metric=metric, labels=arrays[2], label_weight=2.5))
    expected = reference.pairwise_cost(x, z, metric=metric, labels=(a, a), label_weight=2.5)
    assert np.allclose(one, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.usefixtures("path")
def test_assignment_only_differs_by_a_row_and_a_column_term():
    x, z = items(30, 50), items(30, 50, 1)
    difference = pairwise_cost(x, z).astype(np.float64) - pairwise_cost(x, z, assignment_only=True)
    expected = np.square(x).sum(axis=1)[:, None] + np.square(z).sum(axis=1)
    assert np.allclose(difference, expected, rtol=1e-5)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.uint8, np.int32])
def test_input_types(kind, dtype):
    x, z = (items(9, 40, s, 20.0).clip(0).astype(dtype) for s in (0, 1))
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](z)))
    assert cost.dtype == np.float32
    assert np.allclose(cost, reference.pairwise_cost(x, z), rtol=1e-5)


def test_float64_is_computed_in_float64():
    x = 1e4 + items(20, 64).astype(np.float64)
    expected = reference.pairwise_cost(x, x)
    assert np.abs(pairwise_cost(x, x) - expected).max() < 1e-3
    assert np.abs(pairwise_cost(x, x, precision="float32") - expected).max() > 1


@pytest.mark.parametrize("kind", KINDS)
def test_wide_integers_are_computed_in_float64(kind):
    x = 10**6 + (100 * items(20, 64)).astype(np.int64)
    expected = reference.pairwise_cost(x, x)
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x)))
    assert np.array_equal(cost, expected.astype(np.float32))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [3, 40])
def test_a_nan_in_the_data_stays_a_nan(kind, metric, d):
    x, z = items(9, d), items(11, d, 1)
    x[4, 2] = np.nan
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](z), metric=metric))
    assert np.isnan(cost[4]).all()
    assert not np.isnan(np.delete(cost, 4, 0)).any()


@pytest.mark.usefixtures("path")
def test_bfloat16_product():
    x, z = torch.from_numpy(items(60, 300)), torch.from_numpy(items(70, 300, 1))
    expected = reference.pairwise_cost(x.bfloat16().double(), z.bfloat16().double(), assignment_only=True)
    cost = pairwise_cost(x, z, precision="bfloat16", assignment_only=True).numpy()
    assert np.abs(cost - expected).max() <= 2.0**-8 * np.abs(expected).max()
    with pytest.raises(RuntimeError, match="precision='bfloat16' needs torch"):
        pairwise_cost(x.numpy(), z.numpy(), precision="bfloat16")
    with pytest.raises(RuntimeError, match="precision='tf32' needs"):
        pairwise_cost(x, z, precision="tf32")


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
def test_items_of_any_shape_and_strides(kind):
    x, z = np.empty((10, 4, 3, 2), np.float32), items(7, 24, 1).reshape(7, 2, 3, 4)
    x[...] = items(10, 24).reshape(10, 4, 3, 2)
    turned = x.transpose(0, 3, 2, 1)
    wide = np.full((20, 14), np.nan, np.float32)
    out = KINDS[kind](wide)[::2, 1::2]
    assert pairwise_cost(KINDS[kind](turned), KINDS[kind](z), out=out) is out
    expected = reference.pairwise_cost(turned, z)
    assert np.allclose(np.asarray(out), expected, rtol=1e-5)
    assert np.isnan(wide[1::2]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("n", [0, 1, 300])
def test_paired_cost(kind, metric, n):
    x, z = items(n, 700), items(n, 700, 1)
    cost = np.asarray(paired_cost(KINDS[kind](x), KINDS[kind](z), metric=metric))
    assert cost.dtype == np.float64
    assert np.allclose(cost, reference.paired_cost(x, z, metric=metric), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [0, 1, 15, 16, 17, 33])
@pytest.mark.parametrize("types", [(np.float64,) * 2, (np.float32, np.float64), (np.float16, np.int64)])
def test_paired_cost_of_other_types_and_strides(kind, d, types):
    x, z = ((1000 * items(d, 9, s)).astype(dtype).T for s, dtype in enumerate(types))
    cost = np.asarray(paired_cost(KINDS[kind](x), KINDS[kind](z)))
    assert np.allclose(cost, reference.paired_cost(x, z), rtol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("types", [(np.float32,) * 2, (np.float64, np.float32), (np.float16, np.float32)])
def test_costs_of_a_reassignment_are_those_of_its_pairs(kind, metric, types):
    x, z = (KINDS[kind](items(40, 70, s).astype(dtype)) for s, dtype in enumerate(types))
    order = np.arange(40)
    order[5:15] = [9, 9, 7, 14, 5, 6, 11, 10, 12, 13]  # not a permutation, and some stay
    before, after = reassigned_cost(x, z, order, metric=metric)
    assert np.array_equal(before, np.asarray(paired_cost(x, z, metric=metric)))
    assert np.array_equal(after, np.asarray(paired_cost(x, z[KINDS[kind](order)], metric=metric)))
    items_of = order[::-1].copy()
    again = reassigned_cost(x, z, order, items=items_of, metric=metric)[1]
    pairs = x[KINDS[kind](items_of)], z[KINDS[kind](order)]
    assert np.array_equal(again, np.asarray(paired_cost(*pairs, metric=metric)))
    for wrong in (np.full(40, -1), np.full(40, 40), np.arange(39)):
        with pytest.raises(ValueError, match="order must hold numbers of the 40 items"):
            reassigned_cost(x, z, wrong)
        with pytest.raises(ValueError, match="items must hold numbers of the 40 items"):
            reassigned_cost(x, z, order, items=wrong)


def test_paired_cost_of_wide_integers_is_exact():
    x, z = np.full((2, 20), 2**40 + 1), np.full((2, 20), 2**40)
    for kind in KINDS.values():
        assert np.array_equal(np.asarray(paired_cost(kind(x), kind(z))), [20.0, 20.0])


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("d", [0, 1, 31, 32, 33, 500])
def test_engine_norms_and_paired_costs(dtype, d, threads):
    x, z = items(7, d).astype(dtype), items(7, d, 1).astype(dtype)
    unit = np.finfo(dtype).eps
    for norms, part in zip(_engine.cost_norms(x, z, threads), (x, z), strict=True):
        expected = np.square(part.astype(np.float64)).sum(axis=1)
        assert np.allclose(norms, expected, rtol=8 * unit)  # 32 lanes, at most 16 terms in each
    cost = np.full(7, np.nan)
    _engine.cost_paired(x, z, cost, False, threads)
    assert np.allclose(cost, reference.paired_cost(x, z), rtol=1e-14)


def test_engine_arrays_that_do_not_fit():
    x, z = items(3, 4), items(2, 4)
    with pytest.raises(ValueError, match=r"x and z must be \(n, d\)"):
        _engine.cost_paired(x, z, np.empty(3), False, 1)
    with pytest.raises(ValueError, match=r"x must be \(n, d\)"):
        _engine.cost_norms(x[0], z, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_reference_backend(kind):
    x, z = KINDS[kind](items(5, 20)), KINDS[kind](items(6, 20, 1))
    cost = pairwise_cost(x, z, backend="reference")
    assert type(cost) is type(x)
    expected = reference.pairwise_cost(np.asarray(x), np.asarray(z)).astype(np.float32)
    assert np.array_equal(np.asarray(cost), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_bad_arguments(kind):
    x, z = KINDS[kind](items(3, 4)), KINDS[kind](items(2, 4))
    for change, error, message in [
        ({"metric": "cosine"}, ValueError, "metric must be one of"),
        ({"precision": "fp8"}, ValueError, "precision must be one of"),
        ({"backend": "magic"}, ValueError, "backend must be one of"),
        ({"threads": 0}, ValueError, "threads must be in"),
        ({"label_weight": float("nan")}, ValueError, "label_weight must be finite"),
        ({"labels": KINDS[kind](np.arange(3))}, ValueError, "labels must be a pair of lengths 3 and 2"),
        ({"out": KINDS[kind](np.zeros((2, 3), np.float32))}, ValueError, "out must be"),
        ({"out": [0.0]}, TypeError, "out must be a"),
        ({"backend": "triton"}, RuntimeError, "backend='triton'"),
    ]:
        with pytest.raises(error, match=message):
            pairwise_cost(x, z, **change)
    with pytest.raises(ValueError, match="items of one size"):
        pairwise_cost(x, KINDS[kind](items(3, 5)))
    with pytest.raises(ValueError, match="as many items"):
        paired_cost(x, z)
    with pytest.raises(TypeError, match="real numbers"):
        pairwise_cost(KINDS[kind](items(3, 4).astype(np.complex64)), z)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["sqeuclidean", "euclidean"])
@pytest.mark.parametrize("d", [2, 40])
def test_threads_do_not_change_the_bits(kind, metric, d):
    x, z = KINDS[kind](items(70, d)), KINDS[kind](items(90, d, 1))
    one, *others = (np.asarray(pairwise_cost(x, z, metric=metric, threads=t)) for t in (1, 2, 3, 200))
    assert all(np.array_equal(one, other) for other in others)


def test_mixed_kinds():
    with pytest.raises(TypeError, match="z must be a torch tensor"):
        pairwise_cost(torch.ones(2, 3), np.ones((2, 3)))


def test_public_name():
    assert loomfast.pairwise_cost is pairwise_cost


# ---- numbers of any size ---------------------------------------------------------------------------------


def exact_costs(x, z, metric, only):
    """The costs of float64 x and z, each of them rounded once or twice, as float64."""
    costs = np.empty((len(x), len(z)))
    for i, row in enumerate(x.tolist()):
        for j, other in enumerate(z.tolist()):
            if only and metric == "sqeuclidean":
                exact = -2 * sum(Fraction(a) * Fraction(b) for a, b in zip(row, other, strict=True))
            else:
                exact = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in zip(row, other, strict=True))
            costs[i, j] = rounded(exact, metric == "euclidean")
    return costs


def rounded(exact, root):
    """A rational number, or its root, as float64; infinite beyond its range."""
    sign, exact = (-1.0 if exact < 0 else 1.0), abs(exact)
    power = 2 * ((exact.numerator.bit_length() - exact.denominator.bit_length()) // 2)
    value = float(exact / Fraction(2) ** power)
    with np.errstate(over="ignore"):
        return float(sign * np.ldexp(math.sqrt(value) if root else value, power // 2 if root else power))


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("metric", "only"), [("sqeuclidean", False), ("sqeuclidean", True), ("euclidean", False)]
)
@pytest.mark.parametrize("d", [3, 20])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(np.float32, s) for s in (2.0**-149, 1e-38, 1e-25, 1e16, 1.9e19, 1e25, 1e38)]
    + [(np.float64, s) for s in (5e-324, 1e-300, 1e-170, 1e-25, 1e25, 1e38, 1e150, 1e160, 1.7e308)],
)
def test_finite_numbers_of_any_size_have_their_cost(kind, metric, only, d, dtype, scale):
    rng = np.random.default_rng(d)
    x, z = (np.rint(rng.uniform(-1, 1, (4, d)) * 1000) / 1000 * scale for _ in range(2))
    x, z = x.astype(dtype), z.astype(dtype)
    z[1], z[2] = x[0], 0  # a distance of nothing, and one of a length
    exact = exact_costs(x.astype(np.float64), z.astype(np.float64), metric, only)
    with np.errstate(over="ignore"):
        want = exact.astype(np.float32)
    kept, finite = scale < math.sqrt(3.4e38 / (4 * d)), np.isfinite(want)  # whether float32 holds the squares
    size = float(scale) * math.sqrt(d)
    slack = 1e-6 * np.abs(want) + 1e-45
    if kept and metric == "sqeuclidean":  # rounding is measured by the norms
        slack += 1e-6 * size * size
    elif kept and d > 16 and (dtype is np.float64 or scale > 1e-15):
        slack += 1e-3 * size
    labels = KINDS[kind](np.array([0, 1, 0, 1]))
    for options in ({}, {"labels": labels, "label_weight": 0.0}, {"backend": "reference"}):
        if "backend" in options and not 1e-150 < scale < 1e150:
            continue  # the reference has float64 and no more
        found = pairwise_cost(KINDS[kind](x), KINDS[kind](z), metric=metric, assignment_only=only, **options)
        found = np.asarray(found)
        assert (np.abs(found[finite] - want[finite]) <= slack[finite]).all()
        assert (found[~finite] == want[~finite]).all()
    if not only:
        paired = np.asarray(paired_cost(KINDS[kind](x), KINDS[kind](z), metric=metric))
        assert np.allclose(paired, np.diag(exact), rtol=1e-12, atol=0)


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("kind", KINDS)
def test_small_and_large_numbers_beside_each_other(kind):
    x = np.array([[1e300, 0.0], [1.0, 2.0], [3e-300, 0.0], [1e300, 3.0]])
    root = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x), metric="euclidean"))
    assert np.allclose(root, [[0, np.inf, np.inf, 3], [np.inf, 0, 5**0.5, np.inf],
                              [np.inf, 5**0.5, 0, np.inf], [3, np.inf, np.inf, 0]])  # fmt: skip
    wide = np.pad(x, [(0, 0), (0, 30)])
    product = np.asarray(pairwise_cost(KINDS[kind](wide), KINDS[kind](wide), assignment_only=True))
    assert product[0, 2] == np.float32(-2 * 1e300 * 3e-300)
    assert product[1, 1] == -10
    assert product[0, 0] == -np.inf


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_numbers_that_are_not_finite_stay_what_they_were(kind, bad):
    x = np.full((3, 20), 1e25, np.float32)
    x[1, 4] = bad
    cost = np.asarray(pairwise_cost(KINDS[kind](x), KINDS[kind](x)))
    assert np.isnan(cost[1, 1])


# ---- out ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strides", [(0, 4), (20, 0), (4, 4), (0, 0)])
def test_an_out_that_overlaps_itself_is_refused(kind, strides):
    room = np.full((4, 5), 7, np.float32)
    out = np.lib.stride_tricks.as_strided(room, (4, 5), strides)
    for d in (3, 20):
        x, z = items(4, d), items(5, d, 1)
        with pytest.raises(ValueError, match="out must not overlap itself"):
            pairwise_cost(KINDS[kind](x), KINDS[kind](z), out=KINDS[kind](out))
    with pytest.raises(ValueError, match="out must not overlap itself"):
        noise_from_ids(KINDS[kind](np.arange(4)), 5, seed=0, out=KINDS[kind](out))
    assert (room == 7).all()
