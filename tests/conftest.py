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


def pytest_generate_tests(metafunc):
    """A test that takes ``instruction_set`` runs with each that the engine has here."""
    if "instruction_set" in metafunc.fixturenames:
        from loomfast import _engine

        metafunc.parametrize("instruction_set", _engine.instruction_sets(), indirect=True)


@pytest.fixture
def instruction_set(request):
    """The name of the instruction set that all operations of the engine use during the test."""
    from loomfast import _engine

    _engine.use_instruction_set(request.param)
    yield request.param
    _engine.use_instruction_set("auto")
