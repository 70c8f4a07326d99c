"""What the operations share on torch tensors: how they become operators of torch, and who calls those.

An operator is ``torch.ops.loomfast.<name>``, opaque to ``torch.compile``, so that code which calls it
compiles as one graph; ``torch.ops.loomfast.<name>_out`` writes to its last argument. Arguments that are no
tensors travel in one string, a spec. On ordinary CPU tensors the function behind an operator is called
without torch's dispatcher, which takes longer than a small request itself. No gradient flows through one.
"""

import sys
from collections.abc import Callable
from typing import NamedTuple

import torch

from loomfast._arrays import on_device

CPU = torch.device("cpu")
_ORDINARY_TYPES, _STRIDED = (torch.Tensor, torch.nn.Parameter), torch.strided
_num_modes, _tracing = torch._C._len_torch_dispatch_stack, torch._C._get_tracing_state
_transform = torch._C._functorch.peek_interpreter_stack


def watched():
    """Whether a compilation, trace, mode or transform looks on, which must see operators."""
    return torch.compiler.is_compiling() or _num_modes() or _tracing() or _transform() is not None


def transformed():
    """Whether a transform of torch.func looks on, which follows tensors that require no gradient, too."""
    return _transform() is not None


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


def register(name, tensors, kind, *, parse, check, empty, fill, known=None, at_once=None, more=""):
    """Register ``loomfast::<name>`` and ``loomfast::<name>_out``, with their fake kernels.

    Args:
        name: of the operator that makes its result.
        tensors: torch's schema of the leading arguments, ``"Tensor x, Tensor? labels"``.
        kind: the class of the spec that follows them; ``kind.parse`` reads the string of its ``text()``.
        parse, check, known, at_once: as in `Operator`; what is not known is parsed.
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
        known or parse,
        parse,
        at_once,
        check,
        make,
        fill,
        getattr(operators, name),
        getattr(operators, f"{name}_out"),
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


def through_tensors(function, *arrays, out=None, **options):
    """``function(*arrays, **options)``, device arrays of other libraries in it becoming tensors and back.

    The memory is shared both ways, and the streams wait for each other as DLPack has it. A result comes back
    as an array of the library of the first device array, ``out`` as it was given.
    """
    like = next(array for array in (*arrays, *options.values()) if on_device(array))
    given = {} if out is None else {"out": imported(out)}
    options = {name: imported(value) for name, value in options.items()}
    result = function(*map(imported, arrays), **options, **given)
    return exported(result, like) if out is None else out


def imported(value):
    """A device array of another library as a torch tensor of its memory, in tuples too; others as is."""
    if isinstance(value, tuple):
        return tuple(map(imported, value))
    if not on_device(value):
        return value
    if hasattr(value, "__dlpack__"):
        return torch.from_dlpack(value)
    interface = value.__cuda_array_interface__
    address, stream = interface["data"][0], interface.get("stream")
    # The interface does not say which device it is; where it is another, torch makes a copy.
    current = torch.cuda.current_device()
    for index in sorted(range(torch.cuda.device_count()), key=lambda index: index != current):
        tensor = torch.as_tensor(value, device=f"cuda:{index}")
        if tensor.data_ptr() == address or not tensor.numel():
            break
    if stream is not None:
        producer = torch.cuda.ExternalStream(stream, device=tensor.device)
        torch.cuda.current_stream(tensor.device).wait_stream(producer)
    return tensor


def exported(result, like):
    """Tensors as arrays of the library that ``like`` is of, where it takes DLPack; else as they are."""
    if isinstance(result, tuple):
        return tuple(exported(part, like) for part in result)
    library = sys.modules.get(type(like).__module__.partition(".")[0])
    return library.from_dlpack(result) if hasattr(library, "from_dlpack") else result


def tell_autograd(out):
    """Count a change of ``out``, as torch's dispatcher does, so that autograd knows of it."""
    if not out.is_inference():
        torch.autograd.graph.increment_version(out)
