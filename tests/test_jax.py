"""The wrapper for JAX in docs/frameworks.md, executed as it stands there."""

import re
from pathlib import Path

import numpy as np
import pytest

import loomfast

jax = pytest.importorskip("jax", reason="jax is not installed: pip install jax")
PAGE = Path(__file__).parents[1] / "docs/frameworks.md"


@pytest.fixture(scope="module")
def page():
    """The names that the page's code defines."""
    (code,) = re.findall(r"executed by tests/test_jax.py -->\n```python\n(.*?)```", PAGE.read_text(), re.S)
    names = {}
    exec(code, names)
    return names


def test_it_solves_under_jit_vmap_and_grad(page):
    batch = np.random.default_rng(0).random((3, 5, 8), np.float32)
    found = loomfast.solve(batch)
    col4row, total = page["col4row"], page["total"]
    for compiled in (jax.jit(col4row), jax.vmap(col4row), jax.jit(jax.vmap(col4row))):
        assert np.array_equal(compiled(batch), found.col4row)
    assert np.array_equal(jax.jit(col4row)(batch[0]), found.col4row[0])
    assert np.allclose(jax.vmap(total)(batch), found.total, rtol=1e-6)
    matching = np.zeros_like(batch)
    np.put_along_axis(matching, found.col4row[..., None], 1, -1)
    assert np.array_equal(jax.jit(jax.vmap(jax.grad(total)))(batch), matching)
    nested = jax.vmap(jax.vmap(col4row))(np.stack([batch, batch]))
    assert np.array_equal(nested, np.stack([found.col4row, found.col4row]))


def test_errors_of_the_solver_come_through(page):
    with pytest.raises(Exception, match="infeasible"):  # jax chooses the class
        jax.block_until_ready(page["col4row"](np.full((2, 2), np.inf, np.float32)))
