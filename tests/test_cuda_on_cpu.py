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
}
STATUS = {0: "right", 1: "refused", 2: "wrong", 66: "sanitizer"}


def outcome(name, kind, defect, seed):
    result = build.run(build.program("selftest", kind), name, int(defect), seed)
    assert result.returncode in STATUS, (result.returncode, result.stdout, result.stderr[-2000:])
    return STATUS[result.returncode], result


@pytest.mark.parametrize("kind", build.BUILDS)
@pytest.mark.parametrize("name", CAUGHT)
def test_a_clean_kernel_is_reported_by_no_build(name, kind):
    for seed in SEEDS:
        status, result = outcome(name, kind, defect=False, seed=seed)
        assert status == "right", (seed, status, result.stdout, result.stderr[-2000:])


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n in CAUGHT for k in CAUGHT[n]])
def test_a_planted_defect_is_caught(name, kind):
    statuses = {outcome(name, kind, defect=True, seed=seed)[0] for seed in SEEDS}
    assert CAUGHT[name][kind] in statuses
