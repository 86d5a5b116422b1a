"""Run a program in plain PyTorch: the operations of the kernels, on any device and in any precision."""

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .backward import derive_backward
from .program import Instruction, emit, forward_code, literal, parse
from .simplify import simplify


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype of states: float32 for half precision, else the input's own."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


class EagerSequence(torch.autograd.Function):
    """Runs a step over a whole sequence and back; it saves a few values for each step instead of a graph."""

    @staticmethod
    def forward(
        ctx: Any, text: str, constants: tuple[float, ...], through_time: bool, scalars: int, current: Tensor,
        initial: Tensor | None, *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return spikes ``[T, N, ...]`` and the final states ``[states, N, ...]``."""
        program, dtype = parse(text), compute_dtype(current.dtype)
        names = [f"p{k}" for k in range(scalars)] + [f"q{k}" for k in range(len(parameters) - scalars)]
        learned = tuple(name for name, needed in zip(names, ctx.needs_input_grad[6:], strict=True) if needed)
        saved = derive_backward(text, learned, through_time).saved if any(ctx.needs_input_grad) else ()
        step = _forward_step(text, saved)
        converted = _converted(parameters, scalars, dtype, current)
        states: tuple[Any, ...]
        if initial is None:
            states = (torch.zeros_like(current[0], dtype=dtype),) * program.states
        else:
            states = initial.to(dtype).unbind(0)
        spikes = torch.empty_like(current)
        saved_sequences = [torch.empty_like(current, dtype=dtype) for _ in saved]
        for t in range(current.shape[0]):
            out = step(current[t].to(dtype), states, *converted, constants, dtype)
            spikes[t], states = out[0], out[1 : 1 + program.states]
            for sequence, value in zip(saved_sequences, out[1 + program.states :], strict=True):
                sequence[t] = value
        ctx.save_for_backward(*saved_sequences, *parameters)
        ctx.step = (text, constants, through_time, scalars, learned, names, len(saved), current.dtype)
        ctx.initial_dtype = None if initial is None else initial.dtype
        final = torch.stack([state.expand_as(current[0]) for state in states]).to(current.dtype)
        if not through_time:
            ctx.mark_non_differentiable(final)
        return spikes, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Return the gradients of the current, the initial states and the parameters."""
        text, constants, through_time, scalars, learned, names, saved, dtype = ctx.step
        saved_sequences, parameters = ctx.saved_tensors[:saved], ctx.saved_tensors[saved:]
        grad_spikes, program, step = grads[0], parse(text), _backward_step(text, learned, through_time)
        compute = compute_dtype(dtype)
        converted = _converted(parameters, scalars, compute, grad_spikes)
        grad_states: tuple[Any, ...] = (0.0,) * program.states
        if through_time:
            grad_states = grads[1].to(compute).unbind(0)
        grad_current = torch.empty_like(grad_spikes, dtype=dtype)
        grad_parameters: dict[str, Tensor] = {}
        for t in reversed(range(grad_spikes.shape[0])):
            values = [sequence[t] for sequence in saved_sequences]
            out = step(values, grad_spikes[t].to(compute), grad_states, *converted, constants, compute)
            grad_current[t], grad_states = out[0], out[1 : 1 + program.states]
            for name, value in zip(learned, out[1 + program.states :], strict=True):
                summed = _summed(name, value, grad_spikes[t])
                grad_parameters[name] = grad_parameters[name] + summed if name in grad_parameters else summed
        grad_initial = None
        if ctx.initial_dtype is not None and through_time:
            full = [_expanded(grad, grad_spikes[0]) for grad in grad_states]
            grad_initial = torch.stack(full).to(ctx.initial_dtype)
        of_parameters = [
            grad_parameters[name].to(parameter.dtype) if name in grad_parameters else None
            for name, parameter in zip(names, parameters, strict=True)
        ]
        return None, None, None, None, grad_current, grad_initial, *of_parameters


def _expanded(value: Tensor | float, like: Tensor) -> Tensor:
    return value.expand_as(like) if isinstance(value, Tensor) else torch.full_like(like, value)


def _summed(name: str, value: Any, like: Tensor) -> Tensor:
    """Sum the gradient of a parameter over elements: to a scalar, or to one number for each channel."""
    full = _expanded(value, like)
    return full.sum() if name[0] == "p" else full.transpose(0, 1).flatten(1).sum(1)


def _converted(
    parameters: Sequence[Tensor], scalars: int, dtype: torch.dtype, like: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return scalars and channel parameters in the compute dtype; the latter broadcast with ``[N, C, ...]``."""
    shape = (-1, *[1] * (like.dim() - 3))
    converted = [parameter.detach().to(dtype) for parameter in parameters]
    return converted[:scalars], [parameter.view(shape) for parameter in converted[scalars:]]


@cache
def _forward_step(text: str, saved: tuple[str, ...]) -> Callable[..., tuple[Any, ...]]:
    """Compile ``step(i, s, p, q, c, dtype) -> (spikes, *states, *saved)``."""
    program = parse(text)
    results = [*program.outputs, *saved]
    code = simplify(forward_code(program, saved), results)
    return _function("i, s, p, q, c", [*_unpack_arguments(text), *emit(code)], results)


@cache
def _backward_step(text: str, learned: tuple[str, ...], through_time: bool) -> Callable[..., tuple[Any, ...]]:
    """Compile ``step(saved, gy, go, p, q, c, dtype)``; it returns gradients of current, states and parameters."""
    program = parse(text)
    derived = derive_backward(text, learned, through_time)
    unpack = [line for line in _unpack_arguments(text) if line[0] != "s"]
    unpack += [f"{name} = saved[{k}]" for k, name in enumerate(derived.saved)]
    unpack += [f"go{k} = go[{k}]" for k in range(program.states)]
    states = [f"s{k}" for k in range(program.states)]
    results = [derived.gradients[name] for name in ("i", *states, *learned)]
    return _function("saved, gy, go, p, q, c", [*unpack, *emit(simplify(derived.code, results))], results)


def _unpack_arguments(text: str) -> list[str]:
    """Return lines that give a program's inputs their names, such as ``p0 = p[0]``."""
    program = parse(text)
    read = {arg for line in program.code for arg in line.args} | set(program.outputs)
    inputs = [name for name in sorted(read) if name[0] in "spqc" and name[1:].isdigit()]
    return [f"{name} = {name[0]}[{name[1:]}]" for name in inputs]


def _function(arguments: str, lines: Sequence[str], results: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    returned = ", ".join(map(literal, results))
    # Values that are not made of tensors have no dtype: they get the one that is computed in.
    bind_dtype = "number, where = typed(dtype)"
    text = "\n    ".join([f"def step({arguments}, dtype):", bind_dtype, *lines, f"return ({returned},)"])
    names = dict(_FUNCTIONS)
    exec(compile(text, "<neuron>", "exec"), names)
    step: Callable[..., tuple[Any, ...]] = names["step"]
    return step


@cache
def _typed(dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return ``number`` and ``where`` for a dtype."""

    def number(condition: Tensor) -> Tensor:
        return condition.to(dtype)

    def where(condition: Tensor, a: Any, b: Any) -> Tensor:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return torch.where(condition, a, b)
        return torch.full(condition.shape, b, dtype=dtype, device=condition.device).masked_fill_(condition, a)

    return number, where


def _bound(of_tensors: Any, of_number: Any) -> Callable[[Any, Any], Any]:
    """Return a maximum or minimum of two values, one of which may be a number."""

    def bound(a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return of_tensors(a, b)
        return of_number(a, b) if isinstance(a, Tensor) else of_number(b, a)

    return bound


_FUNCTIONS: dict[str, Any] = {
    "typed": _typed, "negation": torch.logical_not, "abs": torch.abs, "exp": torch.exp, "log": torch.log,
    "sqrt": torch.sqrt, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "round": torch.round, "floor": torch.floor,
    "maximum": _bound(torch.maximum, torch.clamp_min), "minimum": _bound(torch.minimum, torch.clamp_max),
}  # fmt: skip
_OPERATIONS: dict[str, Callable[..., Any]] = {
    **_FUNCTIONS, "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "gt": operator.gt, "lt": operator.lt, "ge": operator.ge, "le": operator.le,
    "eq": operator.eq, "ne": operator.ne, "both": operator.and_, "either": operator.or_,
    "number": lambda condition: condition.to(torch.get_default_dtype()), "where": torch.where, "detach": torch.detach,
}  # fmt: skip


def run_prelude(
    code: Sequence[Instruction], results: Sequence[str], parameters: Sequence[Tensor], constants: Sequence[float]
) -> list[Tensor]:
    """Return the values that a step computes from its parameters alone, with their autograd graph."""
    values: dict[str, Any] = {f"w{k}": parameter for k, parameter in enumerate(parameters)}
    values.update({f"c{k}": constant for k, constant in enumerate(constants)})
    for name, op, args in code:
        values[name] = _OPERATIONS[op](*[values[arg] if arg in values else float(arg) for arg in args])
    return [values[name] for name in results]
