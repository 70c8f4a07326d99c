"""Estimated times of the CUDA assignment solver on an H100, from counted work. Nothing here ran on a GPU.

    python bench/gpu_model.py             print the table from the recorded counts, and time the CPU here
    python bench/gpu_model.py --count     count the work again with the execution shim, and record
    python bench/gpu_model.py --sass      count the instructions of the inner loops again, and record

Two counts go in. gpu_counts.json: what the kernels themselves do, executed on the CPU by tests/cuda_on_cpu,
medians over seeds (one above 2048; 16384 takes half an hour). gpu_sass.json: the
instructions and dependent loads of each inner loop, from the disassembly of the kernels (bench/gpu/sass.py;
tests/test_cuda_build.py pins them). A time is the sum of these parts, none of them measured:

    launch       launching, and what a cooperative launch needs before it
    barriers     dependent steps * one barrier (of a block, a team of blocks or a cluster), and copying what
                 a cluster scans rows against
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
    # Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture via Microbenchmarking",
    # arXiv:2402.13499: 180 cycles to another multiprocessor's shared memory. The barrier, with its fence, is
    # taken as a little more than that. Clusters side by side where each of 8 groups gives 16 multiprocessors.
    cluster_barrier: float = 0.25e-6
    remote_cycles: int = 200
    clusters: tuple = ((2, 66), (4, 32), (8, 16), (16, 8))
    block_barrier: float = 4.0e-8
    shared_bytes: int = (227 << 10) - 1536  # of a block, beside what is static


@dataclass(frozen=True)
class Case:
    """``batch`` problems of a family, and where their counts are recorded."""

    family: str
    batch: int
    n: int
    m: int
    target: float | None = None

    @property
    def kernel(self):
        """Whose counts they are: those of a block, a team and a cluster are the same."""
        small = min(self.n, self.m) <= 64 and max(self.n, self.m) <= 128
        return "warp" if small else "grid16" if self.n <= 2048 else "grid32"

    @property
    def key(self):
        return f"{self.family} {self.n}" + (f" x {self.m}" if self.m != self.n else "") + f" {self.kernel}"


# Targets in ms: what the work on the kernels is to reach by this model.
CASES = (
    Case("img", 1, 128, 128),
    Case("img", 1, 256, 256),
    Case("img", 1, 512, 512, 0.7),
    Case("img", 1, 1024, 1024),
    Case("img", 1, 2048, 2048, 2.5),
    Case("img", 1, 4096, 4096, 6.0),
    Case("img", 1, 16384, 16384, 40.0),
    Case("img", 8, 512, 512),
    Case("img", 64, 512, 512, 2.0),
    Case("unif", 208, 300, 300, 1.2),
    Case("unif", 1024, 64, 64, 0.15),
    Case("unif", 96, 100, 50),
)


@dataclass(frozen=True)
class Way:
    """Who solves an instance: ``blocks`` blocks of a kernel, so many instances at once."""

    kernel: str
    blocks: int
    at_once: int

    def __str__(self):
        return "warp" if self.kernel == "warp" else f"{self.kernel} {self.blocks} x {self.at_once}"


# Rows of more columns keep lists; the other bids are found in them. Counted by an altered copy on img 16384
# with crews of 512: on the CPU lists of so many columns take longer than the scans that they save.
LISTED, SCANS_A_BID = 8192, 244_934 / 671_428
# What a warp does for a relaxed row beside the filter: turns with survivors, each with a load to wait for,
# of one column a lane, and of a quad where there are many. Counted on img 2048 by an altered copy.
TURNS_A_ROW, QUADS_A_ROW = 2.0, 0.8
# Following a tree to its root and back, at the end of a forest pass: hops of dependent loads.
HOPS_PER_PASS = 12
# Instructions of a lane for a turn, for one of a quad, for one column in a forest step, and to end a row.
TURN, QUAD, COLUMN_STEP, ROW_END = 75, 160, 140, 90


def count():
    """Median counters of the kernels, run by the shim, for every case."""
    sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]
    from assignment import costs
    from cuda_on_cpu.assignment import Problem, solve

    recorded = {}
    for case in CASES:
        if case.key in recorded:
            continue
        seeds = range(5 if case.n <= 2048 else 1)
        # The counts do not depend on the shape of the launch; this one runs fastest here.
        problems = [
            Problem(costs(case.family, case.n, case.m, seed=s), case.kernel, threads=32, blocks=1)
            for s in seeds
        ]
        solved = [s for part in solve(problems, timeout=10_000) for s in part]
        assert all(s.status == "optimal" for s in solved)
        stats = {key: statistics.median(s.stats[key] for s in solved) for key in solved[0].stats}
        recorded[case.key] = {"seeds": len(seeds), **stats}
        print(case.key, recorded[case.key], flush=True)
    return recorded


# Of a list of candidates: what a lane of a warp does to look through it, loads that it waits for, and
# quarterings of the bound of a new one, each with a sum over the crew.
LIST, LIST_WAITS, QUARTERINGS = 120, 4, 15


@dataclass(frozen=True)
class Machine:
    """Who works on one instance: ``crews`` of ``threads`` threads on ``processors`` multiprocessors."""

    device: Device
    processors: int
    crews: int
    threads: int
    near_cycles: int  # latency of what all rows are scanned against
    state_cycles: int  # latency of prices, bids and labels, one of them
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
        latency = loop["chain"] * max(self.near_cycles, cost_cycles or self.cost_cycles)
        one = loops * max(latency + d.lone_cycles * loop["instructions"], busy * loop["instructions"])
        one += max(d.lone_cycles, busy) * extra + 3 * d.collective_cycles + waits * self.state_cycles
        one += (3 * d.block_barrier * d.clock) if self.threads > 32 else 0
        return events * in_a_row * one / d.clock

    def lists(self, loop, columns, bids, scans, events):
        """Seconds of rounds that look through ``bids`` lists, a warp each, and make ``scans`` of them."""
        d = self.device
        warps = self.crews * self.threads // 32
        looks = ceil(bids / events / warps)
        look = LIST_WAITS * self.state_cycles + LIST * d.lone_cycles + 6 * d.collective_cycles
        loops = ceil(columns / (self.threads * loop["columns"]))
        again = loops * (d.l2_cycles + d.lone_cycles * loop["instructions"])
        meeting = d.block_barrier * d.clock + 2 * d.collective_cycles + d.shared_cycles
        made = ceil(scans / events / self.crews) * (again + QUARTERINGS * meeting)
        return events * (looks * look + made) / d.clock


def state_bytes(n, blocks):
    """What a block of so many keeps of the arrays of an instance."""
    return 512 + 132 * 4 * ceil(ceil(n / 4) / blocks)


def ways(case, device):
    """Every way there is to solve a case."""
    if case.kernel == "warp":
        return [Way("warp", 0, case.batch)]
    n, found = case.n, []
    if n <= 1024 and state_bytes(n, 1) <= device.shared_bytes:
        found.append(Way("block", 1, min(case.batch, device.multiprocessors)))
    if n <= 2048:
        for blocks, most in device.clusters:
            rows = 4 * ceil(ceil(n / 4) / blocks)
            if state_bytes(n, blocks) + 8 * n + 2 * rows * n <= device.shared_bytes:
                found.append(Way("cluster", blocks, min(case.batch, most)))
    blocks = device.multiprocessors
    while blocks:
        used = min(blocks, ceil(n / 32))
        found.append(Way(case.kernel, used, min(case.batch, device.multiprocessors // used)))
        blocks = (blocks + 1) // 2 if blocks > 1 else 0
    return found


def machine(way, n, device):
    """(who works on one instance, latency of its quantised costs)."""
    d, quantised = device, 4 if way.kernel == "grid32" else 2
    if way.kernel == "block":
        inside = n * n * quantised + state_bytes(n, 1) < d.shared_bytes
        own = Machine(d, 1, min((n + 7) // 8, 16), 32, d.shared_cycles, d.shared_cycles, d.l2_cycles)
        return own, d.shared_cycles if inside else d.l2_cycles
    if way.kernel == "cluster":
        rows = 4 * ceil(ceil(n / 4) / way.blocks)
        held = state_bytes(n, way.blocks) + 8 * n + 6 * rows * n <= d.shared_bytes
        costs = d.shared_cycles if held else d.l2_cycles
        own = Machine(d, way.blocks, way.blocks * 16, 32, d.shared_cycles, d.remote_cycles, costs)
        return own, d.shared_cycles
    crew = 32 if way.kernel == "grid16" else 128 if n <= LISTED else 512
    cycles = d.l2_cycles if way.at_once * n * n * (quantised + 4) < 0.7 * d.l2_bytes else d.hbm_cycles
    own = Machine(d, way.blocks, way.blocks * 512 // crew, crew, d.l2_cycles, d.l2_cycles, cycles)
    return own, cycles


def barrier_seconds(way, n, device):
    """One barrier; in a cluster with reading what blocks bring and copying what rows are scanned against."""
    if way.kernel == "block":
        return device.block_barrier
    if way.kernel == "cluster":
        copies = ceil(n / 2048) * device.remote_cycles + device.block_barrier * device.clock
        read = device.remote_cycles + device.collective_cycles
        return device.cluster_barrier + (copies + read) / device.clock
    return device.grid_barrier


def estimate(case, way, counts, sass, device):
    """Seconds of each of PARTS for the whole batch."""
    if way.kernel == "warp":
        return _estimate_warps(case, counts, sass, device)
    n = case.n
    loops = sass[f"{way.kernel} float"]
    own, bid_cycles = machine(way, n, device)
    inside = bid_cycles == device.shared_cycles
    turns = ceil(case.batch / way.at_once)
    bandwidth = device.l2 if way.at_once * n * n * 4 < 0.7 * device.l2_bytes else device.hbm

    def moved(rows, width, from_shared=False):
        return 0.0 if from_shared else rows * n * width * way.at_once / bandwidth

    quantised = 4 if way.kernel == "grid32" else 2
    scans = counts["bids"] * (SCANS_A_BID if n > LISTED else 1.0)
    held = own.cost_cycles == device.shared_cycles
    columns = COLUMN_STEP * ceil(n / (own.crews * own.threads)) * device.lone_cycles + 2 * own.state_cycles
    passes = counts["repair_passes"] + 4
    parts = {
        "launch": device.launch,
        "barriers": counts["barriers"] * barrier_seconds(way, n, device),
        "auction": max(
            own.scan(loops["best_two"], n, scans, counts["rounds"], bid_cycles, ROW_END),
            moved(scans, quantised, inside),
        )
        + (own.lists(loops["best_two"], n, counts["bids"], scans, counts["rounds"]) if n > LISTED else 0.0),
        "repair": max(
            own.scan(loops["row_minimum"], n, n * passes, passes, extra=ROW_END), moved(n * passes, 4, held)
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
            moved(counts["rows_relaxed"], 4, held),
        ),
    }
    parts["other"] = counts["forest_passes"] * (2 * HOPS_PER_PASS + 16) * own.state_cycles / device.clock
    parts["other"] += own.scan(loops["row_minimum"], n, n, 1, extra=2 * ROW_END)
    return {name: seconds * (1 if name == "launch" else turns) for name, seconds in parts.items()}


def best_way(case, counts, sass, device):
    """The way of the least time, and that time's parts."""
    found = [(way, estimate(case, way, counts, sass, device)) for way in ways(case, device)]
    return min(found, key=lambda pair: sum(pair[1].values()))


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


