"""Jobs in the plane, by the protocol of Tong et al. (2024, Section 6.1), but for a dataset that stays.

10,000 points of the target are all there is to train on (LOOM and the global coupling remember them; the
paper draws anew). A network of three hidden layers of 64 units (SELU), Adam at 1e-3, batches of 256,
sigma = .1; the 2-Wasserstein distance is exact (`loomfast.solve`), of 2000 fresh points of the target and as
many that 100 Euler steps make of fresh points of the source.
"""

from itertools import pairwise

import numpy as np
import torch
from sklearn.datasets import make_moons, make_s_curve
from torch import nn

from loomfast.assignment import solve
from loomfast.cost import pairwise_cost
from loomfast.coupling import Independent, Loom, MinibatchOT, Sinkhorn
from loomfast.coupling.paired import Paired
from loomfast.flow import interpolate
from loomfast.metrics import exact_w2, normalised_path_energy
from loomfast.training.batches import data_order

ITEMS, BATCH, MEASURED, EULER, SIGMA = 10_000, 256, 2000, 100, 0.1
DRAWN_LINES, DRAWN_TIMES = 150, 11


def eight_gaussians(rng, num):
    angle = rng.integers(8, size=num) * (np.pi / 4)
    points = 5 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1**0.25 * rng.normal(size=(num, 2))
    return points.astype(np.float32)


def moons(rng, num):
    points, _ = make_moons(num, noise=0.2, random_state=int(rng.integers(1 << 31)))
    return (3 * points - 1).astype(np.float32)


def scurve(rng, num):
    """Draw scikit-learn's S curve, its first and third coordinate, times 1.5."""
    points, _ = make_s_curve(num, noise=0.05, random_state=int(rng.integers(1 << 31)))
    return (1.5 * points[:, [0, 2]]).astype(np.float32)


DRAW = {
    "normal": lambda rng, num: rng.standard_normal((num, 2), np.float32),
    "8gaussians": eight_gaussians,
    "moons": moons,
    "scurve": scurve,
}


class SourceLoom(Loom):
    """LOOM whose noise ids stand for the points of a source, (num_items * num_caches, 2), instead."""

    def __init__(self, source, **options):
        super().__init__(ITEMS, (2,), **options)
        self.source = torch.from_numpy(source)

    def _noise(self, ids, x, rows, step):
        return self.source[torch.as_tensor(ids)]


def run_plane(sitting, job):
    """Train and measure a job in the plane; a kill loses all of it, a minute at most."""
    source, target = job.task
    rng = np.random.default_rng(job.seed)
    data = DRAW[target](rng, ITEMS)
    coupler = _coupler(job.coupling["method"], source, data, job.seed, rng)
    velocity = _train(coupler, data, job, sitting)
    return measure_plane(velocity, job)


def _coupler(method, source, data, seed, rng):
    options = {"seed": seed}
    if method == "loom":
        ends = DRAW[source](rng, 4 * ITEMS)
        return SourceLoom(ends, num_caches=4, **options)
    if method == "global":
        ends = DRAW[source](rng, ITEMS)
        return Paired(ITEMS, (2,), ends[solve(pairwise_cost(data, ends)).check().col4row])
    options["source"] = DRAW[source](rng, BATCH * 4096)
    kind = {"independent": Independent, "minibatch-ot": MinibatchOT, "sinkhorn": Sinkhorn}[method]
    return kind(ITEMS, (2,), **options)


def _train(coupler, data, job, sitting):
    """Return the velocity field that is learnt of the pairs, a function (x, t)."""
    torch.manual_seed(job.seed)
    widths = [3, 64, 64, 64]
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SELU())]
    network = nn.Sequential(*layers, nn.Linear(64, 2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)

    def velocity(x, t):
        return network(torch.cat([x, t[:, None]], dim=1))

    per_epoch = ITEMS // BATCH
    for step in range(job.steps):
        if step % per_epoch == 0:
            order = data_order(ITEMS, job.seed, step // per_epoch)
            sitting.wait()  # what is begun is done: nothing of it could be gone on with
        first = step % per_epoch * BATCH
        index = order[first : first + BATCH]
        x = torch.from_numpy(data[index])
        pair = coupler.couple(x, index)
        x = x if pair.rows is None else x[torch.from_numpy(pair.rows)]
        x_t, wanted = interpolate(x, pair.noise, t := torch.rand(BATCH), torch.randn(BATCH, 2), SIGMA)
        loss = (velocity(x_t, t) - wanted).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return velocity


@torch.no_grad()
def measure_plane(velocity, job):
    """Return the distance for numbers of Euler steps, the normalised path energy, and lines to draw."""
    source, target = job.task
    rng = np.random.default_rng([job.seed, 1])
    begin, end, again = (torch.from_numpy(DRAW[name](rng, MEASURED)) for name in (source, target, target))
    found = []
    for steps in (1, 2, 4, 8, EULER):
        made = _euler(velocity, begin, steps)[-1]
        found.append({"nfe": steps, "w2": exact_w2(made, end)})
    optimal = exact_w2(begin, end)
    lines = _euler(velocity, begin[:DRAWN_LINES], EULER)[:: EULER // (DRAWN_TIMES - 1)]
    return {
        "samples": found,
        "w2_source_target": optimal,
        "w2_of_draws": exact_w2(end, again),
        "energy": normalised_path_energy(velocity, begin, optimal, steps=EULER),
        "num": MEASURED,
        "lines": [[[round(float(v), 2) for v in point] for point in state] for state in lines],
    }


def _euler(velocity, begin, steps):
    states = [begin]
    for k in range(steps):
        x = states[-1]
        states.append(x + velocity(x, torch.full((len(x),), k / steps)) / steps)
    return states
