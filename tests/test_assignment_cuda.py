"""The CUDA assignment kernels, executed on the CPU from the same source, against certificates.

This is the share of ``make test``; ``tests/kernels_full.py`` has the same checks at full size, and
mutations of the kernels that the sanitizers must notice.
"""

from dataclasses import replace

import numpy as np
import pytest
from cases import FAMILIES, forbid, image_costs, machol_wien
from checks import check_assignment, optimal_total
from cuda_on_cpu import build
from cuda_on_cpu.assignment import Problem, solve
from cuda_on_cpu.instances import as_values, describe, instances

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable()))

KERNELS = ("block16", "grid16", "grid32", "cluster")  # auction, repair, forest
ALL_KERNELS = (*KERNELS, "warp")
LARGE = {"warp": (48, 60)}  # what is large for a kernel that takes no more than 64 rows
SCHEDULES = (("forward", 0), ("backward", 0), ("random", 1))


def check_all(problems, solutions):
    """Every instance carries a valid certificate within the exactness bound."""
    for k, (problem, (solved,)) in enumerate(zip(problems, solutions, strict=True)):
        try:
            check_assignment(
                as_values(problem.cost),
                solved,
                maximize=problem.maximize,
                row_repeats=problem.row_repeats,
                every_cost=True,
            )
        except AssertionError as error:
            raise AssertionError(f"problem {k}: {problem.cost.shape} {solved.stats}") from error


def check_schedules(problems, solutions, kind="plain", schedules=SCHEDULES):
    for order, seed in schedules:
        again = solve(problems, kind, order=order, seed=seed)
        for a, b in zip(solutions, again, strict=True):
            assert all(x.same_as(y) for x, y in zip(a, b, strict=True)), (order, seed)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_every_instance_is_solved_exactly_whatever_the_schedule(kernel):
    problems = instances(200, kernel, seed=1, large=LARGE.get(kernel, (48, 72)))
    large, special = describe(problems)
    assert large >= 40
    assert special >= 100
    solutions = solve(problems)
    check_all(problems, solutions)
    check_schedules(problems[:100], solutions[:100])


@pytest.mark.parametrize("kind", ["asan", "tsan"])
@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_the_sanitizers_find_nothing(kernel, kind):
    # Chosen by what gcov found them to pass through; nearly square ones of 48 and more have dummies.
    problems = instances(20, kernel, seed=5, largest=14, large_share=0.07, large=(33, 36))
    problems += instances(4, kernel, seed=2, large_share=1.0, large=(48, 50))
    solutions = solve(problems, kind)
    check_all(problems, solutions)
    check_schedules(problems, solutions, schedules=[("random", 3)])


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_the_shape_of_the_launch_does_not_change_the_answer(kernel):
    cost = image_costs(np.random.default_rng(0), 50)
    shapes = [(32, 1, 1), (128, 3, 2), (256, 2, 8)]
    solutions = solve([Problem(cost, kernel, threads=t, blocks=b, crew_warps=w) for t, b, w in shapes])
    assert all(s[0].same_as(solutions[0][0]) for s in solutions)


def test_totals_equal_scipys():
    problems = instances(60, "grid16", seed=5, large_share=0.0)
    for problem, (solved,) in zip(problems, solve(problems), strict=True):
        values = as_values(problem.cost)
        bound = 8 * min(values.shape) * 2.0**-53 * np.abs(values[np.isfinite(values)]).max()
        assert abs(solved.total - optimal_total(values, problem.maximize)) <= 2 * bound


def test_a_grid_solves_one_large_instance():
    cost = image_costs(np.random.default_rng(1), 256).astype(np.float32)
    problem = Problem(cost, "grid16", threads=128, blocks=4)
    ((solved,),) = solve([problem])
    check_assignment(cost, solved, every_cost=True)
    assert solved.stats["barriers"] < 1000


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_a_batch_is_solved_like_its_parts(kernel):
    rng = np.random.default_rng(2)
    batch = rng.random((5, 12, 17)).astype(np.float32)
    (together,) = solve([Problem(batch, kernel, blocks=2, teams=2)])
    alone = solve([Problem(cost, kernel) for cost in batch])
    assert all(a.same_as(b) for a, (b,) in zip(together, alone, strict=True))


