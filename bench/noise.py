"""Noise from ids: bits, statistics and speed.

    python bench/noise.py [--json FILE] [--draws N] [--normals N] [--rounds N] [--skip-interpreter]

Bits: --normals (10^7) normals identical between NumPy, the engine at every instruction set and Triton's
interpreter. Statistics on --draws (10^8) normals. Speed at 512 items of 3072, one thread, against torch.randn
into a buffer and against the authors' loop, a generator seeded for every item. A speed is printed only if the
bits agree.
"""

import argparse
import os
import subprocess
import sys
from functools import partial

import numpy as np
import torch
from timing import interleaved, report

from loomfast import _engine, noise_from_ids
from loomfast.noise import reference

SHAPE = (3, 32, 32)
SIZE = 3072


def with_instruction_set(name, function):
    """Calls the function while the engine uses the named instruction set."""
    _engine.use_instruction_set(name)
    function()
    _engine.use_instruction_set("auto")


def check_bits(normals):
    """Every instruction set against NumPy, on random ids and three seeds."""
    rng = np.random.default_rng(0)
    count = 0
    while count < normals:
        ids, seed = rng.integers(-(2**63), 2**63, 64), int(rng.integers(0, 2**63)) * 2 + 1
        size = int(rng.integers(1, 10_000))
        expected = reference.noise_from_ids(ids, (size,), seed=seed, domain=2)
        for name in _engine.instruction_sets():
            out = np.full(expected.shape, np.nan, np.float32)
            with_instruction_set(name, partial(_engine.noise_fill, ids.view(np.uint64), seed, 2, out, 1))
            if out.tobytes() != expected.tobytes():
                raise SystemExit(f"the bits of {name} differ: seed {seed}, item size {size}")
        count += expected.size
    return {
        "claim": "bits",
        "backends": ["numpy", *_engine.instruction_sets()],
        "normals": count,
        "identical": True,
    }


INTERPRETED = """
import sys, numpy as np, torch
from loomfast.kernels.noise import noise_kernel
from loomfast.noise import reference
count, size = int(sys.argv[1]), 100_003
ids = np.random.default_rng(1).integers(-2**63, 2**63, -(-count // size))
out, blocks = torch.full((len(ids), size), torch.nan), -(-size // 4)
tail = dict(WIDE=False, BLOCK=1 << 16, enable_fp_fusion=False)
noise_kernel[(-(-len(ids) * blocks // (1 << 16)),)](
    torch.from_numpy(ids), out, len(ids) * blocks, blocks, size, size, -12345, 1, **tail)
expected = reference.noise_from_ids(ids, (size,), seed=2**64 - 12345, domain=1)
sys.exit(0 if out.numpy().tobytes() == expected.tobytes() else 1)
"""


def check_interpreter(normals):
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", INTERPRETED, str(normals)]
    if subprocess.run(command, env=environment).returncode:
        raise SystemExit("the bits of Triton's interpreter differ")
    return {
        "claim": "bits",
        "backends": ["numpy", "triton interpreter"],
        "normals": normals,
        "identical": True,
    }


EDGES = np.linspace(-7, 7, 2801)


def blocks_of_noise(draws):
    """float64 (items, SIZE) at a time, each with the last item of the one before on top."""
    items, before = -(-draws // SIZE), np.empty((0, SIZE))
    for begin in range(0, items, 1024):
        ids = np.arange(begin, min(begin + 1024, items)) - items // 2
        z = noise_from_ids(ids, SIZE, seed=20260101, threads=1).astype(np.float64)
        yield z, np.concatenate((before, z))
        before = z[-1:]


def sums_of(draws):
    """Sums of powers 0 to 4, counts beyond 0 to 6, the histogram, and sums and numbers of products."""
    powers, tails, histogram = np.zeros(5), np.zeros(7), np.zeros(len(EDGES) - 1)
    products, pairs = np.zeros(4), np.zeros(4)
    for z, neighbours in blocks_of_noise(draws):
        power = np.ones_like(z)
        for k in range(5):
            powers[k] += power.sum()
            power *= z
        size = np.abs(z)
        tails += [np.count_nonzero(size > s) for s in range(7)]
        histogram += np.histogram(z, EDGES)[0]
        block = z.reshape(len(z), -1, 4)
        for k, (a, b) in enumerate(
            (
                (neighbours[:-1], neighbours[1:]),  # neighbouring ids
                (block[:, :-1], block[:, 1:]),  # neighbouring counters
                (z[:, ::2], z[:, 1::2]),  # the two normals of a pair
                (z[:, ::2] ** 2 - 1, z[:, 1::2] ** 2 - 1),  # and their squares
            )
        ):
            products[k] += np.vdot(a, b)
            pairs[k] += a.size
    return powers, tails, histogram, products, pairs


def statistics_of(draws):
    """Moments, Kolmogorov-Smirnov, tails and correlations, as deviations in standard errors."""
    from scipy.special import ndtr
    from scipy.stats import kstwobign

    powers, tails, histogram, products, pairs = sums_of(draws)
    n = powers[0]
    m1, m2, m3, m4 = powers[1:] / n
    scores = {
        "mean": m1 * np.sqrt(n),
        "variance": (m2 - 1) * np.sqrt(n / 2),
        "third moment": m3 * np.sqrt(n / 15),
        "fourth moment": (m4 - 3) * np.sqrt(n / 96),
        "neighbouring ids": products[0] / np.sqrt(pairs[0]),
        "neighbouring counters": products[1] / np.sqrt(pairs[1]),
        "within a pair": products[2] / np.sqrt(pairs[2]),
        "squares within a pair": products[3] / (2 * np.sqrt(pairs[3])),
    }
    for s in range(1, 7):
        expected = n * 2 * ndtr(-s)
        scores[f"tail beyond {s}"] = (tails[s] - expected) / np.sqrt(expected)
    distance = np.abs(np.cumsum(histogram) / n - ndtr(EDGES[1:])).max()
    row = {
        "claim": "statistics",
        "draws": int(n),
        "largest_deviation_in_standard_errors": max(map(abs, scores.values())),
    }
    row["kolmogorov_smirnov_p"] = float(kstwobign.sf(distance * np.sqrt(n)))
    row["seen_beyond_6_sigma"] = int(tails[6])
    row["expected_beyond_6_sigma"] = float(n * 2 * ndtr(-6))
    return row | {name: float(score) for name, score in scores.items()}


def generator_loop(ids, shape=SHAPE):
    """The authors' way: a generator for every item."""
    return torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(int(i))) for i in ids])


