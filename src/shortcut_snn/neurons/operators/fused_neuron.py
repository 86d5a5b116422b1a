"""The custom operators of a NormNeuron: batch statistics, and normalisation + residual + neuron over a sequence.

``norm_neuron`` computes ``neuron(norm(x) + residual)`` for x ``[T, N, C, ...]``, or for ``[1, N, C, ...]`` as a
constant current of ``time_steps`` steps. It saves x and the residual (as bits if it has them); the backward pass
recomputes everything else. An absent output or gradient is an empty tensor, since an operator cannot return None.
"""

from typing import Any

import torch
from torch import Tensor

from ..backend import implementation
from ..compiler.program import parse
from .interface import Affine, Dynamics, Flags, Source
from .layout import bit_row, empty_sequence, is_channels_last
from .registration import operator, register_backward


def _batch_statistics_fake(x: Tensor) -> tuple[Tensor, Tensor]:
    shape = (x.shape[2],)
    return x.new_empty(shape, dtype=torch.float32), x.new_empty(shape, dtype=torch.float32)


@operator(_batch_statistics_fake)
def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance ``[C]``, float32, over all axes but that of the channels."""
    return implementation(x).batch_statistics(x)


def _norm_neuron_fake(
    x: Tensor, step: str, time_steps: int, flags: list[bool]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    switches = Flags(*flags)
    channels_last = is_channels_last(x)
    states = parse(step).states
    final = empty_sequence(x, states, channels_last, torch.float32) if switches.want_final else x.new_empty(0)
    row = bit_row(x.numel() // x.shape[0])
    bits, support = (
        x.new_empty((time_steps, row) if wanted else (0,), dtype=torch.uint8)
        for wanted in (switches.want_bits, switches.want_support)
    )
    return empty_sequence(x, time_steps, channels_last), final, bits, support


@operator(_norm_neuron_fake)
def norm_neuron(
    x: Tensor, residual: Tensor | None, residual_bits: Tensor | None, weight: Tensor | None, bias: Tensor | None,
    mean: Tensor | None, var: Tensor | None, eps: float, step: str, scalars: Tensor | None, channels: Tensor | None,
    constants: list[float], initial: Tensor | None, time_steps: int, flags: list[bool],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return spikes ``[T, N, C, ...]``, final states ``[states, N, C, ...]`` (float32), and spikes and support as bits.

    The support is the elements whose spikes have a gradient, as the surrogate's derivative is not 0 there. x to
    channels and initial are those of :class:`Source` and :class:`Dynamics`. Without a mean, x is not normalised.
    """
    residual = None if residual_bits is not None else residual
    source = Source(x, residual, residual_bits, _affine(weight, bias, mean, var, eps), initial)
    dynamics, switches = Dynamics(step, tuple(constants), scalars, channels), Flags(*flags)
    spikes, final, *packed = implementation(x).forward(
        source, time_steps, dynamics, switches.want_final, switches.want_bits, switches.want_support
    )
    bits, support = (x.new_empty(0, dtype=torch.uint8) if part is None else part for part in packed)
    return spikes, x.new_empty(0) if final is None else final, bits, support


