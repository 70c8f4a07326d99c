"""Flow maps: one network of two times that jumps along the flow, and the losses that train it.

The map X_{s,t}(x) = x + (t − s) v_{s,t}(x) takes a point of the flow at time s to where the flow has it at
time t; v_{t,t} is the flow's velocity. Noise is at time 0, data at time 1: X_{0,1} makes a sample at once.
Numbers of equations are those of Boffi, Albergo and Vanden-Eijnden (2025), "How to build a consistency model:
learning flow maps via self-distillation"; these are (6) and (7).
"""

from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from loomfast.flow import interpolate
from loomfast.noise import StepDomain, step_uniforms

Kind = Literal["lsd", "lmd", "esd", "psd", "meanflow"]
KINDS = get_args(Kind)
OBJECTIVES = {
    "lsd": "Lagrangian self-distillation (Boffi et al., 2025)",
    "lmd": "Lagrangian map distillation of a trained velocity (Boffi et al., 2024)",
    "esd": "Eulerian self-distillation (Boffi et al., 2025)",
    "psd": "progressive self-distillation (Boffi et al., 2025)",
    "meanflow": "MeanFlow (Geng et al., 2025)",
}  # in words


@dataclass(frozen=True)
class FlowMapConfig:
    """How a flow map is trained, where the objective is one."""

    velocity_share: float = 0.75
    """Share of the items that train the velocity, on the diagonal s = t (Boffi et al. 2025: eta); the others
    train the map between two times."""
    weight: float = 1.0
    """Weight of the others' loss."""
    power: float = 0.0
    """Every item's loss is divided by itself, plus 0.001, to this power, without a gradient (MeanFlow's
    adaptive weight: 1 there on ImageNet, 0.75 on CIFAR-10)."""
    time_law: Literal["uniform", "logit-normal"] = "uniform"
    """Law of the two times, of which the smaller is the first."""
    time_mean: float = 0.4
    """logit-normal: mean of the times' logit (MeanFlow has -0.4 with noise at time 1)."""
    time_std: float = 1.0
    """logit-normal: its standard deviation."""
    middle: Literal["half", "uniform"] = "half"
    """psd: the time between the two, halfway (PSD-M) or uniform (PSD-U)."""
    annealing_steps: int = 0
    """Steps in which the longest time from the first to the second grows from 0 to 1 (Appendix F.2)."""

    def __post_init__(self):
        if not 0 <= self.velocity_share < 1:
            raise ValueError(f"flow_map.velocity_share must be in [0, 1), got {self.velocity_share}")
        for name in ("weight", "power", "annealing_steps"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(
                    f"flow_map.{name} must be a finite number of at least 0, got {getattr(self, name)}"
                )
        if not 0 < self.time_std < float("inf") or not abs(self.time_mean) < float("inf"):
            raise ValueError(
                f"flow_map.time_mean must be finite and flow_map.time_std positive, got {self.time_mean} and "
                f"{self.time_std}"
            )


@dataclass(frozen=True)
class MapTimes:
    """The two times of every item of a batch.

    start, middle, end: (B,) float32, start <= middle <= end. on_diagonal: (B,) bool, on the CPU: whether an
    item trains the velocity; its three times are one.
    """

    start: torch.Tensor
    middle: torch.Tensor
    end: torch.Tensor
    on_diagonal: torch.Tensor

    def to(self, device):
        """Return the same times on a device."""
        return MapTimes(self.start.to(device), self.middle.to(device), self.end.to(device), self.on_diagonal)


def map_times(index, rows, t, *, seed, step, config):
    """Return the MapTimes of items in a training step: a function of (seed, step, item, row), nothing else.

    Args:
        index: (B,) item indices, NumPy integers.
        rows: (B,) the items' places in the whole batch, by which they are on the diagonal or not: an even
            mix, the same however the batch is divided.
        t: (B,) float32 CPU tensor: the times of items on the diagonal, such as `loomfast.flow.timesteps`.
        seed, step: of the run.
        config: a FlowMapConfig.
    """
    rows = np.asarray(rows)
    share = config.velocity_share
    on_diagonal = torch.from_numpy(np.floor((rows + 1) * share) > np.floor(rows * share))
    u = step_uniforms(index, 3, seed=seed, step=step, domain=StepDomain.MAP_TIMES).astype(np.float64)
    u = torch.from_numpy(u)
    two = u[:, :2]
    if config.time_law == "logit-normal":
        two = torch.sigmoid(config.time_mean + config.time_std * torch.special.ndtri(two))
    start, end = two.amin(1), two.amax(1)
    if config.annealing_steps:
        end = torch.minimum(end, start + (step + 1) / config.annealing_steps)
    part = u[:, 2] if config.middle == "uniform" else 0.5
    times = (
        torch.where(on_diagonal, t.double(), time) for time in (start, start + part * (end - start), end)
    )
    return MapTimes(*(time.float() for time in times), on_diagonal)


def flow_map_loss(
    model,
    x,
    z,
    times,
    *,
    kind="lsd",
    config=None,
    teacher=None,
    y=None,
    sigma=1e-7,
    sigma_noise=None,
    path="straight",
):
    """The loss of a flow map on one batch of pairs: the mean of squared residuals, over items and elements.

    Items on the diagonal have the residual v_{t,t}(I_t) − İ_t of flow matching (12), where I_t and İ_t are
    the pair's point and velocity (`loomfast.flow.interpolate`). The others' residual, at s < t, makes a map
    of that velocity; sg(...) has no gradient, as Appendix F.4 recommends (94):

    ============  =========================================================  =============================
    kind          residual                                                   source
    ============  =========================================================  =============================
    ``lsd``       ∂_t X_{s,t}(I_s) − sg(v_{t,t}(X_{s,t}(I_s)))               (8), (13), Algorithm 2
    ``lmd``       ∂_t X_{s,t}(I_s) − sg(b_t(X_{s,t}(I_s)))                   (27); Boffi et al. (2024)
    ``esd``       ∂_s X_{s,t}(I_s) + sg(∇X_{s,t}(I_s) v_{s,s}(I_s))          (9), (14), Algorithm 3
    ``psd``       v_{s,t}(I_s) − sg((1 − γ) v_{s,u}(I_s)                     (10), (15), (22), Algorithm 4
                  + γ v_{u,t}(X_{s,u}(I_s))),  u = γ s + (1 − γ) t
    ``meanflow``  v_{s,t}(I_s) − sg(İ_s + (t − s) (∂_s v_{s,t}(I_s)          Geng et al. (2025), eq. 6 and
                  + ∇v_{s,t}(I_s) İ_s))                                      9 to 11; (42)
    ============  =========================================================  =============================

    These are Lagrangian self-distillation; Lagrangian map distillation ("Flow map matching") of a teacher b;
    Eulerian and progressive self-distillation; and MeanFlow, whose time runs from data to noise (its t is s
    here, its r is t). With ``lmd`` the diagonal learns the teacher's velocity: b_t(I_t) stands for İ_t.
    Derivatives are Jacobian-vector products by torch.func.jvp, in float32, attention on its math path.

    Args:
        model: takes (x, t, end=...), or (x, t, y, end=...) where labels y are given: the average velocity
            from time t to end, (B,) both; without end the velocity at t.
        x, z: (B, ...) data and what it is paired with, of one shape.
        times: MapTimes of the items.
        kind: a name out of `KINDS`.
        config: a FlowMapConfig for the weights; None for the default ones.
        teacher: for ``lmd``, the velocity of a trained flow, (x, t) or (x, t, y) -> x's shape; no gradient is
            taken of it.
        y: (B,) int64 labels, or None.
        sigma, sigma_noise, path: as in `loomfast.flow.interpolate`.

    Returns:
        A float32 scalar tensor.

    Raises:
        ValueError: for another kind, for ``lmd`` without a teacher, or where shapes do not fit.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if kind == "lmd" and teacher is None:
        raise ValueError("kind lmd distils a trained velocity: give it as teacher")
    config = config or FlowMapConfig()
    point, velocity = interpolate(x, z, times.start, sigma_noise, sigma, path)
    labels = () if y is None else (y,)
    losses = []
    for diagonal in (True, False):
        rows = torch.nonzero(times.on_diagonal == diagonal)[:, 0].to(x.device)
        if not len(rows):
            continue
        here, there, *of_rows = (value[rows] for value in (point, velocity, *labels))
        s, u, t = (time[rows] for time in (times.start, times.middle, times.end))
        at = _Model(model, tuple(of_rows))
        guide = at if teacher is None else _Model(teacher, tuple(of_rows))
        if diagonal:
            target = guide.fixed(here, t) if kind == "lmd" else there.float()
            residual = at(here, t) - target
        else:
            residual = _RESIDUALS[kind](at, guide, here, there, s, u, t)
        losses.append((1.0 if diagonal else config.weight) * _squares(residual, config.power))
    return torch.cat(losses).sum() / len(x)


def _squares(residual, power):
    """Return the mean square of every item's residual, (B,), divided by itself to a power."""
    squares = residual.float().square().flatten(1).mean(1)
    return squares / (squares.detach() + 1e-3) ** power if power else squares


class _Model:
    """A network with its labels: v_{s,t}(x) as a function of (x, s, t), v_{s,s}(x) of (x, s); in float32."""

    def __init__(self, network, labels):
        self.network, self.labels = network, labels

    def __call__(self, x, s, t=None):
        end = {} if t is None else {"end": t}
        found = self.network(x, s, *self.labels, **end)
        if found.shape != x.shape:
            raise ValueError(f"model must return x's shape {tuple(x.shape)}, got {tuple(found.shape)}")
        return found.float()

    @torch.no_grad()
    def fixed(self, x, s, t=None):
        """Return the same without a gradient: a teacher's word."""
        return self(x, s, t)


def _along(network, function, at, direction):
    """Return the value at tensors of a function that calls a network, and its derivative in a direction.

    Both have their graph, and are computed in float32 and by a compiled network as by one that is not: under
    torch.func.jvp autocast casts weights alone, and torch.compile refuses.
    """
    eager = torch.compiler.set_stance("force_eager")
    plain = torch.autocast(at[0].device.type, enabled=False)
    math_path = sdpa_kernel(SDPBackend.MATH)  # fused attention has no forward derivative
    with eager, plain, math_path, _norms_of_contiguous(network):
        return torch.func.jvp(function, at, direction)


@contextmanager
def _norms_of_contiguous(network):
    """Within, group norms get contiguous inputs: their forward derivative in torch takes no other."""
    norms = [m for m in getattr(network, "modules", list)() if isinstance(m, torch.nn.GroupNorm)]
    hooks = [norm.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),)) for norm in norms]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _wide(time, like):
    """Return times (B,) so that they multiply items (B, ...)."""
    return time.view(-1, *[1] * (like.ndim - 1))


