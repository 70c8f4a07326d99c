"""Noise format 1: what the words of a counter mean, and the numbers that say what noise is for.

Philox4x32-10 under the run's 64-bit seed, Box-Muller in exactly rounded float32. Two counter layouts, which
never meet because only the second sets the top bit of word 3:

=================  =======================  ================  ================  ==============
use                word 0                   word 1            word 2            word 3
=================  =======================  ================  ================  ==============
noise of an id     block within the item    id, low 32 bits   id, high 32 bits  domain
a step's draws     block                    item index        step              2^31 + domain
=================  =======================  ================  ================  ==============

A block is four normals (or words). Nothing about batch size, threads, device or world size enters, so a
checkpoint needs no generator state and a sample is never a training noise.
"""

from enum import IntEnum

NOISE_FORMAT = 1
STEP_BIT = 1 << 31  # set in word 3 of every per-step counter, clear in every counter of an id


class NoiseDomain(IntEnum):
    """Word 3 of the noise of an id: what the noise is for."""

    CACHE = 0
    FRESH = 1
    SAMPLING = 2
    VALIDATION = 3
    PAIRS = 4


class StepDomain(IntEnum):
    """Word 3, less 2^31, of a training step's draws: what is drawn."""

    DATA_ORDER = 0
    CACHE_CHOICE = 1
    TIMESTEP = 2
    SIGMA = 3
    FLIP = 4
    LABEL_DROPOUT = 5
    DROPOUT = 6
    BLOCKS = 7
    PLAN = 8
    MIX = 9
    INJECTION = 10
    CANDIDATES = 11
    PROPOSALS = 12
    ACCEPTANCE = 13
    SOURCE = 14
    CLASSES = 15
    MAP_TIMES = 20
    DIFFUSION = 21
