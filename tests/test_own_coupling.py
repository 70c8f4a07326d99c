"""A coupling of one's own: one class and one line in the table are enough to train with it, to the end."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from loomfast.config import CouplingConfig, TrainConfig
from loomfast.coupling import Coupling, Pair, Prepared, build
from loomfast.coupling.interface import check_metadata, checked_step, like
from loomfast.coupling.shared import SharedCoupler
from loomfast.data import load_dataset
from loomfast.models import MLPConfig
from loomfast.noise import NoiseDomain, noise_from_ids
from loomfast.training.memory import estimate_memory
from loomfast.training.state import TrainingState
from loomfast.training.step import training_step

CONFIG = TrainConfig(
    model=MLPConfig(dim=2, width=16), data="moons", steps=6, batch_size=8, num_items=32,
    threads=1, device="cpu", coupling=CouplingConfig(method="evens", ot_batch=2, prefetch="on"),
)  # fmt: skip


class Evens(Coupling):
    """Takes the even items only, a few more of them in every step, each with the noise of its own number."""

    method = "evens"
    summary = "the even items"
    chooses_items = True

    def __init__(self, num_items, shape, *, seed=0, dataset_fingerprint=""):
        self.num_items, self.shape, self.seed, self.step = num_items, shape, seed, 0

    def items(self, step, num, in_turn):
        return 2 * ((step + np.arange(num)) % (self.num_items // 2))

    def pair_up(self, x, rows, step, labels):
        noise = noise_from_ids(like(rows, x), self.shape, seed=self.seed, domain=NoiseDomain.VALIDATION)
        pair = Pair(noise, rows, cost_after=0.0, seconds={}, domain=NoiseDomain.VALIDATION)
        return Prepared(pair, step)

    def recall(self, x, index, *, step):
        return self.pair_up(x, index, step, None).pair

    def metadata(self):
        return {"method": self.method, "num_items": self.num_items}

    def state_dict(self):
        return {"step": np.array([self.step]), "metadata": self.metadata()}

    def load_state_dict(self, state):
        check_metadata(state, self.metadata())
        self.step = checked_step(state)


@pytest.fixture(autouse=True)
def _in_the_table(monkeypatch):
    monkeypatch.setitem(build.COUPLINGS, "evens", Evens)


def begun():
    return TrainingState(CONFIG, load_dataset("moons", num_items=32))


def trained(state, steps):
    for _ in range(steps):
        training_step(state)
    state.close()
    return state


def test_it_trains_and_resumes_in_the_middle_of_an_ot_batch(tmp_path):
    straight = trained(begun(), 6)
    batch = straight.batches.last()
    assert (batch["index"] % 2 == 0).all()
    wanted = noise_from_ids(batch["index"], (2,), seed=0, domain=NoiseDomain.VALIDATION)
    np.testing.assert_array_equal(batch["noise"].numpy(), wanted)
    trained(begun(), 3).save(tmp_path)
    resumed = begun()
    resumed.load(tmp_path / "state.safetensors")
    trained(resumed, 3)
    for name, value in straight.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


def test_it_needs_no_more_to_be_described():
    assert Evens.description(CONFIG.coupling) == "evens"
    assert estimate_memory(CONFIG, num_items=32)["coupling cache"] == 0
    with pytest.raises(ValueError, match="for methods loom and semidiscrete, got method evens"):
        build.build_coupler(replace(CONFIG.coupling, init="x"), 32, (2,), seed=0, fingerprint="")


def test_other_processes_take_its_items_and_make_its_noise():
    first = Evens(32, (2,))
    index = first.items(3, 4, None)
    prepared = first.prepare(np.zeros((4, 2), np.float32), index, step=3)

    class Second:
        rank, sent = 1, [index, replace(prepared, pair=replace(prepared.pair, noise=None))]

        def first_sends(self, value):
            assert value is None
            return self.sent.pop(0)

    other = SharedCoupler(Evens(32, (2,)), Second())
    np.testing.assert_array_equal(other.items(3, 4, None), index)
    received = other.prepare(torch.zeros(4, 2), index, step=3)
    np.testing.assert_array_equal(received.pair.noise.numpy(), prepared.pair.noise)
