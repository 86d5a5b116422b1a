"""A neuron's program in plain PyTorch: the same operations as the kernels', on any device and in any precision."""

import operator
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .program import Instruction, backward, emit, forward_code, literal, read


def _either_bound(tensors: Any, low: Any, high: Any) -> Callable[[Any, Any], Any]:
    def bound(a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) and isinstance(b, Tensor):
            return tensors(a, b)
        return low(a, b) if isinstance(a, Tensor) else high(b, a)

    return bound


@cache
def _typed(dtype: torch.dtype) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def number(condition: Tensor) -> Tensor:
        return condition.to(dtype)

    def where(condition: Tensor, a: Any, b: Any) -> Tensor:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return torch.where(condition, a, b)
        return torch.full(condition.shape, b, dtype=dtype, device=condition.device).masked_fill_(condition, a)

    return number, where


_NAMES: dict[str, Any] = {
    "typed": _typed, "negation": torch.logical_not, "abs": torch.abs, "exp": torch.exp, "log": torch.log,
    "sqrt": torch.sqrt, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "round": torch.round, "floor": torch.floor,
    "maximum": _either_bound(torch.maximum, torch.clamp_min, torch.clamp_min),
    "minimum": _either_bound(torch.minimum, torch.clamp_max, torch.clamp_max),
}  # fmt: skip


def _function(arguments: str, lines: Sequence[str], results: Sequence[str]) -> Callable[..., tuple[Any, ...]]:
    returned = ", ".join(map(literal, results))
    # What has no dtype of its own is of the one that is computed in.
    ahead = "number, where = typed(dtype)"
    text = "\n    ".join([f"def step({arguments}, dtype):", ahead, *lines, f"return ({returned},)"])
    names = dict(_NAMES)
    exec(compile(text, "<neuron>", "exec"), names)
    made: Callable[..., tuple[Any, ...]] = names["step"]
    return made


def _unpacked(text: str) -> list[str]:
    program = read(text)
    read_by = {arg for _, _, args in program.code for arg in args} | set(program.outputs)
    lines = []
    for name in sorted(read_by):
        if name[0] in "spqc" and name[1:].isdigit():
            lines.append(f"{name} = {name[0]}[{name[1:]}]")
    return lines


@cache
def _there(text: str, kept: tuple[str, ...]) -> Callable[..., tuple[Any, ...]]:
    program = read(text)
    results = [*program.outputs, *kept]
    return _function("i, s, p, q, c", [*_unpacked(text), *emit(forward_code(program, kept), results)], results)


@cache
def _back(text: str, learn: tuple[str, ...], carry: bool) -> Callable[..., tuple[Any, ...]]:
    program = read(text)
    way = backward(text, learn, carry)
    states = [f"s{k}" for k in range(program.states)]
    unpacked = [line for line in _unpacked(text) if line[0] != "s"]
    lines = [f"{name} = kept[{k}]" for k, name in enumerate(way.kept)]
    lines += [f"go{k} = go[{k}]" for k in range(program.states)]
    results = [way.grads["i"], *(way.grads.get(name, "0") for name in states), *(way.grads[name] for name in learn)]
    return _function("kept, gy, go, p, q, c", [*unpacked, *lines, *emit([*way.again, *way.code], results)], results)


