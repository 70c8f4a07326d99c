"""Two builds of loomfast by turns: what a change did to the speed of everything.

    python bench/builds.py BEFORE AFTER [--only noise,unif] [--rounds 6] [--json FILE]

BEFORE and AFTER are folders to import loomfast from, each with its engine built. Each has a process of its
own; all work is done by one thread. A case runs in both by turns, and its least time counts. Printed are the
milliseconds before and after and their ratio, and at the end the geometric mean and the largest ratio.
Only public names that both builds have are called.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SECONDS = 0.03  # of calls, each time that a build has its turn


def points(n, d, seed):
    return np.random.default_rng(seed).standard_normal((n, d), np.float32)


def costs(family, n, m):
    rng = np.random.default_rng(n + m)
    if family == "unif":
        return rng.random((n, m))
    if family == "ints":
        return rng.integers(0, 10, (n, m)).astype(np.float64)
    if family == "offsets":
        return rng.random((n, m)) + rng.integers(0, 1000, (1, m))
    d = {"img": 64, "geo": 2}[family]
    a = rng.random((n, d)) if d == 2 else rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) / 8
    b = rng.standard_normal((m, d))
    return (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T


def assignment_cases():
    import loomfast

    found = {}
    for family in ("img", "geo", "unif", "ints", "offsets"):
        for n, m in ((8, 8), (32, 32), (128, 128), (512, 512), (1024, 1024), (300, 1200)):
            for dtype in ("float32", "float64"):
                cost = costs(family, n, m).astype(dtype)
                found[f"assignment {family} {n}x{m} {dtype}"] = lambda c=cost: loomfast.solve(c)
    cost = costs("img", 2048, 2048).astype(np.float32)
    found["assignment img 2048x2048 float32"] = lambda: loomfast.solve(cost)
    start = loomfast.solve(cost[:512, :512])
    near = cost[:512, :512] + 0.01 * np.random.default_rng(0).random((512, 512), np.float32)
    found["assignment img 512x512 warm"] = lambda: loomfast.solve(near, start=start)
    turned = np.asfortranarray(costs("unif", 700, 700))
    found["assignment unif 700x700 Fortran"] = lambda: loomfast.solve(turned)
    batch = np.stack([costs("img", 64, 64).astype(np.float32)] * 64)
    found["assignment img 64 of 64x64"] = lambda: loomfast.solve(batch, threads=1)
    return found


def noise_cases():
    import loomfast

    found = {}
    for count, shape in ((1, (64,)), (16, (3, 32, 32)), (512, (8, 8)), (512, (3, 32, 32)), (20_000, (2,))):
        ids, out = np.arange(count), np.empty((count, *shape), np.float32)
        found[f"noise {count} of {shape}"] = lambda i=ids, s=shape, o=out: loomfast.noise_from_ids(
            i, s, seed=1, out=o, threads=1
        )
    return found


def cost_cases():
    import loomfast

    found = {}
    for n, d in ((8, 2), (64, 64), (512, 8), (512, 64), (512, 3072), (1024, 256)):
        x, z = points(n, d, 0), points(n, d, 1)
        found[f"cost {n}x{n} of {d}"] = lambda x=x, z=z: loomfast.pairwise_cost(x, z, threads=1)
        ids = np.arange(n)
        found[f"cost from ids {n}x{n} of {d}"] = lambda x=x, i=ids: loomfast.pairwise_cost_from_ids(
            x, i, seed=1, threads=1
        )
    return found


def coupling_cases():
    from loomfast.coupling import Loom

    found = {}
    for batch in (64, 256, 1024):
        loom = Loom(4096, (8, 8), num_caches=2, seed=0)
        x, order = points(batch, 64, 2).reshape(-1, 8, 8), np.random.default_rng(3)

        def step(loom=loom, x=x, order=order):
            loom.couple(x, order.choice(4096, len(x), replace=False))

        found[f"loom step {batch} of 8x8"] = step
    return found


KINDS = (assignment_cases, noise_cases, cost_cases, coupling_cases)


def serve():
    """Answers, for each name read, the least seconds of a few calls."""
    cases = {}
    for kind in KINDS:
        cases |= kind()
    print(json.dumps(list(cases)), flush=True)
    for line in sys.stdin:
        function, times = cases[json.loads(line)], []
        begin = time.perf_counter()
        while not times or time.perf_counter() - begin < SECONDS:
            start = time.perf_counter()
            function()
            times.append(time.perf_counter() - start)
        print(json.dumps(min(times)), flush=True)


class Build:
    """A process that imports loomfast from a folder, with torch and BLAS kept to one thread."""

    def __init__(self, folder):
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        command = [sys.executable, "-P", str(Path(__file__).resolve()), "--serve"]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **one, "PYTHONPATH": str(Path(folder).resolve())},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.names = json.loads(self.process.stdout.readline())

    def seconds(self, name):
        self.process.stdin.write(json.dumps(name) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument(
        "--only", default="", help="comma-separated words, one of which a case's name must contain"
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--json", help="write everything measured here")
    args = parser.parse_args()
    builds = [Build(args.before), Build(args.after)]
    words = args.only.split(",")
    rows = []
    for name in builds[0].names:
        if not any(word in name for word in words):
            continue
        least = [math.inf, math.inf]
        for turn in range(args.rounds):
            for k in (0, 1) if turn % 2 == 0 else (1, 0):
                least[k] = min(least[k], builds[k].seconds(name))
        rows.append({"case": name, "before": least[0], "after": least[1], "ratio": least[1] / least[0]})
        print(
            f"{name:40} {1e3 * least[0]:10.4f} {1e3 * least[1]:10.4f} ms  {rows[-1]['ratio']:.3f}", flush=True
        )
    ratios = [row["ratio"] for row in rows]
    print(f"geometric mean {statistics.geometric_mean(ratios):.3f}, largest {max(ratios):.3f}")
    if args.json:
        from timing import machine

        Path(args.json).write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main()
