"""Independence of what the caller set torch's defaults to."""

from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def plain_defaults(device="cpu"):
    """Within, what torch makes is float32, and on ``device``, unless it is told otherwise.

    For ``with`` or as a decorator, around torch's own modules and optimizers, which ask for the defaults that
    ``torch.set_default_dtype`` and ``torch.set_default_device`` set.
    """
    before = torch.get_default_dtype()
    there = torch.get_default_device() == torch.device(device)
    torch.set_default_dtype(torch.float32)
    try:
        with nullcontext() if there else torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)
