"""What the machine code of the assignment kernels does in its inner loops, counted from their disassembly.

A loop is found by what is on its hot path, the shortest way from its first instruction back to it: that of
an iteration in which nothing survives a filter and nobody waits. Counted there are the instructions, the
loads by width, what the whole warp does together, and the longest chain of loads that wait for each other.
"""

import heapq
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = (80, 90, 100)
KERNELS = {
    "block float": "solve_blockIft",
    "grid16 float": "solve_gridIft",
    "grid32 float": "solve_gridIfi",
    "cluster float": "solve_clusterIf",
    "block double": "solve_blockIdt",
    "grid16 double": "solve_gridIdt",
    "grid32 double": "solve_gridIdi",
    "cluster double": "solve_clusterId",
    "warp 2": "solve_warpIfLi2",
    "warp 4": "solve_warpIfLi4",
    "warp 2 double": "solve_warpIdLi2",
    "warp 4 double": "solve_warpIdLi4",
}


@dataclass(frozen=True)
class Loop:
    """An inner loop: what its hot path must hold, at least so often, and the columns a thread does in it."""

    wanted: dict
    columns: int


# What makes a loop the one it is; that it is found at all says that it is unrolled and vectorised.
LOOPS = {
    "relax": Loop({r"FFMA": 16, r"FMNMX": 8, r"LD\S*\.128": 8}, 16),
    "best_two": Loop({r"(V\w*|I)MNMX": 40, r"LD": 8}, 16),
    "row_minimum": Loop({r"F2I\.S64": 16, r"FMUL": 32, r"LD\S*\.128": 12}, 16),
    # A step of a search for a path, and of a reduction: they wait for the warp, not for memory.
    "path": Loop({r"C?REDUX": 2, r"VOTEU?": 2, r"SHFL": 2, r"F2I\.S64": 2}, 0),
    "reduction": Loop({r"C?REDUX": 4, r"VOTEU?": 1, r"SHFL": 2, r"F2I\.S64": 2}, 0),
}


def disassembler():
    """The path of cuobjdump, on PATH or in the package of triton; None where there is none."""
    found = shutil.which("cuobjdump")
    if found is None:
        try:
            import triton
        except ImportError:
            return None
        inside = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
        found = str(inside) if inside.exists() else None
    return found


def compile_kernels(architecture, target, *options):
    """Compile the assignment kernels into the object ``target``; returns the finished process."""
    command = ["nvcc", "-std=c++17", f"-arch=sm_{architecture}", "-c", "-o", str(target), *options]
    command += [f"-I{ROOT / 'csrc'}", f'-DLOOMFAST_CUDA_ARCHITECTURES="{architecture}"']
    command.append(str(ROOT / "csrc" / "assignment" / "cuda" / "assignment.cu"))
    return subprocess.run(command, capture_output=True, text=True)


def disassemble(compiled):
    """{function: [(address, text of the instruction), ...]} of an object or a cubin."""
    tool = Path(disassembler())
    # cuobjdump calls nvdisasm, which lies beside it.
    environment = {"PATH": f"{tool.parent}:/usr/bin:/bin"}
    done = subprocess.run(
        [tool, "-sass", str(compiled)], capture_output=True, text=True, check=True, env=environment
    )
    functions, name = {}, None
    for line in done.stdout.splitlines():
        if match := re.match(r"\s*Function : (\S+)", line):
            name = match.group(1)
            functions[name] = []
        elif name and (match := re.match(r"\s*/\*([0-9a-f]{4,})\*/\s+(.*?);\s*/\*", line)):
            functions[name].append((int(match.group(1), 16), match.group(2).strip()))
    return functions


def _target(text):
    """Where an instruction jumps to; not where BRA.DIV goes if a warp that should be together is not."""
    if re.search(r"\bBRA\.(DIV|CONV)", text):
        return None
    match = re.search(r"\bBRA\S*\s+(?:\S+,\s*)*0x([0-9a-f]+)", text)
    return int(match.group(1), 16) if match else None


def _leaves(text):
    """Whether nothing follows an instruction but what it jumps to."""
    jump = re.match(r"(BRA|EXIT|RET|BRX|JMP)\b(?!\.(DIV|CONV))", text)
    return jump is not None and re.search(r"\bU?P\d", text) is None


