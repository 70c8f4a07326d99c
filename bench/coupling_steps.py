"""What a step of a coupling costs beside its parts and its peers.

    python bench/coupling_steps.py [--parts loom,minibatch,nearest,sinkhorn] [--rounds N] [--json FILE]

loom       a step of `Loom`, batch in and pairs written back, over the sum of its parts: the noise, the
product,
           the solve from the same start, and the costs of the old and the new pairs; at batches 64 to 4096.
           Both get other items in every round, which no cache holds yet.
minibatch  `MinibatchOT` with replacement, its noise not counted (it is drawn by neither), against torchcfm's
           OTPlanSampler("exact").sample_plan: d = 3072, batches 512 and 1024; and the solvers alone.
nearest    `Nearest` with k = 1, 2, 4 and 16 candidates over drawing one noise; batch 512, d = 3072.
sinkhorn   `loomfast.coupling.sinkhorn` against POT's sinkhorn_log, each until the marginals of its plan are
off
           by less than the same in all (.001 and .000001), at regularisations of .5 to .001 of the mean cost.

One thread; medians of CPU time (of the process: what others do on the machine is not in it), by turns. Needs
POT, and torchcfm for ``minibatch`` (``pip install POT; pip install --no-deps torchcfm``).
"""

import argparse
import statistics
import time

import numpy as np
import ot
import torch
from timing import report

from loomfast import noise_from_ids, paired_cost, pairwise_cost, solve
from loomfast.coupling import Loom, MinibatchOT, Nearest, sinkhorn
from loomfast.coupling.interface import rows_of
from loomfast.data import load_dataset

SHAPE = (3, 32, 32)
PARTS = ("loom", "minibatch", "nearest", "sinkhorn")


def by_turns(contestants, rounds):
    """Median CPU seconds of each named function of the round, one call of each a round after two more."""
    times = {name: [] for name in contestants}
    for k in range(rounds + 2):
        for name, function in contestants.items():
            begin = time.process_time()
            function(k)
            if k > 1:
                times[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in times.items()}


