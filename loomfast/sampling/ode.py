"""Solvers of the flow's differential equation, with a true count of function evaluations.

And one of a bridge's stochastic equation, whose noise the caller gives.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch

from loomfast._arrays import integer
from loomfast._defaults import plain_defaults
from loomfast.extras import need

MOST_STEPS = 20_000  # of an adaptive solver between two times


@dataclass(frozen=True)
class Solution:
    """What ``integrate`` returns.

    x: the end state, of z's shape. nfe: function evaluations made, counted (a mean over many calls may be a
    float). solver: its name.
    trajectory: (len(times), *z.shape) states, the first of them z, or None where it was not asked for.
    times: float64 (T,), where the trajectory's states are; without a trajectory the solver's own grid.
    """

    x: torch.Tensor
    nfe: int | float
    solver: str
    trajectory: torch.Tensor | None
    times: np.ndarray


def _euler(f, x, t, h):
    return x + h * f(x, t)


def _midpoint(f, x, t, h):
    return x + h * f(x + (h / 2) * f(x, t), t + h / 2)


def _heun(f, x, t, h):
    k1 = f(x, t)
    return x + (h / 2) * (k1 + f(x + h * k1, t + h))


def _rk4(f, x, t, h):
    k1 = f(x, t)
    k2 = f(x + (h / 2) * k1, t + h / 2)
    k3 = f(x + (h / 2) * k2, t + h / 2)
    k4 = f(x + h * k3, t + h)
    return x + (h / 6) * (k1 + 2 * (k2 + k3) + k4)


def _jump(f, x, t, h):
    return x + h * f(x, t, t + h)


# name -> (one step, evaluations a step)
FIXED = {"euler": (_euler, 1), "midpoint": (_midpoint, 2), "heun": (_heun, 2), "rk4": (_rk4, 4)}
MAP = "map"  # the solver of networks of two times, which jump from one time to the next
STOCHASTIC = "euler-maruyama"  # the solver of networks with a score: Euler steps with noise
STEPS = {**FIXED, MAP: (_jump, 1), STOCHASTIC: (_euler, 1)}
ADAPTIVE = ("dopri5", "dopri8", "bosh3", "adaptive_heun")  # torchdiffeq's

# name -> where the times of a uniform grid go, 0 to 0 and 1 to 1
TIME_LAWS = {
    "uniform": lambda s: s,
    "quadratic": np.square,  # short steps near the noise
    "cosine": lambda s: (1 - np.cos(np.pi * s)) / 2,  # short steps near both ends
}


def default_solver(nfe, two_times=False):
    """Return the solver for a number of evaluations if none is named: midpoint if even, euler if odd.

    For a network of two times it is its map.
    """
    return MAP if two_times else "euler" if nfe % 2 else "midpoint"


def integrate(
    velocity: Callable,
    z,
    *,
    solver="euler",
    nfe=None,
    steps=None,
    time_grid=None,
    trajectory=False,
    rtol=1e-5,
    atol=1e-5,
    kick=None,
):
    """Solves dx/dt = velocity(x, t) from x(0) = z to x(1) (LOOM-CFM, equations 1-2).

    velocity: takes x of z's shape and t of shape (B,) float32, returns x's shape. z: (B, ...) floating point.
    Fixed-step solvers (euler 1, midpoint 2, heun 2, rk4 4 evaluations a step) need exactly one of nfe, a
    multiple of the evaluations a step; steps, that many equal ones; time_grid, strictly monotone times from
    start to end, any interval and either direction. So does map, of one evaluation a step, whose velocity
    takes (x, t, end) and returns the average velocity from t to end of a flow map (`loomfast.flow_map`).
    Adaptive solvers (torchdiffeq's dopri5, dopri8, bosh3, adaptive_heun) choose their own steps from rtol and
    atol, the error being taken over the whole batch; they take no nfe and no steps, and time_grid says where
    they begin, end and report. Their z is float32 or float64: fewer bits cannot tell an error of rtol from
    rounding.
    euler-maruyama solves dx = velocity(x, t) dt + noise: kick(k, h) returns what the noise of step k, of
    length h, adds to x after an Euler step, g √h times standard normals of z's shape, say.
    trajectory=True keeps every state of the grid. Gradients are not stopped here.

    Returns a Solution. Raises ValueError for an unknown solver, for a grid that does not fit it, and for a
    kick that is missing or of another solver; of an adaptive solver also where velocity returns NaN or
    infinity, or steps do not become large enough for rtol and atol. Raises TypeError for z of another dtype.
    """
    _check_name(solver)
    if (solver == STOCHASTIC) != (kick is not None):
        raise ValueError(f"kick is the noise of {STOCHASTIC}, which needs it; got solver {solver!r}")
    calls = 0

    def f(x, *times):
        nonlocal calls
        calls += 1
        times = (torch.as_tensor(t, dtype=torch.float32, device=x.device) for t in times)
        return velocity(x, *(t.expand(x.shape[0]) for t in times))

    if solver in ADAPTIVE:
        if nfe is not None or steps is not None:
            raise ValueError(f"{solver} chooses its own steps: give rtol and atol instead of nfe or steps")
        times = np.array([0.0, 1.0]) if time_grid is None else _check_grid(time_grid)
        states = _adaptive(f, z, solver, times, rtol, atol)
        return Solution(states[-1], calls, solver, states if trajectory else None, times)
    step, per_step = STEPS[solver]
    times = _grid(solver, per_step, nfe, steps, time_grid)
    x = z
    states = [z]
    for k, (t, t_next) in enumerate(pairwise(times)):
        x = step(f, x, float(t), float(t_next - t))
        if kick is not None:
            x = x + kick(k, abs(float(t_next - t)))
        if trajectory:
            states.append(x)
    return Solution(x, calls, solver, torch.stack(states) if trajectory else None, times)


def _check_name(solver):
    if solver not in STEPS and solver not in ADAPTIVE:
        raise ValueError(f"solver must be one of {', '.join((*STEPS, *ADAPTIVE))}, got {solver!r}")


def _grid(solver, per_step, nfe, steps, time_grid):
    """Return the float64 times of a fixed-step solver, by the one of nfe, steps and time_grid given."""
    if sum(value is not None for value in (nfe, steps, time_grid)) != 1:
        raise ValueError(f"{solver} needs exactly one of nfe, steps and time_grid")
    if time_grid is not None:
        return _check_grid(time_grid)
    if nfe is not None:
        nfe = integer(nfe, "nfe", -math.inf)
        if nfe < 1 or nfe % per_step:
            near = max(per_step, nfe // per_step * per_step)
            raise ValueError(
                f"{solver} makes {per_step} evaluations a step: nfe must be a positive multiple of "
                f"{per_step}, such as {near} or {near + per_step}; got {nfe}"
            )
        steps = nfe // per_step
    steps = integer(steps, "steps", 1)
    return np.arange(steps + 1) / steps


def _check_grid(time_grid):
    times = np.asarray(time_grid, dtype=np.float64)
    differences = np.diff(times) if times.ndim == 1 else np.empty(0)
    if not (
        differences.size and np.isfinite(times).all() and (differences > 0).all() ^ (differences < 0).all()
    ):
        raise ValueError(f"time_grid must hold at least two strictly monotone times, got {time_grid!r}")
    return times


def _adaptive(f, z, solver, times, rtol, atol):
    """Return the states at these times by torchdiffeq, whose assertions become errors with a reason."""
    with plain_defaults():  # its tables are made when it is imported
        odeint = need("torchdiffeq", "train").odeint
    grid = torch.from_numpy(times).to(z.device, z.dtype)
    _check_adaptive(z, solver, times, grid, rtol, atol)
    if z.numel() == 0:  # there is no error to go by
        return z.expand(len(times), *z.shape)
    reached = float(times[0])

    def out_of_reach():
        return ValueError(
            f"{solver} does not reach rtol={rtol:g}, atol={atol:g} in {_bare(z.dtype)}: its steps became too "
            f"small near t = {reached:g}; raise them, or take a solver with fixed steps"
        )

    def velocity(t, x):
        nonlocal reached
        if not torch.isfinite(t):
            raise out_of_reach()
        reached = float(t)
        v = f(x, t)
        if not torch.isfinite(v).all():
            raise ValueError(f"velocity returned NaN or infinity at t = {reached:g}; {solver} cannot go on")
        return v

    options = {"max_num_steps": MOST_STEPS}
    try:
        return odeint(velocity, z, grid, rtol=rtol, atol=atol, method=solver, options=options)
    except AssertionError:
        raise out_of_reach() from None


def _check_adaptive(z, solver, times, grid, rtol, atol):
    if z.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{solver} needs z in float32 or float64, got {_bare(z.dtype)}: convert it first")
    if not torch.isfinite(z).all():
        raise ValueError(f"z must be finite for {solver}, it holds NaN or infinity")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name} must be a finite number of at least 0, got {value}")
    if rtol == atol == 0:
        raise ValueError("rtol and atol must not both be 0: no step would be small enough")
    same = (grid[1:] == grid[:-1]).nonzero()
    if len(same):
        first, second = times[int(same[0]) :][:2].tolist()
        raise ValueError(f"time_grid has {first!r} and {second!r}, which are one time in {_bare(z.dtype)}")


def _bare(dtype):
    return str(dtype).removeprefix("torch.")


def check_solver(solver, nfe, time_grid=None, *, two_times=False, score=False):
    """The solver to use and the arguments it gives ``integrate``.

    A fixed-step solver takes nfe or time_grid, an adaptive one no nfe. Without a solver nfe picks
    ``default_solver(nfe)``, and a grid euler; a network of two_times its map, in both cases. time_grid: times
    that rise from 0, the noise, to 1, the data; or the name of one of TIME_LAWS, which then spaces the steps
    that nfe allows.
    Raises ValueError for an unknown solver, for an nfe or a grid it cannot use, for the map of a network of
    one time, and for euler-maruyama with one that has no ``score``.
    """
    nfe = None if nfe is None else integer(nfe, "nfe", -math.inf)
    if solver == MAP and not two_times:
        raise ValueError(
            "solver map is for flow maps, and this network is a velocity of one time: leave --solver out, or "
            "make a map of it with loomfast distill"
        )
    if solver == STOCHASTIC and not score:
        raise ValueError(
            f"solver {solver} needs a network's score, and this one has none: leave --solver out, or train "
            "one with --path bridge --score"
        )
    if isinstance(time_grid, str):
        return _check_law(solver, nfe, time_grid, two_times, score)
    if time_grid is not None:
        time_grid = _check_grid(time_grid)
        if time_grid[0] != 0 or time_grid[-1] != 1:
            raise ValueError(
                "time_grid must go from 0, the noise, to 1, the data; "
                f"it goes from {time_grid[0]:g} to {time_grid[-1]:g}"
            )
    if solver is None:
        if nfe is None and time_grid is None:
            raise ValueError("give nfe, a solver, or both")
        solver = default_solver(1 if nfe is None else nfe, two_times)
    _check_name(solver)
    if solver in ADAPTIVE:
        if nfe is not None:
            raise ValueError(f"{solver} chooses its own steps: leave nfe out")
        return solver, {} if time_grid is None else {"time_grid": time_grid}
    return solver, {"time_grid": _grid(solver, STEPS[solver][1], nfe, None, time_grid)}


def _check_law(solver, nfe, law, two_times, score):
    if law not in TIME_LAWS:
        raise ValueError(f"time_grid must be times or one of {', '.join(TIME_LAWS)}, got {law!r}")
    if solver in ADAPTIVE:
        raise ValueError(f"{solver} chooses its own steps: time_grid must be times, not a law, got {law!r}")
    solver, arguments = check_solver(solver, nfe, two_times=two_times, score=score)
    return solver, {"time_grid": TIME_LAWS[law](arguments["time_grid"])}
