"""The engine's tiles, the whole cost of small problems: every instruction set, both sides of every edge."""

import itertools
import subprocess

import native
import numpy as np
import pytest
import torch

from loomfast import _engine
from loomfast.cost import cpu, pairwise_cost, reference
from loomfast.cost.cpu import DIFFERENCES, FULL, PRODUCTS

FORMS = {"products": PRODUCTS, "full": FULL, "differences": DIFFERENCES}
# Both sides of a tile (6 or 8 rows by 8, 16 or 32 columns), of a block (256 rows), of a panel's depth (192 or
# 256) and of the depth that brings sixteen panels at once (12 or 16).
ROWS = [1, 2, 5, 6, 7, 8, 9, 12, 13, 255, 256, 257]
COLUMNS = [1, 7, 8, 9, 15, 16, 17, 31, 32, 33, 129, 511, 513]
DEPTHS = [0, 1, 3, 4, 5, 11, 12, 13, 15, 16, 17, 31, 33, 64, 127, 128, 129, 191, 193, 255, 256, 257, 513]


def items(n, d, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def expected(x, z, form):
    x, z = x.astype(np.float64), z.astype(np.float64)
    if form == PRODUCTS:
        return -2 * (x @ z.T)
    return np.square(x).sum(axis=1)[:, None] + np.square(z).sum(axis=1) - 2 * (x @ z.T)


def bound(x, z, form):
    """As in test_cost.py: the rounding of the norm expansion, in units of its largest term.

    By differences, every sum of a panel's depth and every sum of those may be off by half a unit.
    """
    d = x.shape[1]
    if form == DIFFERENCES:
        return (min(d, 256) + d // 192 + 3) * 2.0**-24 * expected(x, z, form).max()
    size = max(np.square(part.astype(np.float64)).sum(axis=1).max(initial=0) for part in (x, z))
    return 16 * 2.0**-24 * max(1.0, size)


def tiles(x, z, form, *, euclidean=False, threads=1):
    """The cost, in a poisoned array with room around it that must stay as it is."""
    room = np.full((len(x) + 2, len(z) + 5), np.nan, np.float32)
    out = room[1:-1, 2:-3]
    assert _engine.cost_tiles(x, z, out, form, euclidean, threads)
    around = np.ones(room.shape, bool)
    around[1:-1, 2:-3] = False
    assert np.isnan(room[around]).all()
    return out.copy()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("d", DEPTHS)
def test_both_sides_of_every_edge(instruction_set, form, d):
    x, z = items(max(ROWS), d), items(max(COLUMNS), d, 1)
    want, allowed = expected(x, z, FORMS[form]), bound(x, z, FORMS[form])
    for n, m in [*itertools.product(ROWS[:9], COLUMNS[:10]), *zip(ROWS, reversed(COLUMNS), strict=False)]:
        got = tiles(x[:n], z[:m], FORMS[form])
        assert np.abs(got - want[:n, :m]).max() <= allowed, (n, m)


@pytest.mark.parametrize("form", ["full", "differences"])
@pytest.mark.parametrize("d", [2, 17, 300])
def test_roots(instruction_set, form, d):
    x, z = items(40, d), items(50, d, 1)
    z[3] = x[5]
    square, root = (tiles(x, z, FORMS[form], euclidean=flag) for flag in (False, True))
    assert np.array_equal(root, np.sqrt(square))
    assert square.min() >= 0
    assert form == "full" or square[5, 3] == 0


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("d", [5, 300])
def test_threads_and_company_do_not_change_the_bits(instruction_set, form, d):
    x, z = items(600, d), items(300, d, 1)
    one = tiles(x, z, FORMS[form])
    for threads in (2, 3, 64):
        assert np.array_equal(one, tiles(x, z, FORMS[form], threads=threads))
    assert np.array_equal(one[100:107, 20:61], tiles(x[100:107], z[20:61], FORMS[form]))


@pytest.mark.parametrize("euclidean", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_finite_stays_in_its_row_and_column(instruction_set, form, euclidean):
    x, z = items(20, 40), items(37, 40, 1)
    form = FORMS[form]
    clean = tiles(x, z, form, euclidean=euclidean)
    x[4, 2], z[36, 39], x[11, 7] = np.nan, np.nan, np.inf
    got = tiles(x, z, form, euclidean=euclidean)
    assert np.isnan(got[4]).all()
    assert np.isnan(got[:, 36]).all()
    assert not np.isfinite(got[11]).any()
    if form == DIFFERENCES:
        assert (got[11, :36] == np.inf).all()
    rest = np.ones(got.shape, bool)
    rest[[4, 11]] = rest[:, 36] = False
    assert np.array_equal(got[rest], clean[rest], equal_nan=True)  # a root of -2 x.z may be a NaN


def test_arrays_the_tiles_do_not_take_are_left_alone():
    x, z, out = items(6, 8), items(8, 8, 1), np.full((6, 8), 7, np.float32)
    fixed = out.copy()
    fixed.flags.writeable = False
    shared = np.full((6, 16), 7, np.float32)
    for arguments in [
        (x.astype(np.float64), z, out),
        (x, z.astype(np.int32), out),
        (x, z, out.astype(np.float64)),
        (x[:, ::2], z[:, ::2], out),
        (x, z[:, :4], out),
        (x[:4], z, out),
        (x, z[:4], out),
        (x[0], z, out),
        (x, z, out[:, :4]),
        (x, z, np.full((8, 6), 7, np.float32).T),
        (x, z, out[::-1]),
        (x, z, fixed),
        (shared.reshape(12, 8)[:6], z, shared[:, :8]),
        (x, shared.reshape(12, 8)[4:], shared[:, 8:]),
    ]:
        assert not _engine.cost_tiles(*arguments, FULL, False, 1)
        assert (arguments[2] == 7).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("d", [9, 40])
@pytest.mark.parametrize("tiles", [True, False])
@pytest.mark.parametrize("only", [False, True])
def test_out_may_overlap_the_input(kind, d, tiles, only, monkeypatch):
    if not tiles:
        monkeypatch.setattr(cpu, "MOST_TILED", -1)
        monkeypatch.setattr(cpu, "LONGEST_TILED", -1)
    room = np.zeros((2 * d, d), np.float32)
    room[:] = items(2 * d, d)
    x, z, out = room[:d], items(d, d, 1), room[5 : d + 5]
    want = reference.pairwise_cost(x, z, assignment_only=only)
    pairwise_cost(kind(x), kind(z), out=kind(out), assignment_only=only, threads=1)
    assert np.allclose(out, want, rtol=1e-5, atol=1e-4 * only)


WORK = 40 * 30 * 100


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("only", [False, True])
@pytest.mark.parametrize(("n", "m"), [(40, 30), (1, 30), (40, 1)])
@pytest.mark.parametrize(
    "limits",
    [
        {"MOST_TILED": WORK},
        {"MOST_TILED": WORK - 1},
        {"MOST_TILED": 0, "LONGEST_TILED": 100},
        {"MOST_TILED": 0, "LONGEST_TILED": 99},
        {"MOST_OF_ONE_TILED": 0},
    ],
)
def test_on_either_side_of_every_limit_the_cost_is_right(kind, only, n, m, limits, monkeypatch):
    """Whether the tiles or a BLAS make the product is a matter of time alone."""
    for name, value in limits.items():
        monkeypatch.setattr(cpu, name, value)
    x, z = items(n, 100), items(m, 100, 1)
    got = np.asarray(pairwise_cost(kind(x), kind(z), assignment_only=only))
    form = PRODUCTS if only else FULL
    assert np.abs(got - expected(x, z, form)).max() <= bound(x, z, form)


@pytest.mark.parametrize("out", ["one axis", "transposed", "gradient", "double"])
def test_tensors_out_of_the_ordinary(out):
    x, z = torch.from_numpy(items(6, 20)), torch.from_numpy(items(6, 20, 1))
    want = pairwise_cost(x, z)
    target = {
        "one axis": torch.empty(36),
        "transposed": torch.full((6, 6), torch.nan).T,
        "gradient": torch.empty(6, 6, requires_grad=True),
        "double": torch.empty(6, 6, dtype=torch.float64),
    }[out]
    if out in ("transposed", "gradient"):
        assert pairwise_cost(x, z, out=target) is target
        assert torch.equal(target, want)
    else:
        wrong = TypeError if out == "double" else ValueError
        with pytest.raises(wrong, match=r"out must be \(6, 6\) torch.float32"):
            pairwise_cost(x, z, out=target)


@pytest.mark.skipif(native.COMPILER is None, reason="no C++ compiler")
def test_every_instruction_set_under_sanitizers(tmp_path):
    """AVX-512's too, on any processor: its tiles are vectors that the compiler makes of what there is."""
    flags = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    done = subprocess.run(
        [native.build(tmp_path, "cost_tiles.cpp", "cost", *flags)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("portable ")
    if native.EVERY_TARGET:
        assert done.stdout == "portable sse2 avx2 avx512 "
