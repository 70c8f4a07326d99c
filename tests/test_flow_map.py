"""Flow maps: every loss against a Gaussian's map, which is known; and networks of two times."""

import dataclasses

import numpy as np
import pytest
import torch

from loomfast.flow import interpolate
from loomfast.flow_map import KINDS, FlowMapConfig, MapTimes, flow_map_loss, map_times
from loomfast.models import MLPConfig, UNetConfig, build
from loomfast.sampling.generate import generate_solution
from loomfast.sampling.ode import check_solver, integrate

MEAN, STD = 1.5, 0.5  # of the data; the noise is N(0, 1), and the two are independent


class GaussianMap(torch.nn.Module):
    """The average velocity of the flow from N(0, 1) to N(MEAN, STD²), plus ``error`` times something else.

    At time t the flow has mean t MEAN and deviation d_t, d_t² = (1 − t)² + t² STD², and its map is affine:
    X_{s,t}(x) = t MEAN + d_t / d_s (x − s MEAN).
    """

    def __init__(self, error=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.features = torch.nn.Linear(3, 8).requires_grad_(False)
        self.error = torch.nn.Parameter(torch.full((8,), error))

    def forward(self, x, t, end=None):
        end = t if end is None else end
        s, t = t[:, None], end[:, None]
        d_s, d_t = (torch.sqrt((1 - r) ** 2 + r**2 * STD**2) for r in (s, t))
        slope = ((1 + STD**2) * (s + t) - 2) / (d_s * (d_s + d_t))  # (d_t / d_s − 1) / (t − s)
        features = torch.tanh(self.features(torch.cat([x, s.expand_as(x), t.expand_as(x)], dim=1)))
        return MEAN + slope * (x - s * MEAN) + (features @ self.error)[:, None]


def times_of(start, middle, end):
    return MapTimes(start, middle, end, start == end)


def mirrored_pairs(num):
    """Pairs of data and noise, in twos that meet at their time with the flow's velocity as their mean."""
    torch.manual_seed(1)
    x, z = MEAN + STD * torch.randn(num, 1), torch.randn(num, 1)
    start, end = torch.rand(2, num).sort(dim=0).values
    end[: num // 2] = start[: num // 2]  # these train the velocity
    times = [time.repeat(2) for time in (start, start + 0.3 * (end - start), end)]
    at, velocity = interpolate(x, z, start)
    other = 2 * GaussianMap()(at, start) - velocity
    t = start[:, None]
    return torch.cat([x, at + (1 - t) * other]), torch.cat([z, at - t * other]), times_of(*times)


def gradient(model, kind):
    x, z, times = mirrored_pairs(400)
    model.zero_grad()
    loss = flow_map_loss(model, x, z, times, kind=kind, teacher=GaussianMap())
    loss.backward()
    return loss.item(), model.error.grad.norm().item()


@pytest.mark.parametrize("kind", KINDS)
def test_the_true_map_has_no_gradient_and_another_one_has(kind):
    loss, at_truth = gradient(GaussianMap(), kind)
    other_loss, at_error = gradient(GaussianMap(0.1), kind)
    assert at_truth < 1e-5 * at_error  # float32 sums over 800 items
    assert at_error > 0.01
    if kind != "meanflow":  # whose minimum is elsewhere: a part of what its loss compares has no gradient
        assert other_loss > loss
    if kind == "lmd":  # nothing in it is noise
        assert loss < 1e-10


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "meanflow"])
def test_off_the_diagonal_the_true_map_has_no_loss(kind):
    x, z, times = mirrored_pairs(400)
    off = ~times.on_diagonal
    rows = times_of(*(time[off] for time in (times.start, times.middle, times.end)))
    options = {"kind": kind, "teacher": GaussianMap()}
    assert flow_map_loss(GaussianMap(), x[off], z[off], rows, **options).item() < 1e-10
    assert flow_map_loss(GaussianMap(0.1), x[off], z[off], rows, **options).item() > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_small_network_learns_the_map(kind):
    torch.manual_seed(0)
    model = build(MLPConfig(dim=1, width=32, depth=2, two_times=True))
    optimizer = torch.optim.Adam(model.parameters())
    config = FlowMapConfig(velocity_share=0.5)
    steps, index = 120, np.arange(512)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / steps)
        x, z = MEAN + STD * torch.randn(512, 1), torch.randn(512, 1)
        times = map_times(index, index, torch.rand(512), seed=0, step=step, config=config)
        optimizer.zero_grad()
        flow_map_loss(model, x, z, times, kind=kind, config=config, teacher=GaussianMap()).backward()
        optimizer.step()
    z = torch.linspace(-2, 2, 81)[:, None]
    with torch.no_grad():
        jumps = integrate(lambda x, t, end: model(x, t, end=end), z, solver="map", nfe=1).x
        euler = integrate(model, z, nfe=1).x
    by_map, by_velocity = ((end - MEAN - STD * z).square().mean().sqrt() for end in (jumps, euler))
    assert by_velocity > 0.5  # the first velocity points at the mean for every z
    assert by_map < 0.25


NETWORKS = [
    MLPConfig(dim=2, width=16, depth=2, num_classes=3),
    UNetConfig(8, 1, 8, 1, (1, 2), (2,), num_groups=4, num_head_channels=8, dropout=0.1),
]


