"""Convolution and max pooling of spikes that save the bits of their input instead of the input.

The backward pass unpacks the bits and runs PyTorch's own operator, so gradients are the same to the last bit.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import conv_flop_count, register_flop_formula

from .bits import pack, unpack
from .layout import bit_row, empty, is_channels_last
from .registration import operator, register_backward


def _pack_spikes_fake(spikes: Tensor) -> Tensor:
    return spikes.new_empty((spikes.shape[0], bit_row(spikes.numel() // spikes.shape[0])), dtype=torch.uint8)


@operator(_pack_spikes_fake)
def pack_spikes(spikes: Tensor) -> Tensor:
    """Return spikes ``[T, N, ...]`` as bits ``[T, row]``."""
    return pack(spikes)


@operator()
def spike_conv2d(
    spikes: Tensor,
    bits: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Return the convolution of spikes ``[T * N, C, H, W]``, whose bits are ``[T, row]``."""
    return functional.conv2d(spikes, weight, bias, stride, padding, dilation, groups)


def _spike_conv2d_backward_fake(
    grad: Tensor,
    bits: Tensor,
    shape: list[int],
    channels_last: bool,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    spikes = empty(shape, channels_last, weight.dtype, bits.device).flatten(0, 1)
    return _convolution_gradients(grad, spikes, weight, stride, padding, dilation, groups, wanted)


@operator(_spike_conv2d_backward_fake)
def spike_conv2d_backward(
    grad: Tensor,
    bits: Tensor,
    shape: list[int],
    channels_last: bool,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of spikes, weight and bias; empty if not wanted."""
    spikes = unpack(bits, shape, channels_last, weight.dtype).flatten(0, 1)
    return _convolution_gradients(grad, spikes, weight, stride, padding, dilation, groups, wanted)


def _convolution_gradients(
    grad: Tensor,
    spikes: Tensor,
    weight: Tensor,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    sizes = [weight.shape[0]] if wanted[2] else None
    grads = torch.ops.aten.convolution_backward(
        grad, spikes, weight, sizes, stride, padding, dilation, False, [0, 0], groups, wanted
    )
    grad_spikes, grad_weight, grad_bias = (weight.new_empty(0) if g is None else g for g in grads)
    return grad_spikes, grad_weight, grad_bias


def _setup_conv(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    spikes, bits, weight, _, *ctx.options = inputs
    ctx.save_for_backward(bits, weight)
    ctx.shape = [bits.shape[0], spikes.shape[0] // bits.shape[0], *spikes.shape[1:]]
    ctx.channels_last = is_channels_last(spikes.view(ctx.shape))


def _conv_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    bits, weight = ctx.saved_tensors
    needs = ctx.needs_input_grad
    wanted = [needs[0], needs[2], needs[3]]
    grads = spike_conv2d_backward(grad, bits, ctx.shape, ctx.channels_last, weight, *ctx.options, wanted)
    spikes, weight, bias = (g if want else None for g, want in zip(grads, wanted, strict=True))
    return spikes, None, weight, bias, None, None, None, None


register_backward(spike_conv2d, _setup_conv, _conv_backward)


@register_flop_formula([torch.ops.shortcut_snn.spike_conv2d])
def _conv_flops(
    spikes: list[int], bits: list[int], weight: list[int], *options: Any, out_shape: list[int], **_: Any
) -> int:
    flops: int = conv_flop_count(spikes, weight, out_shape)
    return flops


@register_flop_formula([torch.ops.shortcut_snn.spike_conv2d_backward])
def _conv_backward_flops(
    grad: list[int],
    bits: list[int],
    shape: list[int],
    channels_last: bool,
    weight: list[int],
    *options: Any,
    **_: Any,
) -> int:
    wanted = options[-1]
    forward: int = conv_flop_count([shape[0] * shape[1], *shape[2:]], weight, grad)
    # The gradient of the spikes and that of the weight each cost as much as the forward pass.
    return forward * (bool(wanted[0]) + bool(wanted[1]))


@operator()
def spike_max_pool2d(
    spikes: Tensor,
    bits: Tensor,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Tensor:
    """Return the maximum over windows of spikes ``[T * N, C, H, W]``, whose bits are ``[T, row]``."""
    pooled: Tensor = functional.max_pool2d(spikes, kernel_size, stride, padding, dilation, ceil_mode)
    return pooled


def _spike_max_pool2d_backward_fake(
    grad: Tensor,
    bits: Tensor,
    shape: list[int],
    channels_last: bool,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Tensor:
    return empty(shape, channels_last, grad.dtype, bits.device).flatten(0, 1)


@operator(_spike_max_pool2d_backward_fake)
def spike_max_pool2d_backward(
    grad: Tensor,
    bits: Tensor,
    shape: list[int],
    channels_last: bool,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    ceil_mode: bool,
) -> Tensor:
    """Return the gradient of the spikes; the position of each maximum is recomputed."""
    spikes = unpack(bits, shape, channels_last, grad.dtype).flatten(0, 1)
    options = (kernel_size, stride, padding, dilation, ceil_mode)
    _, indices = torch.ops.aten.max_pool2d_with_indices(spikes, *options)
    gradient: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(grad, spikes, *options, indices)
    return gradient


def _setup_pool(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    spikes, bits, *ctx.options = inputs
    ctx.save_for_backward(bits)
    ctx.shape = [bits.shape[0], spikes.shape[0] // bits.shape[0], *spikes.shape[1:]]
    ctx.channels_last = is_channels_last(spikes.view(ctx.shape))


def _pool_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (bits,) = ctx.saved_tensors
    gradient = spike_max_pool2d_backward(grad, bits, ctx.shape, ctx.channels_last, *ctx.options)
    return gradient, *[None] * 6


register_backward(spike_max_pool2d, _setup_pool, _pool_backward)
