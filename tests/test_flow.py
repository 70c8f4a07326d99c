"""Flow matching: the interpolant, the loss, the laws of t, and the closed form of equation 4."""

import numpy as np
import pytest
import torch

from loomfast.compat.torchcfm import (
    ConditionalFlowMatcher,
    SchrodingerBridgeConditionalFlowMatcher,
    TargetConditionalFlowMatcher,
    VariancePreservingConditionalFlowMatcher,
)
from loomfast.flow import (
    LAWS,
    PATHS,
    bridge_score_loss,
    drop_labels,
    flow_matching_loss,
    interpolate,
    timesteps,
)
from loomfast.models import MLPConfig, build


def test_interpolate_at_the_ends_and_between():
    x, z = torch.randn(3, 1, 2, 2), torch.randn(3, 1, 2, 2)
    t = torch.tensor([0.0, 1.0, 0.25])
    x_t, velocity = interpolate(x, z, t)
    torch.testing.assert_close(x_t[0], z[0])
    torch.testing.assert_close(x_t[1], x[1])
    torch.testing.assert_close(x_t[2], 0.25 * x[2] + 0.75 * z[2])
    torch.testing.assert_close(velocity, x - z)


def test_sigma_noise_enters_once_scaled():
    x, z, e = torch.randn(3, 4, 2)
    t = torch.rand(4)
    plain, _ = interpolate(x, z, t)
    noisy, velocity = interpolate(x, z, t, e, sigma=0.5)
    torch.testing.assert_close(noisy, plain + 0.5 * e)
    torch.testing.assert_close(velocity, x - z)


def test_loss_is_the_mean_over_elements():
    x, z = torch.randn(2, 5, 3, 4)
    t = torch.rand(5)
    loss = flow_matching_loss(lambda x_t, t: torch.zeros_like(x_t), x, z, t)
    torch.testing.assert_close(loss, (x - z).square().mean())
    exact = flow_matching_loss(lambda x_t, t: x - z, x, z, t)
    assert exact == 0


def test_loss_hands_labels_to_the_model():
    seen = []

    def model(x_t, t, y):
        seen.append(y)
        return x_t

    y = torch.arange(5)
    flow_matching_loss(model, torch.randn(5, 2), torch.randn(5, 2), torch.rand(5), y=y)
    assert seen[0] is y


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": torch.zeros(4, 3)}, "x and z must have the same shape"),
        ({"t": torch.zeros(4, 1)}, r"t must have shape \(4,\)"),
        ({"sigma_noise": torch.zeros(4)}, "sigma_noise must have x's shape"),
    ],
)
def test_interpolate_names_what_does_not_fit(change, message):
    arguments = {"x": torch.zeros(4, 2), "z": torch.zeros(4, 2), "t": torch.zeros(4), **change}
    with pytest.raises(ValueError, match=message):
        interpolate(**arguments)


def test_loss_refuses_a_model_of_another_shape():
    with pytest.raises(ValueError, match="model must return x's shape"):
        flow_matching_loss(lambda x, t: x[:, :1], torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4))


def distribution_function(law, t):
    """Of the three laws, written independently of their inverses."""
    if law == "beta":  # Beta(2, 2)
        return 3 * t**2 - 2 * t**3
    if law == "u-shaped":  # density ∝ exp(4t) + exp(4(1 − t))
        return (np.exp(4 * t) - 1 + np.exp(4) - np.exp(4 * (1 - t))) / (2 * (np.exp(4) - 1))
    return t


@pytest.mark.parametrize("law", LAWS)
def test_times_follow_their_law(law):
    t = timesteps(np.arange(20000), seed=1, step=3, law=law)
    assert t.dtype == torch.float32
    assert t.shape == (20000,)
    uniform = np.sort(distribution_function(law, t.double().numpy()))
    # Kolmogorov-Smirnov: beyond 2/sqrt(n) once in a thousand laws; the draws are fixed.
    assert np.abs(uniform - np.arange(20000) / 20000).max() < 2 / np.sqrt(20000)


def test_times_depend_on_seed_step_and_item_alone():
    index = torch.tensor([7, 3, 900])
    t = timesteps(index, seed=5, step=2)
    assert torch.equal(t.flip(0), timesteps(index.flip(0), seed=5, step=2))
    assert torch.equal(t[1:2], timesteps([3], seed=5, step=2))
    assert not torch.equal(t, timesteps(index, seed=5, step=3))
    assert not torch.equal(t, timesteps(index, seed=6, step=2))


