"""torchcfm's `OTPlanSampler` and `*ConditionalFlowMatcher` (Tong et al., 2024) on loomfast's solvers.

Change ``from torchcfm...`` to ``from loomfast.compat.torchcfm``. Here x0 is the source and x1 the target, as
in torchcfm. Exact plans are solved by `loomfast.solve`, entropic ones by `loomfast.coupling.sinkhorn` in the
log domain, at any ``reg``; unbalanced and partial ones, and `wasserstein`, are POT's (``pip install
'loomfast[ot]'``). Draws come from NumPy's and torch's global generators, as in torchcfm, and in its order.

[1] Tong et al., "Improving and generalizing flow-based generative models with minibatch optimal transport".
[2] Lipman et al., "Flow matching for generative modeling". [3] Albergo and Vanden-Eijnden, "Building
normalizing flows with stochastic interpolants".
"""

import math
import warnings

import numpy as np
import torch

from loomfast.assignment import linear_sum_assignment, solve
from loomfast.cost import pairwise_cost
from loomfast.coupling.entropic import sinkhorn
from loomfast.extras import need

METHODS = ("exact", "sinkhorn", "unbalanced", "partial")


class OTPlanSampler:
    """Draws pairs from the transport plan of two batches under squared distances.

    Args:
        method: "exact", "sinkhorn", "unbalanced" or "partial".
        reg: entropic regularisation of the last three, in the units of the cost.
        reg_m: weight of the marginals for "unbalanced".
        normalize_cost: whether costs are divided by the largest first.
        num_threads: taken for compatibility; an assignment is solved on one thread.
        warn: whether to warn where a plan has no mass and the uniform one is taken.

    Raises:
        ValueError: for another method. ImportError: without POT where it is needed.
    """

    def __init__(self, method, reg=0.05, reg_m=1.0, normalize_cost=False, num_threads=1, warn=True):
        if method not in METHODS:
            raise ValueError(f"Unknown method: {method}")
        self.method, self.reg, self.reg_m = method, reg, reg_m
        self.normalize_cost, self.num_threads, self.warn = normalize_cost, num_threads, warn
        self._ot = need("ot", "ot") if method in ("unbalanced", "partial") else None

    def _costs(self, x0, x1, assignment_only=False):
        """Return the squared distances of x0 (n, *dim) and x1 (m, *dim), (n, m) float32 on the CPU."""
        drops = assignment_only and not self.normalize_cost
        cost = pairwise_cost(x0.detach(), x1.detach(), assignment_only=drops)
        return cost / cost.max() if self.normalize_cost else cost

    def get_map(self, x0, x1):
        """Return the plan between x0 (n, *dim) and x1 (m, *dim), (n, m) float64 NumPy."""
        n, m = len(x0), len(x1)
        if self.method == "exact" and n == m:
            plan = np.zeros((n, m))
            plan[np.arange(n), self._assign(x0, x1)] = 1 / n
            return plan
        cost = self._costs(x0, x1).cpu().numpy().astype(np.float64)
        a, b = np.full(n, 1 / n), np.full(m, 1 / m)
        if self.method == "exact":
            plan = _exact_plan(cost)
        elif self.method == "sinkhorn":
            plan = sinkhorn(cost, self.reg, tolerance=1e-9).plan
        elif self.method == "unbalanced":
            solver = self._ot.unbalanced.sinkhorn_knopp_unbalanced
            plan = solver(a, b, cost, reg=self.reg, reg_m=self.reg_m)
        else:
            plan = self._ot.partial.entropic_partial_wasserstein(a, b, cost, reg=self.reg)
        if not np.isfinite(plan).all():
            raise ValueError(
                f"the {self.method} plan is not finite: reg={self.reg} is too small for costs of up to "
                f"{cost.max():g}; take a larger one, or normalize_cost=True"
            )
        if np.abs(plan.sum()) < 1e-8:
            if self.warn:
                warnings.warn("Numerical errors in OT plan, reverting to uniform plan.", stacklevel=2)
            plan = np.ones_like(plan) / plan.size
        return plan

    def _assign(self, x0, x1):
        """Return the optimal x1 of each x0, (n,) int64 NumPy, for batches of one size."""
        found = solve(self._costs(x0, x1, assignment_only=True)).check()
        return found.col4row.cpu().numpy()

    def sample_map(self, pi, batch_size, replace=True):
        """Return ``batch_size`` pairs (rows, columns) of a plan (n, m), (batch_size,) int64 each."""
        p = pi.reshape(-1)
        choices = np.random.choice(p.size, p=p / p.sum(), size=batch_size, replace=replace)  # noqa: NPY002
        return np.divmod(choices, pi.shape[1])

    def _draw(self, x0, x1, replace):
        """Return what `sample_map` of `get_map` does; where the plan is a permutation, without making it."""
        if self.method != "exact" or len(x0) != len(x1) or not replace:
            return self.sample_map(self.get_map(x0, x1), len(x0), replace=replace)
        n = len(x0)
        total = np.cumsum(np.full(n, 1 / n))
        u = np.random.random_sample(n)  # noqa: NPY002
        rows = (total / total[-1]).searchsorted(u, side="right")
        return rows, self._assign(x0, x1)[rows]

    def sample_plan(self, x0, x1, replace=True):
        """Return x0[i] and x1[j] for pairs (i, j) drawn from the plan between x0 and x1."""
        i, j = self._draw(x0, x1, replace)
        return x0[i], x1[j]

    def sample_plan_with_scipy(self, x0, x1):
        """Return x0 and the x1 that the optimal assignment gives each; by loomfast's solver, not scipy's."""
        _, j = linear_sum_assignment(self._costs(x0, x1, assignment_only=True).cpu().numpy())
        return x0, x1[j]

    def sample_plan_with_labels(self, x0, x1, y0=None, y1=None, replace=True):
        """Return x0[i], x1[j], y0[i], y1[j] for pairs drawn from the plan; None where labels are None."""
        i, j = self._draw(x0, x1, replace)
        return x0[i], x1[j], None if y0 is None else y0[i], None if y1 is None else y1[j]

    def sample_trajectory(self, X):
        """Return (n, times, *dim): X with the items of each time drawn by a plan."""
        indices = [np.arange(X.shape[0])]
        for t in range(X.shape[1] - 1):
            plan = self.get_map(X[:, t], X[:, t + 1])
            rows = (plan[i] / plan[i].sum() for i in indices[-1])
            indices.append(np.array([np.random.choice(plan.shape[1], p=p) for p in rows]))  # noqa: NPY002
        return np.stack([X[:, t][i] for t, i in enumerate(indices)], axis=1)