SIZES = np.array([[12, 1, 0, 14, 7, 14, 3, 9], [17, 20, 5, 14, 0, 2, 3, 10]])


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_problems_of_a_batch_have_sizes_of_their_own(kernel):
    rng = np.random.default_rng(15)
    cost = rng.random((SIZES.shape[1], 14, 20)).astype(np.float32)
    for k, (n, m) in enumerate(SIZES.T):  # nobody reads what lies outside
        cost[k, n:] = cost[k, :, m:] = np.nan
    (together,) = solve([Problem(cost, kernel, blocks=2, teams=2, sizes=SIZES)])
    for k, (n, m) in enumerate(SIZES.T):
        solved = together[k]
        assert np.all(solved.col4row[n:] == -1)
        assert np.all(solved.row4col[m:] == -1)
        assert np.all(solved.u[n:] == 0)
        assert np.all(solved.v[m:] == 0)
        if n and m:
            ((alone,),) = solve([Problem(np.ascontiguousarray(cost[k, :n, :m]), kernel)])
            inside = {"col4row": solved.col4row[:n], "row4col": solved.row4col[:m]}
            assert replace(solved, **inside, u=solved.u[:n], v=solved.v[:m]).same_as(alone)
            check_assignment(cost[k, :n, :m], alone, every_cost=True)
        else:
            assert (solved.status, solved.total, solved.gap) == ("optimal", 0.0, 0.0)
            assert np.all(solved.col4row == -1)
            assert np.all(solved.v == 0)


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_sizes_that_are_none_set_the_status(kernel):
    cost = np.random.default_rng(16).random((3, 6, 8)).astype(np.float32)
    sizes = np.array([[6, 7, 6], [8, 8, -1]])
    ((right, rows, columns),) = solve([Problem(cost, kernel, sizes=sizes)])
    check_assignment(cost[0], right, every_cost=True)
    for refused in (rows, columns):
        assert refused.status == "invalid size"
        assert np.all(refused.col4row == -1)
        assert np.isnan([*refused.u, *refused.v, refused.total, refused.gap]).all()


PITFALLS = {
    "offset": lambda rng, n: (1e6 + rng.random((n, n))).astype(np.float32),
    "big M": lambda rng, n: np.where(rng.random((n, n)) < 0.1, 1e9, rng.random((n, n))).astype(np.float32),
    "constant": lambda rng, n: np.full((n, n), 3.5, np.float32),
    "bits": lambda rng, n: (rng.random((n, n)) < 0.5).astype(np.float32),
    "line": lambda rng, n: np.abs(rng.random((n, 1)) - rng.random((1, n))).astype(np.float32),
    "machol-wien": lambda rng, n: machol_wien(n).astype(np.float32),
    "lognormal": lambda rng, n: rng.lognormal(0, 5, (n, n)).astype(np.float32),
    "hilbert": lambda rng, n: 1 / (np.add.outer(np.arange(n), np.arange(n)) + 1.0),
    "far row": lambda rng, n: (rng.random((n, n)) + 1e4 * (np.arange(n) == 0)[:, None]).astype(np.float32),
    "spread": lambda rng, n: 10.0 ** rng.integers(-300, 300, (n, n)),
}


@pytest.mark.parametrize("name", PITFALLS)
def test_the_pitfalls(name):
    cost = PITFALLS[name](np.random.default_rng(3), 80)
    problems = [Problem(cost, kernel, threads=64, blocks=2) for kernel in KERNELS]
    problems += [Problem(part, "warp", blocks=2) for part in (cost[:64, :64], cost[:30], cost[:, :50])]
    check_all(problems, solve(problems))


def invalid_costs():
    rng = np.random.default_rng(4)
    cost = rng.random((9, 11)).astype(np.float32)
    nan, infinite, blocked = cost.copy(), cost.copy(), cost.copy()
    nan[3, 4] = np.nan
    infinite[8, 10] = -np.inf
    blocked[2:5, 2:] = np.inf  # three rows share two columns
    return {"nan": (nan, "invalid"), "-inf": (infinite, "invalid"), "infeasible": (blocked, "infeasible")}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kernel", ALL_KERNELS)
@pytest.mark.parametrize("name", ["nan", "-inf", "infeasible"])
def test_an_unsolvable_input_sets_the_status_and_defines_the_outputs(name, kernel, transposed):
    cost, status = invalid_costs()[name]
    problem = Problem(cost.T if transposed else cost, kernel)
    ((solved,),) = solve([problem])
    assert solved.status == status
    assert np.all(solved.col4row == -1)
    assert np.all(solved.row4col == -1)
    assert np.all(np.isnan(solved.u))
    assert np.all(np.isnan(solved.v))
    assert np.isnan(solved.total)
    assert np.isnan(solved.gap)


