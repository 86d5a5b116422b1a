"""The CPU implementation of the operators, by the compiled kernels."""

from array import array

import torch
from torch import Tensor

from ..compiler.program import spike_slope
from ..operators.interface import Dynamics, Gradients, Source
from ..operators.layout import bit_row, empty_sequence, first_of_channels, is_channels_last, run_length, to_layout
from .kernels.bits import bits_kernel
from .kernels.neuron import backward_floats, backward_kernel, forward_floats, forward_kernel
from .kernels.norm import input_grad_kernel, statistics_kernel
from .launch import Field, Plan, launch, launch_tiles


def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    plan = _plan(x, channels_last, by_channel=True, steps=x.shape[0])
    partials = torch.empty(plan.items, 2, plan.channels, dtype=torch.float64, device="cpu")
    first = first_of_channels(x)
    fields = {"x": x, "shift": first, "partials": partials}
    launch(statistics_kernel(str(x.dtype)), plan, plan.workspace(1, 3), fields)
    mean, square = (partials.sum(0) / (x.numel() // plan.channels)).unbind(0)
    return (mean + first).float(), (square - mean.square()).clamp_min(0.0).float()


def forward(
    source: Source, time_steps: int, dynamics: Dynamics, want_final: bool, want_bits: bool, want_support: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    normalise, packed = source.affine is not None, source.residual_bits is not None
    states, (scalars, rows) = dynamics.program.states, dynamics.counts
    plan = _plan(x, channels_last, normalise or rows > 0)
    spikes = empty_sequence(x, time_steps, channels_last)
    final = empty_sequence(x, states, channels_last, torch.float32) if want_final else None
    shape = (time_steps, bit_row(plan.elements))
    bits, support = (x.new_empty(shape, dtype=torch.uint8) if wanted else None for wanted in (want_bits, want_support))
    text = dynamics.text if want_support else dynamics.forward_text
    kernel = forward_kernel(
        str(x.dtype), text, states, scalars, rows, normalise, packed or source.residual is not None, packed,
        spike_slope(text) if want_support else None,
    )  # fmt: skip
    numbers = _numbers(dynamics)
    launch_tiles(
        kernel, plan, plan.workspace(forward_floats(states, rows), 2 + rows),
        inputs=_inputs(source, x, channels_last),
        outputs={"out": spikes, "final": final},
        bits={"bits": bits, "residual_bits": source.residual_bits, "support": support},
        fields=_fields(source, dynamics, numbers, plan, time_steps),
    )  # fmt: skip
    for written in (bits, support):
        if written is not None and plan.elements % 64:
            # The padding of the tail may have fired too.
            written.view(torch.int64)[:, -1] &= (1 << plan.elements % 64) - 1
    return spikes, final, bits, support


def backward(
    grad_spikes: Tensor, grad_final: Tensor | None, source: Source, dynamics: Dynamics, grad_residual: bool
) -> Gradients:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    normalise, packed = source.affine is not None, source.residual_bits is not None
    time_steps = grad_spikes.shape[0]
    static = x.shape[0] != time_steps
    states, saved = dynamics.program.states, len(dynamics.backward_step.saved)
    (count, rows), (scalars, channels) = dynamics.counts, dynamics.learned_counts
    plan = _plan(x, channels_last, normalise or rows > 0)

    outputs = Gradients.buffers(x, source, time_steps, states, grad_residual)

    def sums(*shape: int) -> Tensor:
        return torch.empty(plan.items + 1, *shape, dtype=torch.float64, device="cpu")

    partials = sums(2 + channels, plan.channels) if normalise or channels else None
    learned = sums(scalars) if scalars else None
    kernel = backward_kernel(
        str(x.dtype), dynamics.text, states, count, rows, dynamics.learned, saved,
        dynamics.through_time, normalise, packed or source.residual is not None, packed, static,
        outputs["grad_current"] is not None,
    )  # fmt: skip
    numbers = _numbers(dynamics)
    output_grads = {
        "grad_spikes": to_layout(grad_spikes, channels_last),
        "grad_final": None if grad_final is None else to_layout(grad_final.float(), channels_last),
    }
    tiles = backward_floats(states, rows, scalars, saved, time_steps)
    launch_tiles(
        kernel, plan, plan.workspace(tiles, 5 + channels + rows),
        inputs=_inputs(source, x, channels_last) | output_grads,
        outputs=outputs,
        sums={"partials": partials, "learned": learned},
        bits={"residual_bits": source.residual_bits},
        fields=_fields(source, dynamics, numbers, plan, time_steps),
    )  # fmt: skip

    totals, learned = (None if items is None else items.sum(0) for items in (partials, learned))
    return Gradients.of(outputs, totals, learned, normalise)


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~..operators.interface.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    plan = _plan(x, channels_last, by_channel=True, steps=x.shape[0])
    out = grad if in_place else empty_sequence(x, x.shape[0], channels_last)
    fields = {"x": x, "grad_current": grad, "grad_x": out, "scale": a, "mean": b, "shift": c}
    launch(input_grad_kernel(str(x.dtype)), plan, plan.workspace(3, 3), fields)
    return out


def pack(spikes: Tensor) -> Tensor:
    """See :class:`~..operators.interface.Implementation`."""
    plan = Plan.of(spikes[0].numel())
    bits = spikes.new_empty((spikes.shape[0], bit_row(plan.elements)), dtype=torch.uint8)
    kernel = bits_kernel(str(spikes.dtype), True)
    launch_tiles(kernel, plan, 0, inputs={"x": spikes}, bits={"bits": bits}, fields={"time_steps": bits.shape[0]})
    return bits


def unpack(bits: Tensor, out: Tensor) -> None:
    """See :class:`~..operators.interface.Implementation`."""
    kernel, plan = bits_kernel(str(out.dtype), False), Plan.of(out[0].numel())
    launch_tiles(kernel, plan, 0, outputs={"out": out}, bits={"bits": bits}, fields={"time_steps": bits.shape[0]})


def _plan(x: Tensor, channels_last: bool, by_channel: bool, steps: int = 1) -> Plan:
    elements = steps * x[0].numel()
    return Plan.of(elements, run_length(x, channels_last), x.shape[2]) if by_channel else Plan.of(elements)


def _inputs(source: Source, x: Tensor, channels_last: bool) -> dict[str, Tensor | None]:
    """Return the sequences that both passes read, in the layout of x."""
    residual, initial = source.residual, source.initial
    return {
        "x": x,
        "residual": None if residual is None else to_layout(residual, channels_last),
        "initial": None if initial is None else to_layout(initial.float(), channels_last),
    }


def _fields(
    source: Source, dynamics: Dynamics, numbers: "array[float]", plan: Plan, time_steps: int
) -> dict[str, Field]:
    """Return the other parameters of both passes. The caller keeps ``numbers`` alive: its address is passed."""
    channels, affine = dynamics.channels, source.affine
    fields: dict[str, Field] = {
        "numbers": numbers.buffer_info()[0],
        "rows": None if channels is None else channels.float().contiguous(),
        "time_steps": time_steps,
        "x_step": plan.elements if source.x.shape[0] == time_steps else 0,
    }
    if affine is not None:
        fields.update(scale=affine.scale, shift=affine.shift, mean=affine.mean)
    return fields


def _numbers(dynamics: Dynamics) -> "array[float]":
    """Return the scalars and constants of a step, as the kernels read them; never empty, so that it has an address."""
    scalars = [] if dynamics.scalars is None else dynamics.scalars.tolist()
    return array("f", [*scalars, *dynamics.constants, 0.0])
