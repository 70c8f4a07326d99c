"""The score of bridges: learnt by a second output, and samples by the bridge's stochastic equation."""

import numpy as np
import pytest
import torch
from untrained import POINTS, images, untrained_run

from loomfast.cli import main
from loomfast.config import CouplingConfig, TrainConfig, config_from_dict, config_to_dict
from loomfast.data import make_dataset
from loomfast.files import read_tensors
from loomfast.flow import bridge_loss, bridge_score_loss, flow_matching_loss
from loomfast.models import MLPConfig, UNetConfig, build
from loomfast.sampling.generate import generate
from loomfast.sampling.ode import integrate
from loomfast.training.memory import estimate_memory
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

MEAN, DEVIATION, SIGMA = 1.5, 0.5, 0.7
UNET = UNetConfig(8, 1, 8, 1, (1,), (), num_groups=4, num_head_channels=8, score_head=True)


def moments(t):
    """Mean and variance of the bridge's points at time t, of N(0, 1) to N(MEAN, DEVIATION²) independently."""
    return t * MEAN, t**2 * DEVIATION**2 + (1 - t) ** 2 + SIGMA**2 * t * (1 - t)


def exact(x, t, score=True):
    """The velocity and the score of that path: of a normal law both are linear in x."""
    t = t[:, None]
    mean, variance = moments(t)
    change = 2 * t * DEVIATION**2 - 2 * (1 - t) + SIGMA**2 * (1 - 2 * t)
    velocity = MEAN + change / (2 * variance) * (x - mean)
    return (velocity, (mean - x) / variance) if score else velocity


def points(num=4096):
    """A dataset of points of N(MEAN, DEVIATION²), whose moments are exactly these."""
    x = np.random.default_rng(0).standard_normal((num, 2))
    x = (x - x.mean(0)) / x.std(0) * DEVIATION + MEAN
    return make_dataset("normal", x, x[:16])


def config(**fields):
    fields = {"path": "bridge", "score": True, "sigma": SIGMA, "steps": 450, "ema_decay": 0.99, **fields}
    return TrainConfig(
        model=MLPConfig(width=32, depth=2),
        coupling=CouplingConfig(method="independent"),
        batch_size=1024,
        learning_rate=1e-2,
        warmup_steps=20,
        threads=1,
        device="cpu",
        **fields,
    )


@pytest.mark.parametrize("network", [MLPConfig(width=16, depth=1, score_head=True), UNET])
def test_the_second_output_starts_at_zero_and_changes_nothing_else(network):
    torch.manual_seed(0)
    model = build(network)
    torch.manual_seed(0)
    plain = build(type(network)(**{**vars(network), "score_head": False}))
    x, t = torch.randn(3, *((2,) if isinstance(network, MLPConfig) else (1, 8, 8))), torch.rand(3)
    velocity, score = model(x, t, score=True)
    assert torch.equal(velocity, plain(x, t))
    assert torch.equal(model(x, t), velocity)
    assert torch.equal(score, torch.zeros_like(x))
    with pytest.raises(ValueError, match="has no score: leave score out, or train one with --path bridge"):
        plain(x, t, score=True)


def test_both_heads_learn_by_the_losses_of_one_each():
    x, z, e = torch.randn(3, 40, 2)
    t = torch.rand(40)
    options = {"sigma_noise": e, "sigma": SIGMA}
    both = bridge_loss(exact, x, z, t, **options)
    velocity = flow_matching_loss(lambda x, t: exact(x, t)[0], x, z, t, path="bridge", **options)
    score = bridge_score_loss(lambda x, t: exact(x, t)[1], x, z, t, **options)
    torch.testing.assert_close(both, velocity + score)
    for wrong in ({"sigma_noise": None}, {"sigma": 0.0}):
        with pytest.raises(ValueError, match="a score needs sigma_noise and a positive sigma"):
            bridge_loss(exact, x, z, t, **{**options, **wrong})
    with pytest.raises(ValueError, match="model must return x's shape"):
        bridge_loss(lambda x, t, score: (x, x[:, :1]), x, z, t, **options)


def test_training_learns_the_score_that_is_known():
    """Points of one normal law to another: after 450 steps both outputs are near what they should be."""
    state = TrainingState(config(), points())
    for _ in range(450):
        training_step(state)
    state.close()
    model = state.averaged_model()
    for time in (0.2, 0.5, 0.8):
        mean, variance = moments(time)
        x, t = mean + variance**0.5 * torch.randn(2000, 2), torch.full((2000,), time)
        for found, known in zip(model(x, t, score=True), exact(x, t), strict=True):
            # .0004 to .03 were measured; an output that stayed at zero is 1 off.
            assert (found - known).square().mean() < 0.05 * known.square().mean()