class PlainSequence(torch.autograd.Function):
    """A step over a whole sequence, and back through it: keeps a few numbers for each step instead of a graph."""

    @staticmethod
    def forward(
        ctx: Any, text: str, numbers: tuple[float, ...], carry: bool, scalars: int, current: Tensor,
        initial: Tensor | None, *parameters: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return spikes ``[T, N, ...]`` and the final states ``[states, N, ...]``."""
        program, dtype = read(text), compute_dtype(current.dtype)
        names = [f"p{k}" for k in range(scalars)] + [f"q{k}" for k in range(len(parameters) - scalars)]
        learn = tuple(name for name, need in zip(names, ctx.needs_input_grad[6:], strict=True) if need)
        kept = backward(text, learn, carry).kept if any(ctx.needs_input_grad) else ()
        step = _there(text, kept)
        own = _in(parameters, scalars, dtype, current)
        states: tuple[Any, ...]
        if initial is None:
            states = (torch.zeros_like(current[0], dtype=dtype),) * program.states
        else:
            states = initial.to(dtype).unbind(0)
        spikes = torch.empty_like(current)
        stores = [torch.empty_like(current, dtype=dtype) for _ in kept]
        for t in range(current.shape[0]):
            out = step(current[t].to(dtype), states, *own, numbers, dtype)
            spikes[t], states = out[0], out[1 : 1 + program.states]
            for store, value in zip(stores, out[1 + program.states :], strict=True):
                store[t] = value
        ctx.save_for_backward(*stores, *parameters)
        ctx.rest = (text, numbers, carry, scalars, learn, names, len(stores), current.dtype)
        ctx.start = None if initial is None else initial.dtype
        final = torch.stack([each.expand_as(current[0]) for each in states]).to(current.dtype)
        if not carry:
            ctx.mark_non_differentiable(final)
        return spikes, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        """Return the gradients of the current, the initial states and the parameters."""
        text, numbers, carry, scalars, learn, names, count, dtype = ctx.rest
        stores, parameters = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        grad_spikes, program, step = grads[0], read(text), _back(text, learn, carry)
        compute = compute_dtype(dtype)
        own = _in(parameters, scalars, compute, grad_spikes)
        after: tuple[Any, ...] = grads[1].to(compute).unbind(0) if carry else (0.0,) * program.states
        grad_current = torch.empty_like(grad_spikes, dtype=dtype)
        found: dict[str, Tensor] = {}
        for t in reversed(range(grad_spikes.shape[0])):
            each = [store[t] for store in stores]
            out = step(each, grad_spikes[t].to(compute), after, *own, numbers, compute)
            grad_current[t], after = out[0], out[1 : 1 + program.states]
            for name, value in zip(learn, out[1 + program.states :], strict=True):
                summed = _summed(name, value, grad_spikes[t])
                found[name] = found[name] + summed if name in found else summed
        grad_initial = None
        if ctx.start is not None and carry:
            grad_initial = torch.stack([_full(each, grad_spikes[0]) for each in after]).to(ctx.start)
        of_parameters = [
            found[name].to(parameter.dtype) if name in found else None
            for name, parameter in zip(names, parameters, strict=True)
        ]
        return None, None, None, None, grad_current, grad_initial, *of_parameters


def _full(value: Tensor | float, like: Tensor) -> Tensor:
    return value.expand_as(like) if isinstance(value, Tensor) else torch.full_like(like, value)


def _summed(name: str, value: Any, like: Tensor) -> Tensor:
    full = _full(value, like)
    return full.sum() if name[0] == "p" else full.transpose(0, 1).flatten(1).sum(1)


def _in(
    parameters: Sequence[Tensor], scalars: int, dtype: torch.dtype, like: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """Return parameters in the dtype to compute in, those of channels in a shape that meets ``[N, C, ...]``."""
    shape = (-1, *[1] * (like.dim() - 3))
    own = [each.detach().to(dtype) for each in parameters]
    return own[:scalars], [each.view(shape) for each in own[scalars:]]


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """States of half-precision inputs are computed in float32."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


_OPERATIONS: dict[str, Callable[..., Any]] = {
    **_NAMES, "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv,
    "neg": operator.neg, "gt": operator.gt, "lt": operator.lt, "ge": operator.ge, "le": operator.le,
    "eq": operator.eq, "ne": operator.ne, "both": operator.and_, "either": operator.or_,
    "number": lambda truth: truth.to(torch.get_default_dtype()), "where": torch.where, "detach": torch.detach,
}  # fmt: skip


def ahead(
    code: Sequence[Instruction], results: Sequence[str], own: Sequence[Tensor], numbers: Sequence[float]
) -> list[Tensor]:
    """Return what is computed of a neuron's parameters alone: ordinary PyTorch, with its gradients."""
    values: dict[str, Any] = {f"w{k}": each for k, each in enumerate(own)}
    values.update({f"c{k}": each for k, each in enumerate(numbers)})
    for name, op, args in code:
        values[name] = _OPERATIONS[op](*[values[arg] if arg in values else float(arg) for arg in args])
    return [values[name] for name in results]
