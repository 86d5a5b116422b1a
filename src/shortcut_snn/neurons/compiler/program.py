"""The intermediate representation of a neuron's time step: a list of elementwise operations.

A program is stored as text, such as ``v0=mul s0 c0;v1=add v0 i;...|v3 v1``: one operation for each value, then the
outputs. The first letter of a value's name is its namespace:

======  =============================================================================================
``v``   a value that the step computes
``i``   the input current
``s``   a state before the step
``p``   a parameter that is one number for the layer
``q``   a parameter with one number for each channel
``c``   a constant. It is passed at each call, so that neurons with other constants share a kernel.
``w``   a parameter or buffer as the module holds it, before the prelude (see :mod:`.lowering`)
``g``   a value of the backward pass; ``gy`` is the gradient of the spikes, ``go0`` that of a final state
======  =============================================================================================

Integers in the text are literals. :func:`emit` writes a program as Python source that plain PyTorch, numba and Triton
all run. Each of them has its own ``where``, ``exp`` and so on.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

VALUE, CURRENT, STATE, SCALAR, CHANNEL, CONSTANT, PARAMETER, GRADIENT = "v", "i", "s", "p", "q", "c", "w", "g"

INFIX = {
    "add": "{} + {}", "sub": "{} - {}", "mul": "{} * {}", "div": "{} / {}", "neg": "-{}",
    "gt": "{} > {}", "lt": "{} < {}", "ge": "{} >= {}", "le": "{} <= {}", "eq": "{} == {}", "ne": "{} != {}",
    "both": "{} & {}", "either": "{} | {}",
}  # fmt: skip
"""Operations that are written infix; the others are functions that each backend defines."""
BOOLEAN = frozenset({"gt", "lt", "ge", "le", "eq", "ne", "both", "either", "negation"})
"""Operations whose value is a boolean."""
# spike(value, v, slope): the value of the first argument, with the gradient ``slope`` to the second.
SPIKE, DETACH = "spike", "detach"


class Instruction(NamedTuple):
    """One operation: ``name = op(*args)``."""

    name: str
    op: str
    args: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """Instructions in order; ``outputs`` are the spikes, then the states after the step."""

    code: tuple[Instruction, ...]
    outputs: tuple[str, ...]

    @property
    def states(self) -> int:
        """The number of states."""
        return len(self.outputs) - 1

    def __str__(self) -> str:
        """Return the text, from which :func:`parse` makes the program again."""
        lines = (f"{name}={op} {' '.join(args)}" for name, op, args in self.code)
        return f"{';'.join(lines)}|{' '.join(self.outputs)}"


@cache
def parse(text: str) -> Program:
    """Return the program of a text."""
    code, outputs = text.split("|")
    lines = (re.split("[= ]", line) for line in code.split(";") if line)
    return Program(tuple(Instruction(name, op, tuple(args)) for name, op, *args in lines), tuple(outputs.split()))


def is_external(name: str) -> bool:
    """Return whether a value is a parameter, a constant or a literal, the same at all time steps."""
    return name[0] not in (VALUE, GRADIENT, CURRENT, STATE)


def inputs_of(code: Iterable[Instruction], namespace: str, results: Iterable[str] = ()) -> list[str]:
    """Return the values of a namespace that code or its results read, in the order of their numbers."""
    read = {arg for instruction in code for arg in instruction.args} | set(results)
    inputs = [name for name in read if name[0] == namespace and name[1:].isdigit()]
    return sorted(inputs, key=lambda name: int(name[1:]))


def needed_code(
    code: Sequence[Instruction], wanted: Iterable[str], available: Iterable[str] = (), *, gradients: bool = False
) -> list[Instruction]:
    """Return the instructions that compute the wanted values from those that are available; or their gradients too."""
    open_names, stops, needed = set(wanted), set(available), []
    for instruction in reversed(code):
        if instruction.name in open_names and instruction.name not in stops:
            needed.append(instruction)
            # The other arguments of a spike serve its gradient alone.
            is_spike = instruction.op == SPIKE and not gradients
            open_names |= set(instruction.args[:1] if is_spike else instruction.args)
    return needed[::-1]


def forward_code(program: Program, saved: Sequence[str] = ()) -> list[Instruction]:
    """Return the instructions of a forward pass that also computes the values to save."""
    return needed_code(program.code, (*program.outputs, *saved))


@cache
def forward_text(text: str) -> str:
    """Return a program without its gradient, so that neurons with other surrogates share a forward kernel."""
    program = parse(text)
    renamed: dict[str, str] = {}
    code: list[Instruction] = []
    for name, op, args in forward_code(program):
        if op in (SPIKE, DETACH):
            renamed[name] = renamed.get(args[0], args[0])
        else:
            renamed[name] = f"{VALUE}{len(code)}"
            code.append(Instruction(renamed[name], op, tuple(renamed.get(arg, arg) for arg in args)))
    return str(Program(tuple(code), tuple(renamed.get(name, name) for name in program.outputs)))


@cache
def spike_slope(text: str) -> str | None:
    """Return the name of the factor of the spikes' gradient, or None if the spikes have another gradient."""
    program = parse(text)
    spikes = next((line for line in program.code if line.name == program.outputs[0]), None)
    return spikes.args[2] if spikes is not None and spikes.op == SPIKE else None