# Of four normals, on the longest way through the loop: what tests/test_noise_cuda.py allows and counts in the
# machine code of sm_80, sm_90 and sm_100. The share of issue slots that are used is an assumption.
NOISE_INSTRUCTIONS, NOISE_ISSUE = 275, 0.92


def noise_rate(device):
    """float32 normals a second: bound by instructions or by storing them."""
    slots = device.multiprocessors * device.schedulers * 32 * device.clock
    return min(NOISE_ISSUE * 4 * slots / NOISE_INSTRUCTIONS, device.hbm / 4)


# Operations a second of a product in each of Triton's precisions, cuBLAS's and Triton's alike; seconds of a
# launch after another. Assumptions.
PRODUCT_RATES = {"ieee": 50e12, "tf32": 400e12, "bf16": 600e12}
LAUNCH_AFTER_ANOTHER = 2.0e-6
COST_SIZES = (128, 256, 512, 1024, 2048, 4096, 8192)


def cost_ratio(n, d, precision, device):
    """(how the cost of n x n items of d numbers is computed, its time over that of cuBLAS's product alone).

    cuBLAS is given tiles of 64 x 64 or the division of the depth that ours has, whichever is faster.
    """
    from loomfast.kernels import cost, cost_split

    from loomfast.cost import gpu

    tile, width = cost.tile_for(90, precision), 2 if precision == "bf16" else 4

    def moved(count):
        return count / (device.l2 if count < 0.7 * device.l2_bytes else device.hbm)

    def product(parts, rows, columns):
        busy = min(1.0, ceil(n / rows) * ceil(n / columns) * parts / device.multiprocessors)
        stored = moved(2 * n * d * width) + moved(4 * n * n * parts)
        return LAUNCH_AFTER_ANOTHER + max(2 * n * n * d / PRODUCT_RATES[precision] / busy, stored)

    parts, _ = cost_split.parts_of(n, n, d, tile)
    norms = LAUNCH_AFTER_ANOTHER + moved(2 * n * d * width)
    alone = product(1, 64, 64)
    if parts > 1:
        divided = (
            product(parts, tile.rows, tile.columns) + LAUNCH_AFTER_ANOTHER + moved(4 * n * n * (parts + 1))
        )
        alone = min(alone, divided)
        return "divided", divided / alone
    few = ceil(n / tile.rows) * ceil(n / tile.columns) < gpu.LEAST_TILES
    if few or d >= gpu.LEAST_DEPTH[precision]:
        return "cuBLAS", (alone + norms + LAUNCH_AFTER_ANOTHER + moved(8 * n * n)) / alone
    return "fused", (norms + product(1, tile.rows, tile.columns) + LAUNCH_AFTER_ANOTHER) / alone


