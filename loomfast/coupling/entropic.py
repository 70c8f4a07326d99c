"""Entropic transport: the plan that Sinkhorn's iterations lead to, at any regularisation.

The plan minimises <P, C> + ε Σ P (log P − 1) under its marginals; it is P = exp((f + g − C)/ε) (Cuturi,
2013).
"""

import math
from dataclasses import dataclass

import numpy as np

from loomfast._arrays import finite, to_numpy
from loomfast.assignment import solve
from loomfast.cost import pairwise_cost
from loomfast.coupling.interface import Prepared, Stopwatch, solve_batch
from loomfast.coupling.memoryless import FreshByCost
from loomfast.coupling.plans import draw_columns, draw_pairs

LARGEST_SCALING = 1e100  # of a factor that is kept apart from the kernel
LEAST_EPSILON = 1e-12  # of the largest cost
LONGEST_STEP = 30.0  # of Newton's method, in units of ε
FEW_ROWS = 256  # whose systems are solved at once
LEVEL, ROUGHLY = 3.0, 0.05  # from one regularisation to the next, and the error at which to go on


@dataclass(frozen=True)
class EntropicPlan:
    """What `sinkhorn` returns.

    Attributes:
        plan: (n, m) float64, the masses.
        f, g: (n,) and (m,) float64, the potentials, in the units of the cost.
        error: the sum of |row sums − a| and of |column sums − b| of this very plan.
        iterations: how many pairs of updates were made.
    """

    plan: np.ndarray
    f: np.ndarray
    g: np.ndarray
    error: float
    iterations: int


def sinkhorn(cost, epsilon, *, a=None, b=None, tolerance=1e-6, max_iterations=2000):
    """Return the entropic plan of a cost matrix, as an `EntropicPlan`.

    The potentials live in the log domain and take in the scalings before these leave the range of float64
    (Schmitzer, 2019, "Stabilized sparse scaling algorithms for entropy regularized transport problems",
    Section 3), so that any ε will do and an iteration is two products of a matrix with a vector. A small ε is
    come to from larger ones, or, with uniform marginals of one size, from the dual prices of the exact
    assignment, which are within ε log n of the solution. Slow convergence is ended by Newton's method on the
    dual, whose systems conjugate gradients solve with the same products (Brauer et al., 2017, "A
    Sinkhorn-Newton method").

    Args:
        cost: (n, m) finite numbers.
        epsilon: the regularisation, positive, in the units of the cost; at least 1e-12 of the largest is
            taken.
        a, b: (n,) and (m,) masses of rows and columns, positive and of one sum; uniform by default.
        tolerance: the error (see `EntropicPlan`) at which to stop.
        max_iterations: the most pairs of updates; the error says how far they got.

    Raises:
        ValueError: for an epsilon that is not positive, costs that are not finite, or masses that do not fit.
    """
    cost = np.ascontiguousarray(cost, np.float64)
    if not (isinstance(epsilon, int | float | np.number) and 0 < epsilon < np.inf):
        raise ValueError(f"epsilon must be a positive number, got {epsilon!r}")
    if cost.ndim != 2 or not cost.size:
        raise ValueError(f"cost must be a finite matrix with rows and columns, got shape {cost.shape}")
    least = cost.min(axis=1)
    low, high = float(least.min()), float(cost.max())  # NaN where any of them is
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(f"cost must be a finite matrix, got {low} to {high}")
    uniform = a is None and b is None and cost.shape[0] == cost.shape[1]
    a, b = (_masses(given, size, name) for given, size, name in zip((a, b), cost.shape, "ab", strict=True))
    if not math.isclose(a.sum(), b.sum(), rel_tol=1e-9):
        raise ValueError(f"a and b must have one sum, got {a.sum()} and {b.sum()}")
    # Below, the potentials' last digits would decide: the plan is that of the exact assignment there.
    epsilon = max(float(epsilon), LEAST_EPSILON * max(-low, high))
    iteration = _Iteration(cost, a, b, least)
    levels = 0
    if high - low > 2 * epsilon:  # no deviation is more than half of that
        levels = max(0, int(np.ceil(np.log(cost.std() / epsilon + 1e-300) / np.log(LEVEL))))
    if uniform and levels > 1:  # of one level the assignment would take longer than all the rest
        exact = solve(cost)
        iteration.f, iteration.g = exact.u, exact.v
    else:
        for level in range(levels, 0, -1):
            iteration.begin(epsilon * LEVEL**level)
            iteration.run(ROUGHLY, max_iterations)
    iteration.begin(epsilon)
    iteration.run(tolerance, max_iterations)
    return iteration.result()


def _masses(given, size, name):
    if given is None:
        return np.full(size, 1 / size)
    masses = np.array(given, np.float64)
    if masses.shape != (size,) or not (np.isfinite(masses) & (masses > 0)).all():
        raise ValueError(f"{name} must be {size} positive masses, got shape {masses.shape}")
    return masses


