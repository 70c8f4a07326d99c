"""How straight the paths of a velocity field are, along Euler trajectories from given noise."""

import torch

from loomfast._arrays import integer
from loomfast.sampling.ode import integrate


def _euler_path(velocity, z, steps):
    """Return the velocities (steps, B, d) where Euler steps start, and the end points (B, d), in float64."""
    steps = integer(steps, "steps", 2)
    velocities = []

    def recorded(x, t):
        v = velocity(x, t)
        velocities.append(v.flatten(1).double())
        return v

    end = integrate(recorded, z, solver="euler", steps=steps).x
    return torch.stack(velocities), end.flatten(1).double()


@torch.no_grad()
def curvature(velocity, z, steps=20):
    """Curvature of the paths (LOOM-CFM, section 4.1): Σ over steps of 1 − cos(v_k, v_{k+1}), mean over paths.

    velocity: takes x of z's shape and t (B,), returns x's shape. z: (B, ...) noise, the paper's 1000 of them.
    Successive velocities of an Euler trajectory of ``steps`` steps are compared; 0 is a straight path.
    Returns a float. Raises ValueError for fewer than 2 steps.
    """
    return _curvature(_euler_path(velocity, z, steps)[0])


@torch.no_grad()
def path_measures(velocity, z, steps=20):
    """Return {"curvature": ..., "straightness": ...} of the same paths, as `curvature` and `straightness`."""
    v, end = _euler_path(velocity, z, steps)
    return {"curvature": _curvature(v), "straightness": _straightness(v, end, z)}


def _curvature(v):
    unit = torch.nn.functional.normalize(v, dim=-1)
    # 1 − cos = ½‖a − b‖² for unit vectors: never negative, and no cancellation on a straight path.
    return float((unit[1:] - unit[:-1]).square().sum(-1).sum(0).mean() / 2)


@torch.no_grad()
def straightness(velocity, z, steps=20):
    """Straightness (Liu et al. 2023, section 2.2): ∫ E‖(x(1) − z) − v(x(t), t)‖² dt; 0 is a straight path.

    Arguments as in ``curvature``. Returns a float, in squared data units summed over elements.
    """
    return _straightness(*_euler_path(velocity, z, steps), z)


def _straightness(v, end, z):
    displacement = end - z.flatten(1).double()
    return float((displacement - v).square().sum(-1).mean())


@torch.no_grad()
def path_energy(velocity, z, steps=20):
    """Energy of the paths, ∫ E‖v(x(t), t)‖² dt: at least W2² of noise and samples, equal where optimal.

    Arguments as in ``curvature``. Returns a float, in squared data units summed over elements.
    """
    v, _ = _euler_path(velocity, z, steps)
    return float(v.square().sum(-1).mean())


def normalised_path_energy(velocity, z, w2, steps=20):
    """Return |path energy − W2²| / W2² (Tong et al. 2023, section 6.1).

    ``w2`` is the distance of noise and data. Raises ValueError if it is not positive.
    """
    if not w2 > 0:
        raise ValueError(f"w2 must be positive, got {w2}")
    return abs(path_energy(velocity, z, steps) - w2**2) / w2**2
