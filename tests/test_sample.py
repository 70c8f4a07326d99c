"""Solvers: their order, their count of evaluations; sampling by id."""

import numpy as np
import pytest
import torch

from loomfast import noise_from_ids
from loomfast.models import MLPConfig, UNetConfig, build
from loomfast.sampling.generate import CPU_BLOCK, generate, shares
from loomfast.sampling.ode import ADAPTIVE, FIXED, check_solver, default_solver, integrate

ORDER = {"euler": 1, "midpoint": 2, "heun": 2, "rk4": 4}


def logistic(x, t):
    """dx/dt = (1 + 3t²)·x·(1 − x), so that x / (1 − x) grows by exp(2) from t = 0 to 1."""
    return (1 + 3 * t.double() ** 2)[:, None] * x * (1 - x)


Z = torch.linspace(0.05, 0.9, 18, dtype=torch.float64)[:, None]
END = 1 / (1 + (1 / Z - 1) * np.exp(-2))


class Counted:
    def __init__(self, velocity):
        self.velocity, self.calls = velocity, 0

    def __call__(self, x, t):
        assert t.shape == x.shape[:1]
        assert t.dtype == torch.float32
        self.calls += 1
        return self.velocity(x, t)


@pytest.mark.parametrize("solver", ORDER)
def test_order_of_accuracy(solver):
    # The times reach the velocity as float32: grids of powers of two, so that they are exact.
    errors = [
        float((integrate(logistic, Z, solver=solver, steps=steps).x - END).abs().max())
        for steps in (32, 64, 128)
    ]
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, ORDER[solver], atol=0.1)


@pytest.mark.parametrize("solver", ADAPTIVE)
def test_adaptive_solvers_follow_their_tolerance_and_are_counted(solver):
    velocity = Counted(logistic)
    solution = integrate(velocity, Z, solver=solver, rtol=1e-6, atol=1e-6)
    # The tolerance is a step's, so the end may be off by some of them.
    assert (solution.x - END).abs().max() < 20e-6
    assert solution.nfe == velocity.calls > 0


@pytest.mark.parametrize(
    ("solver", "order", "loose", "tight"),
    [
        ("dopri5", 5, 1e-6, 1e-9),
        ("dopri8", 8, 1e-6, 1e-10),
        ("bosh3", 3, 1e-4, 1e-6),
        ("adaptive_heun", 2, 1e-2, 1e-4),
    ],
)
def test_evaluations_of_adaptive_solvers_grow_as_their_order_says(solver, order, loose, tight):
    """A step of order p has an error of h^p, so the evaluations grow by the p-th root of the tolerance's."""
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    counts = [
        integrate(
            lambda x, t: 20 * torch.stack([x[:, 1], -x[:, 0]], dim=1), z, solver=solver, rtol=tol, atol=tol
        ).nfe
        for tol in (loose, tight)
    ]
    # Three turns of a rotation: enough steps that the search for the first one hardly counts.
    np.testing.assert_allclose(np.log(loose / tight) / np.log(counts[1] / counts[0]), order, rtol=0.08)


@pytest.mark.parametrize(("solver", "per_step"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
@pytest.mark.parametrize("steps", [1, 3])
def test_nfe_is_counted(solver, per_step, steps):
    velocity = Counted(lambda x, t: x)
    solution = integrate(velocity, torch.ones(2, 3), solver=solver, nfe=steps * per_step)
    assert solution.nfe == velocity.calls == steps * per_step
    assert len(solution.times) == steps + 1
    assert solution.solver == solver


def test_default_solver():
    assert [default_solver(nfe) for nfe in (1, 2, 3, 4, 40)] == [
        "euler",
        "midpoint",
        "euler",
        "midpoint",
        "midpoint",
    ]


@pytest.mark.parametrize("solver", [*FIXED, "dopri5"])
def test_custom_grids_and_trajectories(solver):
    z = torch.rand(3, 2, dtype=torch.float64)
    grid = [0.0, 0.125, 0.5, 1.0]
    solution = integrate(lambda x, t: torch.ones_like(x), z, solver=solver, time_grid=grid, trajectory=True)
    expected = z + torch.tensor(grid, dtype=torch.float64)[:, None, None]
    torch.testing.assert_close(solution.trajectory, expected)
    torch.testing.assert_close(solution.x, expected[-1])
    np.testing.assert_array_equal(solution.times, grid)


def test_a_decreasing_grid_goes_back():
    z = torch.rand(4, 2, dtype=torch.float64)
    there = integrate(lambda x, t: -x, z, solver="rk4", steps=32).x
    back = integrate(lambda x, t: -x, there, solver="rk4", time_grid=np.linspace(1, 0, 33)).x
    torch.testing.assert_close(back, z, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"solver": "leapfrog", "nfe": 4}, r"solver must be one of euler, .*, got 'leapfrog'"),
        ({"solver": "midpoint", "nfe": 5}, "nfe must be a positive multiple of 2, such as 4 or 6; got 5"),
        ({"solver": "rk4", "nfe": 2}, "such as 4 or 8; got 2"),
        ({"solver": "euler", "nfe": 0}, "positive multiple of 1"),
        ({"solver": "euler", "steps": 0}, "steps must be at least 1"),
        ({"solver": "euler"}, "exactly one of nfe, steps and time_grid"),
        ({"solver": "euler", "nfe": 2, "steps": 2}, "exactly one of nfe, steps and time_grid"),
        ({"solver": "euler", "time_grid": [0.0, 0.5, 0.5]}, "strictly monotone"),
        ({"solver": "euler", "time_grid": [0.0]}, "at least two"),
        ({"solver": "euler", "time_grid": [0.0, np.nan]}, "strictly monotone"),
        ({"solver": "dopri5", "nfe": 10}, "dopri5 chooses its own steps"),
    ],
)
def test_integrate_says_what_works(arguments, message):
    with pytest.raises(ValueError, match=message):
        integrate(lambda x, t: x, torch.ones(2, 2), **arguments)


