"""What the report was to show, each as a ratio of two of its numbers and the bound that it was to keep."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

COUPLINGS = {
    "LOOM": "digits-loom-16",
    "minibatch OT": "digits-minibatch-ot",
    "independent": "digits-independent",
}
COUPLINGS |= {"global": "digits-global", "semidiscrete": "digits-semidiscrete"}


@dataclass(frozen=True)
class Claim:
    """That the mean of one number over seeds is at most ``bound`` times that of another.

    above, below: (name of the jobs without their seed, evaluations or "curvature").
    """

    text: str
    above: tuple
    below: tuple
    bound: float


def claims():
    """Return every Claim."""
    loom, minibatch, independent = (COUPLINGS[name] for name in ("LOOM", "minibatch OT", "independent"))
    found = []
    for nfe in (1, 2):
        found += [
            Claim(f"LOOM ≤ ½ of minibatch OT, {nfe} NFE", (loom, nfe), (minibatch, nfe), 0.5),
            Claim(f"minibatch OT ≤ ½ of independent, {nfe} NFE", (minibatch, nfe), (independent, nfe), 0.5),
            *(
                Claim(f"{name} ≤ LOOM, {nfe} NFE", (COUPLINGS[name], nfe), (loom, nfe), 1.0)
                for name in ("global", "semidiscrete")
            ),
        ]
    caches = {f"LOOM, noises an item: {k}": f"digits-loom-{k}" for k in (1, 2, 4, 16)}
    for nfe in (8, 40):
        others = {**caches, **{n: COUPLINGS[n] for n in ("minibatch OT", "global", "semidiscrete")}}
        found += [
            Claim(f"{title} ≤ 1.3 × independent, {nfe} NFE", (name, nfe), (independent, nfe), 1.3)
            for title, name in others.items()
        ]
    straight = [*(COUPLINGS[n] for n in ("global", "LOOM", "minibatch OT", "independent"))]
    found += [
        Claim(f"curvature, {a[7:]} ≤ {b[7:]}", (a, "curvature"), (b, "curvature"), 1.0)
        for a, b in pairwise(straight)
    ]
    for name in (loom, independent, COUPLINGS["global"]):
        for route in ("reflow", "lsd"):
            found.append(
                Claim(f"{route} of {name[7:]} ≤ ½ of its base, 1 NFE", (f"{name}+{route}", 1), (name, 1), 0.5)
            )
    found += [
        Claim("lsd of LOOM in 1 NFE ≤ 1.5 × its base in 40", (f"{loom}+lsd", 1), (loom, 40), 1.5),
        Claim(
            "lsd of global ≤ lsd of independent, 1 NFE",
            ("digits-global+lsd", 1),
            (f"{independent}+lsd", 1),
            1.0,
        ),
    ]
    return found


def measured(results, name, what):
    """Return {seed: number} of the jobs of a name, NAME or BASE+ROUTE, that are done."""
    base, _, route = name.partition("+")
    found = {}
    for seed in range(3):
        result = results.get(f"{base}-seed{seed}" + (f"-{route}" if route else ""))
        if result is None:
            continue
        if what == "curvature":
            found[seed] = result["curvature"]
        else:
            found[seed] = next(e["frechet"] for e in result["samples"] if e["nfe"] == what)
    return found


def verdict(results, claim):
    """Return (seeds, the ratio of means over the seeds that both have, whether it is kept), or None."""
    above, below = (measured(results, *side) for side in (claim.above, claim.below))
    seeds = sorted(above.keys() & below.keys())
    if not seeds:
        return None
    ratio = np.mean([above[s] for s in seeds]) / np.mean([below[s] for s in seeds])
    return seeds, float(ratio), bool(ratio <= claim.bound)
