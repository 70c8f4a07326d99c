"""Pairwise cost: accuracy, speed against the bare product, and the path from ids against the authors' code.

    python bench/cost.py [--json FILE] [--rounds N] [--batch N] [--skip-authors]

The bare product is torch.mm of the same precision into a buffer or np.matmul, one thread each. The small
sizes call a cost and its bare product by turns, nothing in between. The path is ids -> noise -> cost at
--batch (512) items of 3072 numbers; the authors' is a generator for every item and an n x n x d broadcast,
which needs about 7 GB at 512. A speed is printed only if the results agree with float64 differences.
"""

import argparse

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from timing import extra_memory, interleaved, report

from loomfast import noise_from_ids, paired_cost, pairwise_cost, pairwise_cost_from_ids
from loomfast.cost import reference

SHAPE = (3, 32, 32)
SIZE = 3072
FORMS = {"full": {}, "norms dropped": {"assignment_only": True}, "euclidean": {"metric": "euclidean"}}


def check(x, z):
    """Largest error of each form, relative to the largest entry of the cost."""
    expected = reference.pairwise_cost(x[:64], z)
    errors = {"float32": pairwise_cost(x[:64], z).numpy() - expected}
    expected_product = reference.pairwise_cost(x[:64], z, assignment_only=True)
    for precision in ("float32", "bfloat16"):
        product = pairwise_cost(x[:64], z, precision=precision, assignment_only=True)
        errors[f"{precision}, norms dropped"] = product.numpy() - expected_product
    rows = []
    for (name, error), allowed in zip(errors.items(), (1e-5, 1e-5, 2.0**-8), strict=True):
        largest = float(np.abs(error).max() / expected.max())
        if largest > allowed:
            raise SystemExit(f"{name} is wrong by {largest} of the largest cost")
        rows.append({"claim": "error", "what": name, "relative_to_largest_cost": largest})
    return rows


def small(n, d, rounds):
    """Each form against the bare product of its kind, nothing else in between."""
    x, z, out = torch.randn(n, d), torch.randn(n, d), torch.empty(n, n)
    rows = []
    for name, a, b, c, bare in (
        ("torch.mm", x, z, out, torch.mm),
        ("np.matmul", x.numpy(), z.numpy(), out.numpy(), np.matmul),
    ):
        row = {"claim": "small", "n": n, "d": d, "bare": name}
        for form, options in FORMS.items():
            expected = reference.pairwise_cost(x, z, **options)
            pairwise_cost(a, b, out=c, threads=1, **options)
            if float(np.abs(out.numpy() - expected).max()) > 1e-5 * np.abs(expected).max():
                raise SystemExit(f"{form} at n = {n}, d = {d} is wrong")

            def ours(a=a, b=b, c=c, options=options):
                pairwise_cost(a, b, out=c, threads=1, **options)

            def product(a=a, b=b, c=c, bare=bare):
                bare(a, b.T, out=c)

            medians = interleaved({"bare": product, "ours": ours}, rounds)
            row |= {"bare_us": 1e6 * medians["bare"], form: medians["ours"] / medians["bare"]}
        rows.append(row)
    return rows


def against_the_product(n, d, rounds):
    x, z, out = torch.randn(n, d), torch.randn(n, d), torch.empty(n, n)
    half_x, half_z, half_out = x.bfloat16(), z.bfloat16(), torch.empty(n, n, dtype=torch.bfloat16)
    a, b, c = x.numpy(), z.numpy(), out.numpy()
    full, dropped = {"threads": 1}, {"threads": 1, "assignment_only": True}
    low = {"precision": "bfloat16", "out": out} | dropped
    medians = interleaved(
        {
            "torch.mm": lambda: torch.mm(x, z.T, out=out),
            "pairwise_cost": lambda: pairwise_cost(x, z, out=out, **full),
            "norms dropped": lambda: pairwise_cost(x, z, out=out, **dropped),
            "numpy matmul": lambda: np.matmul(a, b.T, out=c),
            "pairwise_cost, numpy": lambda: pairwise_cost(a, b, out=c, **full),
            "norms dropped, numpy": lambda: pairwise_cost(a, b, out=c, **dropped),
            "torch.mm bfloat16": lambda: torch.mm(half_x, half_z.T, out=half_out),
            "norms dropped, bfloat16": lambda: pairwise_cost(half_x, half_z, **low),
        },
        rounds,
    )
    rows = []
    for ours, bare in (
        ("pairwise_cost", "torch.mm"),
        ("norms dropped", "torch.mm"),
        ("pairwise_cost, numpy", "numpy matmul"),
        ("norms dropped, numpy", "numpy matmul"),
        ("norms dropped, bfloat16", "torch.mm bfloat16"),
    ):
        row = {"claim": "against the product", "n": n, "d": d, "what": ours, "ms": 1e3 * medians[ours]}
        rows.append(row | {"ratio_to_" + bare: medians[ours] / medians[bare]})
    return rows