def _graph(code):
    """Blocks of straight code: ({first index: one past the last}, {first index: those that may follow})."""
    index = {address: k for k, (address, _) in enumerate(code)}
    leaders, jumps = {0}, {}
    for k, (_, text) in enumerate(code):
        target = _target(text)
        ends = re.match(r"(@\S+ )?(BRA|EXIT|RET|BRX|JMP)\b", text)
        if target is not None and target in index:
            jumps[k] = index[target]
            leaders.add(index[target])
        if ends:
            leaders.add(k + 1)
    starts = sorted(k for k in leaders if k < len(code))
    blocks = dict(zip(starts, [*starts[1:], len(code)], strict=True))
    follow = {}
    for start, end in blocks.items():
        text = code[end - 1][1]
        after = [jumps[end - 1]] if end - 1 in jumps else []
        if not _leaves(text) and end in blocks:
            after.append(end)
        follow[start] = after
    return blocks, follow


def _shortest_way_back(head, blocks, follow):
    """First indices of the blocks of the cheapest cycle through ``head``, in order; None if there is none.

    What lies before the head belongs to a loop around this one.
    """
    best, came = {}, {}
    heap = [(blocks[head] - head, after, head) for after in follow[head]]
    heapq.heapify(heap)
    while heap:
        length, at, before = heapq.heappop(heap)
        if at in best:
            continue
        best[at], came[at] = length, before
        if at == head:
            break
        for after in follow[at]:
            if after >= head:
                heapq.heappush(heap, (length + blocks[at] - at, after, at))
    if head not in best:
        return None
    way, at = [], came[head]
    while at != head:
        way.append(at)
        at = came[at]
    return [head, *reversed(way)]


def hot_paths(code):
    """The instructions of every loop's hot path, by the address of its first."""
    blocks, follow = _graph(code)
    heads = {after for start, afters in follow.items() for after in afters if after <= start}
    paths = {}
    for head in heads:
        way = _shortest_way_back(head, blocks, follow)
        if way is not None:
            paths[code[head][0]] = [text for start in way for _, text in code[start : blocks[start]]]
    return paths


def _registers(operands):
    return re.findall(r"\bU?R\d+", operands)


def longest_chain(path):
    """The most loads in a row on a path of which each needs what the one before has loaded."""
    depth, longest = {}, 0
    for text in path:
        text = re.sub(r"^@!?U?P\d+ ", "", text)
        name, _, operands = text.partition(" ")
        parts = operands.split(",", 1)
        sources = _registers(parts[1] if len(parts) > 1 else parts[0])
        wide = 4 if ".128" in name else 2 if ".64" in name or "WIDE" in name or name.startswith("CS2R") else 1
        most = max((depth.get(register, 0) for register in sources), default=0)
        load = re.match(r"(LD|LDG|LDS|LDL)\b", name.split(".")[0]) is not None
        most += load
        longest = max(longest, most)
        if re.match(r"(ST|RED|BRA|BSSY|BSYNC)", name) or not re.match(r"U?R\d+", parts[0].strip()):
            continue
        kind, number = re.match(r"(U?R)(\d+)", parts[0].strip()).groups()
        for k in range(wide):
            depth[f"{kind}{int(number) + k}"] = most
    return longest


def _is(path, wanted):
    return all(sum(bool(re.search(rf"\b{name}", text)) for text in path) >= n for name, n in wanted.items())


def count_loops(functions):
    """{kernel: {loop: counts}} of one architecture: of the shortest hot path that has what the loop must."""
    counted = {}
    for kernel, mangled in KERNELS.items():
        (code,) = [code for name, code in functions.items() if mangled in name]
        paths = hot_paths(code).values()
        counted[kernel] = {}
        for name, loop in LOOPS.items():
            found = sorted((path for path in paths if _is(path, loop.wanted)), key=len)
            if found:
                counted[kernel][name] = _counts(found[0], loop)
    return counted


def _counts(path, loop):
    def count(pattern):
        return sum(re.search(pattern, text) is not None for text in path)

    return {
        "columns": loop.columns,
        "instructions": len(path),
        "loads_128": count(r"\bLD\S*\.128"),
        "loads": count(r"\b(LD|LDG|LDS)\b"),
        "chain": longest_chain(path),
        "collectives": count(r"\b(SHFL|C?REDUX|VOTE)\b"),
    }
