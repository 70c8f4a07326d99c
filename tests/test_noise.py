"""Noise format 1: frozen bits, accuracy, and the same bits on every backend."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from noise_cases import GOLDEN_NOISE, IDS, KNOWN_ANSWERS

import loomfast
from loomfast import _engine
from loomfast.noise import (
    NoiseDomain,
    StepDomain,
    noise_from_ids,
    reference,
    step_bits,
    step_choices,
    step_normals,
    step_uniforms,
)

SEEDS = [0, 1, 2**32, 2**63 + 12345, 2**64 - 1]
SHAPES = [(1,), (2,), (3,), (4,), (5,), (63,), (64,), (65,), (3, 5, 7), (2, 33), (257,), ()]

GOLDEN_STEP = {
    "bits": "81f30b57e73412366a30d5a1fa00631a85ca89a295446c34647714d031a15e8c",
    "uniforms": "81a327718a0f870ffe879f57640fb7325500525ebc571cdac4ffb1b6ca44b4f5",
    "normals": "0f5547abfc72526d0a60597c276c11948f1e457a551d02d9f1f3b580047b35dc",
}


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def same_bits(a, b):
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def poisoned(shape, dtype=np.float32):
    return np.full(shape, np.nan, dtype)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_random123_known_answers_reference(counter, key, words):
    assert tuple(int(word) for word in reference.philox4x32(counter, key)) == words


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_random123_known_answers_engine(counter, key, words):
    seed = key[0] | key[1] << 32
    assert tuple(_engine.philox4x32(*counter, seed)) == words


@pytest.mark.parametrize(("name", "seed", "domain"), GOLDEN_NOISE)
def test_golden_noise(name, seed, domain, instruction_set):
    noise = noise_from_ids(torch.from_numpy(IDS), (3, 5, 7), seed=seed, domain=domain, dtype=name)
    assert sha256(noise.contiguous().view(torch.uint8).numpy()) == GOLDEN_NOISE[name, seed, domain]


def test_golden_step():
    index, where = np.arange(100), {"seed": 3, "step": 70000, "domain": StepDomain.SIGMA}
    assert sha256(step_bits(index, 7, **where)) == GOLDEN_STEP["bits"]
    assert sha256(step_uniforms(index, 7, **where)) == GOLDEN_STEP["uniforms"]
    assert sha256(step_normals(index, 7, **where)) == GOLDEN_STEP["normals"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", SEEDS)
def test_engine_repeats_the_reference(shape, seed):
    expected = reference.noise_from_ids(IDS, shape, seed=seed, domain=2)
    out = poisoned(expected.shape)
    assert noise_from_ids(IDS, shape, seed=seed, domain=2, out=out, backend="cpu") is out
    assert same_bits(out, expected)
    assert same_bits(noise_from_ids(IDS, shape, seed=seed, domain=2, backend="reference"), expected)


@pytest.mark.parametrize("size", [1, 3, 4, 60, 64, 127, 128, 129, 516, 5000])
def test_every_instruction_set_gives_the_same_bits(instruction_set, size):
    ids = np.concatenate((IDS, np.arange(200 if size < 64 else 3))).view(np.uint64)
    expected = reference.noise_from_ids(ids.view(np.int64), (size,), seed=2**63 + 7, domain=3)
    for threads in (1, 3):
        out = poisoned(expected.shape)
        _engine.noise_fill(ids, 2**63 + 7, 3, out, threads)
        assert same_bits(out, expected)
    double = poisoned(expected.shape, np.float64)
    _engine.noise_fill(ids, 2**63 + 7, 3, double, 1)
    assert same_bits(double, expected.astype(np.float64))
    half = np.full(expected.shape, 0x7FC1, np.uint16)
    _engine.noise_fill(ids, 2**63 + 7, 3, half, 1)
    assert same_bits(half, reference.to_bfloat16_bits(expected))


def test_blocks_next_to_an_item_are_not_written():
    frame = poisoned((7, 100))
    out = frame[1:6].reshape(-1)[:455].reshape(5, 91)
    _engine.noise_fill(IDS[:5].view(np.uint64), 1, 0, out, 2)
    assert np.isnan(frame[0]).all()
    assert np.isnan(frame[6]).all()
    assert np.isnan(frame[5, 55:]).all()
    assert np.isfinite(out).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_threads_do_not_change_the_bits(threads):
    ids = np.arange(-50, 51)
    noise = noise_from_ids(ids, (3, 65), seed=9, threads=threads)
    assert same_bits(noise, reference.noise_from_ids(ids, (3, 65), seed=9))


def test_callers_at_once_and_a_forked_child():
    """The engine's threads are shared: neither a second caller nor a forked child, which has none, waits."""
    ids = np.arange(300)
    expected = reference.noise_from_ids(ids, (1000,), seed=9)
    with ThreadPoolExecutor(4) as callers:
        for noise in callers.map(lambda _: noise_from_ids(ids, (1000,), seed=9, threads=3), range(40)):
            assert same_bits(noise, expected)
    script = (
        "import os, numpy as np; from loomfast import noise_from_ids\n"
        "make = lambda: noise_from_ids(np.arange(300), (1000,), seed=9, threads=3).tobytes()\n"
        "before = make(); child = os.fork()\n"
        "if not child: os._exit(0 if make() == before else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == 0


def test_a_hundred_thousand_normals():
    ids = np.random.default_rng(0).integers(-(2**63), 2**63, 33)
    expected = reference.noise_from_ids(ids, (3072,), seed=11)
    assert expected.size > 100_000
    assert same_bits(noise_from_ids(ids, (3072,), seed=11), expected)


def test_an_item_does_not_depend_on_its_company():
    together = noise_from_ids(IDS, (37,), seed=5)
    alone = [noise_from_ids(IDS[i : i + 1], (37,), seed=5)[0] for i in range(len(IDS))]
    assert same_bits(together, np.stack(alone))


@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_conversions_are_of_the_float32_bits(kind):
    ids = IDS if kind == "numpy" else torch.from_numpy(IDS)
    base = torch.as_tensor(noise_from_ids(ids, (41,), seed=8))
    double = noise_from_ids(ids, (41,), seed=8, dtype="float64")
    assert torch.equal(torch.as_tensor(double), base.double())
    half = noise_from_ids(torch.from_numpy(IDS), (41,), seed=8, dtype=torch.bfloat16)
    assert torch.equal(half, base.bfloat16())


def angles(q, y):
    """cos and sin of pi/2 (q + y 2^-32) in float64, by quadrant."""
    a = np.pi / 2 * y * 2.0**-32
    s, c = np.sin(a), np.cos(a)
    return np.choose(q, [c, -s, -c, s]), np.choose(q, [s, c, -s, -c])


def words_to_try():
    rng = np.random.default_rng(1)
    draws = rng.integers(0, 2**32, (2, 400_000), dtype=np.uint32)
    near = np.arange(-20_000, 20_000).astype(np.uint32)
    edges = np.concatenate([np.uint32(k << 29) + near for k in range(8)])
    return [
        draws,
        np.stack((np.concatenate((near, near)), draws[0, :80_000])),  # u1 near its two ends
        np.stack((draws[0, : len(edges)], edges)),  # angles at the quadrants' middles and borders
    ]


@pytest.mark.parametrize("case", range(3))
def test_within_four_ulp_of_float64_at_the_same_uniforms(case):
    x0, x1 = words_to_try()[case]
    u1, q, y = reference.uniforms(x0, x1)
    r = np.sqrt(-2 * np.log(u1.astype(np.float64)))
    cos, sin = angles(q, y.astype(np.float32).astype(np.float64))
    for normal, truth in zip(reference.box_muller(x0, x1), (r * cos, r * sin), strict=True):
        ulp = np.spacing(np.maximum(np.abs(truth).astype(np.float32), np.float32(2.0**-126)))
        assert np.max(np.abs(normal - truth) / ulp) <= 4


def test_the_tail_reaches_six_and_a_half_sigma():
    normal, _ = reference.box_muller(np.zeros(1, np.uint32), np.zeros(1, np.uint32))
    assert 6.6 < normal[0] < 6.7
    normal, other = reference.box_muller(np.full(1, 2**32 - 1, np.uint32), np.zeros(1, np.uint32))
    assert normal[0] == 0
    assert other[0] == 0


def test_moments():
    noise = noise_from_ids(np.arange(400), (1000,), seed=1).astype(np.float64).ravel()
    error = 1 / np.sqrt(noise.size)
    assert abs(noise.mean()) < 4 * error
    assert abs(noise.var() - 1) < 4 * np.sqrt(2) * error
    assert abs((noise**3).mean()) < 4 * np.sqrt(15) * error
    assert abs((noise**4).mean() - 3) < 4 * np.sqrt(96) * error


def test_domains_and_steps_never_share_a_counter():
    first = {tuple(noise_from_ids([5], (4,), seed=1, domain=d)[0]) for d in NoiseDomain}
    step = {tuple(step_normals([5], (4,), seed=1, step=0, domain=d)[0]) for d in StepDomain}
    assert len(first | step) == len(NoiseDomain) + len(StepDomain)


def test_step_draws_follow_the_counter_layout():
    index, step, domain, seed = np.array([0, 7, 2**32 - 1]), 2**32 - 1, 4, 2**64 - 2
    words = step_bits(index, 9, seed=seed, step=step, domain=domain)
    for row, i in zip(words, index, strict=True):
        for w in range(9):
            counter = (w // 4, int(i), step, 2**31 + domain)
            assert row[w] == reference.philox4x32(counter, (seed, seed >> 32))[w % 4]
    for num in (1, 10, 2**32 - 1):
        chosen = step_choices(index, num, seed=seed, step=step, domain=domain)
        assert [int(word) * num >> 32 for word in words[:, 0]] == chosen.tolist()
    uniforms = step_uniforms(index, 9, seed=seed, step=step, domain=domain)
    assert same_bits(uniforms, (words >> 8).astype(np.float32) / np.float32(2**24))
    expected = reference.step_normals(index, (3, 3), seed=seed, step=step, domain=domain)
    assert same_bits(step_normals(index, (3, 3), seed=seed, step=step, domain=domain), expected)


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 0), 4])
def test_sizes_zero_and_one(count, shape):
    noise = noise_from_ids(np.arange(count), shape, seed=1)
    assert noise.shape == (count, *(shape if isinstance(shape, tuple) else (shape,)))
    assert same_bits(noise, noise_from_ids(torch.arange(count), shape, seed=1).numpy())


