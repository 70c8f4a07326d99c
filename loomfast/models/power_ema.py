"""Averages of weights by power functions, and any of them from snapshots of two (EDM2's post-hoc EMA).

Karras, Aittala, Lehtinen, Hellsten, Aila and Laine (2024), "Analyzing and improving the training dynamics of
diffusion models", Section 3 and Appendix C. The average after step t weights the weights of step τ by a
density (γ + 1) τ^γ / t^(γ + 1); its *length* is the density's standard deviation as a share of t.
"""

import numpy as np

from loomfast.models.ema import ema_update

LENGTHS = (0.05, 0.10)  # of the two averages that are kept, as in the paper
LONGEST = 12**-0.5  # of the uniform density, γ = 0


def power_exponent(length):
    """Return the exponent γ of a length: length = √(γ + 1) / ((γ + 2) √(γ + 3)) (Algorithm 2).

    Raises ValueError unless 0 < length < 12^(-1/2) = 0.2887.
    """
    if not 0 < length < LONGEST:
        raise ValueError(f"length of an average must be in (0, {LONGEST:.4f}), got {length}")
    inverse = float(length) ** -2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(roots.real[np.abs(roots.imag) < 1e-6 * np.abs(roots)].max())


def power_update(average, params, step, length):
    """Take the weights after ``step`` (0, 1, ...) into an average, in place (Appendix C, equation 127).

    average, params: dicts of tensors as for `loomfast.models.ema_update`. After step 0 the average is params.
    """
    ema_update(average, params, (1 - 1 / (step + 1)) ** (power_exponent(length) + 1))


def power_coefficients(steps, lengths, step, length):
    """Return by what to add up snapshots to have the average of a length after a step (Algorithm 3).

    The combination is the one whose density is nearest the wanted one in L².

    Args:
        steps, lengths: (n,) numbers: after how many steps each snapshot was taken, and of which average.
        step, length: of the average that is wanted.

    Returns:
        (n,) float64 with sum 1.
    """
    at, exponents = np.asarray(steps, np.float64), np.array([power_exponent(one) for one in lengths])
    wanted = _products(at, exponents, np.float64(step), power_exponent(length))
    found = np.linalg.lstsq(_products(at[:, None], exponents[:, None], at, exponents), wanted, rcond=1e-14)[0]
    return found / found.sum()


def _products(t, a, u, b):
    """Return the inner products of the densities of exponents a and b up to t and u (Appendix C)."""
    ratio = np.where(t < u, (t / u) ** b, (u / t) ** a)
    return (a + 1) * (b + 1) * ratio / ((a + b + 1) * np.maximum(t, u))
