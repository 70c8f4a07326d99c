"""Arguments that cannot be meant are refused everywhere, and what is given out belongs to who gets it."""

import numpy as np
import pytest
import torch

import loomfast
from loomfast import metrics
from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Semidiscrete
from loomfast.data import load_dataset
from loomfast.flow import timesteps
from loomfast.models import MLPConfig, UNetConfig
from loomfast.noise import step_bits, step_normals
from loomfast.runs import evaluate
from loomfast.sampling.generate import generate
from loomfast.sampling.ode import check_solver, integrate

ITEMS = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
INDEX = np.arange(5)


def still(x, t, *labels):
    return torch.zeros_like(x)


def loom(**options):
    return loomfast.Loom(20, (3,), **options)


def semidiscrete():
    return Semidiscrete(ITEMS, np.zeros(20))


def unet(**options):
    return UNetConfig(**{"image_size": 8, "in_channels": 1, "model_channels": 32} | options)


# name of the argument -> calls with it
WHOLE = {
    "steps": [
        lambda n: integrate(still, torch.zeros(2, 3), steps=n),
        lambda n: metrics.curvature(still, torch.zeros(2, 3), steps=n),
        lambda n: TrainConfig(model=MLPConfig(), steps=n),
    ],
    "nfe": [
        lambda n: integrate(still, torch.zeros(2, 3), nfe=n),
        lambda n: check_solver(None, n),
        lambda n: generate(still, 2, (3,), seed=0, nfe=n),
    ],
    "num": [
        lambda n: generate(still, n, (3,), seed=0, nfe=1),
        lambda n: semidiscrete().choose(n),
        lambda n: evaluate.evaluate(TrainConfig(model=MLPConfig(), data="moons"), still, num=n),
    ],
    "start": [lambda n: generate(still, 2, (3,), seed=0, nfe=1, start=n)],
    "batch_size": [
        lambda n: generate(still, 2, (3,), seed=0, nfe=1, batch_size=n),
        lambda n: TrainConfig(model=MLPConfig(), batch_size=n),
    ],
    "seed": [
        lambda n: loom(seed=n),
        lambda n: Semidiscrete(ITEMS, np.zeros(20), seed=n),
        lambda n: loomfast.noise_from_ids(INDEX, 3, seed=n),
        lambda n: loomfast.pairwise_cost_from_ids(ITEMS, INDEX, seed=n),
        lambda n: loomfast.interpolate_from_ids(ITEMS[:5], INDEX, np.zeros(5), seed=n),
        lambda n: step_bits(INDEX, 1, seed=n, step=0, domain=0),
        lambda n: TrainConfig(model=MLPConfig(), seed=n),
        lambda n: generate(still, 2, (3,), seed=n, nfe=1),
    ],
    "domain": [
        lambda n: loomfast.noise_from_ids(INDEX, 3, seed=0, domain=n),
        lambda n: step_bits(INDEX, 1, seed=0, step=0, domain=n),
    ],
    "step": [
        lambda n: loom().couple(ITEMS[:5], INDEX, step=n),
        lambda n: loom().recall(ITEMS[:5], INDEX, step=n),
        lambda n: loomfast.Independent(20, (3,)).couple(ITEMS[:5], INDEX, step=n),
        lambda n: loomfast.MinibatchOT(20, (3,)).recall(ITEMS[:5], INDEX, step=n),
        lambda n: semidiscrete().choose(2, step=n),
        lambda n: step_normals(INDEX, (3,), seed=0, step=n, domain=0),
        lambda n: timesteps(INDEX, seed=0, step=n),
    ],
    "num_words": [lambda n: step_bits(INDEX, n, seed=0, step=0, domain=0)],
    "num_items": [
        lambda n: loomfast.Loom(n, (3,)),
        lambda n: loomfast.Independent(n, (3,)),
        lambda n: load_dataset("moons", num_items=n),
        lambda n: TrainConfig(model=MLPConfig(), num_items=n),
    ],
    "num_caches": [lambda n: loom(num_caches=n), lambda n: CouplingConfig(num_caches=n)],
    "each size in shape": [
        lambda n: loomfast.noise_from_ids(INDEX, (3, n), seed=0),
        lambda n: loomfast.Loom(20, (n,)),
    ],
    "threads": [
        lambda n: loomfast.solve(ITEMS, threads=n),
        lambda n: loomfast.pairwise_cost(ITEMS, ITEMS, threads=n),
        lambda n: loomfast.noise_from_ids(INDEX, 3, seed=0, threads=n),
        lambda n: loomfast.interpolate_from_ids(ITEMS[:5], INDEX, np.zeros(5), seed=0, threads=n),
        lambda n: TrainConfig(model=MLPConfig(), threads=n),
    ],
    "row_repeats": [lambda n: loomfast.solve(ITEMS, row_repeats=n)],
    "max_sweeps": [lambda n: loom().solve_globally(ITEMS, max_sweeps=n)],
    "memory": [lambda n: loom().solve_globally(ITEMS, memory=n)],
    "ot_batch": [lambda n: CouplingConfig(ot_batch=n)],
    "width": [lambda n: MLPConfig(width=n)],
    "num_classes": [lambda n: MLPConfig(num_classes=n), lambda n: unet(num_classes=n)],
    "each factor in channel_mult": [lambda n: unet(channel_mult=(1, n))],
    "model_channels": [lambda n: unet(model_channels=n)],
}
CALLS = [(name, call) for name, calls in WHOLE.items() for call in calls]


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_integers_are_integers(name, call):
    for value in (1.5, True, "2", [3], np.float64(2.5), np.array([1, 2])):
        with pytest.raises(TypeError, match=f"{name} must be an integer, got "):
            call(value)