def _log_sums(exponents, axis):
    """Return (log Σ exp along an axis, whatever the exponents' size, and the sums of what they become).

    They become exp of them, scaled.
    """
    largest = exponents.max(axis=axis, keepdims=True)
    exponents -= largest
    sums = np.exp(exponents, out=exponents).sum(axis=axis)
    return np.log(sums) + largest.squeeze(axis), sums


class _Iteration:
    """Sinkhorn's iteration: P = diag(u) K diag(v) with K = exp((f + g − C)/ε)."""

    def __init__(self, cost, a, b, f):
        self.cost, self.a, self.b = cost, a, b
        self.f, self.g = f, np.zeros(cost.shape[1])
        self.u, self.v, self.scaled = np.ones(len(a)), np.ones(len(b)), False
        self.epsilon, self.count = 1.0, 0

    def begin(self, epsilon):
        """Go on at another ε: updates in the log domain give every row, then every column its mass."""
        _, g = self.potentials()
        self.epsilon = epsilon
        self._log_update(g)

    def potentials(self):
        """Return f and g with the scalings taken in."""
        return (p + self.epsilon * np.log(s) for p, s in ((self.f, self.u), (self.g, self.v)))

    def _log_update(self, g):
        epsilon, kernel = self.epsilon, np.subtract(g, self.cost)
        kernel /= epsilon
        log_sums, sums = _log_sums(kernel, 1)
        self.f = epsilon * (np.log(self.a) - log_sums)
        kernel *= (self.a / sums)[:, None]  # exp of it, by now
        sums = kernel.sum(axis=0)
        if sums.min() > 1 / LARGEST_SCALING:
            self.g = g + epsilon * np.log(self.b / sums)
            kernel *= self.b / sums
        else:
            np.subtract(self.f[:, None], self.cost, out=kernel)
            kernel /= epsilon
            log_sums, sums = _log_sums(kernel, 0)
            self.g = epsilon * (np.log(self.b) - log_sums)
            kernel *= self.b / sums
        self.kernel = kernel
        self.u, self.v, self.scaled = np.ones(len(self.a)), np.ones(len(self.b)), False
        self.count += 1

    def run(self, tolerance, most):
        """Iterate until the error is at most the tolerance, or so many updates were made in all."""
        before, checked = np.inf, self.count
        while True:
            row_sums = self.kernel @ self.v
            error = np.abs(self.u * row_sums - self.a).sum()
            if error <= tolerance or self.count >= most:
                return
            if self.count - checked >= 10:
                # Less than a digit in so many iterations: Newton's method takes fewer products.
                if error > 0.1 * before and error < 0.5 and self._newton(error):
                    checked, before = self.count, np.inf
                    continue
                checked, before = self.count, error
            if not self._scale(row_sums):
                _, g = self.potentials()
                self._log_update(g)

    def _scale(self, row_sums):
        """Scale rows, then columns; return False where float64 cannot hold it and nothing was changed."""
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            u = self.a / row_sums
            v = self.b / (u @ self.kernel)
        if not self._held(u) or not self._held(v):
            return False
        self.u, self.v, self.scaled = u, v, True
        self.count += 1
        return True

    @staticmethod
    def _held(scaling):
        largest, least = scaling.max(), scaling.min()
        return largest < LARGEST_SCALING and least > 1 / LARGEST_SCALING  # False where one is NaN

    def _newton(self, error):
        """Take a step of Newton's method on the dual, then an update; False, nothing done, if it does not
        rise.

        With row sums r of P and column sums b the step (x, y) of (f, g)/ε solves [diag r, P; Pᵀ, diag b] (x,
        y) = (a − r, 0), a system in x alone.
        """
        plan = self.plan()
        r = plan.sum(axis=1)
        if len(r) <= FEW_ROWS:
            x = _solved(plan, self.b, self.a - r)
        else:
            x, used = _conjugate_gradients(
                lambda x: r * x - plan @ ((x @ plan) / self.b), self.a - r, r, min(0.1, error), 100
            )
            self.count += used
        kept = self.f, self.g, self.u, self.v, self.scaled, self.kernel
        f, g = self.potentials()
        value, x = f @ self.a + g @ self.b, x / max(1.0, np.abs(x).max() / LONGEST_STEP)
        for shrink in (1.0, 0.4, 0.1):
            self._log_update(g - self.epsilon * shrink * ((x @ plan) / self.b))
            if self.f @ self.a + self.g @ self.b > value:  # the dual, where the masses are one in all
                return True
        self.f, self.g, self.u, self.v, self.scaled, self.kernel = kept
        return False

    def plan(self):
        """Return the masses, (n, m); they are not to be written to."""
        if not self.scaled:
            return self.kernel
        plan = self.kernel * self.u[:, None]
        plan *= self.v
        return plan

    def result(self):
        """Return the EntropicPlan as it is, with its error measured on the plan itself."""
        plan = self.plan()
        error = np.abs(plan.sum(axis=1) - self.a).sum() + np.abs(plan.sum(axis=0) - self.b).sum()
        return EntropicPlan(plan, *self.potentials(), float(error), self.count)


