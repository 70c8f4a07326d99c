"""OT-CFM and SB-CFM on the toys of Tong et al. (2024, "Improving and generalizing flow-based generative
models with minibatch optimal transport", Section 6.1).

    python bench/bridges.py [--steps 20000] [--seeds 0,1,2] [--tasks 0,1,2,3] [--json FILE]

A network of three hidden layers of 64 units (SELU), Adam at 1e-3, batches of 256 that are drawn anew and
paired in the batch: FM independently, OT-CFM by `MinibatchOT` with replacement, both with sigma = .1 on the
straight path; SB-CFM by `Sinkhorn` with replacement at epsilon = 2 sigma^2, on the bridge path, sigma = .5.

Reported, over the seeds: the 2-Wasserstein distance (exact, by `loomfast.solve`) between 2000 points of the
target and as many that 100 Euler steps make of the source; the normalised path energy, its integral less
W2^2(source, target), over the latter, W2 of 2000 points of each; and the distance of two draws of 2000 points
of the target, which is about the least that can be reached.
"""

import argparse
import math
from itertools import pairwise

import numpy as np
import torch
from conditional_moons import eight_gaussians
from sklearn.datasets import make_moons
from timing import report
from torch import nn

from loomfast.coupling import Independent, MinibatchOT, Sinkhorn
from loomfast.flow import interpolate
from loomfast.metrics import exact_w2, normalised_path_energy

BATCH, MEASURED, EULER = 256, 2000, 100
SIGMA = {"FM": 0.1, "OT-CFM": 0.1, "SB-CFM": 0.5}
PATH = {"SB-CFM": "bridge"}
TASKS = (("8gaussians", "moons"), ("normal", "moons"), ("moons", "8gaussians"), ("normal", "8gaussians"))


def moons(rng, num):
    points, _ = make_moons(num, noise=0.2, random_state=int(rng.integers(1 << 31)))
    return (3 * points - 1).astype(np.float32)


DRAW = {
    "normal": lambda rng, num: rng.standard_normal((num, 2), np.float32),
    "8gaussians": eight_gaussians,
    "moons": moons,
}


def coupling(method, seed, source):
    options = {"seed": seed, "source": source}
    if method == "FM":
        return Independent(BATCH, (2,), **options)
    if method == "OT-CFM":
        return MinibatchOT(BATCH, (2,), replace=True, **options)
    epsilon = 2 * SIGMA[method] ** 2
    return Sinkhorn(BATCH, (2,), epsilon=epsilon, relative=False, replace=True, tolerance=1e-3, **options)


def train(method, task, seed, steps):
    """The velocity field that is learnt of the pairs, a function (x, t)."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    widths = [3, 64, 64, 64]
    layers = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SELU())]
    network = nn.Sequential(*layers, nn.Linear(64, 2))
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    coupler = coupling(method, seed, DRAW[task[0]](rng, BATCH * 4096))
    sigma, index = SIGMA[method], np.arange(BATCH)

    def velocity(x, t):
        return network(torch.cat([x, t[:, None]], dim=1))

    for _ in range(steps):
        x = torch.from_numpy(DRAW[task[1]](rng, BATCH))
        pair = coupler.couple(x, index)
        x = x if pair.rows is None else x[torch.from_numpy(pair.rows)]
        t, noise = torch.rand(BATCH), torch.randn(BATCH, 2)
        x_t, target = interpolate(x, pair.noise, t, noise, sigma, PATH.get(method, "straight"))
        loss = (velocity(x_t, t) - target).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
    return velocity


@torch.no_grad()
def measure(velocity, task, seed):
    rng = np.random.default_rng([seed, 1])
    begin, end, again = (torch.from_numpy(DRAW[name](rng, MEASURED)) for name in (*task, task[1]))
    made = begin.clone()
    for k in range(EULER):
        made += velocity(made, torch.full((MEASURED,), k / EULER)) / EULER
    optimal = exact_w2(begin, end)
    energy = normalised_path_energy(velocity, begin, optimal, steps=EULER)
    return float(exact_w2(made, end)), float(energy), float(exact_w2(end, again))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", default="0,1,2")
    names = ", ".join(f"{k} {a}->{b}" for k, (a, b) in enumerate(TASKS))
    parser.add_argument("--tasks", default="0,1,2,3", help=names)
    parser.add_argument("--json", default="bridges.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds, rows = [int(word) for word in arguments.seeds.split(",")], []
    for task in (TASKS[int(word)] for word in arguments.tasks.split(",")):
        for method in SIGMA:
            found = [measure(train(method, task, seed, arguments.steps), task, seed) for seed in seeds]
            (w2, energy, floor), spread = np.mean(found, axis=0), np.std(found, axis=0)
            row = {"task": "->".join(task), "method": method, "steps": arguments.steps, "w2": w2}
            row |= {"w2_std": spread[0], "energy": energy, "energy_std": spread[1], "w2_of_draws": floor}
            rows.append({k: float(v) if isinstance(v, np.floating) else v for k, v in row.items()})
            assert math.isfinite(w2), f"{row}: no number"
            print(rows[-1], flush=True)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
