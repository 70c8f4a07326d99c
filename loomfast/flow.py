"""Conditional flow matching: the interpolant, its regression loss and the laws of the time t.

Noise z sits at t = 0 and data x at t = 1 (LOOM-CFM, section 2.1, equations 1-3).
"""

import math

import numpy as np
import torch

from loomfast.extras import need
from loomfast.noise import StepDomain, step_uniforms

LAWS = ("uniform", "beta", "u-shaped")
PATHS = ("straight", "target", "variance-preserving", "bridge")


def interpolate(x, z, t, sigma_noise=None, sigma=1e-7, path="straight"):
    """The point x_t on the path of each pair, and its velocity, for any coupling of x and z.

    The family of Tong et al. (2024), with ε standard normals, one a number of x:

    ========================  =======================================  =====================================
    path                      x_t                                      velocity
    ========================  =======================================  =====================================
    ``straight``              t x + (1 − t) z + σ ε                    x − z
    ``target``                t x + (1 − (1 − σ) t) z                  x − (1 − σ) z
    ``variance-preserving``   sin(πt/2) x + cos(πt/2) z + σ ε          π/2 (cos(πt/2) x − sin(πt/2) z)
    ``bridge``                t x + (1 − t) z + σ √(t (1 − t)) ε       x − z + σ (1 − 2t)/(2 √(t (1 − t))) ε
    ========================  =======================================  =====================================

    ``straight`` is the paper's (LOOM-CFM, eq. 3; I-CFM where x and z are independent, rectified flow at σ =
    0); ``target`` that of Lipman et al. (2023), where z is noise; ``variance-preserving`` that of Albergo and
    Vanden-Eijnden (2023); ``bridge`` is a Schrödinger bridge where x and z are coupled with ε = 2σ²
    (`loomfast.coupling.Sinkhorn`). z may be noise or data.

    Args:
        x, z: (B, ...) data and what it is paired with, of one shape.
        t: (B,) times in [0, 1].
        sigma_noise: None (ε = 0), or standard normals of x's shape; not looked at by ``target``.
        sigma: σ.
        path: a name out of `PATHS`.

    Returns:
        (x_t, velocity), both of x's shape.

    Raises:
        ValueError: where the shapes do not fit, or for another path.
    """
    if x.shape != z.shape:
        raise ValueError(f"x and z must have the same shape, got {tuple(x.shape)} and {tuple(z.shape)}")
    if t.shape != x.shape[:1]:
        raise ValueError(f"t must have shape ({x.shape[0]},), one time an item, got {tuple(t.shape)}")
    if sigma_noise is not None and sigma_noise.shape != x.shape:
        raise ValueError(f"sigma_noise must have x's shape {tuple(x.shape)}, got {tuple(sigma_noise.shape)}")
    if path not in PATHS:
        raise ValueError(f"path must be one of {', '.join(PATHS)}, got {path!r}")
    t = t.view(-1, *[1] * (x.ndim - 1))
    if path == "target":
        return t * x + (1 - (1 - sigma) * t) * z, x - (1 - sigma) * z
    if path == "variance-preserving":
        sin, cos = torch.sin(math.pi / 2 * t), torch.cos(math.pi / 2 * t)
        x_t, velocity = sin * x + cos * z, math.pi / 2 * (cos * x - sin * z)
    else:
        x_t, velocity = t * x + (1 - t) * z, x - z
    if sigma_noise is None:
        return x_t, velocity
    if path == "bridge":
        off = sigma * torch.sqrt(t * (1 - t)) * sigma_noise
        # The 1e-8 is torchcfm's: at the ends, where the path's velocity has no bound, the noise is 0.
        return x_t + off, velocity + (1 - 2 * t) / (2 * t * (1 - t) + 1e-8) * off
    return x_t + sigma * sigma_noise, velocity


def flow_matching_loss(model, x, z, t, *, sigma=1e-7, sigma_noise=None, y=None, path="straight"):
    """Equation 3 on one batch of pairs: the mean of (v(x_t, t) − velocity)² over items *and* elements.

    The paper's squared norm is this times the number of elements of an item, a constant. model takes
    (x_t, t), or (x_t, t, y) where labels y are given; the rest is as in ``interpolate``. The difference is
    taken in float32 whatever the model returns. Returns a scalar tensor.
    """
    x_t, velocity = interpolate(x, z, t, sigma_noise, sigma, path)
    return torch.nn.functional.mse_loss(_predicted(model, x, x_t, t, y), velocity.float())


def bridge_score_loss(model, x, z, t, sigma_noise, *, sigma=1.0, y=None):
    """The score of a Schrödinger bridge by regression: the mean of (λ(t) s(x_t, t) + ε)².

    A network of its own, s, learns the score of the ``bridge`` path's points (`bridge_loss` is for a second
    head); with it samples may be drawn by the bridge's stochastic equation (Tong et al., 2024,
    "Simulation-free Schrödinger bridges via score and flow matching", eq. 10). λ(t) = σ √(t (1 − t)) makes
    the target −ε at all times.

    Args:
        model: takes (x_t, t), or (x_t, t, y); returns the score, of x's shape.
        x, z, t, sigma_noise, sigma: as for `interpolate`; the noise is needed, and sigma is positive.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: without noise, or for a sigma that is not positive.
    """
    _check_score(sigma_noise, sigma)
    x_t, _ = interpolate(x, z, t, sigma_noise, sigma, "bridge")
    return _score_loss(_predicted(model, x, x_t, t, y), t, sigma_noise, sigma)