def _solved(plan, b, right):
    """Return the x of sum 0 with (diag(P 1) − P diag(1/b) Pᵀ) x = ``right``, where Pᵀ 1 = b and Σ right = 0.

    That matrix is a Laplacian. Its diagonal is taken to be what the rest of each row leaves, without which
    rows that are barely coupled to others are lost in rounding.
    """
    matrix = (plan / b) @ -plan.T
    np.fill_diagonal(matrix, 0.0)
    np.fill_diagonal(matrix, -matrix.sum(axis=1))
    weight = matrix.diagonal().max()  # of the constants, which the matrix takes to 0
    matrix += weight
    try:
        x = np.linalg.solve(matrix, right)
    except np.linalg.LinAlgError:  # rows that nothing couples to the others
        return np.zeros_like(right)
    return x - x.mean()


def _conjugate_gradients(product, right, diagonal, relative, most):
    """Return (x, products made) with product(x) near ``right``; preconditioned by a diagonal.

    The system's null space is that of the constants, which the right side has no part in.
    """
    x, r = np.zeros_like(right), right.copy()
    z = r / diagonal
    p, rz = z.copy(), r @ z
    goal = relative * np.abs(right).sum()
    used = 0
    while used < most:
        used += 1
        ap = product(p)
        curvature = p @ ap
        if curvature <= 0:
            break
        step = rz / curvature
        x += step * p
        r -= step * ap
        if np.abs(r).sum() <= goal:
            break
        z = r / diagonal
        rz, last = r @ z, rz
        p = z + (rz / last) * p
    return x, used


class Sinkhorn(FreshByCost):
    """New noise in every step, and pairs drawn from the entropic plan of the batch.

    BatchEOT of Pooladian et al. (2023); the plan of SB-CFM in Tong et al. (2024) with ε = 2σ².

    Args:
        num_items, shape, seed, metric, source, dataset_fingerprint: as for `FreshByCost`.
        epsilon: the regularisation: 0.05 of the batch's mean cost; with ``relative=False`` in the units of
            the cost, as torchcfm's ``reg``. A small one pairs almost as `MinibatchOT`, a large one almost as
            `Independent`.
        relative: whether epsilon is a share of the mean cost.
        tolerance: the marginal error to reach; `Pair.marginal_error` is the one that was.
        replace: as for `MinibatchOT`. Otherwise every item comes once, its noise drawn from its row.

    Raises:
        ValueError: for an epsilon that is not positive.
    """

    method = "sinkhorn"
    summary = "new noise by the entropic plan of the batch (BatchEOT, Pooladian et al. 2023)"

    def __init__(
        self, num_items, shape, *, epsilon=0.05, relative=True, tolerance=1e-6, replace=False, **options
    ):
        super().__init__(num_items, shape, **options)
        self.epsilon = finite(epsilon, "epsilon")
        if not self.epsilon:
            raise ValueError("epsilon must be positive, got 0; without it the coupling is MinibatchOT")
        self.relative, self.tolerance = bool(relative), finite(tolerance, "tolerance")
        self.replace = bool(replace)

    @classmethod
    def options(cls, config):
        """Return the metric, epsilon and ``replace`` of a configuration, a dict."""
        return {**super().options(config), "epsilon": config.epsilon, "replace": config.replace}

    def metadata(self):
        """Return what a state of this coupling belongs to, as a dict of plain JSON values."""
        own = {name: getattr(self, name) for name in ("epsilon", "relative", "tolerance", "replace")}
        return {**super().metadata(), **own}

    def pair_up(self, x, rows, step, labels):
        """Pair the items ``rows`` (B,) of data ``x`` (B, *shape) with new noise, drawn from the plan."""
        watch = Stopwatch()
        with watch("noise"):
            ids, noise = self._draw(x, rows, step)
        if not len(rows):
            return Prepared(self._pair(x, noise, ids, watch, metric=self.metric), step)
        with watch("cost"):
            cost = to_numpy(pairwise_cost(x, noise, metric=self.metric))
            check_finite_costs(cost, x)
        with watch("solve"):
            scale = float(cost.mean()) or 1.0
            found = sinkhorn(cost, self.epsilon * (scale if self.relative else 1.0), tolerance=self.tolerance)
            drawn = {"seed": self.seed, "step": step}
            if self.replace:
                places, order = draw_pairs(found.plan, len(rows), **drawn)
            else:
                places, order = None, draw_columns(found.plan, rows, **drawn)
        more = {"order": order, "rows": places, "metric": self.metric, "marginal_error": found.error}
        return Prepared(self._pair(x, noise, ids, watch, **more), step)


def check_finite_costs(cost, x):
    """Raise ValueError naming the item where costs of data ``x`` (B, ...) are not finite numbers."""
    if not np.isfinite(cost).all():
        solve_batch(np.where(np.isfinite(cost), cost, np.nan), x)