def frugal_generator_loop(ids, generator, out):
    """The same with one generator and one buffer."""
    for i, seed in enumerate(ids):
        generator.manual_seed(int(seed))
        torch.randn(out.shape[1:], generator=generator, out=out[i])


def speed(rounds):
    ids, out = torch.arange(512), torch.empty(512, *SHAPE)
    array, numbers = out.view(512, SIZE).numpy(), np.arange(512, dtype=np.uint64)
    generator = torch.Generator()
    torch.set_num_threads(1)
    contestants = {
        "torch.randn": lambda: torch.randn(out.shape, out=out),
        "generator loop": lambda: generator_loop(ids),
        "frugal generator loop": lambda: frugal_generator_loop(ids, generator, out),
        "noise_from_ids, 1 thread": lambda: noise_from_ids(ids, SHAPE, seed=1, out=out, threads=1),
        "noise_from_ids, 2 threads": lambda: noise_from_ids(ids, SHAPE, seed=1, out=out, threads=2),
    }
    for name in _engine.instruction_sets():
        fill = partial(_engine.noise_fill, numbers, 1, 0, array, 1)
        contestants[name] = partial(with_instruction_set, name, fill)
    medians = interleaved(contestants, rounds)
    ours = medians["noise_from_ids, 1 thread"]
    rows = [{"claim": "speed", "what": k, "ns_per_normal": 1e9 * t / out.numel()} for k, t in medians.items()]
    ratios = {
        "torch.randn / ours": medians["torch.randn"] / ours,
        "generator loop / ours": medians["generator loop"] / ours,
        "frugal generator loop / ours": medians["frugal generator loop"] / ours,
        "one thread / two": ours / medians["noise_from_ids, 2 threads"],
    }
    return rows + [{"claim": "ratio", "what": name, "ratio": ratio} for name, ratio in ratios.items()]


def against_the_loop(item_size, rounds, num_items=512):
    """The loops' time an item has a part that does not grow with the item."""
    ids, out, generator = torch.arange(num_items), torch.empty(num_items, item_size), torch.Generator()
    medians = interleaved(
        {
            "generator loop": lambda: generator_loop(ids, (item_size,)),
            "frugal generator loop": lambda: frugal_generator_loop(ids, generator, out),
            "torch.randn": lambda: torch.randn(out.shape, out=out),
            "ours": lambda: noise_from_ids(ids, item_size, seed=1, out=out, threads=1),
        },
        rounds,
    )
    ours = medians.pop("ours")
    row = {
        "claim": "ratio",
        "items": num_items,
        "item_size": item_size,
        "ns_per_normal": 1e9 * ours / out.numel(),
    }
    return row | {f"{name} / ours": seconds / ours for name, seconds in medians.items()}


def small_requests(rounds):
    """Where the time of the call itself shows: a few items of 64 numbers."""
    rows = []
    for num_items in (1, 16, 128):
        ids, out = torch.arange(num_items), torch.empty(num_items, 64)
        medians = interleaved(
            {
                "torch.randn": lambda out=out: torch.randn(out.shape, out=out),
                "noise_from_ids": lambda ids=ids, out=out: noise_from_ids(ids, 64, seed=1, out=out),
                "noise_from_ids, numpy": lambda ids=ids, out=out: noise_from_ids(
                    ids.numpy(), 64, seed=1, out=out.numpy()
                ),
            },
            20 * rounds,
        )
        row = {"claim": "small requests", "items": num_items, "item_size": 64}
        rows.append(row | {f"{name}, us": 1e6 * seconds for name, seconds in medians.items()})
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", default="bench-noise.json")
    parser.add_argument("--draws", type=int, default=10**8)
    parser.add_argument("--normals", type=int, default=10**7)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--skip-interpreter", action="store_true", help="where triton is not installed")
    arguments = parser.parse_args()
    rows = [check_bits(arguments.normals)]
    if not arguments.skip_interpreter:
        rows.append(check_interpreter(arguments.normals))
    rows += speed(arguments.rounds)
    rows += [against_the_loop(size, arguments.rounds) for size in (64, 256, 1024, 3072)]
    rows += small_requests(arguments.rounds)
    rows.append(statistics_of(arguments.draws))
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
