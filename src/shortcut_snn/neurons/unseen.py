"""What a neuron's step may read and no assignment to the neuron tells of: where it changes, the step is traced anew."""

from collections.abc import Callable, Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor

_CONTAINERS = (list, dict, set)
_PLAIN = (int, float, str)
_DEPTH = 5
# What is written there reads no numbers that change.
_KNOWN = {"builtins", "functools", "math", "torch", __name__.partition(".")[0]}


class Behind(list[Callable[[], Any]]):
    """What reads numbers behind a neuron's functions and objects; a copy of the neuron looks for its own."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Behind, ()


def unseen(neuron: Any) -> list[Any]:
    """Return what the parts and containers of a neuron hold, and what is read behind them."""
    held = [
        repr(value) if isinstance(value, _CONTAINERS) else value
        for part in _parts(neuron)
        for name, value in getattr(part, "__dict__", {}).items()
        if (part is not neuron or isinstance(value, _CONTAINERS)) and name[0] != "_"
    ]
    return held + [read() for read in vars(neuron).get("_behind", ())]


def behind(neuron: Any) -> Behind:
    """Return what reads the numbers in closures, globals and objects that somebody's step or surrogate comes by."""
    found, seen = Behind(), set[int]()

    def look(value: Any, depth: int = _DEPTH) -> None:
        if not depth or id(value) in seen or isinstance(value, (*_PLAIN, Tensor, ModuleType)):
            return
        seen.add(id(value))
        inside: list[Any] = []
        if isinstance(value, MethodType):
            inside = [value.__func__, value.__self__]
        elif isinstance(value, partial):
            inside = [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, FunctionType):
            inside = _function(value, found)
        elif isinstance(value, (*_CONTAINERS, tuple)):
            if isinstance(value, _CONTAINERS):
                found.append(partial(repr, value))
            inside = list(value.values() if isinstance(value, dict) else value)
        elif not isinstance(value, type) and hasattr(value, "__dict__") and not _is_known(type(value).__module__):
            found.append(partial(_values, vars(value)))
            # Not the layers and neurons of a network that it belongs to.
            inside = [] if isinstance(value, torch.nn.Module) else [*vars(value).values(), *_methods(type(value))]
        for each in inside:
            look(each, depth - 1)

    parts = _parts(neuron)
    seen.update(id(part) for part in parts if isinstance(part, torch.nn.Module))
    for part in parts:
        look(part)
        for each in (*_methods(type(part)), *getattr(part, "__dict__", {}).values()):
            if not isinstance(each, _CONTAINERS):
                look(each)
    return found


def _parts(neuron: Any) -> list[Any]:
    return [*(neuron.modules() if neuron._modules else (neuron,)), neuron.surrogate]


def _function(function: FunctionType, found: Behind) -> list[Any]:
    """Read what a function's names stand for; return what may be read behind that."""
    if _is_known(function.__module__):
        return []
    cells = function.__closure__ or ()
    found += [partial(_cell, cell) for cell in cells]
    names, spaces = _names(function.__code__), [function.__globals__]
    # As in config.decay, of a module or a class.
    given = [function.__globals__.get(name) for name in names] + [_held_by(cell) for cell in cells]
    spaces += [
        vars(each)
        for each in given
        if (isinstance(each, ModuleType) and not _is_known(each.__name__))
        or (isinstance(each, type) and not _is_known(each.__module__))
    ]
    for space in spaces:
        if own := [name for name in names if name in space]:
            found.append(partial(_values, space, own))
    return [*given, *(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]


def _names(code: CodeType) -> list[str]:
    inner = [name for each in code.co_consts if isinstance(each, CodeType) for name in _names(each)]
    return list(dict.fromkeys([*code.co_names, *inner]))


def _methods(kind: type) -> list[Any]:
    own = [value for base in kind.__mro__ if not _is_known(base.__module__) for value in vars(base).values()]
    return [
        each.fget if isinstance(each, property) else each for each in own if isinstance(each, FunctionType | property)
    ]


def _is_known(module: str | None) -> bool:
    return (module or "").partition(".")[0] in _KNOWN


def _held_by(cell: Any) -> Any:
    # A cell may be empty still.
    return getattr(cell, "cell_contents", None)


def _cell(cell: Any) -> Any:
    return _told(_held_by(cell))


def _values(space: Mapping[str, Any], names: list[str] | None = None) -> list[Any]:
    if names is not None:
        return [_told(space.get(name)) for name in names]
    return [_told(value) for name, value in space.items() if name[0] != "_"]


def _told(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else id(value)
