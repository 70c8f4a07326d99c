"""Noise as a pure function of an id: bit-identical on every backend and machine (noise format 1)."""

from loomfast.noise.api import interpolate_from_ids, noise_from_ids
from loomfast.noise.cpu import fill_nearest
from loomfast.noise.format import NOISE_FORMAT, NoiseDomain, StepDomain
from loomfast.noise.steps import step_bits, step_choices, step_normals, step_uniforms

__all__ = [
    "NOISE_FORMAT",
    "NoiseDomain",
    "StepDomain",
    "fill_nearest",
    "interpolate_from_ids",
    "noise_from_ids",
    "step_bits",
    "step_choices",
    "step_normals",
    "step_uniforms",
]