def test_check_solver():
    for arguments, chosen, grid in [
        ((None, 4), "midpoint", [0, 0.5, 1]),
        ((None, 3), "euler", [0, 1 / 3, 2 / 3, 1]),
        (("heun", 2), "heun", [0, 1]),
        (("rk4", None, [0, 0.1, 1]), "rk4", [0, 0.1, 1]),
        (("dopri5", None, [0, 0.1, 1]), "dopri5", [0, 0.1, 1]),
        ((None, None, [0, 0.1, 1]), "euler", [0, 0.1, 1]),
        ((None, 4, "uniform"), "midpoint", [0, 0.5, 1]),
        (("euler", 4, "quadratic"), "euler", [0, 1 / 16, 1 / 4, 9 / 16, 1]),
    ]:
        solver, settings = check_solver(*arguments)
        assert solver == chosen
        np.testing.assert_array_equal(settings["time_grid"], grid)
    assert check_solver("dopri5", None) == ("dopri5", {})
    for arguments, message in [
        ((None, None), "give nfe, a solver"),
        (("dopri5", 4), "leave nfe out"),
        (("rk5", 4), "solver must be one of"),
        (("heun", 3), "such as 2 or 4"),
        (("heun", None), "exactly one of"),
        (("heun", 4, [0, 1]), "exactly one of"),
        (("dopri5", None, [0, 0]), "strictly monotone"),
        ((None, None, [0.1, 1]), "must go from 0, the noise, to 1, the data; it goes from 0.1 to 1"),
        (("dopri5", None, [1, 0.5, 0]), "it goes from 1 to 0"),
        ((None, 4, "cubic"), "one of uniform, quadratic, cosine, got 'cubic'"),
        (("dopri5", None, "cosine"), "time_grid must be times, not a law"),
        (("heun", 3, "cosine"), "such as 2 or 4"),
    ]:
        with pytest.raises(ValueError, match=message):
            check_solver(*arguments)


def test_the_cosine_law_is_dense_at_both_ends():
    _, settings = check_solver("rk4", 16, "cosine")
    times = settings["time_grid"]
    assert (times[0], times[-1]) == (0, 1)
    np.testing.assert_allclose(times, 1 - times[::-1], atol=1e-15)
    assert np.diff(times)[0] < 1 / 4 < np.diff(times)[1]


@pytest.mark.parametrize(("start", "num"), [(0, 1), (5, 70), (CPU_BLOCK - 1, 2), (64, 320)])
@pytest.mark.parametrize("count", [1, 2, 3, 16])
def test_shares_are_all_ids_cut_between_blocks(start, num, count):
    parts = shares(start, num, count)
    assert len(parts) == count
    assert [i for first, some in parts for i in range(first, first + some)] == [*range(start, start + num)]
    assert parts[0][1] > 0
    assert all(first % CPU_BLOCK == 0 or first in (start, start + num) for first, _ in parts)