def _lagrangian(at, guide, x, velocity, s, u, t):
    average, change = _along(at.network, lambda end: at(x, s, end), (t,), (torch.ones_like(t),))
    span = _wide(t - s, x)
    jump = (x + span * average).detach()
    return average + span * change - guide.fixed(jump, t)


def _eulerian(at, guide, x, velocity, s, u, t):
    average, change = _along(at.network, lambda start: at(x, start, t), (s,), (torch.ones_like(s),))
    span = _wide(t - s, x)
    now = guide.fixed(x, s)
    with torch.no_grad():
        _, across = _along(at.network, lambda point: at(point, s, t), (x,), (now.to(x.dtype),))
    return span * change - average + (now + span * across)


def _progressive(at, guide, x, velocity, s, u, t):
    first = at.fixed(x, s, u)
    second = at.fixed(x + _wide(u - s, x) * first, u, t)
    # gamma is (t - u) / (t - s); the two parts' shares are those of the time
    share = _wide(torch.where(t > s, (u - s) / (t - s).clamp(min=1e-12), 0.5), x)
    return at(x, s, t) - (share * first + (1 - share) * second)


def _meanflow(at, guide, x, velocity, s, u, t):
    ahead = (velocity.to(x.dtype), torch.ones_like(s))
    average, change = _along(at.network, lambda point, start: at(point, start, t), (x, s), ahead)
    return average - (velocity.float() + _wide(t - s, x) * change).detach()


_RESIDUALS = {
    "lsd": _lagrangian,
    "lmd": _lagrangian,
    "esd": _eulerian,
    "psd": _progressive,
    "meanflow": _meanflow,
}
