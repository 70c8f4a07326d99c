"""Golden results: what the kernels must give on a GPU, bit for bit, as the CPU gave it from the same source.

The assignment's come from the shim of tests/cuda_on_cpu (matching, prices, gap, status and counters, which do
not depend on the shape of a launch), the noise's and the cost's from the NumPy reference.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
OUTPUTS = ("col4row", "row4col", "u", "v", "total", "gap", "status", "counters")
# The limits of an H100 and an H200, which decide which kernel solves an instance.
MULTIPROCESSORS, SHARED_PER_BLOCK = 132, 227 << 10


@dataclass
class Golden:
    """Costs as stored (uint16 holds bfloat16 bits), options of solve(), where to start from, answers."""

    name: str
    cost: np.ndarray
    options: dict = field(default_factory=dict)
    start: dict = field(default_factory=dict)
    answers: dict = field(default_factory=dict)
    small: bool = True  # cheap enough for the dry run


def instances():
    """About 60 instances without answers: every family, shape, dtype, kind of start and kernel."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cases import FAMILIES, forbid, image_costs, plane_costs

    rng = np.random.default_rng(20)
    found = [
        Golden(name, np.float32(make(rng, 24)), small=k % 6 == 0)
        for k, (name, make) in enumerate(FAMILIES.items())
    ]

    def add(name, cost, small=False, start=None, **options):
        found.append(Golden(name, np.ascontiguousarray(cost), options, start or {}, small=small))

    for n in (48, 64, 65, 100, 128, 200):
        add(f"image {n}", np.float32(image_costs(rng, n)))
        add(f"uniform {n}", np.float32(rng.random((n, n))))
    add("plane 128", np.float32(plane_costs(rng, 128)))
    for n, m in ((24, 40), (40, 24), (60, 62), (62, 60), (7, 300), (300, 7)):
        add(f"image {n} x {m}", np.float32(image_costs(rng, n, m)), small=n in (24, 7))
    add("wide 3 x 2100", np.float32(rng.random((3, 2100))))
    add("wide 2 x 8300", np.float32(rng.random((2, 8300))))
    add("grid 288", np.float32(rng.random((288, 288))))
    add("grid 260 x 300", np.float32(image_costs(rng, 260, 300)))
    square = image_costs(rng, 20)
    for dtype in ("float16", "float64"):
        add(dtype, square.astype(dtype), small=True)
    add("bfloat16", (square.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), small=True)
    add("int32", rng.integers(-1000, 1000, (20, 25)).astype(np.int32), small=True)
    add("inexact integers", np.full((4, 4), 2**52), small=True)
    add("maximize", square, maximize=True)
    add("maximize wide", np.float32(rng.random((20, 33))), maximize=True)
    add("forbidden", forbid(rng, square), small=True)
    add("forbidden wide", forbid(rng, rng.random((30, 44))))
    add("forbidden, maximize", -forbid(rng, square), maximize=True)
    infeasible, nan = np.float32(rng.random((9, 11))), np.float32(rng.random((9, 11)))
    infeasible[2:5, 2:], nan[3, 4] = np.inf, np.nan
    add("infeasible", infeasible, small=True)
    add("not a number", nan, small=True)
    for shape in ((5, 12, 17), (40, 8, 8), (3, 64, 64), (150, 32, 32), (9, 130, 130)):
        add(f"batch {shape}", np.float32(rng.random(shape)), small=shape[0] == 5)
    # Of a warp each, and of a block each, with problems that are empty or the other way round.
    sizes = [[12, 1, 0, 14, 7], [17, 20, 5, 9, 0]]
    add("sizes", np.float32(rng.random((5, 14, 20))), sizes=sizes, small=True)
    add("sizes of blocks", np.float32(rng.random((3, 70, 130))), sizes=[[70, 30, 66], [100, 130, 20]])
    add("warp 60 x 128", np.float32(image_costs(rng, 60, 128)))
    for repeats, m in ((3, 21), (5, 40), (4, 11)):
        add(f"repeats {repeats}", np.float32(rng.random((7, m))), row_repeats=repeats, small=repeats == 3)
    loose = np.float32(image_costs(rng, 128))
    for tolerance in (1e-1, 1e-2):
        add(f"tolerance {tolerance}", loose, tolerance=tolerance)
    started = np.float32(image_costs(rng, 48))
    add("cold", started)
    add("start: nonsense", started, start={"col4row": np.zeros(48, np.int64), "v": -rng.random(48) * 1e3})
    add("start: prices", started, start={"v": -rng.random(48) * 10}, small=True)
    add("start: itself", started, start={"of": np.array("cold")})
    add("start: a change", started + np.float32(rng.random((48, 48))), start={"of": np.array("cold")})
    return found


