"""Estimated times of the CUDA assignment solver on an H100, from counted work. Nothing here ran on a GPU.

    python bench/gpu_model.py             print the table from the recorded counts
    python bench/gpu_model.py --count     count again with the execution shim, and record

The counts up to n = 4096 are those of the kernels themselves, executed on the CPU by tests/cuda_on_cpu, on
squared distances of natural image patches to noise (family img of bench/assignment.py); medians over seeds.
Above, they come from a simulation of an older form of the algorithm, whose labels did not descend old trees
(rounds, bids, steps and relaxed rows; 65536 is extrapolated). A time is the sum of three parts, none of them
measured:

    barriers     barriers * (grid or block barrier)
    latency      for every round, pass and step: the longest chain of row scans by one warp (block: n > 2048)
    throughput   bytes moved / bandwidth
"""

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from math import ceil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COUNTS = Path(__file__).with_name("gpu_counts.json")


@dataclass(frozen=True)
class Device:
    """An H100 SXM; seconds and bytes per second.

    Bandwidths: NVIDIA's H100 data sheet gives 3.35 TB/s of HBM3, of which 85 % is taken, and 50 MB of L2;
    chipsandcheese.com, "Nvidia's H100: Funny L2, and Tons of Bandwidth" (2023) measures the L2 at 4-5.7 TB/s
    and its latency at about 150 ns (far partition 200), HBM at about 300 ns. A grid barrier takes 1.2-2.5 us
    on earlier parts: Zhang et al., "A Study of Single and Multi-device Synchronization Methods in Nvidia
    GPUs", arXiv:2004.05371, which also gives tens of ns for a block's barrier.
    """

    multiprocessors: int = 132
    clock: float = 1.7e9
    hbm: float = 2.8e12
    l2: float = 4.0e12
    l2_bytes: int = 50 << 20
    l2_latency: float = 2.0e-7
    hbm_latency: float = 4.0e-7
    launch: float = 4.0e-6
    grid_barrier: float = 1.7e-6
    block_barrier: float = 4.0e-8
    pcie: float = 5.0e10


# A warp has about four independent loads under way. From shared memory an iteration of 32 columns costs
# about 25 cycles; the two-value reduction over a warp 20 shuffles of about 25 cycles.
LOADS_IN_FLIGHT = 4
SHARED_CYCLES = 25
REDUCTION_CYCLES = 500
# Ancestors of a column that a forest step looks at: independent loads, an index and then a label.
ANCESTORS = 8
# Following a tree to its root and back, at the end of a forest pass: hops of dependent loads.
HOPS_PER_PASS = 12

# (rounds, bids per row, repair passes, forest steps, relaxed rows per row, forest passes) by the simulation.
SIMULATED = {
    8192: (300, 28, 10, 709, 48, 12),
    16384: (753, 34, 13, 952, 65, 14),
    65536: (1700, 40, 13, 3000, 65, 20),
}
# One core of a CPU with AVX-512, and scipy on it, in seconds: the prototype's and scipy's img column.
CPU = {128: 1.7e-4, 256: 4.4e-4, 512: 1.44e-3, 1024: 4.7e-3, 2048: 0.017, 4096: 0.081, 8192: 0.5, 16384: 2.1}


def count(sizes):
    """Median counters of the kernels, run by the shim."""
    sys.path[:0] = [str(ROOT / "tests"), str(Path(__file__).parent)]
    from assignment import costs
    from cuda_on_cpu.assignment import Problem, solve

    recorded = {}
    for n in sizes:
        kernel = "block16" if n <= 256 else "grid16" if n <= 2048 else "grid32"
        seeds = range(5 if n <= 2048 else 1)
        # The counts do not depend on the shape of the launch; this one runs fastest here.
        problems = [Problem(costs("img", n, seed=s), kernel, threads=32, blocks=1) for s in seeds]
        solved = [s for part in solve(problems, timeout=3600) for s in part]
        assert all(s.status == "optimal" for s in solved)
        stats = {key: statistics.median(s.stats[key] for s in solved) for key in solved[0].stats}
        recorded[n] = {"kernel": kernel, "seeds": len(seeds), **stats}
        print(n, recorded[n], flush=True)
    return recorded


def simulated(n):
    rounds, bids, repairs, steps, relaxed, passes = SIMULATED[n]
    barriers = rounds + repairs + steps + 4 * passes + 25
    return {
        **{"kernel": "grid32", "seeds": 0, "barriers": barriers, "rounds": rounds, "bids": bids * n},
        **{"repair_passes": repairs, "forest_passes": passes, "forest_steps": steps},
        "rows_relaxed": relaxed * n,
    }


def iteration_seconds(device, in_shared, in_l2):
    """One warp over 32 columns."""
    if in_shared:
        return SHARED_CYCLES / device.clock
    return (device.l2_latency if in_l2 else device.hbm_latency) / LOADS_IN_FLIGHT


