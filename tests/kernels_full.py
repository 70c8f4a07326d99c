"""The full set of kernel checks (``make test-kernels``): minutes, not part of ``make test``.

2,400 instances per kernel in the plain build, 60 under each sanitizer, grids up to n = 512,
mutations: every barrier of the solver is taken out, one at a time, and the shim must notice each.
"""

import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES, image_costs
from checks import check_assignment
from cuda_on_cpu import build
from cuda_on_cpu.assignment import Problem, solve
from cuda_on_cpu.instances import as_values, describe, instances
from test_assignment_cuda import ALL_KERNELS, LARGE, SCHEDULES, check_all, check_schedules, out_of_labels
from test_cuda_build import ARCHITECTURES, check_architecture, nvcc

pytestmark = [
    pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable())),
    pytest.mark.timeout(1800),
]


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_thousands_of_instances_of_each_kernel(kernel):
    problems = instances(2400, kernel, seed=11, largest=40, large=LARGE.get(kernel, (48, 72)))
    large, special = describe(problems)
    assert large >= 400
    assert special >= 1200
    solutions = solve(problems)
    check_all(problems, solutions)
    check_schedules(problems[::4], solutions[::4], schedules=[*SCHEDULES, ("random", 2), ("random", 3)])


@pytest.mark.parametrize("kind", ["asan", "tsan"])
@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_sixty_instances_under_each_sanitizer(kernel, kind):
    problems = instances(80, kernel, seed=12, largest=20, large_share=0.1, large=(48, 56))
    check_all(problems, solve(problems, kind))


@pytest.mark.parametrize("kernel", ["grid16", "grid32"])
@pytest.mark.parametrize("name", ["image", "plane", "uniform", "duplicates", "bits"])
def test_grids_of_few_blocks_on_large_instances(name, kernel):
    rng = np.random.default_rng(13)
    for n, m in [(512, 512), (300, 400), (257, 255)]:
        cost = np.asarray(FAMILIES[name](rng, n, m), np.float32)
        ((solved,),) = solve([Problem(cost, kernel, threads=128, blocks=4)])
        check_assignment(as_values(cost), solved, every_cost=True)


def barriers():
    """(file, position) of every barrier of the solver whose sum nobody uses: those that can be taken out."""
    found = []
    for path in sorted((build.ROOT / "csrc" / "assignment" / "cuda").glob("*.cuh")):
        for match in re.finditer(r"^ *rounds\.meet\(\);$", path.read_text(), re.MULTILINE):
            line = path.read_text()[: match.start()].count("\n") + 1
            found.append(pytest.param(path.name, match.start(), match.end(), id=f"{path.name}:{line}"))
    return found


def mutated(tmp_path, file, start, end, text):
    csrc = tmp_path / "csrc"
    shutil.copytree(build.ROOT / "csrc", csrc)
    path = csrc / "assignment" / "cuda" / file
    source = path.read_text()
    path.write_text(source[:start] + text + source[end:])
    return build.program("assignment", "tsan", csrc=csrc, cache=tmp_path)


def probes(kernel):
    """Problems that between them reach every line of the solver."""
    rng = np.random.default_rng(14)
    square, wide = image_costs(rng, 24), image_costs(rng, 10, 17)
    ((solved,),) = solve([Problem(square)])
    return [
        Problem(square, kernel, threads=64, blocks=2),
        Problem(wide, kernel, threads=64, blocks=2),
        Problem(square, kernel, threads=64, blocks=2, start_col4row=solved.col4row, start_v=solved.v),
        Problem(square, kernel, threads=64, blocks=2, label_bits=24),
        Problem(image_costs(rng, 40), kernel, threads=96, blocks=2),
        Problem(wide.T, kernel, threads=64, blocks=2, start_col4row=np.arange(17) - 7),
        Problem(image_costs(rng, 33, 35), kernel, threads=64, blocks=2),
        Problem(image_costs(rng, 33, 35), kernel, threads=64, blocks=2, start_col4row=np.arange(33) - 7),
        Problem(image_costs(rng, 40), kernel, threads=64, blocks=2, tolerance=0.1),
        Problem(out_of_labels(), kernel, threads=64, blocks=2, label_bits=24),
        Problem(np.stack([square, square.T, square]), kernel, threads=64, blocks=2),
        # One that ends at its first look, after which a block may be an instance ahead.
        Problem(np.stack([square * np.float32("nan"), square]), kernel, threads=64, blocks=2),
    ]


