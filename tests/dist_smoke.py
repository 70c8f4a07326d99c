"""What a wheel must do in an environment with NumPy alone; no test runner is there to run it.

``make dist`` and cibuildwheel run this with the Python that the wheel was installed for, outside the sources.
"""

import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

LONGEST_IMPORT = 0.060  # seconds, beside NumPy's
GOLDEN = np.array([0x3FA1A6E1, 0xBF151BD2, 0x3F59CD91, 0xBD2EFA85, 0x3FE02D36, 0x3F54ED05], np.uint32)


def seconds_to_import():
    """The least of five, each in a process of its own."""
    code = "import numpy, time; t = time.perf_counter(); import loomfast; print(time.perf_counter() - t)"
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True) for _ in range(5)]
    return min(float(run.stdout) for run in runs)


def solve_small():
    """Matchings of 5 x 5 against all permutations."""
    import loomfast

    rng = np.random.default_rng(0)
    for _ in range(20):
        cost = rng.standard_normal((5, 5))
        best = min(cost[range(5), order].sum() for order in itertools.permutations(range(5)))
        rows, columns = loomfast.linear_sum_assignment(cost)
        assert abs(cost[rows, columns].sum() - best) < 1e-12
        assert abs(loomfast.solve(cost).total - best) < 1e-12
    many = loomfast.solve(rng.random((3, 4, 6)))
    assert many.col4row.shape == (3, 4)


def make_pairs():
    """Noise of its format, costs of it, and a step of a coupling."""
    import loomfast

    noise = loomfast.noise_from_ids(np.array([0]), (6,), seed=2**64 - 1, domain=3)
    assert (noise.view(np.uint32)[0] == GOLDEN).all()
    x = np.random.default_rng(1).standard_normal((8, 12), dtype=np.float32)
    cost = loomfast.pairwise_cost(x, x)
    assert cost.shape == (8, 8)
    assert np.abs(np.diag(cost)).max() < 1e-5
    loom = loomfast.Loom(8, (12,))
    assert loom.couple(x, np.arange(8)).noise.shape == (8, 12)


def main():
    begin = time.perf_counter()
    import loomfast

    assert "site-packages" in str(Path(loomfast.__file__)), loomfast.__file__
    solve_small()
    print(f"loomfast {loomfast.__version__}: import and first results in {time.perf_counter() - begin:.2f} s")
    make_pairs()
    found = {"torch", "scipy", "triton", "matplotlib"} & set(sys.modules)
    assert not found, f"{found} were imported"
    took = seconds_to_import()
    print(f"import: {took * 1e3:.0f} ms beside NumPy")
    assert took < LONGEST_IMPORT, f"import took {took * 1e3:.0f} ms, at most {LONGEST_IMPORT * 1e3:.0f}"


if __name__ == "__main__":
    main()
