"""Each item takes the nearest of k noises (Li et al., 2024, "Immiscible diffusion", and its successor of
2025).

Drawing k noises to keep one of them costs k times as much as drawing one. It need not. In the direction of
an item x, e = x/|x|, a standard normal z has the component g = z·e, and across it a rest of squared length q;
g is a standard normal, q is chi-squared with d − 1 degrees of freedom, and the rest's direction is uniform;
the three are independent. The squared distance |x − z|² = (|x| − g)² + q depends on g and q alone. So the
nearest of k noises is the one with the best of k pairs (g, q), its direction across x being that of any of
them: one noise is drawn in full, k − 1 others as two numbers each, and where one of these is the best, the
noise is given its g and q. The law is exactly that of the nearest of k independent noises.
"""

import numpy as np

from loomfast._arrays import integer, is_tensor, to_numpy
from loomfast.coupling.interface import Prepared, Stopwatch, blended, like
from loomfast.coupling.memoryless import Fresh
from loomfast.noise import NoiseDomain, StepDomain, fill_nearest, step_normals, step_uniforms

DIRECT = 16  # dimensions up to which a candidate is drawn in full: its numbers are few


class Nearest(Fresh):
    """New noise in every step: the nearest of k candidates an item, whatever other items have.

    The k-nearest-noise form of immiscible diffusion (Li et al., 2024; "Improved immiscible diffusion", 2025).
    Candidates are independent standard normals; of all but one only the two numbers are drawn that the
    distance depends on (see `loomfast.coupling.nearest`), so that k of them cost little more than one. The
    noise is a·noise(id) + b·x with the ``blend`` (a, b) of the Pair.

    Args:
        num_items, shape, seed, dataset_fingerprint: as for `Fresh`; there is no source but noise.
        candidates: k; 1 is `Independent`, bit for bit.
    """

    method = "nearest"
    summary = "the nearest of k new noises an item (Immiscible Diffusion, Li et al. 2024, 2025)"
    takes_source = False

    def __init__(self, num_items, shape, *, candidates=4, seed=0, dataset_fingerprint=""):
        super().__init__(num_items, shape, seed=seed, dataset_fingerprint=dataset_fingerprint)
        self.candidates = integer(candidates, "candidates", 1, 1 << 16)

    @classmethod
    def from_config(cls, config, num_items, shape, *, seed, fingerprint, data, fresh):
        """Return the coupling of a configuration, with its number of candidates."""
        return cls(num_items, shape, candidates=config.candidates, seed=seed, dataset_fingerprint=fingerprint)

    def metadata(self):
        """Return what a state of this coupling belongs to, with the number of candidates."""
        return {**super().metadata(), "candidates": self.candidates}

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with the nearest of their candidates."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise, blend = self.draw(x, rows, step)
        return Prepared(self._pair(x, noise, ids, watch, blend=blend), step)

    def draw(self, x, rows, step):
        """Return the ids, the nearest noises (B, *shape) like ``x``, and their blend (see `Pair`)."""
        if self.candidates == 1 or not len(rows):
            return *self._draw(x, rows, step), None
        g, q = self._others(rows, step)
        if is_tensor(x) and x.device.type != "cpu":
            ids, noise = self._draw(x, rows, step)
            blend = self._choose(x, noise, g, q)
            return ids, blended(noise, x, blend), blend
        ids = (np.int64(step) << np.int64(32)) + rows
        towards = np.ascontiguousarray(to_numpy(x), np.float32)
        noise, blend = np.empty_like(towards), tuple(np.empty((2, len(rows)), np.float32))
        fill_nearest(towards, ids, g, q, noise, blend, seed=self.seed, domain=NoiseDomain.FRESH)
        check_found(blend[0])
        return ids, like(noise, x), blend

    def _choose(self, x, noise, g, q):
        """Return the factors (a, b), (B,) float32 each, that make the drawn noise the nearest candidate.

        What the engine does on the CPU, wherever the data are.
        """
        length2, along, noise2 = dots(x, noise)
        check_found(length2)
        length = np.sqrt(length2)
        safe = np.where(length > 0, length, 1.0)
        g0 = along / safe
        q0 = np.maximum(noise2 - g0 * g0, 0.0)
        g, q = np.concatenate([g0[:, None], g], axis=1), np.concatenate([q0[:, None], q], axis=1)
        best = (g * g + q - 2 * length[:, None] * g).argmin(axis=1)
        g, q = (np.take_along_axis(part, best[:, None], axis=1)[:, 0] for part in (g, q))
        tiny = np.finfo(np.float64).tiny
        a = np.sqrt(q / np.maximum(q0, tiny))
        b = (g - a * g0) / safe
        nowhere = length == 0  # no direction is special: only the length of the noise is chosen
        a[nowhere] = np.sqrt((g * g + q)[nowhere] / np.maximum(noise2[nowhere], tiny))
        b[nowhere] = 0.0
        a[best == 0], b[best == 0] = 1.0, 0.0
        return a.astype(np.float32), b.astype(np.float32)

    def _others(self, rows, step):
        """Return g and q of the candidates but the first, (B, k − 1) float64 each."""
        size, num = int(np.prod(self.shape)), self.candidates - 1
        draw = {"seed": self.seed, "step": step}
        if size <= DIRECT:
            z = step_normals(rows, (num, size), domain=StepDomain.CANDIDATES, **draw).astype(np.float64)
            return np.ascontiguousarray(z[..., 0]), np.square(z[..., 1:]).sum(axis=-1)
        g = step_normals(rows, (num,), domain=StepDomain.CANDIDATES, **draw).astype(np.float64)
        return g, chi_squared(size - 1, rows, num, **draw)