@pytest.mark.parametrize("diffusion", [0.0, SIGMA, 2.0])
def test_samples_have_the_law_of_the_flow_whatever_the_diffusion(diffusion):
    options = {"seed": 3, "diffusion": diffusion, "nfe": 100, "solver": "euler-maruyama"}
    found = generate(exact, 2048, (2,), **options)
    # 4096 numbers: 4 standard errors; Euler steps of 1/100 are a hundredth off. Without
    # the score's part the deviation would be more than 1 at the diffusion of 2.
    assert abs(found.mean() - MEAN) < 4 * DEVIATION / 64 + 0.01
    assert abs(found.std() - DEVIATION) < 4 * DEVIATION / 90 + 0.01
    few = generate(exact, 100, (2,), start=1000, **options)
    torch.testing.assert_close(few, found[1000:1100], rtol=0, atol=0)
    if diffusion:
        assert not torch.equal(few, generate(exact, 100, (2,), start=1000, **{**options, "seed": 4}))
    else:
        euler = generate(
            lambda x, t: exact(x, t, False), 100, (2,), seed=3, start=1000, nfe=100, solver="euler"
        )
        torch.testing.assert_close(few, euler)


def test_guidance_is_of_velocity_and_score():
    def model(x, t, y, score=False):
        return (x + y[:, None], t[:, None] * x - y[:, None]) if score else x

    def guided(x, t):  # y + w (0 − (−1)) of both, for y = −1 as none
        return x + 1.5 - 1 + 0.5 * (t[:, None] * x - 1.5 + 1)

    options = {"seed": 0, "nfe": 3, "solver": "euler-maruyama", "diffusion": 1.0}
    found = generate(model, 32, (2,), y=np.zeros(32, int), guidance=1.5, **options)
    plain = generate(lambda x, t, score: (guided(x, t), 0 * x), 32, (2,), **options)
    torch.testing.assert_close(found, plain)


def test_what_does_not_go_with_a_stochastic_solver():
    z = torch.zeros(4, 2)
    with pytest.raises(ValueError, match="kick is the noise of euler-maruyama, which needs it"):
        integrate(lambda x, t: x, z, solver="euler-maruyama", nfe=2)
    with pytest.raises(ValueError, match="kick is the noise of euler-maruyama"):
        integrate(lambda x, t: x, z, solver="euler", nfe=2, kick=lambda k, h: 0)
    model = build(MLPConfig(width=8, depth=1, score_head=True))
    for options, message in (
        ({"solver": "euler-maruyama"}, "diffusion is of solver euler-maruyama, which needs it; got None"),
        ({"diffusion": 1.0}, "diffusion is of solver euler-maruyama, which needs it; got 1.0, midpoint"),
        ({"solver": "euler-maruyama", "diffusion": -1.0}, "diffusion must be a finite number of at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            generate(model, 2, (2,), seed=0, nfe=2, **options)
    with pytest.raises(ValueError, match="needs a network's score, and this one has none"):
        generate(build(POINTS), 2, (2,), seed=0, nfe=2, solver="euler-maruyama", diffusion=1.0)


def test_configurations_that_have_no_score():
    assert config_from_dict(config_to_dict(config())).model.score_head
    for wrong in ({"path": "straight"}, {"sigma": 0.0}, {"objective": "lsd"}):
        with pytest.raises(ValueError, match="score is of path bridge with a positive sigma and objective"):
            config(**wrong)
    with pytest.raises(ValueError, match=r"model\.score_head is of the score of bridges"):
        TrainConfig(model=UNET)
    scored = TrainConfig(model=UNET, path="bridge", sigma=1.0, score=True)
    assert estimate_memory(scored)["weights"] > estimate_memory(TrainConfig(model=images()))["weights"] // 10


def test_a_scored_run_from_the_command_line(tmp_path, capsys):
    run, straight = str(tmp_path / "run"), str(tmp_path / "straight")
    words = ["train", "moons", "--device", "cpu", "--threads", "1", "--path", "bridge", "--sigma", "0.5"]
    words += ["--score", "--coupling.method", "sinkhorn", "--coupling.replace", "--batch-size", "32"]
    words += ["--num-items", "64"]
    for out, steps in ((straight, "4"), (run, "2"), (run, "4")):
        assert main([*words, "--out", out, "--steps", steps]) == 0
    one, two = (read_tensors(f"{out}/state.safetensors")[0] for out in (straight, run))
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert np.abs(one["model.score_out.weight"]).max() > 0
    out = str(tmp_path / "s.npz")
    sample = ["sample", run, "--num", "40", "--nfe", "3", "--out", out, "--solver", "euler-maruyama"]
    found = {}
    for diffusion in ([], ["--diffusion", "0.5"], ["--diffusion", "0"]):
        assert main([*sample, *diffusion]) == 0
        found[" ".join(diffusion)] = np.load(out)["samples"]
    np.testing.assert_array_equal(found[""], found["--diffusion 0.5"])
    assert np.abs(found[""] - found["--diffusion 0"]).mean() > 0.1
    assert main(["evaluate", run, "--solver", "euler-maruyama", "--nfe", "2", "--num", "32"]) == 0
    assert main(["distill", run, "--steps", "2", "--out", str(tmp_path / "map")]) == 0
    capsys.readouterr()
    plain = str(untrained_run(tmp_path / "plain", POINTS))
    for line, message in (
        (["sample", plain, "--solver", "euler-maruyama"], "this one has none: leave --solver out"),
        (["sample", run, "--diffusion", "1"], "diffusion is of solver euler-maruyama"),
        (["reflow", run, "--pairs-only", "--solver", "euler-maruyama"], "pairs need another one"),
    ):
        assert main(line) == 2
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1
