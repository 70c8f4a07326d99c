"""Pairs out of a transport plan: who goes with whom is drawn by (seed, step, item) from masses."""

import numpy as np

from loomfast.noise import StepDomain, step_bits


def uniforms(index, *, seed, step, domain=StepDomain.PLAN):
    """Return a float64 uniform in [0, 1) of 53 bits for each index, (B,), by (seed, step, index)."""
    bits = step_bits(index, 2, seed=seed, step=step, domain=domain).astype(np.uint64)
    return (bits[:, 0] << np.uint64(21) | bits[:, 1] >> np.uint64(11)) * 2.0**-53


def draw_places(num, *, seed, step):
    """Return ``num`` places of a batch of ``num``, drawn uniformly with replacement, (num,) int64."""
    u = uniforms(np.arange(num), seed=seed, step=step)
    return np.minimum((u * num).astype(np.int64), num - 1)


def draw_pairs(plan, num, *, seed, step):
    """Return ``num`` pairs drawn independently from a plan: two (num,) int64, rows and columns.

    This is how torchcfm's OTPlanSampler makes batches of a plan (Tong et al., 2024, Algorithm 3).

    Args:
        plan: (n, m) float64 masses, not negative, of any positive total.
        num: how many pairs.
        seed, step: what the draws are a function of, with the place of a pair.
    """
    total = np.cumsum(plan.reshape(-1))
    u = _below(uniforms(np.arange(num), seed=seed, step=step), total[-1])
    return np.divmod(np.searchsorted(total, u, side="right"), plan.shape[1])


def draw_columns(plan, rows, *, seed, step):
    """Return one column for each row of a plan, drawn in proportion to its masses, (n,) int64.

    With uniform marginals each pair then has the law of `draw_pairs`, and every row comes exactly once.

    Args:
        plan: (n, m) float64 masses, not negative; no row without any.
        rows: (n,) int64, the items of the rows.
        seed, step: what the draws are a function of, with the item.
    """
    total = np.cumsum(plan, axis=1)
    u = _below(uniforms(rows, seed=seed, step=step), total[:, -1])
    return (total <= u[:, None]).sum(axis=1)


def _below(u, total):
    """Return u·total for u in [0, 1), and less than ``total`` however it rounds: no column without mass."""
    return np.minimum(u * total, np.nextafter(total, 0))