def random_unet(**fields):
    torch.manual_seed(0)
    options = {"num_head_channels": 32, "num_groups": 8, "dropout": 0.5} | fields
    model = build(UNetConfig(8, 1, 32, 1, (1, 2), (2,), **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("solver", ["midpoint", "dopri5"])
def test_sample_k_is_the_same_whatever_else_is_asked_for(solver):
    model = random_unet()
    arguments = {"seed": 3, "solver": solver} | ({"nfe": 4} if solver == "midpoint" else {"rtol": 1e-2})
    many = generate(model, 2 * CPU_BLOCK + 3, (1, 8, 8), **arguments)
    few = generate(model, 5, (1, 8, 8), **arguments)
    middle = generate(model, 7, (1, 8, 8), start=CPU_BLOCK - 2, batch_size=3, **arguments)
    assert torch.equal(few, many[:5])
    assert torch.equal(middle, many[CPU_BLOCK - 2 : CPU_BLOCK + 5])
    assert len({tuple(image.flatten().tolist()) for image in many}) == len(many)
    assert not torch.equal(few, generate(model, 5, (1, 8, 8), **{**arguments, "seed": 4}))


def test_samples_start_from_the_sampling_noise_which_no_training_uses():
    start = generate(lambda x, t: torch.zeros_like(x), 20, (3,), seed=11, nfe=1)
    ids = torch.arange(20)
    assert torch.equal(start, noise_from_ids(ids, (3,), seed=11, domain=2))
    for domain in (0, 1, 3):
        assert not (start == noise_from_ids(ids, (3,), seed=11, domain=domain)).any()


@pytest.mark.parametrize("arguments", [{"nfe": 4}, {"solver": "dopri5", "time_grid": [0, 0.25, 1]}])
def test_trajectories_go_from_noise_to_sample(arguments):
    model, num = random_unet(), CPU_BLOCK + 3
    path = generate(model, num, (1, 8, 8), seed=3, trajectory=True, start=2, **arguments)
    assert path.shape == (3, num, 1, 8, 8)
    assert torch.equal(path[0], noise_from_ids(torch.arange(2, 2 + num), (1, 8, 8), seed=3, domain=2))
    assert torch.equal(path[-1], generate(model, num, (1, 8, 8), seed=3, start=2, **arguments))
    assert not torch.equal(path[1], path[2])


def test_generate_restores_the_mode_and_reports_progress():
    model = random_unet().train()
    done = []
    generate(model, CPU_BLOCK + 1, (1, 8, 8), seed=0, nfe=1, progress=done.append)
    assert model.training
    assert done == [CPU_BLOCK, CPU_BLOCK + 1]


def test_generate_gives_each_sample_its_label():
    y = torch.arange(20) % 3
    velocities = generate(lambda x, t, y: y[:, None] - x, 20, (2,), seed=0, nfe=1, y=y, start=5)
    torch.testing.assert_close(velocities, y[:, None].float().expand(20, 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num": 0}, "num must be at least 1"),
        ({"start": -1}, "start must be at least 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"y": torch.zeros(2)}, r"one label a sample \(3\), got 2"),
    ],
)
def test_generate_names_what_is_wrong(arguments, message):
    model = build(MLPConfig(width=8, depth=1))
    with pytest.raises(ValueError, match=message):
        generate(model, **{"num": 3, "shape": (2,), "seed": 0, "nfe": 1, **arguments})


def test_a_compiled_network_is_one_graph_for_all_steps_and_calls():
    graphs = []

    def counting(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = random_unet(num_classes=3)
    arguments = {"num": CPU_BLOCK + 3, "shape": (1, 8, 8), "seed": 0, "nfe": 4}
    arguments["y"] = torch.arange(arguments["num"]) % 3
    traced = generate(torch.compile(model, fullgraph=True, dynamic=False, backend=counting), **arguments)
    assert len(graphs) == 1
    torch.testing.assert_close(traced, generate(model, **arguments), rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")  # torch's own compiler
def test_compiled_sampling_is_the_same_within_rounding():
    torch.manual_seed(0)
    model = build(MLPConfig(width=32, depth=2))
    arguments = {"num": CPU_BLOCK + 3, "shape": (2,), "seed": 0, "solver": "rk4", "nfe": 8}
    compiled = generate(torch.compile(model, fullgraph=True, dynamic=False), **arguments)
    torch.testing.assert_close(compiled, generate(model, **arguments), rtol=1e-5, atol=1e-6)


def test_guidance_goes_on_from_no_label_through_the_label():
    """A network whose velocity is its label: at -1, no label, it is that too."""

    def network(x, t, y):
        return y.to(x.dtype).view(-1, 1).expand(x.shape)

    y = np.array([2, 0, 1])
    plain = generate(network, 3, (2,), seed=0, nfe=1, y=y)
    for scale in (0.0, 1.0, 3.5):
        guided = generate(network, 3, (2,), seed=0, nfe=1, y=y, guidance=scale)
        by_hand = plain - torch.from_numpy(y)[:, None] + (-1 + scale * (torch.from_numpy(y)[:, None] + 1))
        torch.testing.assert_close(guided, by_hand.float())
    part = generate(network, 1, (2,), seed=0, nfe=1, y=y[1:2], start=1, guidance=3.5)
    torch.testing.assert_close(part, guided[1:2], rtol=0, atol=0)
    with pytest.raises(ValueError, match="needs labels"):
        generate(lambda x, t: x, 3, (2,), seed=0, nfe=1, guidance=2.0)
    with pytest.raises(ValueError, match="guidance must be a finite number"):
        generate(network, 3, (2,), seed=0, nfe=1, y=y, guidance=-1.0)


def test_samples_begin_at_a_source_in_turn():
    source = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    still = generate(lambda x, t: 0 * x, 7, (2,), seed=0, nfe=1, source=source, start=3)
    np.testing.assert_array_equal(still.numpy(), source[(3 + np.arange(7)) % 5])
    with pytest.raises(ValueError, match="source must hold items of shape"):
        generate(lambda x, t: x, 3, (3,), seed=0, nfe=1, source=source)
