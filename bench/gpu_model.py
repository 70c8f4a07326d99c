"""Estimated times of the CUDA assignment solver on an H100, from counted work. Nothing here ran on a GPU.

    python bench/gpu_model.py             print the table from the recorded counts, and time the CPU here
    python bench/gpu_model.py --count     count the work again with the execution shim, and record
    python bench/gpu_model.py --sass      count the instructions of the inner loops again, and record

Two counts go in. gpu_counts.json: what the kernels themselves do, executed on the CPU by tests/cuda_on_cpu,
medians over seeds; 16384 comes from a simulation of an older form of the algorithm. gpu_sass.json: the
instructions and dependent loads of each inner loop, from the disassembly of the kernels (bench/gpu/sass.py;
tests/test_cuda_build.py pins them). A time is the sum of these parts, none of them measured:

    launch       launching, and what a cooperative launch needs before it
    barriers     dependent steps * one barrier (of the grid, or of a block)
    auction      rounds: the longest chain of row scans, by issue slots and by latency, and its bytes
    repair       repair passes and the four passes of preparation, the same way
    forest       forest steps: what every column does in each, and relaxed rows the same way
    other        ends of passes, the certificate, what a small instance does for each row
"""

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS = Path(__file__).with_name("gpu_counts.json")
SASS = Path(__file__).with_name("gpu_sass.json")
PARTS = ("launch", "barriers", "auction", "repair", "forest", "other")


@dataclass(frozen=True)
class Device:
    """An H100 SXM; cycles, seconds and bytes per second.

    Bandwidths: NVIDIA's H100 data sheet gives 3.35 TB/s of HBM3, of which 85 % is taken, and 50 MB of L2;
    chipsandcheese.com, "Nvidia's H100: Funny L2, and Tons of Bandwidth" (2023) measures the L2 at 4-5.7 TB/s
    and its latency at about 150 ns (far partition 200), HBM at about 300 ns. Zhang et al., "A Study of Single
    and Multi-device Synchronization Methods in Nvidia GPUs", arXiv:2004.05371, gives tens of ns for a block's
    barrier. A grid barrier here is two of those, a fence, an atomic and two reads of the L2.
    """

    multiprocessors: int = 132
    schedulers: int = 4
    clock: float = 1.7e9
    hbm: float = 2.8e12
    l2: float = 4.0e12
    l2_bytes: int = 50 << 20
    l2_cycles: int = 300
    hbm_cycles: int = 680
    shared_cycles: int = 30
    collective_cycles: int = (
        26  # a shuffle, a vote or a reduction over a warp that the next instruction waits for
    )
    lone_cycles: float = (
        2.0  # an instruction of a warp that has a scheduler for itself: half depend on the last
    )
    launch: float = 4.0e-6
    grid_barrier: float = 0.95e-6
    block_barrier: float = 4.0e-8
    shared_bytes: int = 227 << 10


@dataclass(frozen=True)
class Case:
    """``batch`` problems of a family, and where their counts are recorded."""

    family: str
    batch: int
    n: int
    m: int
    kernel: str
    target: float | None = None

    @property
    def key(self):
        return f"{self.family} {self.n}" + (f" x {self.m}" if self.m != self.n else "") + f" {self.kernel}"


# Targets in ms: what the work on the kernels is to reach by this model.
CASES = (
    Case("img", 1, 128, 128, "block"),
    Case("img", 1, 256, 256, "block"),
    Case("img", 1, 512, 512, "grid16", 0.7),
    Case("img", 1, 1024, 1024, "grid16"),
    Case("img", 1, 2048, 2048, "grid16", 2.5),
    Case("img", 1, 4096, 4096, "grid32", 6.0),
    Case("img", 1, 16384, 16384, "grid32", 40.0),
    Case("img", 64, 512, 512, "block", 2.0),
    Case("unif", 208, 300, 300, "block", 1.2),
    Case("unif", 1024, 64, 64, "warp", 0.15),
    Case("unif", 96, 100, 50, "warp"),
)
# (rounds, bids per row, repair passes, forest steps, relaxed rows per row, forest passes) by the simulation.
SIMULATED = {16384: (753, 34, 13, 952, 65, 14)}
# What a warp does for a relaxed row beside the filter: turns with survivors, each with a load to wait for,
# of one column a lane, and of a quad where there are many. Counted on img 2048 by an altered copy.
TURNS_A_ROW, QUADS_A_ROW = 2.0, 0.8
# Following a tree to its root and back, at the end of a forest pass: hops of dependent loads.
HOPS_PER_PASS = 12
# Instructions of a lane for a turn, for one of a quad, for one column in a forest step, and to end a row.
TURN, QUAD, COLUMN_STEP, ROW_END = 75, 160, 140, 90


