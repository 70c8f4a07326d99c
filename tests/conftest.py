"""What every test shares."""

import os

import pytest

# Test processes run side by side, and start others. BLAS reads these when it is loaded.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread():
    """Small networks: more threads than free cores make them wait for each other, a hundredfold when busy."""
    import torch

    torch.set_num_threads(1)
