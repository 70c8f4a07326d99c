"""The arithmetic that results are promised in, whatever the caller's thread is set to."""

from contextlib import contextmanager

from loomfast import _engine


@contextmanager
def default_arithmetic():
    """Subnormal numbers count inside, also under ``torch.set_flush_denormal(True)``.

    For ``with`` or as a decorator, around what NumPy and torch compute or convert on a caller's behalf;
    the engine does the same for itself.
    """
    before = _engine.enter_default_arithmetic()
    try:
        yield
    finally:
        _engine.leave_default_arithmetic(before)
