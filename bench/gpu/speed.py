"""The steps that time: assignment, noise and cost, where the time goes, a training step.

Nothing is timed before its answer was found right, and nothing wrong gets a number.
"""

import importlib
import os
import shutil
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import torch

from gpu import ways

HERE = Path(__file__).resolve().parent


# ---- assignment -------------------------------------------------------------------------------------------


def problems(context):
    """(family, batch, n, m) in the order of their importance."""
    if context.device.dry:
        return [("img", 1, 40, 40), ("unif", 3, 12, 12), ("geo2d", 1, 5, 140)]
    if context.quick:
        return [("img", 1, 512, 512), ("img", 1, 2048, 2048), ("unif", 208, 300, 300), ("unif", 1024, 64, 64)]
    squares = [(f, 1, n, n) for n in (512, 1024, 2048, 64, 128, 256, 4096) for f in ("img", "unif", "geo2d")]
    batches = [("unif", 208, 300, 300), ("img", 64, 512, 512), ("unif", 1024, 64, 64), ("unif", 96, 100, 50)]
    batches += [("img", 512, 128, 128), ("img", 8, 512, 512)]
    return batches + squares + [("img", 1, n, n) for n in (8192, 16384)]


def make_costs(family, batch, n, m, put):
    """(b, n, m) float32 on the device; large batches repeat sixteen instances."""
    sys.path.insert(0, str(HERE.parent))
    if n > 4096:  # the product on the device: the host would take longer than everything else
        generator = torch.Generator().manual_seed(n)
        x, z = (
            put(torch.rand((n, 3072), generator=generator) * 2 - 1),
            put(torch.randn((m, 3072), generator=generator)),
        )
        return ((x * x).sum(1)[:, None] + (z * z).sum(1)[None] - 2 * x @ z.T)[None]
    from assignment import costs

    different = np.stack([costs(family, n, m, seed=s) for s in range(min(batch, 16))])
    cost = put(torch.from_numpy(different))
    return cost.repeat((batch + len(cost) - 1) // len(cost), 1, 1)[:batch].contiguous()


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def contestants(context, cost):
    """Name -> function that solves ``cost``; (b, n) columns of its answer, on any device."""
    import loomfast

    device, (batch, n, m) = context.device, cost.shape
    found = {"loomfast cuda": lambda: device.solve(cost).col4row}
    cores = len(os.sched_getaffinity(0))
    for threads in sorted({1, min(16, cores)}):
        found[f"loomfast cpu, {threads} threads, with copy"] = lambda threads=threads: (
            loomfast.solve(cost.cpu(), backend="cpu", threads=threads).col4row
        )
    peer = optional("torch_linear_assignment")
    if peer and n <= 2048 and not device.dry:
        found["torch-linear-assignment"] = lambda: peer.batch_linear_assignment(cost)

    def one_by_one(solve):
        return lambda: torch.from_numpy(np.stack([solve(one) for one in cost.cpu().numpy()]).astype(np.int64))

    scipy = optional("scipy.optimize")
    if scipy and n <= 512 and batch <= 16:
        found["scipy, with copy"] = one_by_one(lambda one: columns_of(scipy.linear_sum_assignment(one), n))
    lap = optional("lap")
    if lap and n == m and n <= 2048 and batch <= 64:
        found["lapx lapjv, with copy"] = one_by_one(lambda one: lap.lapjv(one)[1])
    return found


def columns_of(pairs, n):
    columns = np.full(n, -1, np.int64)
    columns[pairs[0]] = pairs[1]
    return columns


def is_optimal(cost, columns, totals):
    """Every instance is matched completely, one to one, at the certified total."""
    batch, n, m = cost.shape
    columns = columns.to(cost.device).long()
    used = torch.where(columns >= 0, columns, m)
    taken = torch.zeros((batch, m + 1), dtype=torch.int64, device=cost.device)
    taken.scatter_add_(1, used, torch.ones_like(used))
    if (
        columns.shape != (batch, n)
        or bool((taken[:, :m] > 1).any())
        or bool((taken[:, m] != max(0, n - m)).any())
    ):
        return False
    padded = torch.cat(
        [cost.double(), torch.zeros((batch, n, 1), dtype=torch.float64, device=cost.device)], 2
    )
    found = padded.gather(2, used.unsqueeze(2)).sum((1, 2))
    return bool(((found - totals).abs() <= 1e-9 * cost.abs().amax((1, 2)).double() * n).all())


def assignment(context, save):
    """Every size and family: validated, then timed by events, by graph replay and on the host."""
    device, rows = context.device, []
    for family, batch, n, m in problems(context):
        cost = make_costs(family, batch, n, m, device.put)
        row = {"family": family, "batch": batch, "n": n, "m": m, "seconds": {}, "wrong": {}}
        certified = device.solve(cost)
        limit = 8 * min(n, m) * 2.0**-53 * float(cost.abs().max())
        if bool((certified.status != 0).any()) or float(certified.gap.max()) > limit:
            row["wrong"]["loomfast cuda"] = (
                f"status {certified.status.unique().tolist()}, gap {certified.gap.max()}"
            )
            save("rows", [*rows, row])
            rows.append(row)
            continue
        row["counters"] = certified.stats.double().mean(0).tolist()
        for name, run in contestants(context, cost).items():
            _race(device, row, name, run, cost, certified.total)
        if not ways.is_for_warps(cost) and n <= 2048:
            _race_ways(device, row, cost, certified.total)
        replay, _ = device.graph(lambda cost=cost: device.solve(cost))
        row["seconds"]["loomfast cuda, graph"] = device.seconds(replay)[0]
        rows.append(row)
        save("rows", rows)
        del cost, certified, replay
    return all("loomfast cuda" not in row["wrong"] for row in rows)


def _race_ways(device, row, cost, totals):
    """The kernels against each other, each of which the launcher might have chosen."""
    for name in ("a block", "teams", "a cluster of 4", "a cluster of 8", "a cluster of 16"):
        with ways.only(name) as possible:
            if possible:
                _race(device, row, f"loomfast cuda, {name}", lambda: device.solve(cost).col4row, cost, totals)


def _race(device, row, name, run, cost, totals):
    """The seconds of a contestant that is right; the reason where it is not."""
    try:
        begin = time.perf_counter()
        good = is_optimal(cost, run(), totals)
        device.synchronize()
        first = time.perf_counter() - begin
        if not good:
            row["wrong"][name] = "not optimal"
            return
        if "cuda" in name or "torch" in name:
            on_device, on_host = device.seconds(run, 3 if first > 0.3 else 9)
            row["seconds"][name], row["seconds"][f"{name}, host"] = on_device, on_host
        else:
            row["seconds"][name] = min(first, *_wall(run, 0 if first > 1 else 3))
    except Exception as error:  # a peer that cannot take this problem
        row["wrong"][name] = f"{type(error).__name__}: {error}"[:200]


def _wall(run, repeats):
    times = [float("inf")]
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


# ---- noise and cost ---------------------------------------------------------------------------------------


def noise_and_cost(context, save):
    """Noise against torch.randn and a memset; cost against the bare product; noise inside or stored."""
    from loomfast import noise_from_ids, pairwise_cost, pairwise_cost_from_ids

    device, rows = context.device, []

    def time_row(**row):
        functions = row.pop("functions")
        row["seconds"] = {name: device.seconds(function)[0] for name, function in functions.items()}
        rows.append(row)
        save("rows", rows)

    shape = (3, 4, 4) if device.dry else (3, 32, 32)
    size = int(np.prod(shape))
    for items in (8,) if device.dry else (512, 4096):
        ids = device.put(torch.arange(items))
        for dtype in ("float32", "bfloat16"):
            out = torch.empty((items, *shape), dtype=getattr(torch, dtype), device=ids.device)
            functions = {
                backend: lambda b=backend, d=dtype, o=out, i=ids: noise_from_ids(
                    i, shape, seed=1, dtype=d, out=o, backend=b
                )
                for backend in device.noise_backends
            }
            functions |= {"torch.randn": lambda o=out: o.normal_(), "memset": lambda o=out: o.zero_()}
            time_row(what="noise", items=items, size=size, dtype=dtype, functions=functions)
    for n in (16,) if device.dry else (512, 2048, 4096):
        ids = device.put(torch.arange(n))
        x = device.put(torch.rand((n, size)) * 2 - 1)
        z = noise_from_ids(ids, (size,), seed=1)
        for precision in ("float32",) if device.dry else ("float32", "tf32", "bfloat16"):
            x_, z_ = (a.bfloat16() if precision == "bfloat16" else a for a in (x, z))
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            options = {"precision": precision, "backend": device.cost_backend}
            time_row(
                what="cost",
                n=n,
                d=size,
                precision=precision,
                functions={
                    "pairwise_cost": lambda x=x, z=z, o=options: pairwise_cost(x, z, **o),
                    "without norms": lambda x=x, z=z, o=options: pairwise_cost(
                        x, z, assignment_only=True, **o
                    ),
                    "product alone": lambda x=x_, z=z_: product(x, z),
                    "from ids": lambda x=x, i=ids, o=options: pairwise_cost_from_ids(x, i, seed=1, **o),
                    "noise, then cost": lambda x=x, i=ids, o=options: pairwise_cost(
                        x, noise_from_ids(i, (size,), seed=1), **o
                    ),
                },
            )
        torch.backends.cuda.matmul.allow_tf32 = False
    if not device.dry:
        _time_routes(device, size, time_row)
    return True


def product(x, z):
    """x z^T in float32, as the cost is stored, by the BLAS alone."""
    if x.dtype is torch.bfloat16 and x.is_cuda:
        return torch.mm(x, z.T, out_dtype=torch.float32)
    return torch.mm(x, z.T)


def _time_routes(device, size, time_row):
    """All products of a cost: cuBLAS's with a pass, fused and divided; few rows from ids both ways."""
    from unittest.mock import patch

    from loomfast.kernels import cost as products

    from loomfast import noise_from_ids, pairwise_cost, pairwise_cost_from_ids
    from loomfast.cost import gpu

    def routed(run, **choices):
        def call():
            with patch.multiple(gpu, **choices):
                return run()

        return call

    for n, d in ((128, size), (512, size), (1024, size), (4096, size), (4096, 256), (4096, 64)):
        ids = device.put(torch.arange(n))
        x, z = device.put(torch.rand((n, d))), noise_from_ids(ids, (d,), seed=1)
        for precision in ("float32", "bfloat16"):
            x_, z_ = (a.bfloat16() if precision == "bfloat16" else a for a in (x, z))
            run = partial(pairwise_cost, x_, z_, precision=precision)
            functions = {
                "cuBLAS and a pass": routed(run, is_split=lambda *_: False, takes_cublas=lambda *_: True),
                "fused": routed(run, is_split=lambda *_: False, takes_cublas=lambda *_: False),
                "product alone": lambda x_=x_, z_=z_: product(x_, z_),
            }
            if n <= 1024:
                functions["divided"] = routed(run, is_split=lambda *_: True)
            time_row(what="routes", n=n, d=d, precision=precision, functions=functions)
    ids, x = device.put(torch.arange(4096)), device.put(torch.rand((64, size)))
    for precision in ("float32", "bfloat16"):
        tile = products.tile_for(products.capability(x), gpu._NAMES[precision], from_ids=True)
        run = partial(pairwise_cost_from_ids, x, ids, seed=1, precision=precision, assignment_only=True)
        blocks = patch.object(products, "tile_for", lambda *_, tile=tile, **__: tile._replace(rows=0))

        def in_blocks(run=run, blocks=blocks):
            with blocks:
                return run()

        time_row(
            what="few rows from ids", precision=precision, functions={"fused": run, "in blocks": in_blocks}
        )
    x, z = (device.put(torch.rand((2048, size), dtype=torch.float64)) for _ in range(2))
    functions = {"pairwise_cost": lambda: pairwise_cost(x, z), "product alone": lambda: torch.mm(x, z.T)}
    time_row(what="cost", n=2048, d=size, precision="float64", functions=functions)


# ---- the coupling -----------------------------------------------------------------------------------------


def coupling(context, save):
    """A step of LOOM, ids to write-back: with the cache on the host, on the device, and as a CUDA graph."""
    from loomfast import Loom

    device, rows, right = context.device, [], True
    shape, num = ((3, 4, 4), 64) if device.dry else ((3, 32, 32), 16384)
    data = device.put(torch.rand((num, *shape)) * 2 - 1)
    for batch in (16,) if device.dry else (128, 512, 2048):
        order = torch.from_numpy(np.random.default_rng(batch).permutation(num)[:batch])
        index, items = device.put(order), order.numpy()
        x, row = data[index], {"batch": batch, "seconds": {}, "launching": {}}
        host, there, graph = (Loom(num, shape, device=where) for where in (None, device.kind, device.kind))
        steps = graph.captured(x)
        runs = {
            "cache on the host": lambda c=host, x=x, i=items: c.couple(x, i),
            "on the device": lambda c=there, x=x, i=index: c.couple(x, i),
            "captured": lambda c=steps, x=x, i=index: c.couple(x, i),
        }
        costs = {name: float(run().cost_after) for name, run in runs.items()}
        row["cost_after"] = costs
        row["agree"] = bool(np.ptp(list(costs.values())) <= 1e-4 * costs["on the device"])
        right &= row["agree"]
        if row["agree"]:
            for name, run in runs.items():
                row["seconds"][name], row["launching"][name] = device.seconds(run)
        there.check(), graph.check()
        rows.append(row)
        save("rows", rows)
    return right


# ---- where the time goes ----------------------------------------------------------------------------------

TARGETS = {"one 2048": "assignment 1 2048", "208 of 300": "assignment 208 300", "noise": "noise 512 3072"}


def profile(context, save):
    """ncu's speed of light and the states of the warps, for one launch of each target."""
    ncu = shutil.which("ncu")
    if ncu is None:
        save("missing", "ncu is not on PATH")
        return False
    good = True
    for name, target in TARGETS.items():
        command = [ncu, "--clock-control", "none", "--section", "SpeedOfLight", "--section", "WarpStateStats"]
        command += [
            "--section",
            "LaunchStats",
            "--section",
            "Occupancy",
            "--kernel-name",
            "regex:solve|noise",
        ]
        command += ["--launch-count", "1", sys.executable, str(HERE / "target.py"), *target.split()]
        done = subprocess.run(command, capture_output=True, text=True)
        save(name, done.stdout[-4000:] if done.returncode == 0 else (done.stdout + done.stderr)[-1500:])
        good &= done.returncode == 0
    return good


# ---- training ---------------------------------------------------------------------------------------------


def training(context, save):
    """A step of cifar10 (bfloat16, compiled): independent against LOOM, in line and ahead; sampling."""
    from dataclasses import replace

    from loomfast.config import PRESETS
    from loomfast.models import UNetConfig
    from loomfast.sampling.generate import generate
    from loomfast.training.step import training_step

    dry = context.device.dry
    model = PRESETS["cifar10"][1].model
    if dry:
        model = UNetConfig(image_size=32, model_channels=64, num_res_blocks=1, channel_mult=(1, 1))
    base = replace(
        PRESETS["cifar10"][1],
        model=model,
        data="patches32",
        num_items=64 if dry else 8192,
        steps=10**9,  # so that no step is the last, and every step is coupled ahead of
        precision="float32" if dry else "bfloat16",
        compile=not dry,
        device="cpu" if dry else "cuda",
        threads=1 if dry else 0,
    )
    rows = []
    for batch in (4,) if dry else (128, 512, 2048):
        runs = {
            "independent": _run(base, batch, "independent", "off"),
            "loom": _run(base, batch, "loom", "off"),
            "loom ahead": _run(base, batch, "loom", "on"),
        }
        losses = {name: [training_step(run)["loss"] for _ in range(3)] for name, run in runs.items()}
        row = {"batch": batch, "ms": {}, "finite": bool(np.isfinite(list(losses.values())).all())}
        row["ahead_equals_loom"] = bool(np.allclose(losses["loom"], losses["loom ahead"], rtol=2e-2))
        times = {name: [] for name in runs}
        for _ in range(1 if dry else 15):
            for name, run in runs.items():
                context.device.synchronize()
                begin = time.perf_counter()
                training_step(run)
                context.device.synchronize()
                times[name].append(1e3 * (time.perf_counter() - begin))
        row["ms"] = {name: statistics.median(values) for name, values in times.items()}
        if not row["finite"]:
            row["ms"] = {}
        if batch == (4 if dry else 128):
            network = runs["loom"].averaged_model()
            samples = 4 if dry else 256
            begin = time.perf_counter()
            generate(network, samples, (3, 32, 32), seed=0, nfe=2 if dry else 8)
            context.device.synchronize()
            row["sampling_ms"] = 1e3 * (time.perf_counter() - begin)
        for run in runs.values():
            run.close()
        rows.append(row)
        save("rows", rows)
    return all(row["finite"] and row["ahead_equals_loom"] for row in rows)


def _run(base, batch, method, prefetch):
    from dataclasses import replace

    from loomfast.distributed import World
    from loomfast.runs.directory import load_data
    from loomfast.training.state import TrainingState

    coupling = replace(base.coupling, method=method, prefetch=prefetch)
    config = replace(base, batch_size=batch, coupling=coupling)
    run = TrainingState(config, load_data(config), World(device=torch.device(config.device)))
    run.join()
    return run
