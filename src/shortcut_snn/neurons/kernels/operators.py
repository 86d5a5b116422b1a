"""The custom operators: normalisation, residual and neuron over a whole sequence.

One contract for every device: ``neuron(norm(x) + residual)`` for x ``[T, N, C, ...]``, or ``[1, N, C, ...]`` as a
constant current of ``time_steps`` steps. The backward pass recomputes what it needs from x and the residual, which is
kept as bits if it comes with them.
"""

from typing import Any

import torch
from torch import Tensor

from .backend import implementation
from .contract import Affine, Dynamics, Source
from .layout import bit_row, empty_sequence, is_channels_last

_DEVICES = ("cpu", "cuda")


@torch.library.custom_op("shortcut_snn::batch_statistics", mutates_args=(), device_types=_DEVICES)
def batch_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and biased variance ``[C]``, float32, over all axes but the channels'."""
    return implementation(x).batch_statistics(x)


@batch_statistics.register_fake
def _(x: Tensor) -> tuple[Tensor, Tensor]:
    shape = (x.shape[2],)
    return x.new_empty(shape, dtype=torch.float32), x.new_empty(shape, dtype=torch.float32)


@torch.library.custom_op("shortcut_snn::norm_neuron", mutates_args=(), device_types=_DEVICES)
def norm_neuron(
    x: Tensor,
    residual: Tensor | None,
    residual_bits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    tau: Tensor,
    initial: Tensor | None,
    time_steps: int,
    threshold: float,
    surrogate: int,
    first: float,
    second: float,
    soft: bool,
    detach_reset: bool,
    batch: bool,
    want_final: bool,
    want_bits: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return spikes ``[T, N, C, ...]``, the final membrane potential ``[N, C, ...]``, and the spikes as bits.

    The last two are empty if not wanted.

    Args:
        x: ``[T, N, C, ...]``, or ``[1, N, C, ...]`` for a constant current.
        residual: added to the normalised current, or None.
        residual_bits: the same spikes as bits, if the residual is spikes laid out as x, or None.
        weight: factor of each channel, or None.
        bias: summand of each channel, or None.
        mean: mean of each channel, float32; None: no normalisation.
        var: biased variance of each channel, float32.
        eps: added to the variance.
        tau: the decay, 0-dimensional.
        initial: membrane potential before the first step, or None for 0.
        time_steps: T.
        threshold: where a neuron fires.
        surrogate: code of the surrogate gradient.
        first: its first number.
        second: its second number.
        soft: soft reset.
        detach_reset: no gradient through the reset.
        batch: mean and var are those of x, so gradients run through them.
        want_final: whether the final membrane potential is wanted.
        want_bits: whether the spikes are wanted as bits.
    """
    dynamics = Dynamics(tau, threshold, soft, detach_reset)
    residual = None if residual_bits is not None else residual
    source = Source(x, residual, residual_bits, _affine(weight, bias, mean, var, eps), initial)
    spikes, final, bits = implementation(x).forward(source, time_steps, dynamics, want_final, want_bits)
    return (
        spikes,
        x.new_empty(0) if final is None else final,
        x.new_empty(0, dtype=torch.uint8) if bits is None else bits,
    )


@norm_neuron.register_fake
def _(
    x: Tensor,
    residual: Tensor | None,
    residual_bits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    tau: Tensor,
    initial: Tensor | None,
    time_steps: int,
    threshold: float,
    surrogate: int,
    first: float,
    second: float,
    soft: bool,
    detach_reset: bool,
    batch: bool,
    want_final: bool,
    want_bits: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    channels_last = is_channels_last(x)
    final = empty_sequence(x, 1, channels_last)[0] if want_final else x.new_empty(0)
    row = bit_row(x.numel() // x.shape[0])
    bits = x.new_empty((time_steps, row) if want_bits else (0,), dtype=torch.uint8)
    return empty_sequence(x, time_steps, channels_last), final, bits


@torch.library.custom_op("shortcut_snn::norm_neuron_backward", mutates_args=(), device_types=_DEVICES)
def norm_neuron_backward(
    grad_spikes: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    residual: Tensor | None,
    residual_bits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    tau: Tensor,
    initial: Tensor | None,
    threshold: float,
    surrogate: int,
    first: float,
    second: float,
    soft: bool,
    detach_reset: bool,
    batch: bool,
    learn_tau: bool,
    grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of x, residual, weight, bias, tau and initial; empty where there is none."""
    kernels = implementation(x)
    dynamics = Dynamics(tau, threshold, soft, detach_reset, surrogate, first, second)
    affine = _affine(weight, bias, mean, var, eps)
    source = Source(x, residual, residual_bits, affine, initial)
    grads = kernels.backward(grad_spikes, grad_final, source, dynamics, learn_tau, grad_residual)
    grad_x, grad_weight, grad_bias = grads.x, None, None
    if affine is not None:
        assert var is not None
        assert grads.sums is not None
        inverse = torch.rsqrt(var.double() + eps)
        grad_bias, grad_weight = grads.sums[0], grads.sums[1] * inverse
        slope, offset = torch.zeros_like(inverse), torch.zeros_like(inverse)
        if batch:
            # Mean and variance depend on x: what they add is affine in x.
            count = x.numel() // x.shape[2]
            slope = affine.scale * inverse * grad_weight / -count
            offset = affine.scale * grad_bias / -count - slope * affine.mean
        in_place = grads.x is not grads.current or not grad_residual
        grad_x = kernels.input_grad(grads.x, x, affine.scale, slope.float(), offset.float(), in_place)
    return (
        grad_x,
        x.new_empty(0) if grads.current is None or not grad_residual else grads.current,
        x.new_empty(0) if weight is None or grad_weight is None else grad_weight.to(weight.dtype),
        x.new_empty(0) if bias is None or grad_bias is None else grad_bias.to(bias.dtype),
        grads.tau.to(tau.dtype),
        x.new_empty(0) if initial is None or grads.initial is None else grads.initial.to(initial.dtype),
    )


@norm_neuron_backward.register_fake
def _(
    grad_spikes: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    residual: Tensor | None,
    residual_bits: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    var: Tensor | None,
    eps: float,
    tau: Tensor,
    initial: Tensor | None,
    threshold: float,
    surrogate: int,
    first: float,
    second: float,
    soft: bool,
    detach_reset: bool,
    batch: bool,
    learn_tau: bool,
    grad_residual: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    channels_last = is_channels_last(x)
    normalised = mean is not None
    return (
        empty_sequence(x, x.shape[0], channels_last),
        empty_sequence(x, grad_spikes.shape[0], channels_last) if grad_residual else x.new_empty(0),
        x.new_empty(0) if weight is None or not normalised else torch.empty_like(weight),
        x.new_empty(0) if bias is None or not normalised else torch.empty_like(bias),
        torch.empty_like(tau),
        x.new_empty(0) if initial is None else empty_sequence(x, 1, channels_last)[0].to(initial.dtype),
    )


def _affine(
    weight: Tensor | None, bias: Tensor | None, mean: Tensor | None, var: Tensor | None, eps: float
) -> Affine | None:
    if mean is None or var is None:
        return None
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight.float()
    shift = -mean * scale
    return Affine(scale, shift if bias is None else shift + bias.float(), mean)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    # Nobody asks for the final membrane potential's gradient as a rule: None instead of zeros.
    ctx.set_materialize_grads(False)
    x, residual, residual_bits, weight, bias, mean, var, eps, tau, initial, *rest = inputs
    residual = None if residual_bits is not None else residual
    ctx.save_for_backward(x, residual, residual_bits, weight, bias, mean, var, tau, initial)
    ctx.eps, ctx.rest = eps, rest


def _backward(ctx: Any, grad_spikes: Tensor | None, grad_final: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    x, residual, residual_bits, weight, bias, mean, var, tau, initial = ctx.saved_tensors
    time_steps, *dynamics, batch, want_final, _want_bits = ctx.rest
    if grad_spikes is None:
        grad_spikes = x.new_zeros(time_steps, *x.shape[1:])
    needs = ctx.needs_input_grad
    grads = norm_neuron_backward(
        grad_spikes,
        grad_final if want_final else None,
        x,
        residual,
        residual_bits,
        weight,
        bias,
        mean,
        var,
        ctx.eps,
        tau,
        initial,
        *dynamics,
        batch,
        needs[8],
        needs[1],
    )
    grad_x, grad_residual, grad_weight, grad_bias, grad_tau, grad_initial = grads
    return (
        grad_x if needs[0] else None,
        grad_residual if needs[1] else None,
        None,
        grad_weight if needs[3] else None,
        grad_bias if needs[4] else None,
        None,
        None,
        None,
        grad_tau if needs[8] else None,
        grad_initial if needs[9] else None,
        *[None] * 10,
    )


norm_neuron.register_autograd(_backward, setup_context=_setup_context)
