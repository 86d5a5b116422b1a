"""The operators in plain PyTorch: the reference for kernels, and the fallback if a kernel fails.

The functions are those of :class:`~.operators.interface.Implementation`. The backward pass is autograd through the
forward pass, so it checks the derived backward programs too.
"""

import operator
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .compiler.program import DETACH, SPIKE, Instruction, needed_code, spike_slope
from .operators.interface import Dynamics, Gradients, Source
from .operators.layout import bit_row, empty_sequence, is_channels_last, to_layout


def _spike(value: Tensor, v: Tensor, slope: Tensor) -> Tensor:
    # Adds 0 to the value, and the slope to the gradient. The difference of infinite numbers is not 0.
    return value.detach() + torch.where(v.isfinite(), slope.detach() * (v - v.detach()), 0.0)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg,
    "gt": operator.gt, "lt": operator.lt, "ge": operator.ge, "le": operator.le, "eq": operator.eq, "ne": operator.ne,
    "both": operator.and_, "either": operator.or_, "negation": torch.logical_not, "number": lambda a: a.float(),
    "abs": torch.abs, "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "tanh": torch.tanh,
    "sigmoid": torch.sigmoid, "round": torch.round, "floor": torch.floor, "where": torch.where,
    "maximum": torch.maximum, "minimum": torch.minimum, DETACH: torch.detach, SPIKE: _spike,
}  # fmt: skip


def run_code(code: Iterable[Instruction], values: dict[str, Any]) -> None:
    """Compute instructions from the values that they read, by name; the results join these."""
    for name, op, args in code:
        read = (values[arg] if arg in values else torch.tensor(float(arg), dtype=torch.float32) for arg in args)
        values[name] = _OPERATIONS[op](*read)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :class:`~.operators.interface.Implementation`."""
    var, mean = torch.var_mean(x.double(), [axis for axis in range(x.dim()) if axis != 2], correction=0)
    return mean.float(), var.float()


@torch.no_grad()
def forward(
    source: Source, time_steps: int, dynamics: Dynamics, want_final: bool, want_bits: bool, want_support: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """See :class:`~.operators.interface.Implementation`."""
    channels_last = is_channels_last(source.x)
    current = _current(source, time_steps)
    slope = spike_slope(dynamics.text) if want_support else None
    spikes, states, slopes = _run(dynamics, current, source.initial, slope)
    spikes = to_layout(spikes.to(source.x.dtype), channels_last)
    return (
        spikes,
        to_layout(states, channels_last) if want_final else None,
        pack(spikes) if want_bits else None,
        pack(to_layout(slopes, channels_last)) if slope is not None else None,
    )


def backward(
    grad_spikes: Tensor, grad_final: Tensor | None, source: Source, dynamics: Dynamics, grad_residual: bool
) -> Gradients:
    """See :class:`~.operators.interface.Implementation`."""
    x, channels_last, time_steps = source.x, is_channels_last(source.x), grad_spikes.shape[0]
    names = ("current", "initial", "scalars", "channels")
    values = (_current(source, time_steps), source.initial, dynamics.scalars, dynamics.channels)
    leaves = {
        name: value.detach().float().requires_grad_()
        for name, value in zip(names, values, strict=True)
        if value is not None
    }
    with torch.enable_grad():
        learned = replace(dynamics, scalars=leaves.get("scalars"), channels=leaves.get("channels"))
        spikes, states, _ = _run(learned, leaves["current"], leaves.get("initial"), None)
        results = [(spikes, grad_spikes), (states, grad_final)]
        pairs = [(value, grad.float()) for value, grad in results if grad is not None and value.requires_grad]
        loss = sum(((value * grad).sum() for value, grad in pairs), torch.zeros((), device=x.device))
    grads = dict.fromkeys(leaves, torch.zeros((), device=x.device))
    if pairs:
        inputs = list(leaves.values())
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
        grads = dict(zip(leaves, gradients, strict=True))
    current = grads["current"].expand_as(leaves["current"])

    static = x.shape[0] != time_steps
    buffers = {
        "grad_current": to_layout(current.to(x.dtype), channels_last) if grad_residual or not static else None,
        "grad_x": to_layout(current.sum(0, keepdim=True).to(x.dtype), channels_last) if static else None,
        "grad_initial": to_layout(grads["initial"].expand_as(leaves["initial"]), channels_last)
        if source.initial is not None
        else None,
    }
    sums, axes = None, [axis for axis in range(x.dim()) if axis != 2]
    scalars, channels = dynamics.learned_counts
    if source.affine is not None or channels:
        mean = 0.0 if source.affine is None else _by_channel(source.affine.mean, x)
        rows = [current.double().sum(axes), (current * (x.float() - mean)).double().sum(axes)]
        if channels:
            rows += grads["channels"].double().expand(channels, len(rows[0])).unbind(0)
        sums = torch.stack(rows)
    learned_scalars = grads["scalars"].double().expand(scalars) if scalars else None
    return Gradients.of(buffers, sums, learned_scalars, source.affine is not None)


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~.operators.interface.Implementation`."""
    a, b, c = (_by_channel(factor, x) for factor in (a, b, c))
    result = (a * grad.float() + b * x.float() + c).to(x.dtype)
    return grad.copy_(result) if in_place else to_layout(result, is_channels_last(x))