def check_found(values):
    """Raise ValueError naming the first item of which a value, (B,), is not finite."""
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        raise ValueError(f"x[{bad[0]}] contains NaN or infinity; couplings need finite data")


def dots(x, noise):
    """Return |x|², x·noise and |noise|² of items (B, ...), three (B,) float64 arrays."""
    if is_tensor(x):
        x, noise = x.flatten(1).float(), noise.flatten(1)
        if x.shape[1] <= DIRECT:
            x, noise = x.double(), noise.double()
        pairs = ((x, x), (x, noise), (noise, noise))
        return tuple((a * b).sum(dim=1).double().cpu().numpy() for a, b in pairs)
    x, noise = x.reshape(len(x), -1), noise.reshape(len(noise), -1)
    kind = np.float64 if x.shape[1] <= DIRECT else np.float32
    x, noise = x.astype(kind, copy=False), noise.astype(kind, copy=False)
    return tuple(
        np.einsum("ij,ij->i", a, b).astype(np.float64) for a, b in ((x, x), (x, noise), (noise, noise))
    )


def chi_squared(degrees, rows, num, *, seed, step):
    """Return ``num`` draws of χ² for each item, (B, num) float64, by (seed, step, item).

    Marsaglia and Tsang (2000), "A simple method for generating gamma variables": exact, by rejection, of
    which there is one in a hundred at 16 degrees of freedom and fewer beyond.

    Args:
        degrees: degrees of freedom, 2 or more.
        rows: (B,) int64 items.
        num: how many.
    """
    d = degrees / 2 - 1 / 3
    c = 1 / np.sqrt(9 * d)
    result = np.empty((len(rows), num))
    attempts, left = 1, np.arange(len(rows))
    while left.size:
        # The draws of more attempts begin with those of fewer.
        shape, draw = (attempts, num), {"seed": seed, "step": step}
        items = rows if attempts == 1 else rows[left]
        normal = step_normals(items, shape, domain=StepDomain.PROPOSALS, **draw).astype(np.float64)
        u = step_uniforms(items, attempts * num, domain=StepDomain.ACCEPTANCE, **draw)
        u, square = u.reshape(-1, *shape), normal * normal
        v = (1 + c * normal) ** 3
        fits = u < 1 - 0.0331 * square * square  # implies the condition below, without its logarithms
        rest = np.flatnonzero(~fits)
        uniform, w, x2 = (part.reshape(-1)[rest] for part in (u, v, square))
        with np.errstate(divide="ignore", invalid="ignore"):
            fits.reshape(-1)[rest] = np.log(uniform) < 0.5 * x2 + d - d * w + d * np.log(w)
        fits &= v > 0
        if attempts == 1:  # nearly all
            result[...] = 2 * d * v[:, 0]
            found = fits[:, 0]
        else:
            first = fits.argmax(axis=1)[:, None]
            result[left] = np.take_along_axis(2 * d * v, first, axis=1)[:, 0]
            found = fits.any(axis=1)
        left, attempts = left[~found.all(axis=1)], 2 * attempts
    return result
