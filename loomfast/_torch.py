"""What the operations share on torch tensors: how they become operators of torch, and who calls those.

An operator is ``torch.ops.loomfast.<name>``, opaque to ``torch.compile``, so that code which calls it
compiles as one graph; ``torch.ops.loomfast.<name>_out`` writes to its last argument. Arguments that are no
tensors travel in one string, a spec. On ordinary CPU tensors the function behind an operator is called
without torch's dispatcher, which takes longer than a small request itself. No gradient flows through one.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

CPU = torch.device("cpu")
_ORDINARY_TYPES, _STRIDED = (torch.Tensor, torch.nn.Parameter), torch.strided
_num_modes, _tracing = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_transform = torch._C._functorch.peek_interpreter_stack


def ordinary(*tensors):
    """Whether these are plain CPU tensors (or None) outside any compilation, trace, mode and transform."""
    if torch.compiler.is_compiling() or _num_modes() or _tracing() or _transform() is not None:
        return False
    for tensor in tensors:
        if tensor is None:
            continue
        if type(tensor) not in _ORDINARY_TYPES or not tensor.is_cpu:
            return False
        if tensor.layout is not _STRIDED or tensor.is_neg():
            return False
    return True


class Operator(NamedTuple):
    """One operation on tensors, as the functions that `call` takes one after the other.

    Attributes:
        known: ``known(*request)``, the spec of what else a caller asked for, from memory where it was asked
            for before; not to be called where torch.compile looks on, which would compile anew whenever the
            memory grows.
        parse: ``parse(*request)``, the same after all checks.
        at_once: ``at_once(*arguments, spec, *more, out)``, the result where ordinary tensors need no check,
            else None; or None, if there is no such way.
        check: ``check(*arguments, spec, *more, out)``, the tensors of the operator, or an error that names
            what is wrong with a caller's arguments.
        make: ``make(*tensors, spec, *more)``, a new tensor.
        fill: ``fill(*tensors, spec, out)`` writes to ``out``.
        functional, into: the same as operators of torch, which take the spec as a string.
    """

    known: Callable
    parse: Callable
    at_once: Callable | None
    check: Callable
    make: Callable
    fill: Callable
    functional: Callable
    into: Callable


def register(name, tensors, kind, *, known, parse, check, empty, fill, at_once=None, more=""):
    """Register ``loomfast::<name>`` and ``loomfast::<name>_out``, with their fake kernels.

    Args:
        name: of the operator that makes its result.
        tensors: torch's schema of the leading arguments, ``"Tensor x, Tensor? labels"``.
        kind: the class of the spec that follows them; ``kind.parse`` reads the string of its ``text()``.
        known, parse, check, at_once: as in `Operator`.
        empty: ``empty(*tensors, spec, *more)`` makes the result, not filled in; it must not read the spec.
        fill: ``fill(*tensors, spec, out)`` fills in ``out``; the tensors may require a gradient.
        more: schema of what else ``empty`` needs, ``", SymInt[] shape"``.

    Returns:
        The `Operator`.
    """
    position = tensors.count("Tensor")

    def make(*arguments):
        out = empty(*arguments)
        fill(*arguments[: position + 1], out)
        return out

    def parsed(function):
        def run(*arguments):
            spec = kind.parse(arguments[position])
            return function(*arguments[:position], spec, *arguments[position + 1 :])

        return run

    custom_op = torch.library.custom_op
    schema = f"({tensors}, str spec{more}) -> Tensor"
    custom_op(f"loomfast::{name}", parsed(make), mutates_args=(), schema=schema).register_fake(empty)
    schema = f"({tensors}, str spec, Tensor(a!) out) -> ()"
    into = custom_op(f"loomfast::{name}_out", parsed(fill), mutates_args=("out",), schema=schema)
    into.register_fake(lambda *arguments: None)
    operators = torch.ops.loomfast
    return Operator(
        known, parse, at_once, check, make, fill, getattr(operators, name), getattr(operators, f"{name}_out")
    )


def call(operator, arguments, request, more=(), out=None):
    """What an operator gives for a caller's arguments and request, in ``out`` where there is one."""
    at_once = operator.at_once
    if at_once is not None and ordinary(*arguments, out):
        spec = operator.known(*request)
        result = at_once(*arguments, spec, *more, out)
        if result is not None:
            if out is not None:
                tell_autograd(out)
            return result
    else:
        spec = operator.parse(*request)
    tensors = operator.check(*arguments, spec, *more, out)
    if out is None:
        if ordinary(*tensors):
            return operator.make(*tensors, spec, *more)
    elif ordinary(*tensors, out) and not out.requires_grad:
        operator.fill(*tensors, spec, out)
        tell_autograd(out)
        return out
    tensors = [tensor if tensor is None else tensor.detach() for tensor in tensors]
    if out is None:
        return operator.functional(*tensors, spec.text(), *more)
    if out.is_neg():  # its memory holds the opposite of what it says
        out.copy_(operator.functional(*tensors, spec.text(), *more))
    else:
        operator.into(*tensors, spec.text(), out)
    return out


def tell_autograd(out):
    """Count a change of ``out``, as torch's dispatcher does, so that autograd knows of it."""
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)