def pack(spikes: Tensor) -> Tensor:
    """See :class:`~.operators.interface.Implementation`."""
    fired = (_in_memory_order(spikes) != 0).int()
    fired = F.pad(fired, (0, 8 * bit_row(fired.shape[1]) - fired.shape[1]))
    packed: Tensor = (fired.view(len(fired), -1, 8) << _lanes(spikes)).sum(2)
    return packed.to(torch.uint8)


def unpack(bits: Tensor, out: Tensor) -> None:
    """See :class:`~.operators.interface.Implementation`."""
    fired = (bits.int().unsqueeze(2) >> _lanes(bits)) & 1
    memory = _in_memory_order(out)
    memory.copy_(fired.flatten(1)[:, : memory.shape[1]])


def _current(source: Source, time_steps: int) -> Tensor:
    """Return the normalised current of each step with the residual, ``[T, ...]``, float32."""
    x = source.x.float()
    if source.affine is not None:
        x = x * _by_channel(source.affine.scale, x) + _by_channel(source.affine.shift, x)
    x = x.expand(time_steps, *x.shape[1:])
    if source.residual_bits is not None:
        residual = empty_sequence(source.x, time_steps, is_channels_last(source.x))
        unpack(source.residual_bits, residual)
        return x + residual.float()
    return x if source.residual is None else x + source.residual.float()


def _run(
    dynamics: Dynamics, current: Tensor, initial: Tensor | None, slope: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes ``[T, ...]``, the states after them ``[states, ...]``, and the surrogate's slopes ``[T, ...]``."""
    program = dynamics.program
    code = needed_code(program.code, program.outputs, gradients=True)
    scalars, channels = (() if rows is None else rows for rows in (dynamics.scalars, dynamics.channels))
    values: dict[str, Any] = {f"c{k}": torch.tensor(value).to(current) for k, value in enumerate(dynamics.constants)}
    values |= {f"p{k}": value.to(current) for k, value in enumerate(scalars)}
    values |= {f"q{k}": _by_channel(value.to(current), current)[0] for k, value in enumerate(channels)}
    shape = current.shape[1:]
    states = [current.new_zeros(shape)] * program.states if initial is None else list(initial.float())
    spikes, slopes = [], []
    for frame in current:
        if not dynamics.through_time:
            states = [state.detach() for state in states]
        step = values | {"i": frame} | {f"s{k}": state for k, state in enumerate(states)}
        run_code(code, step)
        spike, *states = (step[name] if name in step else current.new_tensor(float(name)) for name in program.outputs)
        states = [state.expand(shape) for state in states]
        spikes.append(spike.expand(shape))
        slopes.append(torch.as_tensor(step.get(slope, 1.0)).to(current).expand(shape))
    final = torch.stack(states) if states else current.new_zeros(0, *shape)
    return torch.stack(spikes), final, torch.stack(slopes)


def _by_channel(values: Tensor, x: Tensor) -> Tensor:
    """Return values ``[C]`` in a shape that broadcasts with ``[T, N, C, ...]``."""
    return values.float().view(1, 1, -1, *[1] * (x.dim() - 3))


def _in_memory_order(x: Tensor) -> Tensor:
    """Return ``[T, ...]`` as a view ``[T, elements]`` in the order of memory."""
    moved = x.movedim(2, -1) if is_channels_last(x) else x
    return moved.view(x.shape[0], -1)


def _lanes(like: Tensor) -> Tensor:
    return torch.arange(8, dtype=torch.int32, device=like.device)
