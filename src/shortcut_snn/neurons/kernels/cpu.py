"""The CPU implementation: what the operators compute, by the compiled kernels."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .compiled.backward import backward_kernel
from .compiled.bits import pack_kernel, unpack_kernel
from .compiled.forward import forward_kernel
from .compiled.input_grad import input_grad_kernel
from .compiled.statistics import statistics_kernel
from .contract import Dynamics, Gradients, Source
from .launch import Plan, launch, launch_tiles
from .layout import bit_row, empty_sequence, first_of_channels, is_channels_last, run_length, to_layout


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
    fields = {"x": x, "shift": plan.row(first), "partials": partials}
    launch(statistics_kernel(str(x.dtype)), plan, plan.floats(1, True), fields)
    means = partials.sum(0) / (x.numel() // plan.channels)
    return (means[0] + first).float(), (means[1] - means[0].square()).clamp_min(0.0).float()


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
    plan = _plan(x, channels_last, affine is not None)
    spikes = empty_sequence(x, time_steps, channels_last)
    final = empty_sequence(x, 1, channels_last) if want_final else None
    bits = x.new_empty((time_steps, bit_row(plan.elements)), dtype=torch.uint8) if want_bits else None
    add = residual is not None or residual_bits is not None
    launch_tiles(
        forward_kernel(str(x.dtype), affine is not None, add, residual_bits is not None, dynamics.soft),
        plan,
        plan.floats(4, False),
        inputs={
            "x": x,
            "residual": None if residual is None else to_layout(residual, channels_last),
            "initial": None if initial is None else to_layout(initial.to(x.dtype)[None], channels_last),
        },
        outputs={"out": spikes, "final": final},
        sums={},
        bits={"bits": bits, "residual_bits": residual_bits},
        fields={
            "scale": plan.row(affine.scale) if affine else None,
            "shift": plan.row(affine.shift) if affine else None,
            "time_steps": time_steps,
            "x_step": plan.elements if x.shape[0] == time_steps else 0,
            "tau": float(dynamics.tau),
            "threshold": dynamics.threshold,
        },
    )
    if bits is not None and plan.elements % 64:
        # Behind the last element there are neurons too, but no spikes of theirs.
        bits.view(torch.int64)[:, -1] &= (1 << plan.elements % 64) - 1
    return spikes, None if final is None else final[0], bits


def backward(
    grad_spikes: Tensor,
    grad_final: Tensor | None,
    source: Source,
    dynamics: Dynamics,
    learn_tau: bool,
    grad_residual: bool,
) -> Gradients:
    """See :class:`~.contract.Implementation`."""
    residual, residual_bits, affine, initial = source.residual, source.residual_bits, source.affine, source.initial
    channels_last = is_channels_last(source.x)
    x = to_layout(source.x, channels_last)
    plan = _plan(x, channels_last, affine is not None)
    time_steps = grad_spikes.shape[0]
    static = x.shape[0] != time_steps
    current = empty_sequence(x, time_steps, channels_last) if grad_residual or not static else None
    summed = empty_sequence(x, 1, channels_last) if static else None
    partials = torch.empty(plan.tasks + 1, 2, plan.channels, dtype=torch.float64, device="cpu") if affine else None
    tau_partials = torch.empty(plan.tasks + 1, dtype=torch.float64, device="cpu") if learn_tau else None
    grad_initial = None if initial is None else empty_sequence(x, 1, channels_last)
    launch_tiles(
        backward_kernel(
            str(x.dtype),
            affine is not None,
            residual is not None or residual_bits is not None,
            residual_bits is not None,
            static,
            dynamics.soft,
            not dynamics.detach_reset,
            learn_tau,
            dynamics.surrogate,
        ),
        plan,
        plan.floats(8 + time_steps, True),
        inputs={
            "x": x,
            "residual": None if residual is None else to_layout(residual, channels_last),
            "initial": None if initial is None else to_layout(initial.to(x.dtype)[None], channels_last),
            "grad_spikes": to_layout(grad_spikes, channels_last),
            "grad_final": None if grad_final is None else to_layout(grad_final[None], channels_last),
        },
        outputs={"grad_current": current, "grad_x": summed, "grad_initial": grad_initial},
        sums={"partials": partials, "tau_partials": tau_partials},
        bits={"residual_bits": residual_bits},
        fields={
            "scale": plan.row(affine.scale) if affine else None,
            "shift": plan.row(affine.shift) if affine else None,
            "mean": plan.row(affine.mean) if affine else None,
            "time_steps": time_steps,
            "x_step": 0 if static else plan.elements,
            "tau": float(dynamics.tau),
            "threshold": dynamics.threshold,
            "first": dynamics.first,
            "second": dynamics.second,
        },
    )
    grad_x = summed if summed is not None else current
    assert grad_x is not None
    return Gradients(
        current,
        grad_x,
        None if partials is None else partials.sum(0),
        torch.zeros((), dtype=torch.float64, device="cpu") if tau_partials is None else tau_partials.sum(),
        None if grad_initial is None else grad_initial[0],
    )


def input_grad(grad: Tensor, x: Tensor, a: Tensor, b: Tensor, c: Tensor, in_place: bool) -> Tensor:
    """See :class:`~.contract.Implementation`."""
    channels_last = is_channels_last(x)
    x = to_layout(x, channels_last)
    plan = _plan(x, channels_last, True, x.shape[0])
    out = grad if in_place else empty_sequence(x, x.shape[0], channels_last)
    rows = {"scale": plan.row(a), "mean": plan.row(b), "shift": plan.row(c)}
    fields = {"x": x, "grad_current": grad, "grad_x": out, **rows}
    launch(input_grad_kernel(str(x.dtype)), plan, plan.floats(3, False), fields)
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
