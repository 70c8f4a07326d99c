"""The steps that ask whether the kernels are right: golden results, the gpu tests, the sanitizers."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from gpu import goldens, ways

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    *("test_assignment_binding.py", "test_noise_cuda.py", "test_triton.py", "test_coupling_device.py"),
    "test_device_arrays.py",
)
SANITIZERS = ("memcheck", "racecheck", "synccheck", "initcheck")


def golden(context, save):
    """Every golden instance, bit for bit; every way, in poisoned memory, aside, 100 times, in a graph."""
    device, wrong = context.device, {}
    cases = goldens.load(context.kit / "goldens" / "assignment.npz")
    cases = [case for case in cases if case.small] if device.dry else cases
    solve = goldens.on_tensors(device.solve, device.put)

    def compare(case, label, run=solve):
        try:
            different = goldens.differences(goldens.solve_golden(run, case), case)
        except Exception as error:  # one instance that cannot run must not hide the others
            different = [f"{type(error).__name__}: {error}"[:200]]
        if different:
            wrong.setdefault(case.name, {})[label] = different
            save("wrong", wrong)

    for case in cases:
        compare(case, "first")
    save("instances", len(cases))
    save("right", len(cases) - len(wrong))
    save("ways", _every_way(cases, compare, 6 if device.dry else 2 if context.quick else 1))
    for case in cases:
        device.poison()
        compare(case, "poisoned memory")
        compare(case, "side stream", lambda *a: device.on_side_stream(lambda: solve(*a)))
    for case in cases[:: 8 if context.quick else 4]:
        for _ in range(2 if device.dry else 100):
            compare(case, "repeats")
    save("graph", _graph(device, cases, wrong))
    save("noise", _noise(context))
    save("cost", _cost(context))
    if not context.quick:  # Triton takes half a minute to compile what it needs
        save("any_size", _any_size(context))
    save("coupling", _coupling(context))
    save("wrong", wrong)
    parts = ("noise", "cost", "any_size", "coupling")
    return not wrong and not any(isinstance(context.saved.get(part), str) for part in parts)


def _every_way(cases, compare, step):
    """How many instances each kernel solved, alone: those that no warp solves, or each of a few."""
    counts = {}
    larger = [case for case in cases if not ways.is_for_warps(case.cost)]
    for name in ways.WAYS:
        with ways.only(name) as possible:
            for case in larger[::step] if possible else ():
                compare(case, name)
            counts[name] = len(larger[::step]) if possible else "not on this device"
    return counts


def _graph(device, cases, wrong):
    """A graph replayed with changed costs gives what each of them gives alone."""
    first = next(case for case in cases if case.name == "image" and not case.start)
    others = [c for c in cases if c.cost.shape == first.cost.shape and c.cost.dtype == first.cost.dtype]
    others = [case for case in others if not case.start and not case.options]
    cost = device.put(goldens.as_tensor(first.cost))
    replay, result = device.graph(lambda: device.solve(cost))
    for case in others:
        cost.copy_(device.put(goldens.as_tensor(case.cost)))
        replay()
        device.synchronize()
        run = goldens.on_host(result)
        found = {name: getattr(run, "stats" if name == "counters" else name) for name in goldens.OUTPUTS}
        different = goldens.differences(found, case)
        if different:
            wrong.setdefault(case.name, {})["graph"] = different
    return len(others)


def _noise(context):
    """The golden noise on every backend: the number of normals compared, or what differs."""
    from loomfast import noise_from_ids

    with np.load(context.kit / "goldens" / "noise_and_cost.npz") as file:
        ids, noise, half = file["ids"], file["noise"], file["noise_bfloat16"]
    wanted = {"float32": noise, "float64": noise.astype(np.float64), "bfloat16": half}
    on_device = context.device.put(torch.from_numpy(ids))
    for backend in context.device.noise_backends:
        for dtype, bits in wanted.items():
            found = noise_from_ids(
                on_device, noise.shape[1:], seed=2**63 + 7, domain=2, dtype=dtype, backend=backend
            )
            found = found.cpu()
            found = found.view(torch.uint16).numpy() if dtype == "bfloat16" else found.numpy()
            if found.tobytes() != bits.tobytes():
                return f"{backend} {dtype}: {int((found != bits).sum())} of {bits.size} differ"
    return int(noise.size)


def _cost(context):
    """Largest error of the costs, in units of the precision: a number, or what is wrong."""
    from loomfast import pairwise_cost

    with np.load(context.kit / "goldens" / "noise_and_cost.npz") as file:
        x, z, expected = (torch.from_numpy(file[name]) for name in ("x", "z", "cost"))
    units = (
        {"float32": 2.0**-24, "float64": 2.0**-24}
        if context.device.dry
        else {"float32": 2.0**-24, "tf32": 2.0**-11, "bfloat16": 2.0**-8, "float64": 2.0**-24}
    )
    scale = float(x.square().sum(1).max())
    errors = {}
    for precision, unit in units.items():
        x_, z_ = context.device.put(x), context.device.put(z)
        found = pairwise_cost(x_, z_, precision=precision, backend=context.device.cost_backend).cpu()
        errors[precision] = float((found - expected).abs().max()) / (unit * scale)
        if not errors[precision] <= 16:
            return f"{precision}: an error of {errors[precision]:.3g} units; 16 are allowed"
    return errors


def _any_size(context):
    """Costs of numbers whose squares float32 cannot hold, and from ids: how many, or what is wrong."""
    from loomfast import noise_from_ids, pairwise_cost, pairwise_cost_from_ids

    device, rng, entries = context.device, np.random.default_rng(6), 0
    scale = np.float32([1, 1e-30, 1e-22, 1e10, 3e18, 2.5e19, 1e25, 2e37])
    for d in (5, 40, 3000):
        x = torch.from_numpy(rng.standard_normal((160, d), np.float32) * np.tile(scale, 20)[:, None])
        z = torch.from_numpy(rng.standard_normal((200, d), np.float32) * np.tile(scale, 25)[:, None])
        ids = torch.arange(300)
        drawn = noise_from_ids(ids, d, seed=4)
        given = device.put(x), device.put(z)
        for metric, only in (("sqeuclidean", False), ("euclidean", False), ("sqeuclidean", True)):
            options = {"metric": metric, "assignment_only": only}
            there = options | {"backend": device.cost_backend}
            for what, found, other in (
                ("pairs", pairwise_cost(*given, **there), z),
                ("ids", pairwise_cost_from_ids(given[0], device.put(ids), seed=4, **there), drawn),
                ("few ids", pairwise_cost_from_ids(given[0][:20], device.put(ids), seed=4, **there), drawn),
            ):
                want = pairwise_cost(x[: len(found)], other, precision="float64", backend="cpu", **options)
                wrong = wrong_costs(found.cpu(), want, x[: len(found)], other, metric)
                if wrong:
                    return f"{what}, d = {d}, {metric}, {'products' if only else 'full'}: {wrong} are wrong"
                entries += found.numel()
    return entries


def wrong_costs(found, want, x, z, metric):
    """How many costs are further from the float64 ones than the rounding of float32 explains."""
    length = x.double().norm(dim=1)[:, None] + z.double().norm(dim=1)[None]
    allowed = (64 if metric == "sqeuclidean" else 512) * 2.0**-24 * length * length
    if metric == "euclidean":
        allowed = torch.minimum(allowed.sqrt(), allowed / want.double())
    near = (found.double() - want.double()).abs() <= allowed + 1e-6 * want.double().abs() + 1e-42
    # Beside the end of float32 either may have been rounded over it.
    near |= (found == want) | (torch.isinf(found) & (want.abs() > 3.4e38))
    return int((~near).sum())


def _coupling(context):
    """Steps of LOOM on the device, captured and ahead: how many noises they moved, or what differs."""
    from loomfast import Loom
    from loomfast.coupling import Ahead

    device, shape, moved = context.device, (3, 8, 8), 0
    data = device.put(torch.from_numpy(np.random.default_rng(8).standard_normal((256, *shape), np.float32)))
    straight, replayed, ahead = (Loom(256, shape, seed=3, device=device.kind) for _ in range(3))
    steps = replayed.captured(data[:64])

    def batch_at(step):
        index = device.put(torch.from_numpy(np.random.default_rng(step).permutation(256)[:64]))
        return {"x": data[index], "index": index}

    with Ahead(ahead, batch_at, device=None if device.dry else device.kind) as working:
        for step in range(12):
            pair = straight.couple(**batch_at(step), step=step)
            others = {"captured": steps.couple(**batch_at(step), step=step)}
            others["ahead"] = working.take(step, last=step == 11)[1]
            for name, other in others.items():
                if not (torch.equal(pair.ids, other.ids) and torch.equal(pair.noise, other.noise)):
                    return f"{name}: step {step} differs"
            found = pair.on_host()
            if not found.cost_after <= found.cost_before:
                return f"step {step} made the cost {found.cost_after} of {found.cost_before}"
            moved += found.swaps
    state = straight.state_dict()
    for name, other in (("captured", replayed), ("ahead", ahead)):
        different = [
            key for key in ("ids", "prices") if not np.array_equal(other.state_dict()[key], state[key])
        ]
        if different:
            return f"{name}: {', '.join(different)} differ at the end"
    if not np.array_equal(np.sort(state["ids"], axis=None), np.arange(state["ids"].size)):
        return "the ids are no permutation"
    return moved


def gpu_tests(context, save):
    """The tests marked gpu, against the installed wheel."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-c", ROOT / "pyproject.toml"]
        command += ["--rootdir", ROOT, "-o", "filterwarnings=", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += [ROOT / "tests" / name for name in TESTS]
        # From another folder: there the wheel is imported, not the sources.
        done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    counts = {word: int(n) for n, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    save("counts", counts)
    save("failures", re.findall(r"^(?:FAILED|ERROR) .*$", done.stdout, re.MULTILINE)[:20])
    if done.returncode not in (0, 1):
        save("output", (done.stdout + done.stderr)[-2000:])
    return done.returncode == 0 and (context.device.dry or counts.get("passed", 0) > 0)


def sanitizers(context, save):
    """compute-sanitizer's four tools on the driver, side by side."""
    tool = shutil.which("compute-sanitizer")
    if tool is None:
        save("missing", "compute-sanitizer is not on PATH")
        return False
    seconds = 25 if context.right_so_far else 60
    with tempfile.TemporaryDirectory() as folder:
        logs = {name: Path(folder, name) for name in SANITIZERS}
        running = {}
        for name, log in logs.items():
            command = [tool, "--tool", name, "--error-exitcode", "99", str(context.kit / "driver")]
            running[name] = subprocess.Popen(
                command, stdout=log.open("w"), stderr=subprocess.STDOUT, env=os.environ
            )
        good = True
        for name, process in running.items():
            try:
                code = process.wait(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                code = f"stopped after {seconds} s"
            text = logs[name].read_text(errors="replace")
            clean = code == 0 and bool(re.search(r"SUMMARY: 0 (errors|hazards)", text))
            save(name, {"exit": code, "clean": clean} | ({} if clean else {"output": text[-1500:]}))
            good &= clean
    return good