def test_kinds_and_devices():
    assert isinstance(noise_from_ids([1, 2], 3, seed=0), np.ndarray)
    assert isinstance(noise_from_ids(torch.arange(2), 3, seed=0), torch.Tensor)
    assert isinstance(noise_from_ids([1, 2], 3, seed=0, device="cpu"), torch.Tensor)
    expected = noise_from_ids(np.array([-3, 4]), 3, seed=0)
    for ids in (np.array([-3, 4], np.int8), torch.tensor([-3, 4], dtype=torch.int32), [-3, 4]):
        assert same_bits(np.asarray(noise_from_ids(ids, 3, seed=0)), expected)
    assert same_bits(noise_from_ids(np.array([-3, 0, 4, 0])[::2], 3, seed=0), expected)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_strided_out(backend):
    expected = noise_from_ids(IDS, (6, 5), seed=2)
    wide = poisoned((10, 5, 12))
    out = wide.transpose(0, 2, 1)[:, ::2]
    assert noise_from_ids(IDS, (6, 5), seed=2, out=out, backend=backend) is out
    assert np.array_equal(out, expected)
    assert np.isnan(wide[:, :, 1::2]).all()
    tensor = torch.full((10, 5, 12), torch.nan)
    view = tensor.transpose(1, 2)[:, ::2]
    assert noise_from_ids(torch.from_numpy(IDS), (6, 5), seed=2, out=view, backend=backend) is view
    assert torch.equal(view, torch.from_numpy(expected))