def solve_golden(solve, golden):
    """``golden``'s outputs as a dict of NumPy arrays; ``solve(cost, start, options)`` is the backend's."""
    start = tuple(golden.start.get(name) for name in ("col4row", "u", "v")) if golden.start else None
    result = solve(golden.cost, start, golden.options)
    values = [getattr(result, name) for name in OUTPUTS[:-1]] + [result.stats]
    return {name: np.asarray(value) for name, value in zip(OUTPUTS, values, strict=True)}


def answer(goldens):
    """Fill in the answers, by the shim."""
    sys.path.insert(0, str(ROOT / "tests"))
    from cuda_on_cpu import engine

    from loomfast.assignment import cuda

    engine.install(setattr, MULTIPROCESSORS, SHARED_PER_BLOCK)
    by_name = {golden.name: golden for golden in goldens}
    for golden in goldens:
        if "of" in golden.start:
            before = by_name[str(golden.start["of"])].answers
            golden.start = {name: before[name] for name in ("col4row", "u", "v")}
        golden.answers = solve_golden(on_tensors(cuda.solve), golden)
    return goldens


def on_tensors(solve, to_device=lambda tensor: tensor):
    """`loomfast.assignment.cuda.solve` for a Golden's arrays."""

    def run(cost, start, options):
        tensors = None
        if start is not None:
            tensors = tuple(None if part is None else to_device(as_tensor(part)) for part in start)
        return on_host(solve(to_device(as_tensor(cost)), start=tensors, **options))

    return run


def as_tensor(array):
    import torch

    tensor = torch.from_numpy(np.array(array))
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def on_host(result):
    from dataclasses import fields, replace

    return replace(result, **{f.name: getattr(result, f.name).cpu().numpy() for f in fields(result)})


def differences(found, golden):
    """The names of the outputs whose bits are not the golden ones."""
    return [name for name in OUTPUTS if np.asarray(found[name]).tobytes() != golden.answers[name].tobytes()]


def save(goldens, path):
    """All goldens in one .npz, with nothing pickled in it."""
    arrays = {"index": np.array(json.dumps([[g.name, g.options, g.small] for g in goldens]))}
    for k, golden in enumerate(goldens):
        arrays[f"{k}/cost"] = golden.cost
        arrays |= {f"{k}/start/{name}": value for name, value in golden.start.items()}
        arrays |= {f"{k}/answer/{name}": value for name, value in golden.answers.items()}
    np.savez_compressed(path, **arrays)


def load(path):
    """The goldens that `save` wrote."""
    with np.load(path, allow_pickle=False) as file:
        goldens = []
        for k, (name, options, small) in enumerate(json.loads(str(file["index"]))):
            parts = {"start": {}, "answer": {}}
            for key in file.files:
                number, _, rest = key.partition("/")
                kind, _, part = rest.partition("/")
                if number == str(k) and kind in parts:
                    parts[kind][part] = file[key]
            goldens.append(Golden(name, file[f"{k}/cost"], options, parts["start"], parts["answer"], small))
    return goldens


def save_noise_and_cost(path):
    """Noise bits of format 1 in three dtypes, and costs in float64 of inputs that a seed gives."""
    from loomfast.noise import reference

    ids = np.array([0, 1, 2**31, 2**40 + 5, -1, -(2**63)], np.int64)
    noise = reference.noise_from_ids(ids, (3, 32, 33), seed=2**63 + 7, domain=2)
    rng = np.random.default_rng(4)
    x, z = rng.standard_normal((130, 3072), np.float32), rng.standard_normal((70, 3072), np.float32)
    cost = ((x.astype(np.float64)[:, None] - z[None]) ** 2).sum(-1)
    np.savez_compressed(
        path, ids=ids, noise=noise, noise_bfloat16=reference.to_bfloat16_bits(noise), x=x, z=z, cost=cost
    )


def main(folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save(answer(instances()), folder / "assignment.npz")
    save_noise_and_cost(folder / "noise_and_cost.npz")


if __name__ == "__main__":
    main(sys.argv[1])