@pytest.mark.parametrize(("name", "call"), CALLS)
def test_integers_are_not_negative(name, call):
    for value in (-5, np.int8(-100), -(2**70)):
        with pytest.raises(ValueError, match=f"{name} must be "):
            call(value)


def test_small_numpy_integers_do_not_wrap():
    hundred = np.int8(100)
    assert integrate(still, torch.zeros(2, 3), solver="rk4", steps=hundred).nfe == 400
    assert integrate(still, torch.zeros(2, 3), solver="rk4", nfe=hundred).times.shape == (26,)
    assert generate(still, hundred, (3,), seed=0, nfe=1, start=hundred).shape == (100, 3)
    assert loomfast.Loom(hundred, (hundred, hundred), num_caches=hundred).ids.shape == (100, 100)
    assert loomfast.noise_from_ids(INDEX, (hundred, hundred), seed=hundred).shape == (5, 100, 100)
    coupler = loomfast.Independent(20, (3,))
    pair = coupler.couple(ITEMS[:5], INDEX.astype(np.int8), step=hundred)
    assert coupler.step == 101
    assert (pair.ids == (100 << 32) + INDEX).all()


@pytest.mark.parametrize("shape", [1.5, None, np.float32(2)])
def test_shapes_are_integers(shape):
    for call in (lambda: loomfast.Loom(20, shape), lambda: loomfast.noise_from_ids(INDEX, shape, seed=0)):
        with pytest.raises(TypeError, match="shape must be an integer or a sequence of integers, got "):
            call()


def test_items_are_integers():
    for index in (np.array([0.5]), torch.tensor([0.5])):
        with pytest.raises(TypeError, match="index must be integers, got float"):
            timesteps(index, seed=0, step=0)
    with pytest.raises(ValueError, match=r"index must be in \[0, 2\^32\)"):
        timesteps([-1], seed=0, step=0)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, True, "1", 1j, None])
def test_weights_are_finite_and_not_negative(value):
    for name in ("label_weight", "tolerance"):
        with pytest.raises(ValueError, match=f"{name} must be a finite number of at least 0, got "):
            loom(**{name: value})
    with pytest.raises(ValueError, match="correction must be a finite number"):
        Semidiscrete(ITEMS, np.zeros(20), correction=value)


# ---- states -----------------------------------------------------------------------------------------------


def couplers():
    """A coupler of each kind that has done a step, by its name."""
    made = {
        "loom": loom(label_weight=2.0, num_caches=2),
        "independent": loomfast.Independent(20, (3,)),
        "minibatch-ot": loomfast.MinibatchOT(20, (3,)),
        "semidiscrete": semidiscrete(),
    }
    for name, coupler in made.items():
        index = coupler.choose(5) if name == "semidiscrete" else INDEX
        coupler.couple(ITEMS[index], index, labels=index % 2)
    return made