def cost_table(device):
    lines = ["costs of n x n items of 3072 numbers over cuBLAS's product alone, estimates; target 1.15:"]
    for precision in PRODUCT_RATES:
        found = [(n, *cost_ratio(n, 3072, precision, device)) for n in COST_SIZES]
        lines.append(f"{precision:>6}  " + "  ".join(f"{n}: {ratio:.2f} {way}" for n, way, ratio in found))
    return lines


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
        f"{'case':>26} {'way':>18} {'steps':>6} "
        + " ".join(f"{part:>9}" for part in PARTS)
        + f" {'GPU, ms':>9} {'target':>7} {'CPU core here':>14}",
    ]
    for case in CASES:
        counts = recorded[case.key]
        way, parts = best_way(case, counts, sass, device)
        total = sum(parts.values())
        steps = counts["rounds"] + counts["repair_passes"] + counts["forest_steps"]
        seconds = cpu(case) if cpu else None
        name = f"{case.batch} x {case.key.rsplit(' ', 1)[0]}"
        times = " ".join(f"{parts[part] * 1e3:9.3f}" for part in PARTS)
        lines.append(
            f"{name:>26} {way!s:>18} {steps:>6.0f} {times} {total * 1e3:9.2f} "
            + f"{case.target or '-':>7} "
            + (f"{seconds * 1e3:11.2f} ms" if seconds else f"{'-':>14}")
        )
    lines += [
        "",
        f"noise, an estimate too: {noise_rate(device) / 1e9:.0f} G normals a second, target 380",
        "",
        *cost_table(device),
        "",
        "steps: rounds, repairs and forest steps, each of which waits for the one before it.",
        "way: blocks an instance x instances at once, the way of the least time; warp: an instance a warp.",
    ]
    return "\n".join(lines)


def count_sass():
    """The inner loops of every architecture, from a fresh build of the kernels."""
    import tempfile

    from gpu import sass

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in sass.ARCHITECTURES:
            target = Path(folder) / f"{architecture}.o"
            done = sass.compile_kernels(architecture, target)
            if done.returncode:
                raise RuntimeError(done.stderr)
            found[str(architecture)] = sass.count_loops(sass.disassemble(target))
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