def bridge_loss(model, x, z, t, sigma_noise, *, sigma=1.0, y=None):
    """Velocity and score of a Schrödinger bridge by one network with two heads: the sum of both losses.

    Of one call of the network, ``flow_matching_loss`` on the ``bridge`` path and ``bridge_score_loss``, which
    are equally weighted as by Tong et al. (2024, "Simulation-free Schrödinger bridges", eq. 10).

    Args:
        model: takes (x_t, t, score=True), or (x_t, t, y, score=True); returns velocity and score, both of x's
            shape (`loomfast.models`, with ``score_head``).
        x, z, t, sigma_noise, sigma, y: as for `bridge_score_loss`.

    Returns:
        A scalar tensor.

    Raises:
        ValueError: without noise, for a sigma that is not positive, or for outputs of another shape.
    """
    _check_score(sigma_noise, sigma)
    x_t, velocity = interpolate(x, z, t, sigma_noise, sigma, "bridge")
    found, score = model(x_t, t, *(() if y is None else (y,)), score=True)
    wrong = torch.nn.functional.mse_loss(_of_shape(found, x), velocity.float())
    return wrong + _score_loss(_of_shape(score, x), t, sigma_noise, sigma)


def _check_score(sigma_noise, sigma):
    if sigma_noise is None or not sigma > 0:
        raise ValueError(f"a score needs sigma_noise and a positive sigma, got sigma={sigma}")


def _score_loss(score, t, sigma_noise, sigma):
    weight = sigma * torch.sqrt(t * (1 - t)).view(-1, *[1] * (score.ndim - 1))
    return torch.mean((weight * score + sigma_noise) ** 2)


def _predicted(model, x, x_t, t, y):
    return _of_shape(model(x_t, t) if y is None else model(x_t, t, y), x)


def _of_shape(predicted, x):
    if predicted.shape != x.shape:
        raise ValueError(f"model must return x's shape {tuple(x.shape)}, got {tuple(predicted.shape)}")
    return predicted.float()


def timesteps(index, *, seed, step, law="uniform", beta=(2.0, 2.0), u_shape=4.0):
    """The time t of each item in a step: a function of (seed, step, item), nothing else.

    index: (B,) item indices, integers. law: ``uniform`` on [0, 1]; ``beta``, with the two parameters
    ``beta``; ``u-shaped``, density proportional to exp(a·t) + exp(a·(1 − t)) with a = ``u_shape`` (Lee et al.
    2024, "Improving the training of rectified flows"). All of them map the same uniform draw by the inverse
    of the law's distribution function. Returns float32 (B,) on the CPU. Raises ValueError for another law.
    """
    if law not in LAWS:
        raise ValueError(f"law must be one of {', '.join(LAWS)}, got {law!r}")
    u = _uniforms(index, seed, step, StepDomain.TIMESTEP)
    return torch.from_numpy(_quantile(u, law, beta, u_shape).astype(np.float32))


def drop_labels(y, index, *, seed, step, probability):
    """Labels with some of them replaced by -1, "no label", for classifier-free guidance (Ho & Salimans 2022).

    y: (B,) int64 tensor, or (B, ...) floating-point conditions, which are replaced by NaN; index: (B,)
    item indices. Each label is dropped with the probability, independently, by a draw that is a function of
    (seed, step, item). Returns a new tensor on y's device.
    Raises ValueError for a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability must be in [0, 1], got {probability}")
    u = _uniforms(index, seed, step, StepDomain.LABEL_DROPOUT)
    dropped = torch.from_numpy(u < probability).to(y.device)
    nothing = math.nan if y.is_floating_point() else -1
    return y.masked_fill(dropped.view(-1, *[1] * (y.ndim - 1)), nothing)


def _uniforms(index, seed, step, domain):
    """Return one float64 uniform in [0, 1) for each item."""
    index = index.cpu().numpy() if isinstance(index, torch.Tensor) else index
    return step_uniforms(index, 1, seed=seed, step=step, domain=domain)[:, 0].astype(np.float64)


def _quantile(u, law, beta, u_shape):
    """Return the inverse distribution function of the law at ``u``, in float64."""
    if law == "beta":
        if min(beta) <= 0:
            raise ValueError(f"beta must be two positive parameters, got {beta}")
        return need("scipy.special", "train").betaincinv(*beta, u)
    if law == "u-shaped":
        if u_shape <= 0:
            raise ValueError(f"u_shape must be positive, got {u_shape}")
        return 0.5 + np.arcsinh((2 * u - 1) * math.sinh(u_shape / 2)) / u_shape
    return u