def loom(rounds):
    data = torch.from_numpy(load_dataset("patches32", num_items=8192).train)
    rows = []
    for batch in (64, 128, 256, 512, 1024, 2048, 4096):
        turns = rounds if batch < 2048 else max(3, rounds // 4)
        coupler = Loom(len(data), SHAPE, num_caches=4)
        rng = np.random.default_rng(0)
        drawn = [rng.permutation(len(data))[:batch] for _ in range(2 * turns + 8)]
        for index in drawn[2 * turns + 4 :]:
            coupler.couple(data[index], index)
        batches = [(data[index], index) for index in drawn[: 2 * turns + 4]]

        def step(k, batches=batches, coupler=coupler):
            coupler.couple(*batches[2 * k])

        # The parts of the other batches, each on what the one before it made.
        prepared = [Inputs(coupler, *both) for both in batches[1::2]]
        contestants = {
            "step": step,
            "noise": lambda k, p=prepared: p[k].make_noise(),
            "product": lambda k, p=prepared: p[k].make_cost(),
            "solve": lambda k, p=prepared: p[k].make_solution(),
            "pairs": lambda k, p=prepared: p[k].make_pair_costs(),
        }
        medians = by_turns(contestants, turns)
        parts = {name: 1e3 * medians[name] for name in ("noise", "product", "solve", "pairs")}
        total = sum(parts.values())
        rows.append(
            {
                "part": "loom",
                "batch": batch,
                "step_ms": 1e3 * medians["step"],
                "parts_ms": total,
                "ratio": 1e3 * medians["step"] / total,
                **parts,
            }
        )
    return rows


class Inputs:
    """What the parts of a step of LOOM take, made part after part."""

    def __init__(self, coupler, x, index):
        self.x = x
        held = coupler.ids[index, coupler._choose_caches(index, coupler.step)].astype(np.int64)
        self.ids, self.seed = torch.from_numpy(held), coupler.seed
        self.start = torch.arange(len(x)), torch.from_numpy(coupler.prices[held])

    def make_noise(self):
        self.z = noise_from_ids(self.ids, SHAPE, seed=self.seed)

    def make_cost(self):
        self.cost = pairwise_cost(self.x, self.z, assignment_only=True)

    def make_solution(self):
        self.found = solve(self.cost, start=self.start)
        self.new = rows_of(self.z, self.found.col4row.numpy())

    def make_pair_costs(self):
        paired_cost(self.x, self.z)
        paired_cost(self.x, self.new)
        self.z = self.new = self.cost = None


def minibatch(rounds):
    from torchcfm.optimal_transport import OTPlanSampler

    rows = []
    for batch in (512, 1024):
        x = torch.from_numpy(load_dataset("patches32", num_items=batch).train)
        z = noise_from_ids(torch.arange(batch), SHAPE, seed=0)
        coupler, sampler = MinibatchOT(batch, SHAPE, replace=True), OTPlanSampler("exact")
        coupler._draw = lambda x, rows, step, z=z: (rows, z)
        cost = (torch.cdist(x.flatten(1), z.flatten(1)) ** 2).numpy()
        even = np.full(batch, 1 / batch)
        plan = ot.emd(even, even, cost)
        found = solve(cost)
        assert abs((plan * cost).sum() * batch - float(found.total)) < 1e-5 * float(found.total)
        index = np.arange(batch)
        contestants = {
            "loomfast": lambda k, c=coupler, x=x, i=index: c.couple(x, i, step=k),
            "torchcfm": lambda k, s=sampler, x=x, z=z: s.sample_plan(z, x),
            "solve": lambda k, cost=cost: solve(cost),
            "emd": lambda k, cost=cost, even=even: ot.emd(even, even, cost),
            "product": lambda k, x=x, z=z: pairwise_cost(x, z, assignment_only=True),
        }
        medians = by_turns(contestants, rounds)
        rows.append(
            {
                "part": "minibatch",
                "batch": batch,
                "ratio": medians["torchcfm"] / medians["loomfast"],
                "solver_ratio": medians["emd"] / medians["solve"],
                **{f"{name}_ms": 1e3 * value for name, value in medians.items()},
            }
        )
    return rows


def nearest(rounds):
    x = torch.from_numpy(load_dataset("patches32", num_items=512).train)
    index, ids = np.arange(512), torch.arange(512)
    contestants = {"noise": lambda k: noise_from_ids(ids + 512 * k, SHAPE, seed=0, threads=1)}
    for candidates in (1, 2, 4, 16):
        coupler = Nearest(512, SHAPE, candidates=candidates)
        contestants[candidates] = lambda k, c=coupler: c.draw(x, index, k)
    medians = by_turns(contestants, rounds)
    return [
        {
            "part": "nearest",
            "candidates": candidates,
            "ms": 1e3 * value,
            "ratio": value / medians["noise"],
        }
        for candidates, value in medians.items()
        if candidates != "noise"
    ]


def error_of(plan):
    return sum(np.abs(plan.sum(axis) - 1 / len(plan)).sum() for axis in (0, 1))


def sinkhorns(rounds, shares):
    rows = []
    for batch in (128, 512):
        x = load_dataset("patches32", num_items=batch).train
        cost = pairwise_cost(x, noise_from_ids(np.arange(batch), SHAPE, seed=0)).astype(np.float64)
        even = np.full(batch, 1 / batch)
        for share in shares:
            epsilon = share * cost.mean()
            for wanted in (1e-3, 1e-6):
                # POT looks at its error every ten iterations, in another norm: the fewest that reach it.
                for count in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
                    options = {"numItermax": count, "stopThr": 0, "warn": False}
                    plan = ot.bregman.sinkhorn_log(even, even, cost, epsilon, **options)
                    if error_of(plan) <= wanted:
                        break
                assert error_of(sinkhorn(cost, epsilon, tolerance=wanted).plan) <= 1.001 * wanted
                if error_of(plan) > wanted:
                    continue  # not in a thousand iterations
                medians = by_turns(
                    {
                        "ours": lambda k, c=cost, e=epsilon, w=wanted: sinkhorn(c, e, tolerance=w),
                        "pot": lambda k, c=cost, e=epsilon, o=options, v=even: ot.bregman.sinkhorn_log(
                            v, v, c, e, **o
                        ),
                    },
                    3 if count > 100 else rounds,
                )
                rows.append(
                    {
                        "part": "sinkhorn",
                        "batch": batch,
                        "epsilon": share,
                        "error": wanted,
                        "ratio": medians["pot"] / medians["ours"],
                        "ours_ms": 1e3 * medians["ours"],
                        "pot_ms": 1e3 * medians["pot"],
                        "pot_iterations": count,
                    }
                )
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--shares", default=".5,.05,.01,.001", help="sinkhorn: of the mean cost")
    parser.add_argument("--json", default="coupling_steps.json")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shares = [float(word) for word in arguments.shares.split(",")]
    run = {"loom": loom, "minibatch": minibatch, "nearest": nearest}
    run["sinkhorn"] = lambda rounds: sinkhorns(rounds, shares)
    rows = [row for part in arguments.parts.split(",") for row in run[part](arguments.rounds)]
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
