"""The shim that runs CUDA kernels on the CPU: every planted defect is caught, clean kernels pass."""

import pytest
from cuda_on_cpu import build

pytestmark = pytest.mark.skipif(build.unavailable() is not None, reason=str(build.unavailable()))

SEEDS = range(3)
# What each build must find when the defect is on: "refused" (the shim's own report), "wrong" (a
# result that differs for some schedule) or "sanitizer". An absent pair promises nothing.
CAUGHT = {
    "missing_barrier": {"plain": "wrong", "tsan": "sanitizer"},
    "missing_syncwarp": {"plain": "wrong", "tsan": "sanitizer"},
    "plain_update": {"plain": "wrong", "tsan": "sanitizer"},
    "divergent_barrier": {"plain": "refused", "asan": "refused", "tsan": "refused"},
    "divergent_collective": {"plain": "refused", "asan": "refused", "tsan": "refused"},
    "shared_overrun": {"asan": "sanitizer"},
    "uninitialised_shared": {"plain": "wrong"},
    "missing_grid_sync": {"plain": "wrong", "tsan": "sanitizer"},
    "barrier_left_out": {"plain": "wrong", "tsan": "sanitizer"},
    "barrier_ticket_reused": {"plain": "wrong"},
    "barrier_ticket_not_advanced": {"plain": "wrong", "tsan": "sanitizer"},
    "missing_release": {"tsan": "sanitizer"},
    "missing_acquire": {"tsan": "sanitizer"},
    "cluster_missing_barrier": {"plain": "refused", "tsan": "sanitizer"},
    "cluster_missing_release": {"tsan": "sanitizer"},
    "cluster_missing_acquire": {"tsan": "sanitizer"},
    "cluster_not_begun": {"plain": "refused"},
    "cluster_block_leaves": {"plain": "wrong", "asan": "sanitizer"},
    "teams_share_a_barrier": {"tsan": "sanitizer"},
}
STATUS = {0: "right", 1: "refused", 2: "wrong", 66: "sanitizer"}


def outcome(names, kind, defect, seeds):
    program = build.program("selftest", kind)
    result = build.run(program, int(defect), seeds[0], len(seeds), *names)
    assert result.returncode in STATUS, (result.returncode, result.stdout, result.stderr[-2000:])
    return STATUS[result.returncode], result


@pytest.mark.parametrize("kind", build.BUILDS)
def test_clean_kernels_are_reported_by_no_build(kind):
    status, result = outcome(CAUGHT, kind, defect=False, seeds=SEEDS)
    assert status == "right", (status, result.stdout, result.stderr[-2000:])


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in CAUGHT for k in CAUGHT[n]])
def test_a_planted_defect_is_caught(name, kind):
    assert any(outcome([name], kind, True, [seed])[0] == CAUGHT[name][kind] for seed in SEEDS)
