"""What torch.compile has to find before it first looks at a caller's code.

Its tracer follows no import of a module that is not loaded yet, and no function of an extension that it was
told nothing of. So the operators are loaded, and it is told of `linear_sum_assignment`, when the tracer is
loaded itself: at once where that has happened, else by a finder that waits for its name and then goes away.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.util import find_spec

_TRACER = "torch._dynamo"


def prepare():
    """Make torch.compile know the operators, now or as soon as its tracer is loaded."""
    if _TRACER in sys.modules:
        _tell()
    else:
        sys.meta_path.insert(0, _Waiting())


class _Waiting(MetaPathFinder):
    """Has `_tell` called after the tracer is loaded, in the way that it is loaded anyway."""

    def find_spec(self, name, path=None, target=None):
        if name != _TRACER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None:
            return None
        load = spec.loader.exec_module

        def load_and_tell(module):
            load(module)
            _tell()

        spec.loader.exec_module = load_and_tell
        return spec


def _tell():
    try:
        for room in ("noise", "cost", "assignment"):
            operators = import_module(f"loomfast.{room}.torch_ops")
    except ImportError:  # of the engine, say: whoever uses it will see why
        return
    operators.tell_tracer()
