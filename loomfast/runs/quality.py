"""How good samples are: their distances to held-out items, fidelity and diversity, with the conditions."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from loomfast import metrics
from loomfast._arrays import to_numpy
from loomfast.metrics.inception import RESIZE, has_inception, inception_features
from loomfast.plots import as_pixels

FeatureName = Literal["auto", "digits", "inception", "data"]
FEATURES = get_args(FeatureName)
W2_ITEMS = 10_000  # of the exact Wasserstein distance, at most
ENOUGH = 10_000  # samples below which distances on Inception's features are not those of papers
RESAMPLES, RESAMPLES_WIDE, WIDE = 200, 50, 256  # of intervals; fewer where there are more features

# Of what is measured, what tables leave out.
DETAILS = ("frechet_standard_error", "frechet_at_infinity", "density", "coverage", "w2_items")


class Features(NamedTuple):
    """What samples and held-out items are compared by.

    name: as in `FEATURES`, but ``auto``. about, resize: in words. of: a function from (N, ...) data to
    (N, D) NumPy features.
    """

    name: str
    about: str
    resize: str
    of: Callable[[Any], np.ndarray]


def choose_features(dataset, name="auto", *, weights=None, device="cpu"):
    """Return the Features of that name for a dataset.

    ``digits``: those of the small classifier of 8 × 8 digits. ``inception``: of the network that published
    distances are measured with, see `loomfast.metrics.inception.inception_features`, for images of one or
    three channels. ``data``: the numbers of the data themselves. ``auto``: digits for the dataset of that
    name, or else inception where it can be had here, or else data.

    Args:
        dataset: a Dataset.
        name: a name out of `FEATURES`.
        weights: file of Inception's weights; None for where torch.hub keeps them.
        device: where Inception runs.

    Raises:
        ValueError: for another name, or features that the data do not have.
    """
    if name not in FEATURES:
        raise ValueError(f"features must be one of {', '.join(FEATURES)}, got {name!r}")
    shape = dataset.heldout.shape[1:]
    images = len(shape) == 3 and shape[0] in (1, 3)
    if name == "auto":
        name = "digits" if dataset.name == "digits" else "data"
        if name == "data" and images and (weights is not None or has_inception()):
            name = "inception"
    if name == "digits":
        if shape != (1, 8, 8):
            raise ValueError(f"features digits are of images (1, 8, 8), the data have {shape}")
        return Features(name, "32 features of a small classifier of digits", "none", _of_digits)
    if name == "inception":
        if not images:
            raise ValueError(f"features inception are of images of 1 or 3 channels, the data have {shape}")

        def of(items):
            return inception_features(as_pixels(to_numpy(items)), weights, device=device)

        return Features(name, "2048 features of torch-fidelity's Inception v3", RESIZE, of)
    return Features(
        name, "the data themselves", "none", lambda items: to_numpy(items).reshape(len(items), -1)
    )


def _of_digits(items):
    return metrics.digits_features(torch.as_tensor(items))


class Reference:
    """The held-out items of a dataset with their features, against which samples are measured.

    Attributes:
        about: the conditions of the measures, a dict: ``reference`` (how many items of which split),
            ``reference_items``, ``split``, ``features``, ``resize``, and ``resamples`` of intervals.
    """

    def __init__(self, dataset, features):
        self.items, self.features = dataset.heldout, features
        self.made = features.of(dataset.heldout)
        # A Gaussian in the space of the data says little of them, and takes the cube of its size.
        self._frechet = None if features.name == "data" else metrics.FrechetReference(self.made)
        self.resamples = RESAMPLES if self.made.shape[1] <= WIDE else RESAMPLES_WIDE
        self.about = {
            "reference": f"{len(self.items)} held-out items",
            "reference_items": len(self.items),
            "split": "held-out",
            "features": features.about,
            "resize": features.resize,
            **({} if self._frechet is None else {"resamples": self.resamples}),
        }

    def frechet(self, samples):
        """Return the Fréchet distance of samples (N, ...) on features other than the data's, a float."""
        return self._frechet.distance(self.features.of(samples))

    def quality(self, samples):
        """Return what is measured of samples (N, ...), as a dict of numbers.

        ``frechet``: the Fréchet distance on the features. ``frechet_low``, ``frechet_high`` and
        ``frechet_standard_error``: its 95 % bootstrap interval and standard error over samples, the reference
        as it is; ``frechet_at_infinity``: extrapolated to infinitely many samples (from 16 on). All these are
        left out where the features are the data's own. ``precision``, ``recall``, ``density``, ``coverage``:
        of 5 nearest neighbours in the features (from 6 samples on). ``exact_w2``: the exact 2-Wasserstein
        distance in data space of the first ``w2_items``, as many as there are of both, at most 10,000.
        """
        made = self.features.of(samples)
        count = min(len(samples), len(self.items), W2_ITEMS)
        few = min(len(made), len(self.made)) <= 5
        return {
            **({} if self._frechet is None else self._frechet_interval(made)),
            **({} if few else metrics.neighbour_scores(self.made, made)),
            "exact_w2": metrics.exact_w2(samples[:count], self.items[:count]),
            "w2_items": count,
        }

    def _frechet_interval(self, made):
        interval = metrics.bootstrap_interval(self._frechet.distance, made, resamples=self.resamples)
        return {
            "frechet": interval.value,
            "frechet_low": interval.low,
            "frechet_high": interval.high,
            "frechet_standard_error": interval.standard_error,
            **({} if len(made) < 16 else {"frechet_at_infinity": self._frechet.at_infinity(made)}),
        }

    def notes(self, num):
        """Return what a reader of the measures of ``num`` samples has to be told, a list of sentences."""
        if self.features.name != "inception" or num >= ENOUGH:
            return []
        return [
            f"the Fréchet distance of {num} samples is too large beside published ones, which are of "
            f"{ENOUGH} or more: see frechet_at_infinity, or ask for more samples"
        ]