def test_maximising_forbids_minus_infinity_and_refuses_plus_infinity():
    cost = np.random.default_rng(5).random((8, 8))
    forbidden, refused = cost.copy(), cost.copy()
    forbidden[0, 0] = -np.inf
    refused[0, 0] = np.inf
    (allowed,), (rejected,) = solve([Problem(c, maximize=True) for c in (forbidden, refused)])
    check_assignment(forbidden, allowed, maximize=True, every_cost=True)
    assert rejected.status == "invalid"


@pytest.mark.parametrize("kernel", ["block16", "grid16"])
def test_the_solution_itself_is_a_start_that_leaves_nothing_to_do(kernel):
    cost = image_costs(np.random.default_rng(6), 40).astype(np.float32)
    ((cold,),) = solve([Problem(cost, kernel)])
    warm_problems = [
        Problem(cost, kernel, start_col4row=cold.col4row, start_v=cold.v),
        Problem(cost, kernel, start_v=cold.v),
        Problem(cost.astype(np.float64) + 1e-3, kernel, start_v=cold.v),
    ]
    solutions = solve(warm_problems)
    check_all(warm_problems, solutions)
    assert solutions[0][0].stats["rounds"] == 0
    assert solutions[0][0].stats["forest_steps"] == 0
    assert all(s[0].stats["barriers"] < cold.stats["barriers"] for s in solutions)


@pytest.mark.parametrize("shape", [(60, 43), (66, 64), (64, 66)])
def test_the_prices_of_the_longer_side_are_a_start(shape):
    cost = image_costs(np.random.default_rng(9), *shape).astype(np.float32)
    ((cold,),) = solve([Problem(cost)])
    problem = Problem(cost, start_col4row=cold.col4row, start_u=cold.u, start_v=cold.v)
    ((warm,),) = solve([problem])
    check_all([problem], [[warm]])
    assert (warm.stats["rounds"], warm.stats["forest_steps"]) == (0, 0)


@pytest.mark.parametrize("name", ["image", "plane", "uniform", "duplicates", "constant", "big M"])
def test_a_nearly_square_problem_takes_few_passes(name):
    rng = np.random.default_rng(10)
    costs = [np.asarray(FAMILIES[name](rng, n, m), np.float32) for n, m in [(96, 100), (100, 96), (96, 102)]]
    problems = [Problem(cost, kernel) for cost in costs for kernel in ("block16", "grid32")]
    solutions = solve(problems)
    check_all(problems, solutions)
    assert max(solved.stats["forest_passes"] for (solved,) in solutions) <= 16


def out_of_labels():
    """Costs whose prices are lost between two precisions when labels have 24 bits."""
    return FAMILIES["line"](np.random.default_rng(0), 16, 33)


@pytest.mark.parametrize("kernel", KERNELS)
def test_long_paths_of_rectangular_problems_stay_in_range(kernel):
    rng = np.random.default_rng(11)
    costs = [10.0 ** rng.integers(-12, 12, shape) for shape in [(20, 45), (45, 20), (8, 60), (30, 33)]]
    costs += [out_of_labels(), out_of_labels().T]
    problems = [Problem(cost, kernel, label_bits=bits) for cost in costs for bits in (0, 20, 24)]
    check_all(problems, solve(problems))