def pairs(n, d, rounds):
    """paired_cost, in float64, against the plain float32 expression."""
    x, z = torch.randn(n, d), torch.randn(n, d)
    expected = (x.double() - z.double()).square().sum(1)
    if not torch.allclose(paired_cost(x, z), expected, rtol=1e-12):
        raise SystemExit("paired_cost is wrong")
    contestants = {"plain": lambda: ((x - z) ** 2).sum(1), "ours": lambda: paired_cost(x, z)}
    medians = interleaved(contestants, rounds)
    row = {"claim": "pairs", "n": n, "d": d, "what": "paired_cost", "ms": 1e3 * medians["ours"]}
    return row | {"ratio_to_plain torch": medians["ours"] / medians["plain"]}


def authors_path(x, seeds):
    """A generator for every item, then the broadcast."""
    z = torch.stack([torch.randn(SHAPE, generator=torch.Generator().manual_seed(int(s))) for s in seeds])
    return (x.view(len(x), 1, SIZE) - z.view(1, len(z), SIZE)).pow(2).sum(-1).sqrt()


def path_from_ids(batch, skip_authors):
    x, ids = torch.randn(batch, *SHAPE), torch.arange(batch)
    options = {"seed": 1, "metric": "euclidean"}

    def two_steps():
        return pairwise_cost(x, noise_from_ids(ids, SHAPE, seed=1, threads=1), metric="euclidean")

    def in_one():
        return pairwise_cost_from_ids(x, ids, threads=1, **options)

    expected = reference.pairwise_cost(x[:16], noise_from_ids(ids, SHAPE, seed=1), metric="euclidean")
    for path in (two_steps, in_one):
        if not np.allclose(path()[:16], expected, rtol=1e-5):
            raise SystemExit(f"{path.__name__} is wrong")
    rows = []
    medians = interleaved({"noise, then cost": two_steps, "pairwise_cost_from_ids": in_one}, 9)
    for name, path in (("noise, then cost", two_steps), ("pairwise_cost_from_ids", in_one)):
        row = {"claim": "path", "batch": batch, "what": name, "ms": 1e3 * medians[name]}
        rows.append(row | {"extra_MB": extra_memory(path) / 1e6})
    if not skip_authors:
        found = {}
        extra = extra_memory(lambda: found.update(interleaved({"authors": lambda: authors_path(x, ids)}, 1)))
        row = {"claim": "path", "batch": batch, "what": "authors", "ms": 1e3 * found["authors"]}
        rows.append(row | {"extra_MB": extra / 1e6})
        for name, median in medians.items():
            rows.append({"claim": "ratio", "what": f"authors / {name}", "ratio": found["authors"] / median})
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", default="bench-cost.json")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--skip-authors", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    threadpool_limits(1)  # of NumPy's BLAS
    torch.manual_seed(0)
    rows = check(torch.randn(256, SIZE), torch.randn(300, SIZE))
    for d in (32, 64, 128, 256, 512):
        for n in (32, 64, 128, 256, 512):
            rows += small(n, d, max(5, min(200, (1 << 27) // (n * n * d))) * arguments.rounds // 5)
    for d in (64, SIZE):
        for n in (64, 128, 256, 512, 1024, 2048):
            rounds = max(3, min(20, (1 << 27) // (n * n * d))) * arguments.rounds // 5
            rows += against_the_product(n, d, max(3, rounds) if n < 2048 else 3)
    rows += [pairs(n, d, arguments.rounds) for n, d in ((128, 64), (128, SIZE), (512, SIZE))]
    rows += path_from_ids(arguments.batch, arguments.skip_authors)
    report(rows, arguments.json)


if __name__ == "__main__":
    main()