def _norm_neuron_backward_fake(
    grad_spikes: Tensor, x: Tensor, weight: Tensor | None, bias: Tensor | None, scalars: Tensor | None,
    channels: Tensor | None, initial: Tensor | None, learn: list[bool], grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    channels_last = is_channels_last(x)

    def like(parameter: Tensor | None, wanted: bool = True) -> Tensor:
        return torch.empty_like(parameter) if parameter is not None and wanted else x.new_empty(0)

    return (
        empty_sequence(x, x.shape[0], channels_last),
        empty_sequence(x, grad_spikes.shape[0], channels_last) if grad_residual else x.new_empty(0),
        like(weight),
        like(bias),
        like(scalars, learn[0]),
        like(channels, learn[1]),
        x.new_empty(0) if initial is None else empty_sequence(x, initial.shape[0], channels_last).to(initial.dtype),
    )


@operator(_norm_neuron_backward_fake)
def norm_neuron_backward(
    grad_spikes: Tensor, grad_final: Tensor | None, x: Tensor, residual: Tensor | None, residual_bits: Tensor | None,
    weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, scalars: Tensor | None,
    channels: Tensor | None, initial: Tensor | None, eps: float, step: str, constants: list[float],
    flags: list[bool], learn: list[bool], grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of x, residual, weight, bias, scalars, channels and initial.

    ``learn`` states whether the gradients of scalars and of channels are wanted.
    """
    kernels, switches = implementation(x), Flags(*flags)
    dynamics = Dynamics(step, tuple(constants), scalars, channels, learn[0], learn[1], switches.through_time)
    affine = _affine(weight, bias, mean, var, eps)
    source = Source(x, residual, residual_bits, affine, initial)
    grads = kernels.backward(grad_spikes, grad_final, source, dynamics, grad_residual)
    grad_x, grad_weight, grad_bias = grads.x, None, None
    if affine is not None:
        assert var is not None
        assert grads.sums is not None
        inverse = torch.rsqrt(var + eps)
        grad_bias, grad_weight = grads.sums[0], grads.sums[1] * inverse
        if switches.from_batch:
            # Mean and variance depend on x, which adds a term that is affine in x.
            per_element = affine.scale / -(x.numel() // x.shape[2])
            slope = per_element * inverse * grad_weight
            offset = per_element * grad_bias - slope * affine.mean
        else:
            slope = offset = torch.zeros_like(inverse)
        in_place = grads.x is not grads.current or not grad_residual
        grad_x = kernels.input_grad(grads.x, x, affine.scale, slope, offset, in_place)

    def converted(grad: Tensor | None, parameter: Tensor | None) -> Tensor:
        return x.new_empty(0) if parameter is None or grad is None else grad.to(parameter.dtype)

    return (
        grad_x,
        x.new_empty(0) if grads.current is None or not grad_residual else grads.current,
        converted(grad_weight, weight),
        converted(grad_bias, bias),
        converted(grads.scalars, scalars),
        converted(grads.channels, channels),
        converted(grads.initial, initial),
    )


def _affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> Affine | None:
    if mean is None or var is None:
        return None
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight.float()
    shift = mean * scale
    return Affine(scale, -shift if bias is None else bias.float() - shift, mean.contiguous())


# The inputs that are saved, and those that may have a gradient, in the orders of ``norm_neuron_backward``.
_SAVED = ("x", "residual", "residual_bits", "weight", "bias", "mean", "var", "scalars", "channels", "initial")
_DIFFERENTIABLE = ("x", "residual", "weight", "bias", "scalars", "channels", "initial")


def _setup_context(ctx: Any, inputs: dict[str, Any]) -> None:
    # The gradient of the final states is rarely needed: it stays None instead of zeros.
    ctx.set_materialize_grads(False)
    if inputs["residual_bits"] is not None:
        inputs["residual"] = None
    ctx.save_for_backward(*(inputs[name] for name in _SAVED))
    ctx.options = [inputs[name] for name in ("eps", "step", "constants", "flags")]
    ctx.time_steps, ctx.want_final = inputs["time_steps"], Flags(*inputs["flags"]).want_final


def _backward(
    ctx: Any, saved: tuple[Tensor, ...], needed: dict[str, bool], grad_spikes: Tensor | None, grad_final: Tensor | None,
    *_: None,
) -> dict[str, Tensor]:  # fmt: skip
    if grad_spikes is None:
        grad_spikes = saved[0].new_zeros(ctx.time_steps, *saved[0].shape[1:])
    grads = norm_neuron_backward(
        grad_spikes, grad_final if ctx.want_final else None, *saved, *ctx.options,
        [needed["scalars"], needed["channels"]], needed["residual"],
    )  # fmt: skip
    return {name: grad for name, grad in zip(_DIFFERENTIABLE, grads, strict=True) if needed[name]}


register_backward(norm_neuron, _setup_context, _backward)
