"""How far a measured distance can be trusted: bootstrap intervals, and its value at infinite numbers."""

from typing import NamedTuple

import numpy as np

from loomfast._arrays import integer
from loomfast.metrics.distances import FrechetReference


class Interval(NamedTuple):
    """A measured value, the ends of its confidence interval, and its standard error."""

    value: float
    low: float
    high: float
    standard_error: float


def bootstrap_interval(statistic, *sets, resamples=200, level=0.95, seed=0):
    """A statistic of sets of items with the bootstrap interval of its mean at these numbers of items.

    Every set is resampled with replacement, apart from the others. The interval is [s + m − q(high), s + m −
    q(low)] of the resampled values' mean m and quantiles q: the basic interval of Davison and Hinkley (1997,
    eq. 5.6), whose 2 s − q has s + m − q in its place. Distances of resampled sets are too large on average,
    since resampling repeats items, and so is the distance of N items: the basic form corrects for both, this
    one for the former alone, and holds the value. What infinitely many items would give is
    `frechet_at_infinity`'s to say.

    Args:
        statistic: function of the sets that returns a number.
        sets: NumPy arrays, (N, ...) each.
        resamples: how often they are resampled, 2 or more.
        level: probability that the interval is to have, in (0, 1).
        seed: of the resampling.

    Returns:
        Interval: an end below 0 is set to 0 where no resampled value is negative.

    Raises:
        ValueError: for options out of range.
    """
    resamples = integer(resamples, "resamples", 2)
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    rng = np.random.default_rng(seed)
    value = float(statistic(*sets))
    drawn = np.array(
        [statistic(*(a[rng.integers(len(a), size=len(a))] for a in sets)) for _ in range(resamples)]
    )
    high, low = value + drawn.mean() - np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    if drawn.min() >= 0:
        low, high = max(low, 0.0), max(high, 0.0)
    return Interval(value, float(low), float(high), float(drawn.std(ddof=1)))


def frechet_at_infinity(features_a, features_b, *, sizes=8, seed=0):
    """The Fréchet distance extrapolated to infinitely many samples (Chong and Forsyth, 2020, Section 3).

    The distance of N samples is too large by about a constant over N. It is measured for subsets of
    ``features_a`` from half of them to all, and the least-squares line over 1/N is taken at 0. What
    ``features_b``, the reference, has too few of stays in the result.

    Args:
        features_a: (N, D) features of samples, N at least 16.
        features_b: (M, D) features of the reference.
        sizes: sizes of subsets, evenly spaced; at least 2.
        seed: of the choice of the subsets.

    Returns:
        float: which noise may make a little negative.

    Raises:
        ValueError: for too few samples or sizes, and as `frechet_distance`.
    """
    return FrechetReference(features_b).at_infinity(features_a, sizes=sizes, seed=seed)