def count():
    """Median counters of the kernels, run by the shim, for every case that is not simulated."""
    sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]
    from assignment import costs
    from cuda_on_cpu.assignment import Problem, solve

    names = {"block": "block16", "grid16": "grid16", "grid32": "grid32", "warp": "warp"}
    recorded = {}
    for case in CASES:
        if case.n in SIMULATED or case.key in recorded:
            continue
        seeds = range(5 if case.n <= 2048 else 1)
        # The counts do not depend on the shape of the launch; this one runs fastest here.
        problems = [
            Problem(costs(case.family, case.n, case.m, seed=s), names[case.kernel], threads=32, blocks=1)
            for s in seeds
        ]
        solved = [s for part in solve(problems, timeout=3600) for s in part]
        assert all(s.status == "optimal" for s in solved)
        stats = {key: statistics.median(s.stats[key] for s in solved) for key in solved[0].stats}
        recorded[case.key] = {"seeds": len(seeds), **stats}
        print(case.key, recorded[case.key], flush=True)
    return recorded


def simulated(n):
    rounds, bids, repairs, steps, relaxed, passes = SIMULATED[n]
    barriers = rounds + repairs + steps + 4 * passes + 25
    return {
        **{"seeds": 0, "barriers": barriers, "rounds": rounds, "bids": bids * n},
        **{"repair_passes": repairs, "forest_passes": passes, "forest_steps": steps},
        "rows_relaxed": relaxed * n,
    }


@dataclass(frozen=True)
class Machine:
    """Who works on one instance: ``crews`` of ``threads`` threads on ``processors`` multiprocessors."""

    device: Device
    processors: int
    crews: int
    threads: int
    state_cycles: int  # latency of prices, bids and labels
    cost_cycles: int  # latency of the costs

    def scan(self, loop, columns, rows, events, cost_cycles=None, extra=0.0, waits=0.0):
        """Seconds of ``events`` rounds that scan ``rows`` rows between them.

        A crew takes its rows one after the other; each takes its latencies and the issue slots of its own
        instructions, or those of all warps of its scheduler where these are more. ``extra`` instructions a
        row and lane follow, and ``waits`` for a load.
        """
        if not rows:
            return 0.0
        d = self.device
        loops = ceil(columns / (self.threads * loop["columns"]))
        per_event = rows / max(events, 1)
        in_a_row = ceil(per_event / self.crews)
        busy = min(per_event, self.crews) * self.threads / 32 / (self.processors * d.schedulers)
        latency = loop["chain"] * max(self.state_cycles, cost_cycles or self.cost_cycles)
        one = loops * max(latency + d.lone_cycles * loop["instructions"], busy * loop["instructions"])
        one += max(d.lone_cycles, busy) * extra + 3 * d.collective_cycles + waits * self.state_cycles
        one += (3 * d.block_barrier * d.clock) if self.threads > 32 else 0
        return events * in_a_row * one / d.clock