@pytest.mark.parametrize("kernel", ALL_KERNELS)
def test_repeated_rows_share_storage(kernel):
    rng = np.random.default_rng(12)
    problems = [
        Problem(rng.random((7, m)).astype(np.float32), kernel, row_repeats=repeats)
        for m, repeats in [(21, 3), (40, 5), (11, 4)]
    ]
    solutions = solve(problems)
    check_all(problems, solutions)
    spelled_out = solve([Problem(p.cost.repeat(p.row_repeats, 0), kernel) for p in problems])
    assert all(a.same_as(b) for (a,), (b,) in zip(solutions, spelled_out, strict=True))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_tolerance_saves_steps_and_is_kept(kernel):
    rng = np.random.default_rng(13)
    cost = image_costs(rng, 128).astype(np.float32)
    forbidden = forbid(rng, cost, 0.3)
    ((exact,),) = solve([Problem(cost, kernel)])
    problems = [Problem(c, kernel, tolerance=r) for c in (cost, forbidden, -cost) for r in (1e-1, 1e-2, 1e-9)]
    solutions = solve(problems)
    statuses = [solved.status for (solved,) in solutions]
    assert statuses == ["within_tolerance", "within_tolerance", "optimal"] * 3
    for problem, (solved,) in zip(problems, solutions, strict=True):
        tolerance = problem.tolerance if solved.status == "within_tolerance" else None
        values = np.where(np.isfinite(problem.cost), problem.cost, np.nan)
        scale = (np.nanmean(values, 1) - np.nanmin(values, 1)).sum()
        assert tolerance is None or 0 < solved.gap <= tolerance * scale
        if np.isfinite(problem.cost).all():
            check_assignment(problem.cost, solved, tolerance=tolerance, every_cost=True)
    assert solutions[0][0].stats["forest_steps"] < exact.stats["forest_steps"]
    check_schedules(problems[:2], solutions[:2])
    wide = Problem(cost[:90], kernel, tolerance=0.1)
    assert solve([wide])[0][0].status == "optimal"


def test_integers_that_cannot_be_summed_exactly_are_refused():
    limit = 2**50  # of 8 rows
    fits, exceeds = np.ones((8, 9)), np.ones((8, 9))
    fits[3, 4], exceeds[3, 4] = 1 - limit, -limit
    problems = [Problem(cost.astype(np.float64), integers=True) for cost in (fits, exceeds, exceeds.T)]
    (solved,), (refused,), (swapped,) = solve(problems)
    check_assignment(fits.astype(np.int64), solved, every_cost=True)
    assert refused.status == swapped.status == "inexact integers"
    as_floats = [Problem(exceeds)]
    check_all(as_floats, solve(as_floats))


def test_the_plan_of_the_launcher_is_executed_as_it_is():
    rng = np.random.default_rng(8)
    problems = [
        Problem(rng.random((9, 20, 20)), "planned", blocks=4, shared_limit=99 << 10),  # warps, two a block
        Problem(rng.random((3, 30, 110)), "planned", blocks=8, shared_limit=99 << 10),  # warps
        Problem(rng.random((3, 70, 70)), "planned", blocks=8, shared_limit=99 << 10),  # blocks, all in shared
        Problem(rng.random((70, 90)), "planned", blocks=2, shared_limit=16 << 10),  # costs in the workspace
        Problem(rng.random((70, 90)), "planned", blocks=2, shared_limit=1 << 10),  # a grid
        Problem(
            rng.random((3, 70, 90)), "planned", blocks=4, shared_limit=1 << 10
        ),  # teams beside each other
        Problem(rng.random((70, 66)), "planned", blocks=4, clusters=4),
        Problem(rng.random((80, 81)), "planned", blocks=4, clusters=4, shared_limit=16 << 10),
    ]
    for problem, solutions in zip(problems, solve(problems), strict=True):
        for cost, solved in zip(problem.cost.reshape(-1, *problem.cost.shape[-2:]), solutions, strict=True):
            check_assignment(cost, solved, every_cost=True)
    shims = [solved[0].shim for solved in solve(problems)]
    assert [shim["grid_barriers"] > 0 for shim in shims] == [*[False] * 4, True, True, False, False]
    assert [shim["cluster_barriers"] > 0 for shim in shims] == [*[False] * 6, True, True]
    assert [shim["block_barriers"] > 0 for shim in shims] == [False, False, *[True] * 6]


def test_no_plan_changes_the_answer():
    """A block, teams of any number of blocks and clusters of any size: the same bits, counters included."""
    rng = np.random.default_rng(17)
    for cost in (
        image_costs(rng, 66).astype(np.float32),
        rng.random((2, 30, 31)),
        forbid(rng, image_costs(rng, 40, 70)),
    ):
        shapes = [{"kernel": "block16"}, *({"kernel": "cluster", "blocks": b} for b in (1, 2, 4, 8))]
        shapes += [{"kernel": "grid16", "blocks": b, "teams": t} for b, t in ((1, 1), (1, 2), (3, 2))]
        first, *others = solve([Problem(cost, **shape) for shape in shapes])
        for other in others:
            assert all(a.same_as(b) for a, b in zip(first, other, strict=True))
