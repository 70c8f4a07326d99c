"""Ahead-of-time compilation of the Triton kernels, with no GPU: what each costs on each architecture.

``python tests/triton_ahead.py`` rewrites triton_resources.json, the table test_triton.py holds them to.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

import torch
import triton
from loomfast.kernels import cost, cost_passes, cost_split, noise
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TABLE = Path(__file__).with_name("triton_resources.json")
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
ALIGNED = ("p_x", "p_z", "p_out", "d", "stride_x", "stride_z")  # cost() pads so that these are
NOISE = {
    "p_ids": "*i64",
    "p_out": "*fp32",
    "num_blocks": "i32",
    "blocks_per_item": "i32",
    "multiplier": "i32",
    "shift": "i32",
    "n": "i32",
    "item_size": "i32",
    "stride_out": "i32",
    "seed": "i64",
    "word3": "i32",
    "p_x": "*fp32",
    "p_t": "*fp32",
    "p_point": "*fp32",
    "p_velocity": "*fp32",
}
COST = {
    **dict.fromkeys(("n", "m", "d", "item_size", "stride_x", "stride_z", "stride_out", "word3"), "i32"),
    **dict.fromkeys(("p_labels_x", "p_labels_z", "p_out"), "*fp32"),
    **dict.fromkeys(("label_weight",), "fp32"),
    "p_norms": "*fp64",
    **dict.fromkeys(("stride_product", "parts", "stride_part", "part_blocks"), "i32"),
    "seed": "i64",
}


def compile_for(kernel, capability, types, constants, aligned=(), **options):
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else types[name] for name in names}
    constexprs = {(names.index(name),): value for name, value in constants.items()}
    attributes = {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constexprs, attrs=attributes)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def compile_noise(capability, dtype="fp32", kernel=noise.noise_kernel, wide=False, whole=True):
    constants = {"WHOLE": whole, "WIDE": wide, "BLOCK": noise.BLOCK}
    types = NOISE | {"p_out": f"*{dtype}"}
    aligned = [
        name for name in ("p_ids", "p_out", "p_x", "p_point", "p_velocity") if name in kernel.arg_names
    ]
    options = {"num_warps": noise.NUM_WARPS, "enable_fp_fusion": False}
    return compile_for(kernel, capability, types, constants, aligned, **options)


def compile_words(capability):
    types = NOISE | {"p_out": "*i64"}
    return compile_for(noise.words_kernel, capability, types, {"BLOCK": noise.BLOCK})


def compile_cost(capability, precision, from_ids, norms=True):
    tile = cost.tile_for(capability, precision, from_ids)
    element = "*bf16" if precision == "bf16" else "*fp32"
    constants = {
        "FROM_IDS": from_ids,
        "NORMS": norms,
        "EUCLIDEAN": False,
        "LABELS": False,
        "PRECISION": "tf32" if precision == "tf32" else "ieee",
        "WIDEN": False,
        "ROWS": tile.rows,
        "COLUMNS": tile.columns,
        "DEPTH": tile.depth,
        "GROUP": cost_passes.GROUP,
    }
    types = COST | {"p_x": element, "p_z": "*i64" if from_ids else element}
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages, "enable_fp_fusion": not from_ids}
    return compile_for(cost.cost_kernel, capability, types, constants, ALIGNED, **options)


def compile_split(capability, precision):
    tile = cost.tile_for(capability, precision)
    element = "*bf16" if precision == "bf16" else "*fp32"
    constants = cost_split.split_options(precision, tile) | {"WIDEN": False}
    options = {"num_warps": tile.num_warps, "num_stages": tile.num_stages}
    types = COST | {"p_x": element, "p_z": element}
    return compile_for(cost_split.split_kernel, capability, types, constants, ALIGNED, **options)


def compile_direct(capability, double=False):
    tile = cost_passes.DIRECT_TILE
    element = "*fp64" if double else "*fp32"
    constants = {"DOUBLE": double, "EUCLIDEAN": True, "LABELS": True}
    types = COST | {"p_x": element, "p_z": element}
    return compile_pass(cost_passes.direct_kernel, capability, types, constants, tile)


def compile_finish(capability, product="fp32", element="fp32", repair=False, split=False):
    dtype = torch.float64 if product == "fp64" else torch.float32
    constants = {"MOST": cost_passes.MOST[dtype], "LEAST": cost_passes.LEAST[dtype]}
    constants |= {"REPAIR": repair, "NORMS": not repair, "EUCLIDEAN": not repair, "LABELS": not repair}
    constants |= {"SPLIT": split}
    types = COST | {"p_product": f"*{product}", "p_x": f"*{element}", "p_z": f"*{element}"}
    tile = cost_passes.FINISH_PARTS_TILE if split else cost_passes.FINISH_TILE
    return compile_pass(cost_passes.finish_kernel, capability, types, constants, tile)


def compile_pass(kernel, capability, types, constants, tile):
    constants |= {"GROUP": cost_passes.GROUP, "ROWS": tile.rows, "COLUMNS": tile.columns}
    aligned = [name for name in ("p_product", "p_out", "stride_out") if name in kernel.arg_names]
    return compile_for(kernel, capability, types, constants, aligned, num_warps=tile.num_warps)


def compile_norms(capability):
    types = COST | {"p_x": "*fp32", "p_z": "*fp32", "p_out": "*fp64"}
    constants, warps = {"BLOCK": cost_passes.NORM_BLOCK}, cost_passes.NORM_WARPS
    return compile_for(cost_passes.norms_kernel, capability, types, constants, num_warps=warps)


def everything():
    """(name, architecture) -> a function that compiles it."""
    jobs = {}
    for capability in ARCHITECTURES:
        jobs["noise", capability] = lambda c=capability: compile_noise(c)
        jobs["interpolate", capability] = lambda c=capability: compile_noise(
            c, kernel=noise.interpolate_kernel
        )
        jobs["words", capability] = lambda c=capability: compile_words(c)
        jobs["direct", capability] = lambda c=capability: compile_direct(c)
        jobs["direct in float64", capability] = lambda c=capability: compile_direct(c, True)
        jobs["norms", capability] = lambda c=capability: compile_norms(c)
        jobs["finish", capability] = lambda c=capability: compile_finish(c)
        jobs["finish in float64", capability] = lambda c=capability: compile_finish(c, "fp64", "fp64")
        jobs["finish bfloat16, repair", capability] = lambda c=capability: compile_finish(
            c, element="bf16", repair=True
        )
        jobs["finish parts", capability] = lambda c=capability: compile_finish(c, split=True)
        for precision in ("ieee", "tf32", "bf16"):
            if capability == 75 and precision == "tf32":
                continue  # no tf32 before 80
            if capability in (86, 89) and precision != "bf16":
                continue  # the code of 80
            jobs[f"split {precision}", capability] = lambda c=capability, p=precision: compile_split(c, p)
            for from_ids in (False, True):
                name = f"cost {precision}" + (" from ids" if from_ids else "")
                jobs[name, capability] = lambda c=capability, p=precision, f=from_ids: compile_cost(c, p, f)
    return jobs


def matrix_instructions(compiled):
    found = re.findall(
        r"\b(mma\.sync|wgmma\.mma_async|tcgen05\.mma|kind::tf32|m16n8k8\S*tf32)", compiled.asm["ptx"]
    )
    return sorted(set(found))


def resources(compiled):
    """Registers a thread, spilled bytes and shared memory, from cuobjdump and the kernel's metadata."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", report).groups()
    return {
        "registers": int(registers),
        "spilled": int(stack) + int(local),
        "shared": compiled.metadata.shared,
        "matrix": matrix_instructions(compiled),
    }


if __name__ == "__main__":
    rows = {}
    for (name, capability), job in everything().items():
        rows.setdefault(name, {})[str(capability)] = resources(job())
    lines = [
        f'  "{name}": {{\n' + ",\n".join(f'    "{c}": {json.dumps(row)}' for c, row in table.items())
        for name, table in rows.items()
    ]
    TABLE.write_text('{\n  "triton": "' + triton.__version__ + '",\n' + "\n  },\n".join(lines) + "\n  }\n}\n")
