"""From a graph of torch's operations to a program.

What a step may consist of stands in ``_FUNCTIONS`` and ``_METHODS``: arithmetic element by element, comparisons, and
``torch.where``.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from ..backend import is_exported
from .program import DETACH, SPIKE, TRUTH, Instruction, Program, forward_code, is_given, live_code, needed


class CannotTraceError(ValueError):
    """A step has an operation that no kernel can be made of; the message names it."""


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, v: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(v)
        ctx.slope = slope
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (v,) = ctx.saved_tensors
        return None, grads[0] * ctx.slope(v), None


def straight_through(value: Tensor, v: Tensor, slope: Callable[[Tensor], Tensor]) -> Tensor:
    """Return ``value``, whose gradient goes to ``v``, times ``slope(v)``.

    Args:
        value: what is computed, as a function of ``v`` that has no useful derivative.
        v: what the gradient goes to, of the same shape.
        slope: what stands for the derivative.

    Example:
        >>> x = torch.tensor([0.4, 1.6], requires_grad=True)
        >>> straight_through(x.round(), x, torch.ones_like).sum().backward()
        >>> x.grad
        tensor([1., 1.])
    """
    if isinstance(v, fx.Proxy):
        return v.tracer.create_proxy("call_function", straight_through, (value, v, slope(v)), {})
    if is_exported() or not torch.is_grad_enabled():
        return value
    out: Tensor = _Spike.apply(value.detach(), v, slope)  # type: ignore[no-untyped-call]
    return out


def per_channel(parameter: Tensor, like: Tensor) -> Tensor:
    """Return a parameter ``[C]`` in a shape in which it meets ``[N, C, ...]``, channel by channel.

    Example:
        >>> per_channel(torch.ones(3), torch.ones(2, 3, 4, 4)).shape
        torch.Size([3, 1, 1])
    """
    if isinstance(parameter, fx.Proxy):
        return parameter.tracer.create_proxy("call_function", per_channel, (parameter,), {})
    return parameter.view(-1, *[1] * (like.dim() - 2))


@dataclass(frozen=True)
class Traced:
    """What a neuron's step is, and what it takes at each call.

    Args:
        text: of the program.
        before: of what is computed from parameters alone, in plain PyTorch, once a call.
        names: of the parameters in the module.
        scalars, channels: values that the program reads as ``p0, ...`` and ``q0, ...``.
        numbers: ``c0, ...``.
    """

    text: str
    before: tuple[Instruction, ...]
    names: tuple[str, ...]
    scalars: tuple[str, ...]
    channels: tuple[str, ...]
    numbers: tuple[float, ...]


class Lowering:
    """Translates a graph of torch's operations, node by node."""

    def __init__(self, graph: fx.Graph, states: int) -> None:
        self.states = states
        self.code: list[Instruction] = []
        self.numbers: list[float] = []
        self.names: list[str] = []
        self.truths: set[str] = set()
        self.channel: set[str] = set()
        self.values: dict[fx.Node, Any] = {}
        self.outputs: tuple[str, ...] = ()
        for node in graph.nodes:
            self.values[node] = self._node(node)

    def _node(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            if "own" in node.meta:
                self.names.append(node.meta["own"])
                return f"w{len(self.names) - 1}"
            return "i" if node.target == "current" else f"s{str(node.target).removeprefix('state')}"
        if node.op == "output":
            found = node.args[0]
            given = found if isinstance(found, tuple | list) else (found,)
            if len(given) != self.states + 1:
                raise CannotTraceError(f"it returns {len(given)} values, not spikes and {self.states} states")
            self.outputs = tuple(self.number(self.value(each)) for each in given)
            return None
        if node.op == "call_method" and str(node.target) in _METHODS:
            return _METHODS[str(node.target)](self, *map(self.value, node.args), **self._options(node))
        if node.op == "call_function" and node.target in _FUNCTIONS:
            return _FUNCTIONS[node.target](self, *map(self.value, node.args), **self._options(node))
        if node.op == "call_function" and node.target is getattr and node.args[1] in ("dtype", "device", "shape"):
            return None
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        raise CannotTraceError(f"there is no kernel for {name}")

    def _options(self, node: fx.Node) -> dict[str, Any]:
        return {key: self.value(value) for key, value in node.kwargs.items()}

    def value(self, given: Any) -> Any:
        """Return the name of a value; of a plain number a name or itself, if it is a whole one."""
        if isinstance(given, fx.Node):
            return self.values[given]
        if isinstance(given, bool):
            return str(int(given))
        if isinstance(given, int):
            return str(given)
        if isinstance(given, float):
            self.numbers.append(given)
            return f"c{len(self.numbers) - 1}"
        return given

    def __call__(self, op: str, *args: str) -> str:
        """Append an operation and return the name of its value."""
        name = f"v{len(self.code)}"
        self.code.append((name, op, args))
        if op in TRUTH:
            self.truths.add(name)
        if self.channel & set(args):
            self.channel.add(name)
        return name

    def number(self, name: str) -> str:
        """Return a value that is a number: true is 1."""
        return self("number", name) if name in self.truths else name

    def result(self) -> Traced:
        """Return the program, what goes before it, and what both take."""
        fixed: set[str] = set()
        for name, _, args in self.code:
            # Of numbers alone it would be nothing to learn.
            if all(_is_fixed(arg, fixed) for arg in args) and any(arg in fixed or arg[0] == "w" for arg in args):
                fixed.add(name)
        before = [line for line in self.code if line[0] in fixed]
        program = Program(tuple(line for line in self.code if line[0] not in fixed), self.outputs)
        live = live_code(program.code, program.outputs)
        read = {arg for _, _, args in live for arg in args} | set(self.outputs)
        given = [*(f"w{k}" for k in range(len(self.names))), *(line[0] for line in before)]
        border = [name for name in given if name in read]
        scalars = [name for name in border if name not in self.channel]
        channels = [name for name in border if name in self.channel]
        ahead = needed(before, border)
        # Numbers in the order in which the way there meets them: its kernel knows nothing of a surrogate's.
        met = [arg for _, _, args in (*forward_code(program), *live, *ahead) for arg in args if arg[0] == "c"]
        order = list(dict.fromkeys(met))
        numbers = {name: f"c{k}" for k, name in enumerate(order)}
        new = numbers | {line[0]: f"v{k}" for k, line in enumerate(live)}
        new |= {name: f"p{k}" for k, name in enumerate(scalars)} | {name: f"q{k}" for k, name in enumerate(channels)}
        code = tuple((new[name], op, tuple(new.get(arg, arg) for arg in args)) for name, op, args in live)
        return Traced(
            str(Program(code, tuple(new.get(name, name) for name in self.outputs))),
            tuple((name, op, tuple(numbers.get(arg, arg) for arg in args)) for name, op, args in ahead),
            tuple(self.names),
            tuple(scalars),
            tuple(channels),
            tuple(self.numbers[int(name[1:])] for name in order),
        )


def _is_fixed(name: str, fixed: set[str]) -> bool:
    return name in fixed or (is_given(name) and name[0] != "v")


def _plain(op: str) -> Callable[..., str]:
    def lower(t: Lowering, *args: str, **options: Any) -> str:
        _no(op, options)
        return t(op, *map(t.number, args))

    return lower


def _no(op: str, options: dict[str, Any]) -> None:
    left = {key: value for key, value in options.items() if value not in (None, "0")}
    if left:
        raise CannotTraceError(f"there is no kernel for {op} with {', '.join(left)}")


def _reversed(op: str) -> Callable[..., str]:
    return lambda t, a, b: t(op, t.number(b), t.number(a))


def _logic(op: str) -> Callable[..., str]:
    def lower(t: Lowering, *args: str) -> str:
        if not set(args) <= t.truths:
            raise CannotTraceError("there is no kernel for bitwise operations on numbers")
        return t(op, *args)

    return lower


def _power(t: Lowering, a: str, b: Any) -> str:
    a = t.number(a)
    exponent = t.numbers[int(b[1:])] if isinstance(b, str) and b[0] == "c" else int(b) if str(b).isdigit() else None
    if exponent in (1, 2, 3, 4):
        out = a
        for _ in range(int(exponent) - 1):
            out = t("mul", out, a)
        return out
    if exponent == 0.5:
        return t("sqrt", a)
    raise CannotTraceError("there is no kernel for pow but with 0.5, 1, 2, 3 or 4")


def _where(t: Lowering, condition: str, a: str, b: str) -> str:
    if condition not in t.truths:
        raise CannotTraceError("torch.where in it needs a comparison")
    return t("where", condition, t.number(a), t.number(b))


def _masked_fill(t: Lowering, a: str, mask: str, value: str) -> str:
    return _where(t, mask, value, a)


def _clamp(t: Lowering, a: str, low: str | None = None, high: str | None = None, **more: str) -> str:
    low, high = more.get("min", low), more.get("max", high)
    out = t.number(a)
    out = out if low is None else t("maximum", out, low)
    return out if high is None else t("minimum", out, high)


def _spike(t: Lowering, value: str, v: str, slope: str) -> str:
    return t(SPIKE, t.number(value), t.number(v), t.number(slope))


def _channel(t: Lowering, a: str) -> str:
    # A value of its own, so that the same parameter may be taken as one number elsewhere.
    name = t("mul", a, "1")
    t.channel.add(name)
    return name


def _full(value: str) -> Callable[..., str]:
    return lambda t, a, **options: value


def _same(t: Lowering, a: str, *rest: Any, **options: Any) -> str:
    return t.number(a)


def _to(t: Lowering, a: str, *rest: Any, **options: Any) -> str:
    kept = (torch.float32, torch.float64)
    rounded = [each for each in (*rest, *options.values()) if isinstance(each, torch.dtype) and each not in kept]
    if rounded and a not in t.truths:
        raise CannotTraceError(f"there is no kernel for to({rounded[0]})")
    return t.number(a)


def _relu(t: Lowering, a: str, **options: Any) -> str:
    _no("relu", options)
    a = t.number(a)
    # Not a maximum, whose gradient passes at 0.
    return t("where", t("le", a, "0"), "0", a)


def _scaled(op: str) -> Callable[..., str]:
    """Addition and subtraction have an alpha."""

    def lower(t: Lowering, a: str, b: str, alpha: str = "1", **options: Any) -> str:
        _no(op, options)
        b = t.number(b)
        return t(op, t.number(a), b if alpha == "1" else t("mul", b, alpha))

    return lower


_NAMED: dict[str, Callable[..., str]] = {
    "add": _scaled("add"), "sub": _scaled("sub"), "mul": _plain("mul"), "div": _plain("div"),
    "true_divide": _plain("div"), "neg": _plain("neg"), "abs": _plain("abs"), "exp": _plain("exp"),
    "log": _plain("log"), "sqrt": _plain("sqrt"), "tanh": _plain("tanh"), "sigmoid": _plain("sigmoid"),
    "maximum": _plain("maximum"), "minimum": _plain("minimum"), "round": _plain("round"), "floor": _plain("floor"),
    "gt": _plain("gt"), "lt": _plain("lt"), "ge": _plain("ge"), "le": _plain("le"), "eq": _plain("eq"),
    "ne": _plain("ne"), "square": lambda t, a: _power(t, a, 2), "pow": _power, "where": _where,
    "masked_fill": _masked_fill, "clamp": _clamp, "clip": _clamp,
    "clamp_min": lambda t, a, min: _clamp(t, a, min), "clamp_max": lambda t, a, max: _clamp(t, a, None, max),
    "relu": _relu, "reciprocal": lambda t, a: t("div", "1", t.number(a)),
    "rsqrt": lambda t, a: t("div", "1", t("sqrt", t.number(a))), "logical_and": _logic("both"),
    "logical_or": _logic("either"), "logical_not": _logic("negation"), "zeros_like": _full("0"),
    "ones_like": _full("1"), "detach": lambda t, a: t(DETACH, t.number(a)), "clone": _same,
}  # fmt: skip
_METHODS: dict[str, Callable[..., str]] = {
    **_NAMED, "to": _to, "float": _same, "type_as": _same, "bitwise_and": _logic("both"),
    "bitwise_or": _logic("either"), "bitwise_not": _logic("negation"),
}  # fmt: skip
_FUNCTIONS: dict[Any, Callable[..., str]] = {
    **{getattr(torch, name): lower for name, lower in _NAMED.items() if hasattr(torch, name)},
    operator.add: _plain("add"), operator.sub: _plain("sub"), operator.mul: _plain("mul"),
    operator.truediv: _plain("div"), operator.neg: _plain("neg"), operator.pow: _power, operator.abs: _plain("abs"),
    abs: _plain("abs"), round: _plain("round"), operator.gt: _plain("gt"), operator.lt: _plain("lt"),
    operator.ge: _plain("ge"), operator.le: _plain("le"), operator.eq: _plain("eq"), operator.ne: _plain("ne"),
    operator.and_: _logic("both"), operator.or_: _logic("either"), operator.invert: _logic("negation"),
    F.relu: _relu, F.sigmoid: _plain("sigmoid"), F.tanh: _plain("tanh"),
    straight_through: _spike, per_channel: _channel,
}  # fmt: skip
