"""The public names of `loomfast.sampling`, where README and the model cards of exports look for them."""

from loomfast.sampling.generate import generate, generate_solution
from loomfast.sampling.ode import Solution, integrate

__all__ = ["Solution", "generate", "generate_solution", "integrate"]
