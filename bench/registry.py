"""The cases that ``pytest bench`` times: an operation, a family of inputs, a size, and who takes part.

A case makes its contestants: for each name a function without arguments, of an answer that was found right.
An assignment is right if a certificate says so, what has one answer if it is that. A peer that is not
installed, or is wrong, is left out. Of a peer's solvers the fastest takes part, found by one call of each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import assignment
import assignment_batches
import assignment_bottleneck
import assignment_k_best
import assignment_sparse
import cost
import noise
import numpy as np
import torch
from peers import PEERS

import loomfast

OURS = "loomfast"


@dataclass(frozen=True)
class Case:
    """One thing to be timed.

    Attributes:
        operation: what is done. family: with which inputs. size: how large they are.
        work: how many ``unit`` a call does, for throughputs.
        names: who may take part, ourselves first.
        make: returns the contestants that do: name -> function.
    """

    operation: str
    family: str
    size: str
    work: int
    unit: str
    names: tuple[str, ...]
    make: Callable[[], dict[str, Callable]]

    def __str__(self):
        return f"{self.operation} {self.family} {self.size}"


def assignments(family, n):
    """linear_sum_assignment on one core; peers by the variant that is fastest in a first call."""

    def make():
        matrix = assignment.costs(family, n)
        runners = assignment.contestants(matrix)
        seconds, _, _ = assignment.validated(matrix, runners, assignment.LIMIT_SECONDS)
        found = {OURS: runners[OURS, "float32"][0]}
        for peer in PEERS:
            variants = {key: s for key, s in seconds.items() if key[0] == peer}
            if variants:
                found[peer] = runners[min(variants, key=variants.get)][0]
        return found

    return Case("assignment", family, f"{n} x {n}", 1, "problems", (OURS, *PEERS), make)


def batches(form):
    """Many small problems at once, on one thread."""
    names = (OURS, "scipy", "lapx", "fastlap", "torch-linear-assignment")
    matrices = assignment_batches.problems(form, 2)

    def make():
        found, known = {}, None
        for name, (call, pairs) in assignment_batches.contestants(matrices, threads=1).items():
            reached = assignment_batches.totals(matrices, pairs(call()))
            known = reached if known is None else known
            peer = name.split()[0].rstrip(",")
            if peer not in found and np.allclose(reached, known, rtol=1e-5):
                found[peer] = call
        return found

    largest = "{} x {}".format(*np.max([m.shape for m in matrices], axis=0))
    return Case("batch", form, f"{len(matrices)} of {largest}", len(matrices), "problems", names, make)


def sparse(family, n):
    """min_weight_full_bipartite_matching of float64 CSR."""

    def make():
        graph = assignment_sparse.FAMILIES[family](np.random.default_rng(n), n)
        found, known = {}, None
        for name, solve in assignment_sparse.contestants(graph).items():
            total = graph[solve(graph)].sum()
            known = total if known is None else known
            if abs(total - known) <= 1e-9 * abs(known):
                found[name] = lambda solve=solve: solve(graph)
        return found

    return Case("sparse", family, f"{n} rows", 1, "problems", (OURS, "scipy", "lapmod"), make)


def alike(operation, family, size, unit, names, contestants, work=1):
    """A case whose contestants return what has to be the same."""

    def make():
        found, known = {}, None
        for name, call in contestants().items():
            answer = np.asarray(call())
            known = answer if known is None else known
            if name in names and answer.shape == known.shape and np.allclose(answer, known, rtol=1e-9):
                found[name] = call
        return found

    return Case(operation, family, size, work, unit, names, make)


def k_best(family, n, k):
    def contestants():
        return assignment_k_best.contestants(assignment_k_best.families(n)[family], k)

    names = (OURS, "plain", "fastlap")
    return alike("k best", family, f"{k} of {n} x {n}", "matchings", names, contestants, work=k)


def bottleneck(family, n):
    def contestants():
        return assignment_bottleneck.contestants(assignment_bottleneck.families(n)[family])

    return alike("bottleneck", family, f"{n} x {n}", "problems", (OURS, "thresholds", "fastlap"), contestants)


def normals(items, size):
    """Noise of ids into a buffer, beside noise without ids and a generator seeded for each item."""

    def make():
        ids, out = torch.arange(items), torch.empty(items, size)
        loomfast.noise_from_ids(ids, size, seed=1, out=out)
        expected = noise.reference.noise_from_ids(ids.numpy(), (size,), seed=1)
        assert out.numpy().tobytes() == expected.tobytes()
        return {
            OURS: lambda: loomfast.noise_from_ids(ids, size, seed=1, out=out, threads=1),
            "torch.randn": lambda: torch.randn(out.shape, out=out),
            "a generator an item": lambda: noise.generator_loop(ids, (size,)),
        }

    names = (OURS, "torch.randn", "a generator an item")
    return Case("noise", "float32", f"{items} x {size}", items * size, "normals", names, make)


def costs(n, d):
    """Squared distances into a buffer, beside the bare product."""

    def make():
        x, z, out = torch.randn(n, d), torch.randn(n, d), torch.empty(n, n)
        loomfast.pairwise_cost(x, z, out=out)
        expected = cost.reference.pairwise_cost(x, z)
        assert np.abs(out.numpy() - expected).max() <= 1e-5 * expected.max()
        return {
            OURS: lambda: loomfast.pairwise_cost(x, z, out=out, threads=1),
            "torch.mm": lambda: torch.mm(x, z.T, out=out),
            "torch.cdist": lambda: torch.cdist(x, z).square_(),
        }

    names = (OURS, "torch.mm", "torch.cdist")
    return Case("cost", "float32", f"{n} x {n} x {d}", n * n, "costs", names, make)


CASES = (
    *(assignments("img", n) for n in (128, 512, 1024)),
    *(assignments("unif", n) for n in (20, 128, 512, 1024)),
    *(assignments(family, 512) for family in ("geo2d", "int8", "binary")),
    *(assignments(family, 1024) for family in ("geo2dn", "cosine", "iou")),
    *(batches(form) for form in ("alike", "ragged", "detr")),
    *(sparse(family, 5000) for family in ("random 10", "band", "knn", "ties", "triangle")),
    *(k_best(family, 30, 100) for family in ("unif", "gated")),
    *(bottleneck(family, 100) for family in ("unif", "geo2d")),
    *(normals(*shape) for shape in ((512, 3072), (512, 64))),
    *(costs(*shape) for shape in ((128, 3072), (512, 3072), (512, 64))),
)