@lru_cache(1000)
def has_support(text: str, constants: tuple[float, ...]) -> bool:
    """Return whether the factor of the spikes' gradient is 0 outside some interval, as that of a rectangle is.

    The gradient of the spikes is not needed there. A factor that is 0 has a selection of 0, or a product with one.
    """
    definitions = {line.name: line for line in parse(text).code}
    zeros = {"0", *(f"{CONSTANT}{k}" for k, value in enumerate(constants) if value == 0)}

    def vanishes(name: str) -> bool:
        if name not in definitions:
            return name in zeros
        _, op, args = definitions[name]
        read = {"where": args[1:], "div": args[:1]}
        read |= dict.fromkeys(("mul", "neg", "abs", "maximum", "minimum", DETACH), args)
        return op == "number" or any(map(vanishes, read.get(op, ())))

    slope = spike_slope(text)
    return slope is not None and vanishes(slope)


def simplify(code: Iterable[Instruction], results: Iterable[str]) -> list[Instruction]:
    """Return code that computes the same results with fewer operations; unused instructions are dropped.

    Surrogates and resets multiply by the 0 or 1 of a comparison, as in ``u * (1 - spike)``. Such a product becomes a
    selection. It costs less, and the factor that is left out may be infinite.
    """
    definitions: dict[str, Instruction] = {}
    copies: dict[str, str] = {}
    # Values that are 0 or 1: the condition, and whether the value is 1 where the condition holds.
    indicators: dict[str, tuple[str, bool]] = {}
    for name, op, args in code:
        args = tuple(copies.get(arg, arg) for arg in args)
        if op in (SPIKE, DETACH):
            # A copy of the first argument: later instructions read that itself.
            copies[name] = args[0]
            op, args = DETACH, args[:1]
        elif op == "number":
            indicators[name] = args[0], True
        elif op == "sub" and args[0] == "1" and args[1] in indicators:
            # 1 - indicator is the opposite indicator.
            condition, one_if_true = indicators[args[1]]
            indicators[name] = condition, not one_if_true
            op, args = "where", (condition, "0", "1") if one_if_true else (condition, "1", "0")
        elif op == "mul" and (args[0] in indicators or args[1] in indicators):
            # indicator * a is a where the indicator is 1, and 0 elsewhere.
            indicator, factor = args if args[0] in indicators else args[::-1]
            condition, one_if_true = indicators[indicator]
            op, args = "where", (condition, factor, "0") if one_if_true else (condition, "0", factor)
        elif op in BOOLEAN and args[-1] == "0" and args[0] in definitions and definitions[args[0]].op == "sub":
            # a - b > 0 is a > b.
            args = definitions[args[0]].args
        definitions[name] = Instruction(name, op, args)
    return needed_code(list(definitions.values()), results)


def emit(code: Iterable[Instruction], integer: str = "{}", functions: Mapping[str, str] | None = None) -> list[str]:
    """Return simplified code as lines of Python, one for each instruction.

    ``integer`` is a format for integer literals, as in ``"f32({})"``. ``functions`` names those whose name is not that
    of the operation.
    """
    lines = []
    for name, op, args in code:
        values = [literal(arg, integer) for arg in args]
        if op in (SPIKE, DETACH):
            value = values[0]
        elif op in INFIX:
            value = INFIX[op].format(*values)
        else:
            value = f"{(functions or {}).get(op, op)}({', '.join(values)})"
        lines.append(f"{name} = {value}")
    return lines


def literal(name: str, integer: str = "{}") -> str:
    """Return a name as it is, and an integer as a float literal."""
    return integer.format(f"{name}.0") if name.lstrip("-").isdigit() else name