@pytest.mark.parametrize(("file", "start", "end"), barriers())
def test_a_barrier_taken_out_is_noticed(tmp_path, file, start, end):
    program = mutated(tmp_path, file, start, end, "")
    for kernel in ("block16", "grid16"):
        with pytest.raises(RuntimeError, match="status 66"):
            solve(probes(kernel), program=program)


ATOMICS = {
    "a bid": ("auction.cuh", "atomicMax(&to[best.column], bid_word(price, static_cast<Word>(row)));"),
    "a label": (
        "forest.cuh",
        "atomicMin(&labels(1)[column], through << instance.row_bits | static_cast<Word>(row));",
    ),
    "a root": (
        "forest.cuh",
        "atomicMin(&s.best[row], label_of(current[j]) << instance.row_bits | static_cast<Word>(j));",
    ),
}


@pytest.mark.parametrize("name", ATOMICS)
def test_an_update_that_is_not_atomic_is_noticed(tmp_path, name):
    file, statement = ATOMICS[name]
    source = (build.ROOT / "csrc" / "assignment" / "cuda" / file).read_text()
    start = source.index(statement)
    target, value = re.match(r"atomicM..\(&(.*?\]), (.*)\);", statement).groups()
    program = mutated(tmp_path, file, start, start + len(statement), f"{target} = {value};")
    with pytest.raises(RuntimeError, match="status 66"):
        solve(probes("grid16"), program=program)


# (file, statement, what is in its place, kernel): what keeps the blocks of a team or a cluster together.
MEETINGS = {
    "clusters meet": (
        "team.cuh",
        "meet_cluster();\n        const unsigned lane",
        "const unsigned lane",
        "cluster",
    ),
    "copies are whole": (
        "team.cuh",
        "values);\n        }\n        __syncthreads();",
        "values);\n        }",
        "cluster",
    ),
    "nobody leaves early": ("team.cuh", "const { meet_cluster(); }", "const {}", "cluster"),
    "all have begun": ("kernels.cuh", "    meet_cluster();  //", "    //", "cluster"),
    "costs are held": ("prepare.cuh", "    });\n    __syncthreads();", "    });", "cluster"),
    "teams go on together": ("team.cuh", "const { meet(mine, tick); }", "const {}", "grid16"),
    "a barrier is forgotten later": (
        "solve.cuh",
        "    rounds.meet();\n    team.forget",
        "    team.forget",
        "grid16",
    ),
    "crews wait for the list": (
        "team.cuh",
        "            __syncthreads();\n        }\n        for (int k = crew;",
        "        }\n        for (int k = crew;",
        "grid32",
    ),
    "lists are whole": (
        "auction.cuh",
        "    Team::meet_crew();\n    if (Team::member() == 0) {\n        const bool",
        "    if (Team::member() == 0) {\n        const bool",
        "grid32",
    ),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_what_keeps_blocks_together_is_noticed(tmp_path, name):
    file, statement, instead, kernel = MEETINGS[name]
    source = (build.ROOT / "csrc" / "assignment" / "cuda" / file).read_text()
    assert source.count(statement) == 1
    start = source.index(statement)
    program = mutated(tmp_path, file, start, start + len(statement), instead)
    problems = [replace(problem, lists=True, crew_warps=1) for problem in probes(kernel)]

    def solve_all():
        for order in ("random", "backward"):  # in which the last block is far ahead of those before it
            solve(problems, program=program, order=order)

    with pytest.raises(RuntimeError, match=r"status (66|1)\n"):
        solve_all()


@pytest.mark.skipif(nvcc is None, reason="nvcc is not on PATH")
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_compiles_without_local_memory(architecture):
    check_architecture(architecture)