def work_seconds(device, n, events, rows, crews, crew, size, in_shared, in_l2, reduction):
    """(latency, throughput) of `events` rounds that scan `rows` rows between them, `crew` threads a row."""
    per_event = rows / max(events, 1)
    scan = ceil(n / crew) * iteration_seconds(device, in_shared, in_l2) + reduction / device.clock
    if crew > 32:
        scan += 3 * device.block_barrier
    latency = events * ceil(per_event / crews) * scan
    of_cost, of_vectors = (0, 0) if in_shared else (rows * n * size[0], rows * n * size[1])
    return latency, of_cost / (device.l2 if in_l2 else device.hbm) + of_vectors / device.l2


def estimate(n, counts, device):
    """Seconds: {"barriers", "latency", "throughput", "total"}; for a block, with 132 of them at work."""
    block = counts["kernel"].startswith("block")
    quantised = 4 if counts["kernel"].endswith("32") else 2
    width = (n + 7) // 8 * 32 if block else 512
    crew = 512 if quantised == 4 else 32
    grid = min(device.multiprocessors, ceil(n / 32))
    crews = min(width, 512) // 32 if block else grid if crew > 32 else 16 * grid
    in_l2 = n * n * (quantised + 4) < 0.7 * device.l2_bytes
    in_shared = block and n * n * quantised + 120 * n < 227 << 10
    parts = [
        # Bytes of the cost, and of the prices, bids and labels beside it, which stay in the L2.
        (counts["rounds"], counts["bids"], (quantised, 8), in_shared, REDUCTION_CYCLES),
        (counts["repair_passes"], counts["repair_passes"] * n, (4, 8), False, REDUCTION_CYCLES / 2),
        (counts["forest_steps"], counts["rows_relaxed"], (4, 16), False, 0),
        (6, 6 * n, (4, 4), False, REDUCTION_CYCLES),  # survey, reductions, quantising, certificate
    ]
    latency = throughput = 0.0
    for events, rows, size, shared, reduction in parts:
        part = work_seconds(device, n, events, rows, crews, crew, size, shared, in_l2, reduction)
        latency += part[0]
        throughput += part[1] * (device.multiprocessors if block else 1)
    latency += counts["forest_passes"] * 2 * HOPS_PER_PASS * device.l2_latency / (4 if block else 1)
    descent = 2 * ANCESTORS * SHARED_CYCLES / device.clock if block else 2 * device.l2_latency
    latency += counts["forest_steps"] * descent
    barrier = device.block_barrier if block else device.grid_barrier
    barriers = counts["barriers"] * barrier
    total = device.launch + barriers + latency + throughput / (device.multiprocessors if block else 1)
    return {"barriers": barriers, "latency": latency, "throughput": throughput, "total": total}


def table(recorded, device):
    lines = [
        "ESTIMATES for one H100 SXM: a model fed with counts. No time below was measured on a GPU.",
        "",
        f"{'n':>6} {'kernel':>8} {'counts':>9} {'barriers':>9} {'bids/n':>7} {'relaxed/n':>9} "
        f"{'barrier':>9} {'latency':>9} {'bytes':>9} {'GPU':>9} {'CPU core + copy':>15}",
    ]
    for n, counts in recorded.items():
        e = estimate(n, counts, device)
        source = f"{counts['seeds']} seeds" if counts["seeds"] else "simulated"
        cpu = f"{(CPU[n] + 4 * n * n / device.pcie) * 1e3:12.2f} ms" if n in CPU else "-"
        times = " ".join(f"{e[k] * 1e3:6.2f} ms" for k in ("barriers", "latency", "throughput", "total"))
        lines.append(
            f"{n:>6} {counts['kernel']:>8} {source:>9} {counts['barriers']:>9.0f} {counts['bids'] / n:>7.1f} "
            f"{counts['rows_relaxed'] / n:>9.1f} {times} {cpu:>15}"
        )
    lines += [
        "",
        "block: one instance in one block, of which 132 run at once. grid: one instance on the whole GPU.",
        "barriers: every dependent step: rounds, repairs, forest steps, ends of passes, preparation.",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", action="store_true", help="count with the shim and record (minutes)")
    parser.add_argument("--sizes", default="128,256,512,1024,2048,4096", help="sizes to count")
    arguments = parser.parse_args()
    if arguments.count:
        recorded = count([int(n) for n in arguments.sizes.split(",")])
        COUNTS.write_text(json.dumps(recorded, indent=1) + "\n")
    recorded = {int(n): counts for n, counts in json.loads(COUNTS.read_text()).items()}
    print(table(recorded | {n: simulated(n) for n in SIMULATED}, Device()))


if __name__ == "__main__":
    main()