def with_items(config, num):
    torch.manual_seed(0)
    shape = (2,) if isinstance(config, MLPConfig) else (1, 8, 8)
    y = torch.arange(num) % config.num_classes if config.num_classes else None
    return torch.randn(num, *shape), torch.randn(num, *shape), y


@pytest.mark.parametrize("config", NETWORKS)
def test_the_second_time_adds_nothing_at_first(config):
    x, _, y = with_items(config, 5)
    t, end = torch.rand(2, 5)
    torch.manual_seed(0)
    one = build(config).eval()
    torch.manual_seed(0)
    two = build(dataclasses.replace(config, two_times=True)).eval()
    for name, p in one.named_parameters():  # the other weights start as they do without it
        assert torch.equal(p, two.get_parameter(name))
        torch.nn.init.normal_(p, std=0.1)
    two.load_state_dict({**two.state_dict(), **one.state_dict()})
    for given in (None, t, end):
        assert torch.equal(two(x, t, y, end=given), one(x, t, y))
    with pytest.raises(ValueError, match="takes one time"):
        one(x, t, y, end=end)
    with pytest.raises(ValueError, match="end must have t's shape"):
        two(x, t, y, end=end[:2])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", NETWORKS)
def test_losses_reach_every_weight(config, kind):
    x, z, y = with_items(config, 8)
    two = build(dataclasses.replace(config, two_times=True))
    for p in two.parameters():
        torch.nn.init.normal_(p, std=0.1)
    index = np.arange(8)
    times = map_times(index, index, torch.rand(8), seed=0, step=1, config=FlowMapConfig())
    assert times.on_diagonal.sum() == 6
    teacher = build(config)
    for half in (False, True):
        two.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            flow_map_loss(two, x, z, times, kind=kind, teacher=teacher, y=y).backward()
        for name, p in two.named_parameters():
            assert torch.isfinite(p.grad).all(), name
            assert name == "label_emb.weight" or p.grad.abs().max() > 0, name
    assert all(p.grad is None for p in teacher.parameters())


def test_times_are_a_function_of_the_item_however_the_batch_is_divided():
    config = FlowMapConfig(velocity_share=0.7, time_law="logit-normal", middle="uniform")
    index, t = np.arange(40, 80), torch.linspace(0, 1, 40)
    rows = np.arange(40)
    whole = map_times(index, rows, t, seed=3, step=5, config=config)
    part = map_times(index[24:], rows[24:], t[24:], seed=3, step=5, config=config)
    for name in ("start", "middle", "end", "on_diagonal"):
        assert torch.equal(getattr(whole, name)[24:], getattr(part, name))
    assert whole.on_diagonal.sum() == 28
    assert torch.equal(whole.start[whole.on_diagonal], t[whole.on_diagonal])
    off = ~whole.on_diagonal
    assert (whole.start <= whole.middle).all()
    assert (whole.middle <= whole.end).all()
    assert (whole.end - whole.start)[off].min() > 0
    early = dataclasses.replace(config, annealing_steps=100)
    assert (map_times(index, rows, t, seed=3, step=5, config=early).end - whole.start).max() <= 0.06 + 1e-6


def test_the_solver_of_maps():
    calls = []

    def jump(x, t, end):
        calls.append((float(t[0]), float(end[0])))
        return torch.ones_like(x)

    solution = integrate(jump, torch.zeros(3, 2), solver="map", nfe=4, trajectory=True)
    assert (solution.nfe, solution.solver) == (4, "map")
    assert calls == [(0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1)]
    assert torch.equal(solution.x, torch.ones(3, 2))
    assert check_solver(None, 3, two_times=True)[0] == check_solver(None, 2, two_times=True)[0] == "map"
    assert check_solver(None, None, [0, 0.3, 1], two_times=True)[0] == "map"
    with pytest.raises(ValueError, match="solver map is for flow maps"):
        check_solver("map", 2)


def test_samples_of_a_map():
    two = build(dataclasses.replace(NETWORKS[0], num_classes=None, two_times=True))
    torch.nn.init.normal_(two.span_embed.weight)
    for nfe in (1, 2, 4):
        solution = generate_solution(two, 8, (2,), seed=0, nfe=nfe)
        assert (solution.nfe, solution.solver) == (nfe, "map")
    by_velocity = generate_solution(two, 8, (2,), seed=0, nfe=4, solver="euler")
    assert not torch.equal(by_velocity.x, solution.x)


def test_what_makes_no_sense():
    two = build(MLPConfig(two_times=True))
    index = np.arange(4)
    times = map_times(index, index, torch.rand(4), seed=0, step=0, config=FlowMapConfig())
    x = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="kind must be one of lsd"):
        flow_map_loss(two, x, x, times, kind="sdl")
    with pytest.raises(ValueError, match="give it as teacher"):
        flow_map_loss(two, x, x, times, kind="lmd")
    for name, value in (
        ("velocity_share", 1.0),
        ("weight", -1.0),
        ("power", float("nan")),
        ("time_std", 0.0),
    ):
        with pytest.raises(ValueError, match=f"flow_map.{name}"):
            FlowMapConfig(**{name: value})