DAMAGES = [
    ("all", "step", lambda a: a * 0 - 5, "state's step are damaged: they must be at least 0, got -5"),
    ("all", "step", lambda a: a * 0 + 2**33, "state's step is damaged: it must be at most"),
    ("all", "step", lambda a: a.astype(np.float64), "state's step are damaged: finite int64"),
    ("all", "step", lambda a: None, "the state has no step"),
    ("all", "metadata", lambda a: None, "the state has no metadata"),
    ("loom", "labels", lambda a: a * 0 - 7, "state's labels are damaged: they must be at least -1, got -7"),
    ("loom", "prices", lambda a: a * np.nan, "state's prices are damaged"),
    ("loom", "ids", lambda a: a * 0, "not a permutation"),
    (
        "semidiscrete",
        "counts",
        lambda a: a - 2,
        "state's counts are damaged: they must be at least 0, got -2",
    ),
    ("semidiscrete", "scale", lambda a: a * 0 - 1, "state's scale are damaged: they must be at least 0"),
    ("semidiscrete", "last", lambda a: a * 0, "state's last are damaged: they are not different items"),
    ("semidiscrete", "last", lambda a: a + 20, "state's last are damaged"),
    ("semidiscrete", "last", lambda a: a.reshape(1, -1), "state's last are damaged"),
]


@pytest.mark.parametrize(("method", "name", "damage", "text"), DAMAGES)
def test_damaged_states_are_refused_and_change_nothing(method, name, damage, text):
    for kind, coupler in couplers().items():
        if method not in ("all", kind):
            continue
        before, state = coupler.state_dict(), coupler.state_dict()
        state[name] = damage(state[name])
        with pytest.raises(ValueError, match=text):
            coupler.load_state_dict(state)
        after = coupler.state_dict()
        assert all(np.array_equal(after[key], before[key]) for key in before)
        coupler.load_state_dict(before)


# ---- whose array is it ------------------------------------------------------------------------------------


def arrays_of(value):
    """All arrays in attributes, tuples and dicts of ours, however deep."""
    if isinstance(value, np.ndarray):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from arrays_of(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from arrays_of(part)
    elif hasattr(value, "__dict__"):
        yield from arrays_of(vars(value))


def apart(given, kept):
    return not any(np.shares_memory(a, b) for a in arrays_of(given) for b in arrays_of(kept))


@pytest.mark.parametrize("kind", list(couplers()))
def test_nothing_given_out_or_taken_in_is_kept(kind):
    coupler = couplers()[kind]
    index = coupler.choose(5) if kind == "semidiscrete" else INDEX.astype(np.int64)
    x, labels = ITEMS[index], (index % 2).astype(np.int64)
    prepared = coupler.prepare(x, index, labels=labels)
    pair = coupler.commit(prepared)
    state = coupler.state_dict()
    given = [index, x, labels, pair.noise, pair.ids, state, coupler.metadata()]
    given.append(coupler.recall(x, index, step=coupler.step - 1))
    if kind == "semidiscrete":
        given.append(coupler.last_choice())
    assert apart(given, {k: v for k, v in vars(coupler).items() if k != "data"})
    coupler.load_state_dict(state)
    assert apart(state, vars(coupler))


def test_choices_may_be_changed_by_who_asked():
    coupler = semidiscrete()
    chosen = coupler.choose(5)
    kept = chosen.copy()
    chosen.sort()
    chosen[:] = chosen[::-1].copy()
    with pytest.raises(ValueError, match="index must be what choose"):
        coupler.prepare(ITEMS[chosen], chosen)
    coupler.couple(ITEMS[kept], kept)
    assert np.array_equal(coupler.last_choice(), kept)


def test_ids_may_be_changed_before_they_are_written():
    coupler, other = loom(), loom()
    prepared = coupler.prepare(ITEMS[:5], INDEX)
    prepared.pair.ids[:] = 0
    coupler.commit(prepared)
    other.couple(ITEMS[:5], INDEX)
    assert np.array_equal(coupler.ids, other.ids)


def test_a_start_is_not_the_solution():
    cost = np.random.default_rng(2).random((2, 6, 8))
    first = loomfast.solve(cost)
    second = loomfast.solve(cost, start=first)
    assert apart(first, second)
    tensors = loomfast.solve(
        torch.from_numpy(cost), start=tuple(map(torch.from_numpy, (first.col4row, first.v)))
    )
    assert apart(first, [part.numpy() for part in (tensors.col4row, tensors.row4col, tensors.u, tensors.v)])


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_noise_may_be_written_over_its_ids(kind):
    ids = np.arange(7, 17)
    for dtype, shape in (("float32", (2,)), ("float64", (1,))):
        room = ids.copy()
        out = room.view(dtype).reshape(10, *shape)
        loomfast.noise_from_ids(kind(room), shape, seed=1, dtype=dtype, out=kind(out), threads=1)
        assert np.array_equal(out, loomfast.noise_from_ids(ids, shape, seed=1, dtype=dtype))
