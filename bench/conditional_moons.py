"""C2OT's toy: 8 gaussians -> moons with conditions, at one Euler step (Cheng and Schwing, 2025, Table 1).

    python bench/conditional_moons.py [--steps 20000] [--seeds 0,1,2] [--conditions none,class,x] [--json
    FILE]

The protocol of the paper's code: points are drawn anew, coupled 1024 at a time, and trained on 256 at a time;
a residual network of width 128 and depth 3, Adam at 3e-4, 20,000 steps; the squared Wasserstein distance
(exact, by `loomfast.solve`) between 10,000 points and as many that one Euler step makes of gaussians under
their conditions. Condition ``class`` is the moon, ``x`` the first coordinate. FM couples independently, OT by
`MinibatchOT`, C2OT by `Conditional`. Every seed's draws, and the points of the measurement, are the same for
all of them.
"""

import argparse

import numpy as np
import torch
from sklearn.datasets import make_moons
from timing import report
from torch import nn

from loomfast import pairwise_cost, solve
from loomfast.coupling import Conditional, Independent, MinibatchOT
from loomfast.flow import interpolate

POOL, COUPLED, BATCH, MEASURED = 1 << 20, 1024, 256, 10_000
KINDS = {"FM": Independent, "OT": MinibatchOT, "C2OT": Conditional}


def eight_gaussians(rng, num):
    angle = rng.integers(8, size=num) * (np.pi / 4)
    points = 5 * np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1**0.25 * rng.normal(size=(num, 2))
    return points.astype(np.float32)


def moons(seed, num):
    points, labels = make_moons(num, noise=0.2, random_state=seed)
    return (3 * points - 1).astype(np.float32), labels.astype(np.int64)


class Network(nn.Module):
    def __init__(self, conditional):
        super().__init__()
        self.x, self.t, self.out = nn.Linear(2, 128), nn.Linear(1, 128), nn.Linear(128, 2)
        self.c = nn.Linear(1, 128) if conditional else None
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(128, 512), nn.GELU(), nn.Linear(512, 128)) for _ in range(3)
        )

    def forward(self, x, t, c):
        h = self.x(x) + self.t(t[:, None])
        h = h if self.c is None else h + self.c(c)
        for block in self.blocks:
            h = h + block(h)
        return self.out(h)


def conditions_of(kind, x, labels):
    """What the network is told, (B, 1) float32 or None, and what the coupling is told."""
    if kind == "class":
        return torch.from_numpy(labels[:, None] * 2.0 - 1).float(), labels
    return (None, None) if kind == "none" else (torch.from_numpy(x[:, :1]), x[:, :1])


def train(method, kind, seed, steps):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    source = eight_gaussians(rng, POOL)
    options = {"condition_metric": "sqeuclidean"} if method == "C2OT" else {}
    coupler = KINDS[method](COUPLED, (2,), seed=seed, source=source, **options)
    network = Network(kind != "none")
    optimizer = torch.optim.Adam(network.parameters(), 3e-4)
    index = np.arange(COUPLED)
    for group in range(steps * BATCH // COUPLED):
        x, labels = moons(group + 100_000 * (seed + 1), COUPLED)
        told, labels = conditions_of(kind, x, labels)
        z = coupler.couple(torch.from_numpy(x), index, labels=labels if method == "C2OT" else None).noise
        x = torch.from_numpy(x)
        for rows in torch.arange(COUPLED).split(BATCH):
            t = torch.rand(BATCH)
            x_t, velocity = interpolate(x[rows], z[rows], t)
            c = None if told is None else told[rows]
            loss = (network(x_t, t, c) - velocity).square().mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return network


@torch.no_grad()
def distance(network, kind, seed):
    x, labels = moons(seed, MEASURED)
    told, _ = conditions_of(kind, x, labels)
    z = torch.from_numpy(eight_gaussians(np.random.default_rng([seed, 1]), MEASURED))
    made = z + network(z, torch.zeros(MEASURED), told)
    found = solve(pairwise_cost(made.numpy(), x)).check()
    return float(found.total) / MEASURED


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--conditions", default="none,class,x")
    parser.add_argument("--json", default="conditional_moons.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for kind in arguments.conditions.split(","):
        for method in KINDS:
            if kind == "none" and method == "C2OT":
                continue
            found = [
                distance(train(method, kind, seed, arguments.steps), kind, seed)
                for seed in map(int, arguments.seeds.split(","))
            ]
            mean, spread = float(np.mean(found)), float(np.std(found))
            rows.append({"condition": kind, "method": method, "w2": mean, "std": spread, "seeds": len(found)})
            print(rows[-1], flush=True)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