def _exact_plan(cost):
    """Return the exact plan of a rectangular cost with uniform marginals: an assignment of copies."""
    n, m = cost.shape
    size = math.lcm(n, m)
    found = solve(np.repeat(np.repeat(cost, size // n, axis=0), size // m, axis=1)).check()
    plan = np.zeros((n, m))
    np.add.at(plan, (np.arange(size) // (size // n), found.col4row // (size // m)), 1 / size)
    return plan


def wasserstein(x0, x1, method=None, reg=0.05, power=2, **kwargs):
    """Return the Wasserstein distance of power 1 or 2 between two batches, a float, by POT.

    method: "exact" or None, or "sinkhorn" with ``reg``. Raises ValueError for another one.
    """
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power}")
    ot = need("ot", "ot")
    if method not in (None, "exact", "sinkhorn"):
        raise ValueError(f"Unknown method: {method}")
    cost = torch.cdist(x0.reshape(len(x0), -1), x1.reshape(len(x1), -1)) ** power
    cost, most = cost.detach().cpu().numpy(), int(1e7)
    sides = ot.unif(len(x0)), ot.unif(len(x1))
    if method == "sinkhorn":
        value = ot.sinkhorn2(*sides, cost, reg=reg, numItermax=most)
    else:
        value = ot.emd2(*sides, cost, numItermax=most)
    return math.sqrt(value) if power == 2 else value


def pad_t_like_x(t, x):
    """Return times t (n,) with as many dimensions as x (n, *dim); a number as it is."""
    if isinstance(t, float | int):
        return t
    return t.reshape(-1, *([1] * (x.dim() - 1)))


class ConditionalFlowMatcher:
    """Independent conditional flow matching (I-CFM, [1]): xt ~ N(t x1 + (1 − t) x0, σ²), ut = x1 − x0.

    Args:
        sigma: σ, a number.
    """

    def __init__(self, sigma=0.0):
        self.sigma = sigma

    def compute_mu_t(self, x0, x1, t):
        """Return the mean of xt, (n, *dim)."""
        t = pad_t_like_x(t, x0)
        return t * x1 + (1 - t) * x0

    def compute_sigma_t(self, t):
        """Return the standard deviation of xt, a number or (n,)."""
        return self.sigma

    def sample_xt(self, x0, x1, t, epsilon):
        """Return xt (n, *dim) from standard normals ``epsilon`` (n, *dim)."""
        sigma_t = pad_t_like_x(self.compute_sigma_t(t), x0)
        return self.compute_mu_t(x0, x1, t) + sigma_t * epsilon

    def compute_conditional_flow(self, x0, x1, t, xt):
        """Return ut(xt | x0, x1), (n, *dim)."""
        return x1 - x0

    def sample_noise_like(self, x):
        """Return standard normals like x."""
        return torch.randn_like(x)

    def sample_location_and_conditional_flow(self, x0, x1, t=None, return_noise=False):
        """Return t (n,), xt and ut (n, *dim), and the noise of xt where ``return_noise`` says so.

        t is drawn uniformly where it is None. Raises ValueError for another number of times.
        """
        x0, x1, _, _ = self._couple(x0, x1, None, None)
        return self._locate(x0, x1, t, return_noise)

    def guided_sample_location_and_conditional_flow(
        self, x0, x1, y0=None, y1=None, t=None, return_noise=False
    ):
        """Return t, xt, ut, y0, y1 and the noise, as `sample_location_and_conditional_flow`."""
        x0, x1, y0, y1 = self._couple(x0, x1, y0, y1)
        t, xt, ut, *noise = self._locate(x0, x1, t, return_noise)
        return t, xt, ut, y0, y1, *noise

    def _couple(self, x0, x1, y0, y1):
        return x0, x1, y0, y1

    def _locate(self, x0, x1, t, return_noise):
        if t is None:
            t = torch.rand(x0.shape[0]).type_as(x0)
        if len(t) != x0.shape[0]:
            raise ValueError(f"t has to have batch size dimension: {x0.shape[0]} times, got {len(t)}")
        noise = self.sample_noise_like(x0)
        xt = self.sample_xt(x0, x1, t, noise)
        ut = self.compute_conditional_flow(x0, x1, t, xt)
        return (t, xt, ut, noise) if return_noise else (t, xt, ut)

    def compute_lambda(self, t):
        """Return the weight of the score, 2 σ_t / σ², a number or (n,)."""
        return 2 * self.compute_sigma_t(t) / (self.sigma**2 + 1e-8)


class ExactOptimalTransportConditionalFlowMatcher(ConditionalFlowMatcher):
    """OT-CFM [1]: as `ConditionalFlowMatcher`, on pairs drawn from the batch's optimal plan."""

    def __init__(self, sigma=0.0):
        super().__init__(sigma)
        self.ot_sampler = OTPlanSampler(method="exact")

    def _couple(self, x0, x1, y0, y1):
        return self.ot_sampler.sample_plan_with_labels(x0, x1, y0, y1)


class TargetConditionalFlowMatcher(ConditionalFlowMatcher):
    """Flow matching of Lipman et al. [2]: xt ~ N(t x1, (1 − (1 − σ) t)²); x0 is not looked at."""

    def compute_mu_t(self, x0, x1, t):
        """Return the mean of xt, t x1."""
        return pad_t_like_x(t, x1) * x1

    def compute_sigma_t(self, t):
        """Return the standard deviation of xt, 1 − (1 − σ) t."""
        return 1 - (1 - self.sigma) * t

    def compute_conditional_flow(self, x0, x1, t, xt):
        """Return (x1 − (1 − σ) xt) / (1 − (1 − σ) t), [2, eq. 21]."""
        t = pad_t_like_x(t, x1)
        return (x1 - (1 - self.sigma) * xt) / (1 - (1 - self.sigma) * t)


class SchrodingerBridgeConditionalFlowMatcher(ConditionalFlowMatcher):
    """SB-CFM [1]: xt ~ N(t x1 + (1 − t) x0, σ² t (1 − t)), on pairs of the plan with reg = 2 σ².

    Args:
        sigma: σ, positive.
        ot_method: of the `OTPlanSampler`.

    Raises:
        ValueError: for a sigma that is not positive.
    """

    def __init__(self, sigma=1.0, ot_method="exact"):
        if sigma <= 0:
            raise ValueError(f"Sigma must be strictly positive, got {sigma}.")
        if sigma < 1e-3:
            warnings.warn("Small sigma values may lead to numerical instability.", stacklevel=2)
        super().__init__(sigma)
        self.ot_method = ot_method
        self.ot_sampler = OTPlanSampler(method=ot_method, reg=2 * self.sigma**2)

    def _couple(self, x0, x1, y0, y1):
        return self.ot_sampler.sample_plan_with_labels(x0, x1, y0, y1)

    def compute_sigma_t(self, t):
        """Return the standard deviation of xt, σ √(t (1 − t))."""
        return self.sigma * torch.sqrt(t * (1 - t))

    def compute_conditional_flow(self, x0, x1, t, xt):
        """Return (1 − 2 t) / (2 t (1 − t)) (xt − mean) + x1 − x0, [1, eq. 21]."""
        t = pad_t_like_x(t, x0)
        towards = (1 - 2 * t) / (2 * t * (1 - t) + 1e-8)
        return towards * (xt - self.compute_mu_t(x0, x1, t)) + x1 - x0


class VariancePreservingConditionalFlowMatcher(ConditionalFlowMatcher):
    """Trigonometric interpolants [3]: xt ~ N(cos(πt/2) x0 + sin(πt/2) x1, σ²)."""

    def compute_mu_t(self, x0, x1, t):
        """Return the mean of xt, cos(πt/2) x0 + sin(πt/2) x1."""
        t = pad_t_like_x(t, x0)
        return torch.cos(math.pi / 2 * t) * x0 + torch.sin(math.pi / 2 * t) * x1

    def compute_conditional_flow(self, x0, x1, t, xt):
        """Return π/2 (cos(πt/2) x1 − sin(πt/2) x0)."""
        t = pad_t_like_x(t, x0)
        return math.pi / 2 * (torch.cos(math.pi / 2 * t) * x1 - torch.sin(math.pi / 2 * t) * x0)