def estimate(case, counts, sass, device):
    """Seconds of each of PARTS for the whole batch."""
    if case.kernel == "warp":
        return _estimate_warps(case, counts, sass, device)
    block = case.kernel == "block"
    n = case.n
    loops = sass[{"block": "block float"}.get(case.kernel, f"{case.kernel} float")]
    quantised = 4 if case.kernel == "grid32" else 2
    if block:
        warps = min((n + 7) // 8, 16)
        inside = n * n * quantised + 130 * n < device.shared_bytes
        own = Machine(device, 1, warps, 32, device.shared_cycles, device.l2_cycles)
        bid_cycles = device.shared_cycles if inside else device.l2_cycles
        waves = ceil(case.batch / device.multiprocessors)
    else:
        grid = min(device.multiprocessors, ceil(n / 32))
        crew = 512 if case.kernel == "grid32" else 32
        inside = False
        in_l2 = n * n * (quantised + 4) < 0.7 * device.l2_bytes
        cycles = device.l2_cycles if in_l2 else device.hbm_cycles
        own = Machine(device, grid, grid * 512 // crew, crew, device.l2_cycles, cycles)
        bid_cycles, waves = cycles, case.batch
    share = min(case.batch, device.multiprocessors) if block else 1
    instances = share * n * n * 4
    bandwidth = device.l2 if instances < 0.7 * device.l2_bytes else device.hbm

    def moved(rows, width):
        return rows * n * width * share / bandwidth

    columns = COLUMN_STEP * ceil(n / (own.crews * own.threads)) * device.lone_cycles + 2 * own.state_cycles
    parts = {
        "launch": device.launch,
        "barriers": counts["barriers"] * (device.block_barrier if block else device.grid_barrier),
        "auction": max(
            own.scan(loops["best_two"], n, counts["bids"], counts["rounds"], bid_cycles, ROW_END),
            0 if inside else moved(counts["bids"], quantised),
        ),
        "repair": max(
            own.scan(
                loops["row_minimum"],
                n,
                n * (counts["repair_passes"] + 4),
                counts["repair_passes"] + 4,
                extra=ROW_END,
            ),
            moved(n * (counts["repair_passes"] + 4), 4),
        ),
        "forest": counts["forest_steps"] * columns / device.clock
        + max(
            own.scan(
                loops["relax"],
                n,
                counts["rows_relaxed"],
                counts["forest_steps"],
                extra=TURN * TURNS_A_ROW + QUAD * QUADS_A_ROW,
                waits=TURNS_A_ROW + QUADS_A_ROW,
            ),
            moved(counts["rows_relaxed"], 4),
        ),
    }
    parts["other"] = counts["forest_passes"] * (2 * HOPS_PER_PASS + 16) * own.state_cycles / device.clock
    parts["other"] += own.scan(loops["row_minimum"], n, n, 1, extra=2 * ROW_END)
    return {name: seconds * (1 if name == "launch" else waves) for name, seconds in parts.items()}


def _estimate_warps(case, counts, sass, device):
    """The warp kernel: steps one after the other, as many instances side by side as shared memory holds."""
    loops = sass["warp 2" if max(case.n, case.m) <= 64 else "warp 4"]
    rows, columns = min(case.n, case.m), max(case.n, case.m)
    width = 64 if columns <= 64 else 128
    bytes_of_one = rows * (width * 4 + 20) + width * 8
    resident = min(device.shared_bytes // bytes_of_one, 16) * device.multiprocessors
    side_by_side = min(case.batch, resident)
    busy = side_by_side / device.multiprocessors / device.schedulers

    def seconds(loop, times):
        alone = device.lone_cycles * loop["instructions"] + loop["chain"] * device.shared_cycles
        alone += loop["collectives"] * device.collective_cycles
        return times * max(alone, busy * loop["instructions"]) / device.clock

    waves = ceil(case.batch / resident)
    parts = dict.fromkeys(PARTS, 0.0)
    parts["launch"] = device.launch
    parts["auction"] = waves * seconds(loops["reduction"], counts["bids"])
    parts["forest"] = waves * seconds(loops["path"], counts["forest_steps"])
    # Costs come in, rows are reduced twice, and a lane certifies a row.
    staging = rows * (width / 32) * (device.l2_cycles + 40 * device.lone_cycles)
    passes = 2 * rows * (40 * device.lone_cycles + device.shared_cycles + 5 * device.collective_cycles)
    proof = ceil(rows / 32) * width * 16 * device.lone_cycles
    parts["other"] = waves * (staging + passes + proof) / device.clock
    return parts


def cpu_seconds(case):
    """One core of this machine, the least of three calls; None where a case takes too long to make."""
    if case.n > 4096:
        return None
    sys.path.insert(0, str(Path(__file__).parent))
    from assignment import costs

    import loomfast

    cost = costs(case.family, case.n, case.m)
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        loomfast.solve(cost, threads=1)
        times.append(time.perf_counter() - begin)
    return min(times) * case.batch


def table(recorded, sass, device, cpu=None):
    lines = [
        "ESTIMATES for one H100 SXM: a model fed with counts. No time below was measured on a GPU.",
        "",
        f"{'case':>26} {'steps':>6} "
        + " ".join(f"{part:>9}" for part in PARTS)
        + f" {'GPU, ms':>9} {'target':>7} {'CPU core here':>14}",
    ]
    for case in CASES:
        counts = recorded.get(case.key) or simulated(case.n)
        parts = estimate(case, counts, sass, device)
        total = sum(parts.values())
        steps = counts["rounds"] + counts["repair_passes"] + counts["forest_steps"]
        seconds = cpu(case) if cpu else None
        times = " ".join(f"{parts[part] * 1e3:9.3f}" for part in PARTS)
        lines.append(
            f"{str(case.batch) + ' x ' + case.key:>26} {steps:>6.0f} {times} {total * 1e3:9.2f} "
            + f"{case.target or '-':>7} "
            + (f"{seconds * 1e3:11.2f} ms" if seconds else f"{'-':>14}")
        )
    lines += [
        "",
        "steps: rounds, repairs and forest steps, each of which waits for the one before it.",
        "block: an instance a block, 132 at once. grid: the whole GPU. warp: an instance a warp.",
    ]
    return "\n".join(lines)


def count_sass():
    """The inner loops of every architecture, from a fresh build of the kernels."""
    import tempfile

    from gpu import sass

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in sass.ARCHITECTURES:
            cubin = Path(folder) / f"{architecture}.cubin"
            done = sass.compile_kernels(architecture, cubin)
            if done.returncode:
                raise RuntimeError(done.stderr)
            found[str(architecture)] = sass.count_loops(sass.disassemble(cubin))
            print(f"sm_{architecture} counted", flush=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--count", action="store_true", help="count the work with the shim and record (minutes)"
    )
    parser.add_argument(
        "--sass", action="store_true", help="count the machine code and record (minutes; nvcc)"
    )
    parser.add_argument("--no-cpu", action="store_true", help="do not time the CPU")
    arguments = parser.parse_args()
    if arguments.count:
        COUNTS.write_text(json.dumps(count(), indent=1) + "\n")
    if arguments.sass:
        SASS.write_text(json.dumps(count_sass(), indent=1) + "\n")
    recorded, sass = json.loads(COUNTS.read_text()), json.loads(SASS.read_text())["90"]
    print(table(recorded, sass, Device(), None if arguments.no_cpu else cpu_seconds))


if __name__ == "__main__":
    main()