def test_labels_are_dropped_by_item_with_the_probability():
    index, y = torch.arange(20000), torch.arange(20000) % 10
    dropped = drop_labels(y, index, seed=1, step=4, probability=0.1)
    gone = dropped == -1
    assert torch.equal(dropped[~gone], y[~gone])
    assert abs(gone.float().mean() - 0.1) < 4 * (0.1 * 0.9 / 20000) ** 0.5
    assert torch.equal(drop_labels(y[5:6], index[5:6], seed=1, step=4, probability=0.1), dropped[5:6])
    assert not torch.equal(drop_labels(y, index, seed=1, step=5, probability=0.1), dropped)
    assert torch.equal(drop_labels(y, index, seed=1, step=4, probability=0.0), y)
    assert (drop_labels(y, index, seed=1, step=4, probability=1.0) == -1).all()
    with pytest.raises(ValueError, match="probability must be in"):
        drop_labels(y, index, seed=1, step=4, probability=1.5)


def test_unknown_laws_and_parameters_are_refused():
    with pytest.raises(ValueError, match="law must be one of uniform, beta, u-shaped, got 'cosine'"):
        timesteps([0], seed=0, step=0, law="cosine")
    with pytest.raises(ValueError, match="beta must be two positive"):
        timesteps([0], seed=0, step=0, law="beta", beta=(0.0, 1.0))
    with pytest.raises(ValueError, match="u_shape must be positive"):
        timesteps([0], seed=0, step=0, law="u-shaped", u_shape=0.0)


@pytest.mark.parametrize("sigma", [1e-7, 0.5])
def test_gaussian_to_gaussian_learns_equation_4(sigma):
    """Independent coupling of two standard normals: the best field is y·(2t − 1)/(σ² + t² + (1 − t)²)."""
    torch.manual_seed(0)
    model = build(MLPConfig(dim=2, width=64, depth=2))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        x, z, e = torch.randn(3, 1024, 2)
        loss = flow_matching_loss(model, x, z, torch.rand(1024), sigma=sigma, sigma_noise=e)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    y = torch.randn(2000, 2)
    for t in (0.1, 0.3, 0.5, 0.7, 0.9):
        variance = sigma**2 + t**2 + (1 - t) ** 2
        at = y * variance**0.5  # where the path is at t
        exact = at * (2 * t - 1) / variance
        with torch.no_grad():
            error = (model(at, torch.full((2000,), t)) - exact).square().mean().sqrt()
        assert error < 0.1, f"t = {t}"


MATCHERS = {
    "straight": ConditionalFlowMatcher,
    "variance-preserving": VariancePreservingConditionalFlowMatcher,
    "bridge": SchrodingerBridgeConditionalFlowMatcher,
    "target": TargetConditionalFlowMatcher,
}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)])
def test_paths_are_those_of_tong_et_al(path, shape):
    """Against torchcfm's formulas, which its own tests hold the classes to."""
    rng = torch.Generator().manual_seed(0)
    x, z, noise = (torch.randn(16, *shape, generator=rng) for _ in range(3))
    t = torch.rand(16, generator=rng)
    matcher = MATCHERS[path](sigma=0.3)
    x_t, velocity = interpolate(x, z, t, noise, 0.3, path)
    # Lipman's path has the noise that an item is paired with where the others have noise of their own.
    expected = matcher.sample_xt(z, x, t, z if path == "target" else noise)
    torch.testing.assert_close(x_t, expected)
    torch.testing.assert_close(
        velocity, matcher.compute_conditional_flow(z, x, t, expected), rtol=2e-4, atol=1e-4
    )


@pytest.mark.parametrize("path", PATHS)
def test_a_velocity_is_the_derivative_of_its_path(path):
    x, z, noise = (torch.randn(8, 5, dtype=torch.float64) for _ in range(3))
    t = torch.linspace(0.1, 0.9, 8, dtype=torch.float64)
    ahead, behind = (interpolate(x, z, t + h, noise, 0.2, path)[0] for h in (1e-6, -1e-6))
    torch.testing.assert_close((ahead - behind) / 2e-6, interpolate(x, z, t, noise, 0.2, path)[1])


@pytest.mark.parametrize("path", PATHS)
def test_a_path_ends_at_its_pair(path):
    x, z, noise = (torch.randn(4, 3) for _ in range(3))
    for t, end in ((0.0, z), (1.0, x)):
        x_t, velocity = interpolate(x, z, torch.full((4,), t), noise, 1e-7, path)
        torch.testing.assert_close(x_t, end, rtol=1e-5, atol=1e-5)
        assert torch.isfinite(velocity).all()


def test_a_bridges_score_is_learnt_from_its_noise():
    x, z, noise = (torch.randn(64, 2) for _ in range(3))
    t = torch.rand(64) * 0.8 + 0.1
    spread = (0.5 * torch.sqrt(t * (1 - t)))[:, None]
    assert bridge_score_loss(lambda x_t, t: -noise / spread, x, z, t, noise, sigma=0.5) < 1e-10
    assert bridge_score_loss(lambda x_t, t: 0 * x_t, x, z, t, noise, sigma=0.5) > 0.5
    with pytest.raises(ValueError, match="positive sigma"):
        bridge_score_loss(lambda x_t, t: x_t, x, z, t, noise, sigma=0.0)
    with pytest.raises(ValueError, match="path must be one of straight"):
        interpolate(x, z, t, path="curved")
