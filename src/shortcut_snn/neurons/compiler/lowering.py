"""Lower a graph of torch operations to a program.

A step may use the operations in ``_NAMED``, ``_METHODS`` and ``_FUNCTIONS``: elementwise arithmetic, comparisons and
``torch.where``. What it computes from parameters alone is separated from the program, as the *prelude*.
"""

import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.nn import functional as F

from ..step_functions import per_channel, straight_through
from . import program as ir


class CannotTraceError(ValueError):
    """A step uses something that cannot be compiled; the message names it."""


@dataclass(frozen=True)
class TracedStep:
    """A compiled step, and its arguments at each call.

    The instructions of the prelude compute the program's parameters ``p0, ...`` (``scalars``) and ``q0, ...``
    (``channels``) from the module's ``w0, ...`` (``parameter_names``), once a call, in plain PyTorch.
    """

    text: str
    prelude: tuple[ir.Instruction, ...]
    parameter_names: tuple[str, ...]
    scalars: tuple[str, ...]
    channels: tuple[str, ...]
    constants: tuple[float, ...]


class Lowering:
    """Translates a graph of torch operations, node by node; calling it appends an instruction."""

    def __init__(self, graph: fx.Graph, states: int) -> None:
        self.states = states
        self.code: list[ir.Instruction] = []
        self.constants: list[float] = []
        self.parameter_names: list[str] = []
        self.booleans: set[str] = set()
        self.channelwise: set[str] = set()
        self.values: dict[fx.Node, Any] = {}
        self.outputs: tuple[str, ...] = ()
        for node in graph.nodes:
            self.values[node] = self._lower(node)

    def _lower(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self._input(node)
        if node.op == "output":
            return self._output(node.args[0])
        tables: dict[str, dict[Any, Callable[..., str]]] = {"call_method": _METHODS, "call_function": _FUNCTIONS}
        if lower := tables.get(node.op, {}).get(node.target):
            options = {key: self.value(value) for key, value in node.kwargs.items()}
            return lower(self, *map(self.value, node.args), **options)
        if node.op == "call_function" and node.target is getattr and node.args[1] in ("dtype", "device", "shape"):
            # Read to create a tensor like another one; a program has neither shapes nor dtypes.
            return None
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        raise CannotTraceError(f"there is no kernel for {name}")

    def _input(self, node: fx.Node) -> str:
        if "parameter" in node.meta:
            self.parameter_names.append(node.meta["parameter"])
            return f"{ir.PARAMETER}{len(self.parameter_names) - 1}"
        return ir.CURRENT if node.target == "current" else f"{ir.STATE}{str(node.target).removeprefix('state')}"

    def _output(self, returned: Any) -> None:
        values = returned if isinstance(returned, tuple | list) else (returned,)
        if len(values) != self.states + 1:
            raise CannotTraceError(f"it returns {len(values)} values, not spikes and {self.states} states")
        self.outputs = tuple(self.number(self.value(value)) for value in values)

    def value(self, argument: Any) -> Any:
        """Return the name of a value or constant, an integer as text, and other arguments as they are."""
        if isinstance(argument, fx.Node):
            return self.values[argument]
        if isinstance(argument, bool | int):
            return str(int(argument))
        if isinstance(argument, float):
            self.constants.append(argument)
            return f"{ir.CONSTANT}{len(self.constants) - 1}"
        return argument

    def __call__(self, op: str, *args: str) -> str:
        """Append an instruction and return the name of its value."""
        name = f"{ir.VALUE}{len(self.code)}"
        self.code.append(ir.Instruction(name, op, args))
        if op in ir.BOOLEAN:
            self.booleans.add(name)
        if self.channelwise & set(args):
            self.channelwise.add(name)
        return name

    def number(self, name: str) -> str:
        """Return a value as a number: 1 for true and 0 for false."""
        return self("number", name) if name in self.booleans else name

    def result(self) -> TracedStep:
        """Return the step, split into its prelude and its program, with the values of each namespace renumbered."""
        prelude_values = self._prelude_values()
        prelude = [line for line in self.code if line.name in prelude_values]
        # What a prelude computes is passed as numbers; comparisons are made in both, and kept where they are read.
        rest = tuple(line for line in self.code if line.name not in prelude_values or line.name in self.booleans)
        program = ir.Program(rest, self.outputs)
        code = ir.needed_code(program.code, program.outputs, gradients=True)
        scalars, channels = self._program_parameters(prelude, code)
        prelude = ir.needed_code(prelude, [*scalars, *channels])

        # The forward pass comes first: constants of a surrogate must not change the text of its kernel.
        lines = [*ir.forward_code(program), *code, *prelude]
        constants = dict.fromkeys(arg for line in lines for arg in line.args if arg[0] == ir.CONSTANT)
        constant_names = _numbered(constants, ir.CONSTANT)
        names = {
            **constant_names,
            **_numbered([line.name for line in code], ir.VALUE),
            **_numbered(scalars, ir.SCALAR),
            **_numbered(channels, ir.CHANNEL),
        }
        renamed = ir.Program(
            tuple(ir.Instruction(names[line.name], line.op, _rename(line.args, names)) for line in code),
            _rename(self.outputs, names),
        )
        return TracedStep(
            str(renamed),
            # The prelude keeps its names, by which scalars and channels are looked up.
            tuple(line._replace(args=_rename(line.args, constant_names)) for line in prelude),
            tuple(self.parameter_names),
            tuple(scalars),
            tuple(channels),
            tuple(self.constants[int(name[1:])] for name in constants),
        )

    def _prelude_values(self) -> set[str]:
        """Return the values that depend on parameters and constants alone, and on at least one parameter."""
        prelude: set[str] = set()
        for name, _, args in self.code:
            fixed = all(arg in prelude or ir.is_external(arg) for arg in args)
            if fixed and any(arg in prelude or arg[0] == ir.PARAMETER for arg in args):
                prelude.add(name)
        return prelude

    def _program_parameters(
        self, prelude: Sequence[ir.Instruction], code: Sequence[ir.Instruction]
    ) -> tuple[list[str], list[str]]:
        """Return the parameters that a program reads: those of the layer, and those of each channel."""
        read = {arg for line in code for arg in line.args} | set(self.outputs)
        numbers = [line.name for line in prelude if line.name not in self.booleans]
        available = [f"{ir.PARAMETER}{k}" for k in range(len(self.parameter_names))] + numbers
        parameters = [name for name in available if name in read]
        scalars = [name for name in parameters if name not in self.channelwise]
        return scalars, [name for name in parameters if name in self.channelwise]


def _numbered(names: Iterable[str], namespace: str) -> dict[str, str]:
    return {name: f"{namespace}{k}" for k, name in enumerate(names)}


def _rename(args: Iterable[str], names: dict[str, str]) -> tuple[str, ...]:
    return tuple(names.get(arg, arg) for arg in args)


# Below, one function for each kind of torch operation: it appends instructions and returns the name of the value.


def _elementwise(op: str) -> Callable[..., str]:
    # Of booleans torch computes these as booleans.
    logical = {"mul": "both", "minimum": "both", "maximum": "either"}.get(op)

    def lower(t: Lowering, *args: str, **options: Any) -> str:
        _refuse_options(op, options)
        if logical and set(args) <= t.booleans:
            return t(logical, *args)
        return t(op, *map(t.number, args))

    return lower


def _refuse_options(op: str, options: dict[str, Any]) -> None:
    used = [key for key, value in options.items() if value not in (None, "0")]
    if used:
        raise CannotTraceError(f"there is no kernel for {op} with {', '.join(used)}")


def _logic(op: str) -> Callable[..., str]:
    def lower(t: Lowering, *args: str) -> str:
        if not set(args) <= t.booleans:
            raise CannotTraceError("there is no kernel for bitwise operations on numbers")
        return t(op, *args)

    return lower


def _power(t: Lowering, a: str, b: Any) -> str:
    a = t.number(a)
    exponent: float | None = None
    if str(b).isdigit():
        exponent = int(b)
    elif isinstance(b, str) and b[0] == ir.CONSTANT:
        exponent = t.constants[int(b[1:])]
    if exponent in (1, 2, 3, 4):
        out = a
        for _ in range(int(exponent) - 1):
            out = t("mul", out, a)
        return out
    if exponent == 0.5:
        return t("sqrt", a)
    raise CannotTraceError("there is no kernel for pow with an exponent other than 0.5, 1, 2, 3 or 4")


def _where(t: Lowering, condition: str, a: str, b: str) -> str:
    if condition not in t.booleans:
        raise CannotTraceError("the condition of torch.where is not a comparison")
    if {a, b} <= t.booleans:
        return t("either", t("both", condition, a), t("both", t("negation", condition), b))
    return t("where", condition, t.number(a), t.number(b))


def _clamp(t: Lowering, a: str, low: str | None = None, high: str | None = None, **options: str) -> str:
    low, high = options.get("min", low), options.get("max", high)
    out = t.number(a)
    # Selections and not a maximum and a minimum, which would halve the gradient at the bounds.
    out = out if low is None else t("where", t("lt", out, low), low, out)
    return out if high is None else t("where", t("gt", out, high), high, out)


def _per_channel(t: Lowering, a: str) -> str:
    # A new value, so that the step may use the same parameter as a scalar elsewhere.
    name = t("mul", a, "1")
    t.channelwise.add(name)
    return name


def _to(t: Lowering, a: str, *args: Any, **options: Any) -> str:
    # Half precision and integers would round; a program computes in the dtype of the kernel.
    exact = (torch.float32, torch.float64)
    dtypes = [arg for arg in (*args, *options.values()) if isinstance(arg, torch.dtype)]
    rounded = [dtype for dtype in dtypes if dtype not in exact]
    if rounded and a not in t.booleans:
        raise CannotTraceError(f"there is no kernel for to({rounded[0]})")
    return a if rounded == [torch.bool] else t.number(a)


def _relu(t: Lowering, a: str, **options: Any) -> str:
    _refuse_options("relu", options)
    a = t.number(a)
    # A selection and not a maximum, which would pass the gradient at 0.
    return t("where", t("le", a, "0"), "0", a)


def _scaled(op: str) -> Callable[..., str]:
    """Lower ``add`` and ``sub``, whose ``alpha`` multiplies the second argument."""

    def lower(t: Lowering, a: str, b: str, alpha: str = "1", **options: Any) -> str:
        _refuse_options(op, options)
        if {a, b} <= t.booleans:
            # The sum of two booleans is their logical or.
            raise CannotTraceError(f"torch.{op} of two booleans has no kernel")
        b = t.number(b)
        return t(op, t.number(a), b if alpha == "1" else t("mul", b, alpha))

    return lower


_SAME_NAME = (
    "mul", "div", "neg", "abs", "exp", "log", "sqrt", "tanh", "sigmoid", "maximum", "minimum", "round", "floor",
    "gt", "lt", "ge", "le", "eq", "ne",
)  # fmt: skip
_NAMED: dict[str, Callable[..., str]] = {
    **{op: _elementwise(op) for op in _SAME_NAME},
    "add": _scaled("add"),
    "sub": _scaled("sub"),
    "true_divide": _elementwise("div"),
    "square": lambda t, a: _power(t, a, 2),
    "pow": _power,
    "where": _where,
    "masked_fill": lambda t, a, mask, value: _where(t, mask, value, a),
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": lambda t, a, min: _clamp(t, a, min),
    "clamp_max": lambda t, a, max: _clamp(t, a, None, max),
    "relu": _relu,
    "reciprocal": lambda t, a: t("div", "1", t.number(a)),
    "rsqrt": lambda t, a: t("div", "1", t("sqrt", t.number(a))),
    "logical_and": _logic("both"),
    "logical_or": _logic("either"),
    "logical_not": _logic("negation"),
    "zeros_like": lambda t, a, **options: "0",
    "ones_like": lambda t, a, **options: "1",
    "detach": lambda t, a: a if a in t.booleans else t(ir.DETACH, a),
    "clone": lambda t, a, **options: a,
}
"""Operations that are functions of torch and methods of a tensor."""
_METHODS: dict[str, Callable[..., str]] = {
    **_NAMED,
    "where": lambda t, a, condition, b: _where(t, condition, a, b),
    "to": _to,
    "float": _to,
    "type_as": _to,
    "bitwise_and": _logic("both"),
    "bitwise_or": _logic("either"),
    "bitwise_not": _logic("negation"),
}
_OPERATORS = ("add", "sub", "mul", "neg", "abs", "pow", "gt", "lt", "ge", "le", "eq", "ne")
_FUNCTIONS: dict[Any, Callable[..., str]] = {
    **{getattr(torch, name): lower for name, lower in _NAMED.items() if hasattr(torch, name)},
    **{getattr(operator, op): _NAMED[op] for op in _OPERATORS},
    operator.truediv: _elementwise("div"),
    operator.and_: _logic("both"),
    operator.or_: _logic("either"),
    operator.invert: _logic("negation"),
    abs: _elementwise("abs"),
    round: _elementwise("round"),
    **{getattr(F, op): _NAMED[op] for op in ("relu", "sigmoid", "tanh")},
    straight_through: lambda t, value, v, slope: t(ir.SPIKE, *map(t.number, (value, v, slope))),
    per_channel: _per_channel,
}