BAD_ARGUMENTS = [
    ({"seed": -1}, ValueError, "seed must be in"),
    ({"seed": 2**64}, ValueError, "seed must be in"),
    ({"seed": 1.5}, TypeError, "seed must be an integer"),
    ({"domain": 2**31}, ValueError, "domain must be in"),
    ({"domain": -1}, ValueError, "domain must be in"),
    ({"dtype": "float16"}, TypeError, "dtype must be one of"),
    ({"dtype": np.int32}, TypeError, "dtype must be one of"),
    ({"shape": (2, -1)}, ValueError, "each size in shape"),
    ({"backend": "magic"}, ValueError, "backend must be one of"),
    ({"threads": 0}, ValueError, "threads must be in"),
]


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(("change", "error", "message"), BAD_ARGUMENTS)
def test_bad_arguments(kind, change, error, message):
    arguments = {"shape": (3,), "seed": 0} | change
    with pytest.raises(error, match=message):
        noise_from_ids(kind([1, 2]), **arguments)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_bad_ids_and_out(kind):
    with pytest.raises(ValueError, match="ids must be one-dimensional"):
        noise_from_ids(kind([[1, 2]]), 3, seed=0)
    with pytest.raises(TypeError, match="ids must be integers"):
        noise_from_ids(kind([1.0, 2.0]), 3, seed=0)
    with pytest.raises(ValueError, match="out must be"):
        noise_from_ids(kind([1, 2]), 3, seed=0, out=kind(np.zeros((2, 4), np.float32)))
    with pytest.raises(TypeError, match=r"out must be .*float32.*, got .*float64"):
        noise_from_ids(kind([1, 2]), 3, seed=0, out=kind(np.zeros((2, 3))))
    with pytest.raises(TypeError, match="out must be a"):
        noise_from_ids(kind([1, 2]), 3, seed=0, out=[[0.0] * 3] * 2)
    with pytest.raises(RuntimeError, match="backend='cuda'"):
        noise_from_ids(kind([1, 2]), 3, seed=0, backend="cuda")


def test_bad_step_arguments():
    where = {"seed": 0, "step": 0, "domain": 0}
    with pytest.raises(ValueError, match="index must be in"):
        step_bits([-1], 1, **where)
    with pytest.raises(ValueError, match="index must be in"):
        step_bits([2**32], 1, **where)
    with pytest.raises(TypeError, match="index must be integers"):
        step_bits([0.5], 1, **where)
    with pytest.raises(ValueError, match="step must be in"):
        step_bits([0], 1, seed=0, step=2**32, domain=0)
    with pytest.raises(ValueError, match="ids must fit int64"):
        noise_from_ids(np.array([2**63], np.uint64), 1, seed=0)


def test_public_name():
    assert loomfast.noise_from_ids is noise_from_ids
