"""The CPU implementation: what the operators compute, by the compiled kernels."""

from array import array
from collections.abc import Mapping

import torch
from torch import Tensor

from ..compiler.program import backward as derive
from ..operators.interface import Dynamics, Gradients, Source
from ..operators.layout import bit_row, empty_sequence, first_of_channels, is_channels_last, run_length, to_layout
from .kernels.backward import backward_floats, backward_kernel
from .kernels.bits import pack_kernel, unpack_kernel
from .kernels.forward import forward_floats, forward_kernel
from .kernels.input_grad import input_grad_kernel
from .kernels.statistics import statistics_kernel
from .launch import Plan, launch, launch_tiles


def _plan(x: Tensor, channels_last: bool, normalise: bool, steps: int = 1) -> Plan:
    elements = steps * x[0].numel()
    return Plan.of(elements, run_length(x, channels_last), x.shape[2]) if normalise else Plan.of(elements)


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :class:`~.contract.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    plan = _plan(x, channels_last, True, x.shape[0])
    partials = torch.empty(plan.tasks, 2, plan.channels, dtype=torch.float64, device="cpu")
    first = first_of_channels(x)
    fields = {"x": x, "shift": first, "partials": partials}
    launch(statistics_kernel(str(x.dtype)), plan, plan.floats(1, 3), fields)
    mean, square = (partials.sum(0) / (x.numel() // plan.channels)).unbind(0)
    return (mean + first).float(), (square - mean.square()).clamp_min(0.0).float()


def _numbers(dynamics: Dynamics) -> "array[float]":
    """Return the parameters and numbers of a step, as the kernels read them."""
    scalars = [] if dynamics.scalars is None else dynamics.scalars.tolist()
    return array("f", [*scalars, *dynamics.numbers, 0.0])


def _rows(dynamics: Dynamics) -> Tensor | None:
    if dynamics.channels is None:
        return None
    return dynamics.channels.float().contiguous()


def _count(values: Tensor | None) -> int:
    return 0 if values is None else values.shape[0]


def forward(
    source: Source,
    time_steps: int,
    dynamics: Dynamics,
    want_final: bool,
    want_bits: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :class:`~.contract.Implementation`."""
    residual, residual_bits, affine, initial = source.residual, source.residual_bits, source.affine, source.initial
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    states, rows = dynamics.program.states, _count(dynamics.channels)
    plan = _plan(x, channels_last, affine is not None or rows > 0)
    spikes = empty_sequence(x, time_steps, channels_last)
    final = empty_sequence(x, states, channels_last) if want_final else None
    bits = x.new_empty((time_steps, bit_row(plan.elements)), dtype=torch.uint8) if want_bits else None
    add = residual is not None or residual_bits is not None
    numbers = _numbers(dynamics)
    launch_tiles(
        forward_kernel(
            str(x.dtype), dynamics.forward_text, states, _count(dynamics.scalars), rows, affine is not None, add,
            residual_bits is not None,
        ),
        plan,
        plan.floats(forward_floats(states, rows), 2 + rows),
        inputs={
            "x": x,
            "residual": None if residual is None else to_layout(residual, channels_last),
            "initial": None if initial is None else to_layout(initial.to(x.dtype), channels_last),
        },
        outputs={"out": spikes, "final": final},
        sums={},
        bits={"bits": bits, "residual_bits": residual_bits},
        fields={
            "scale": affine.scale if affine else None,
            "shift": affine.shift if affine else None,
            "numbers": numbers.buffer_info()[0],
            "rows": _rows(dynamics),
            "time_steps": time_steps,
            "x_step": plan.elements if x.shape[0] == time_steps else 0,
        },
    )  # fmt: skip
    if bits is not None and plan.elements % 64:
        # Behind the last element there are neurons too, but no spikes of theirs.
        bits.view(torch.int64)[:, -1] &= (1 << plan.elements % 64) - 1
    return spikes, final, bits


def backward(
    grad_spikes: Tensor,
    grad_final: Tensor | None,
    source: Source,
    dynamics: Dynamics,
    grad_residual: bool,
) -> Gradients:
    """See :class:`~.contract.Implementation`."""
    residual, residual_bits, affine, initial = source.residual, source.residual_bits, source.affine, source.initial
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    states, rows, learn = dynamics.program.states, _count(dynamics.channels), dynamics.learn
    scalars, by_channel = sum(name[0] == "p" for name in learn), sum(name[0] == "q" for name in learn)
    kept = len(derive(dynamics.text, learn, dynamics.carry).kept)
    plan = _plan(x, channels_last, affine is not None or rows > 0)
    time_steps = grad_spikes.shape[0]
    static = x.shape[0] != time_steps
    current = empty_sequence(x, time_steps, channels_last) if grad_residual or not static else None
    summed = empty_sequence(x, 1, channels_last) if static else None

    def partial(*shape: int) -> Tensor:
        return torch.empty(plan.tasks + 1, *shape, dtype=torch.float64, device="cpu")

    summing = affine is not None or by_channel > 0
    partials = partial(2 + by_channel, plan.channels) if summing else None
    learned = partial(scalars) if scalars else None
    grad_initial = None if initial is None else empty_sequence(x, states, channels_last)
    numbers = _numbers(dynamics)
    launch_tiles(
        backward_kernel(
            str(x.dtype), dynamics.text, states, _count(dynamics.scalars), rows, learn, kept, dynamics.carry,
            affine is not None, residual is not None or residual_bits is not None, residual_bits is not None, static,
            current is not None,
        ),
        plan,
        plan.floats(backward_floats(states, rows, scalars, kept, time_steps), 5 + by_channel + rows),
        inputs={
            "x": x,
            "residual": None if residual is None else to_layout(residual, channels_last),
            "initial": None if initial is None else to_layout(initial.to(x.dtype), channels_last),
            "grad_spikes": to_layout(grad_spikes, channels_last),
            "grad_final": None if grad_final is None else to_layout(grad_final, channels_last),
        },
        outputs={"grad_current": current, "grad_x": summed, "grad_initial": grad_initial},
        sums={"partials": partials, "learned": learned},
        bits={"residual_bits": residual_bits},
        fields={
            "scale": affine.scale if affine else None,
            "shift": affine.shift if affine else None,
            "mean": affine.mean if affine else None,
            "numbers": numbers.buffer_info()[0],
            "rows": _rows(dynamics),
            "time_steps": time_steps,
            "x_step": 0 if static else plan.elements,
        },
    )  # fmt: skip
    grad_x = summed if summed is not None else current
    assert grad_x is not None
    sums = None if partials is None else partials.sum(0)
    return Gradients(
        current,
        grad_x,
        None if sums is None or affine is None else sums[:2].float(),
        None if learned is None else learned.sum(0),
        sums[2:] if sums is not None and by_channel else None,
        grad_initial,
    )


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~.contract.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    plan = _plan(x, channels_last, True, x.shape[0])
    out = grad if in_place else empty_sequence(x, x.shape[0], channels_last)
    fields = {"x": x, "grad_current": grad, "grad_x": out, "scale": a, "mean": b, "shift": c}
    launch(input_grad_kernel(str(x.dtype)), plan, plan.floats(3, 3), fields)
    return out


def pack(spikes: Tensor) -> Tensor:
    """See :class:`~.contract.Implementation`."""
    plan = Plan.of(spikes[0].numel())
    bits = spikes.new_empty((spikes.shape[0], bit_row(plan.elements)), dtype=torch.uint8)
    _convert(pack_kernel(str(spikes.dtype)), plan, bits, inputs={"x": spikes})
    return bits


def unpack(bits: Tensor, out: Tensor) -> None:
    """See :class:`~.contract.Implementation`."""
    _convert(unpack_kernel(str(out.dtype)), Plan.of(out[0].numel()), bits, outputs={"out": out})


def _convert(
    kernel: int,
    plan: Plan,
    bits: Tensor,
    inputs: Mapping[str, Tensor] | None = None,
    outputs: Mapping[str, Tensor] | None = None,
) -> None:
    fields = {"time_steps": bits.shape[0]}
    launch_tiles(kernel, plan, 0, inputs or {}, outputs or {}, sums={}, bits={"bits": bits}, fields=fields)
